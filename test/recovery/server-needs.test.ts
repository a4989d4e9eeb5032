/** What is said of servers, that they know a log or do not, held against the servers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { suite, test } from "node:test";
import { writeCommands } from "../../src/codec/commands/table.ts";
import type { Target } from "../../src/codec/rdb/model.ts";
import { RespEncoder } from "../../src/codec/resp/encode.ts";
import { restoreToFolder } from "../../src/recovery/restore-folder.ts";
import { restoreAndRun } from "../../src/recovery/restore-run.ts";
import { loaderOf, ServerNeeds } from "../../src/recovery/server-needs.ts";
import { freePort } from "../link/ports.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  findServer,
  missingServers,
  type RunningServer,
  StartError,
  serverIds,
  startServer,
} from "../support/servers.ts";
import { archiveOf, planOf } from "./server-archive.ts";

/** Options that are newer than their command, with what must be there for them. */
const records: readonly (readonly [record: string, ...before: string[]])[] = [
  ["SET k v IFEQ v", "SET k v"],
  ["PEXPIREAT k 99999999999999 GT", "SET k v PX 100000"],
  ["XADD s NOMKSTREAM 2-1 f v", "XADD s 1-1 f v"],
  ["XADD s MINID = 1-1 2-1 f v"],
  ["XADD s MAXLEN = 5 2-1 KEEPREF v"],
  ["XTRIM s MINID = 1-1", "XADD s 1-1 f v"],
  ["XGROUP SETID s g 1-1 ENTRIESREAD 1", "XGROUP CREATE s g 0 MKSTREAM", "XADD s 1-1 f v"],
  ["XSETID s 9-1 ENTRIESADDED 3 MAXDELETEDID 1-1", "XADD s 2-1 f v"],
  ["ZADD z GT 1 m"],
  ["GEOADD g NX 1 1 m"],
  ["LPOP l 1", "RPUSH l a"],
  ["RPOP l 1", "RPUSH l a"],
  ["FLUSHALL SYNC"],
  ["FLUSHDB SYNC"],
  ["BITOP DIFF d a b", "SET a 1", "SET b 2"],
];

async function loaderOfServer(server: RunningServer) {
  const info = String(await server.call("INFO", "server"));
  const [, name = "redis", version = ""] =
    /(valkey)_version:(\S+)/.exec(info) ?? /(redis)_version:(\S+)/.exec(info) ?? [];
  return loaderOf(name, version);
}

function isMissing(words: readonly string[], loader: ReturnType<typeof loaderOf>): boolean {
  const encoder = new RespEncoder();
  encoder.command(...(words as [string, ...string[]]));
  const needs = new ServerNeeds();
  needs.push(encoder.take());
  return needs.missing({ name: "it", ...loader }).length > 0;
}

for (const id of serverIds) {
  test(`ServerNeeds knows what ${id} knows`, { skip: missingServers(id) }, async () => {
    await using server = await startServer(id);
    const loader = await loaderOfServer(server);
    for (const { name } of writeCommands) {
      // What only clusters, modules and recorders have is another matter.
      if (/[.]|^(CLUSTER|SCRIPT) |^(EXEC|TRIMSLOTS|SFLUSH)$/.test(name)) continue;
      const words = name.split(" ");
      const [first = "", second] = words;
      if (second !== undefined && loader.version < 700) continue;
      const known = await server.call(
        "COMMAND",
        "INFO",
        second === undefined ? first : `${first}|${second}`,
      );
      const isKnown = Array.isArray(known) && Array.isArray(known[0]) && known[0].length > 0;
      assert.equal(isMissing(words, loader), !isKnown, `${name} on ${id}`);
    }
    for (const [record, ...before] of records) {
      await server.call("FLUSHALL");
      for (const each of before) await server.call(...(each.split(" ") as [string]));
      const words = record.split(" ") as [string];
      const error = await server.call(...words).then(
        () => undefined,
        (found: unknown) => String(found),
      );
      assert.equal(isMissing(words, loader), error !== undefined, `${record} on ${id}: ${error}`);
    }
  });
}

const versions = ["redis-6.0", "redis-7.0", "redis-8.0"] as const;
suite("restoreToFolder()", { skip: missingServers(...versions) }, () => {
  const newest = {
    "redis-6.0": ["SET a 1", "SET b 2 PXAT 99999999999999"],
    "redis-7.0": ["SET a 1", "COPY a b"],
    "redis-8.0": ["HSET h f v", "HPEXPIREAT h 99999999999999 FIELDS 1 f", "HSETEX i FIELDS 1 f v"],
  } as const;
  for (const [i, needed] of versions.entries()) {
    for (const [j, id] of versions.entries()) {
      test(`for ${id}, of a log of ${needed}, gives what that loads, or refuses it`, async () => {
        const archived = await archiveOf(newest[needed]);
        const plan = await planOf(archived, { kind: "latest" });
        using folder = temporaryFolder();
        const dir = join(folder.path, "data");
        const target = id.replace("-", ":").replace("8.0", "8") as Target;
        const restoring = restoreToFolder(archived.view, plan, dir, { target, lossy: true });
        if (j < i) {
          await assert.rejects(restoring, { code: "TARGET_CANNOT_HOLD", message: /COPY|HSETEX/ });
          return;
        }
        await restoring;
        await using server = await startServer(id, { dir, conf: { appendonly: "yes" } });
        assert.equal(await server.call("DBSIZE"), 2);
      });
    }
  }

  test("without a target says from which servers on it is loaded", async () => {
    const archived = await archiveOf(newest["redis-8.0"]);
    using folder = temporaryFolder();
    const dir = join(folder.path, "data");
    const plan = await planOf(archived, { kind: "latest" });
    const { least } = await restoreToFolder(archived.view, plan, dir);
    assert.deepEqual(least, { redis: 800, valkey: 900 });
    const old = startServer("redis-7.0", { dir, conf: { appendonly: "yes" } });
    await assert.rejects(old, StartError);
  });

  test("by restoreAndRun() refuses a server that would pass over what it does not know", async () => {
    const archived = await archiveOf([
      "SET a 1 PX 1000000",
      "PEXPIREAT a 99999999999999 GT",
      "SET b 1",
    ]);
    const plan = await planOf(archived, { kind: "latest" });
    using folder = temporaryFolder();
    const options = { port: await freePort(), target: "redis:6.0" } as const;
    const run = (id: (typeof versions)[number], target?: Target) =>
      restoreAndRun(archived.view, plan, join(folder.path, "data"), {
        ...{ ...options, target },
        program: findServer(id)?.bin.server ?? "",
        serverArguments: ["--save", ""],
      });
    const found = { code: "TARGET_CANNOT_HOLD", message: /redis:6.0: .*PEXPIREAT GT/ };
    await assert.rejects(run("redis-6.0", "redis:6.0"), found);
    const { process } = await run("redis-7.0");
    process.kill("SIGKILL");
    await once(process, "exit");
  });
});
