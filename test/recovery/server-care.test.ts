/** What a restore into a server must not do: lose what was there, or what is restored, without a word. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { ServerOptions } from "../../src/recovery/restore-request.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import { missingServers, type RunningServer, startServer } from "../support/servers.ts";
import type { Archived } from "./archived.ts";
import {
  addressOf,
  archiveOf,
  libraryCode,
  planOf,
  snapshotOf,
  startMs,
} from "./server-archive.ts";

const marker = "tidemark:restore";
const mark = '{"plan":"x","phase":"keys","keys":0,"bytes":0}';
const latest: RestoreTarget = { kind: "latest" };
const skip = missingServers("redis-6.0", "redis-7.0");
const own = snapshotOf({ keys: { own: "1" } });

async function restore(
  archived: Archived,
  server: RunningServer,
  options: ServerOptions = {},
  target = latest,
) {
  const plan = await planOf(archived, target);
  return await restoreToServer(archived.view, plan, addressOf(server), options);
}

/** Refused, with what was there as it was. */
async function mustKeep(
  archived: Archived,
  server: RunningServer,
  expected: { readonly code: string; readonly message: RegExp },
): Promise<void> {
  await server.call("SET", "mine", "1");
  let hasSafety = false;
  const safety = () => Promise.resolve(void (hasSafety = true));
  await assert.rejects(restore(archived, server, { overwrite: true, safety }), expected);
  assert.equal(hasSafety, false);
  assert.equal(String(await server.call("GET", "mine")), "1");
  assert.equal(await server.call("DBSIZE"), 1);
}

suite("before:COMMAND", () => {
  test("passes over what a restore has sent, and not over what others have", async () => {
    const before = { kind: "before", command: "FLUSHALL", untilMs: undefined } as const;
    const archived = await archiveOf(
      [
        "SET a 1",
        "FLUSHALL",
        ["FLUSHALL", `SET ${marker} {}`],
        "SET b 1",
        ["SET c 1", "FLUSHALL", `SET ${marker}{12} {}`],
        `DEL ${marker}`,
      ],
      own,
    );
    const found = await planOf(archived, before);
    assert.equal(found.moment.ms, startMs + 1000);
    const other = await archiveOf(["SET a 1", "FLUSHALL", ["FLUSHALL", "SET other {}"]], own);
    assert.equal((await planOf(other, before)).moment.ms, startMs + 2000);
  });
});

suite("the marker of a restore", { skip }, () => {
  test("of another plan is given up with --overwrite, which is said", async () => {
    const archived = await archiveOf(["SET a 1"], own);
    await using server = await startServer("redis-7.0");
    await server.call("SET", marker, mark);
    const { notes, isResumed } = await restore(archived, server, { overwrite: true });
    assert.equal(isResumed, false);
    assert.match(notes.join(), /another restore .* given up/);
  });

  test("refuses a key of the data that is called so, before anything is removed", async () => {
    await using server = await startServer("redis-7.0");
    const expected = { code: "TARGET_CANNOT_HOLD", message: /key "tidemark:restore"/ };
    const inSet = await archiveOf([], snapshotOf({ keys: { [marker]: "mine" } }));
    await mustKeep(inSet, server, expected);
    const inLog = await archiveOf([`SET ${marker} mine`, `DEL ${marker}`], own);
    await mustKeep(inLog, server, expected);
    const asList = await archiveOf([`RENAME other ${marker}`], own);
    await mustKeep(asList, server, expected);
    await server.call("FLUSHALL");
    await assert.rejects(restore(inLog, server), expected);
    await assert.rejects(restore(inSet, server), expected);
    await restore(inSet, server, { overwrite: true, prefix: Buffer.from("p:") });
    assert.equal(String(await server.call("GET", `p:${marker}`)), "mine");
    const elsewhere = snapshotOf({ keys: { [marker]: "mine" }, database: 3 });
    await restore(await archiveOf([], elsewhere), server, { overwrite: true });
    await server.call("SELECT", 3);
    assert.equal(String(await server.call("GET", marker)), "mine");
  });

  test("is no data where a restore was under way in the instance itself", async () => {
    const log = ["SET a 1", ["FLUSHALL", `SET ${marker} ${mark}`], "SET b 1", `DEL ${marker}`];
    const archived = await archiveOf(log, snapshotOf({ keys: { [marker]: mark, own: "1" } }));
    await using server = await startServer("redis-7.0");
    const { dropped } = await restore(archived, server);
    assert.deepEqual([...dropped], [["marker of a restore", 1]]);
    assert.deepEqual(((await server.call("KEYS", "*")) as Buffer[]).map(String), ["b"]);
  });
});

suite("a server that is to be emptied keeps what it has", { skip }, () => {
  test("where the set, or the log, is damaged", async () => {
    await using server = await startServer("redis-7.0");
    for (const part of ["/sets/", "/log/"]) {
      const archived = await archiveOf(["SET a 1"], own);
      for (const [name, bytes] of archived.objects) {
        if (!name.includes(part) || name.includes("manifest") || bytes.length < 100) continue;
        bytes[12] = (bytes[12] as number) ^ 1;
      }
      await using _ = { [Symbol.asyncDispose]: async () => void (await server.call("FLUSHALL")) };
      await mustKeep(archived, server, { code: "DATA_CORRUPT", message: /damaged/ });
    }
  });

  test("where it is too old for what shall be restored, or has too few databases", async () => {
    await using old = await startServer("redis-6.0", { conf: { databases: 4 } });
    const expected = (message: RegExp) => ({ code: "TARGET_CANNOT_HOLD", message });
    const functions = await archiveOf([], snapshotOf({ library: libraryCode }));
    await mustKeep(functions, old, expected(/function library/));
    const commands = await archiveOf(["COPY a b DB 1", "GETDEL a", "SET c 1"], own);
    await mustKeep(commands, old, expected(/does not know: COPY, GETDEL/));
    const many = expected(/database 9/);
    await mustKeep(await archiveOf(["SELECT 9", "SET a 1"], own), old, many);
    const inSet = snapshotOf({ keys: { a: "1" }, database: 9 });
    await mustKeep(await archiveOf([], inSet), old, many);
  });
});

suite("function libraries", { skip }, () => {
  const here = "#!lua name=mylib\nredis.register_function('myfunc', function() return 'here' end)";
  const run = async (server: RunningServer) => String(await server.call("FCALL", "myfunc", 0));
  const makeArchive = () => archiveOf([], snapshotOf({ library: libraryCode, keys: { a: "1" } }));

  test("are replaced, left, or in the way, as keys are", async () => {
    await using server = await startServer("redis-7.0");
    await server.call("FUNCTION", "LOAD", here);
    const archived = await makeArchive();
    await assert.rejects(restore(archived, server, { conflict: "fail" }), {
      code: "TARGET_NOT_EMPTY",
      message: /function library "mylib"/,
    });
    assert.equal(await server.call("DBSIZE"), 0);
    const { skippedLibraries, keys } = await restore(archived, server, { conflict: "skip" });
    assert.deepEqual([skippedLibraries, keys, await run(server)], [1, 1, "here"]);
    assert.equal((await restore(archived, server, { conflict: "skip" })).keys, 0);
    await restore(archived, server, { conflict: "overwrite" });
    assert.equal(await run(server), "archived");
  });

  test("are not restored where keys are chosen, which is said", async () => {
    await using server = await startServer("redis-7.0");
    const archived = await makeArchive();
    const { dropped, notes } = await restore(archived, server, { selection: { keys: ["*"] } });
    assert.deepEqual([...dropped], [["function", 1]]);
    assert.match(notes.join(), /function libraries are not restored where keys are chosen/);
  });
});

test("--overwrite and --conflict at once are refused", async () => {
  const archived = await archiveOf([], own);
  const plan = await planOf(archived, latest);
  const nowhere = { socketPath: "/nowhere" } as RunningServer;
  const both = { overwrite: true, conflict: "skip" } as const;
  await assert.rejects(restoreToServer(archived.view, plan, addressOf(nowhere), both), {
    code: "USAGE",
  });
});

test("a server that evicts keys meanwhile stays marked, and is not gone on with", {
  skip,
}, async () => {
  const conf = { maxmemory: "3mb", "maxmemory-policy": "allkeys-random" };
  await using server = await startServer("redis-7.0", { conf });
  const names = Array.from({ length: 4000 }, (_, i) => [`key:${i}`, "v".repeat(2000)]);
  const archived = await archiveOf([], snapshotOf({ keys: Object.fromEntries(names) }));
  await assert.rejects(restore(archived, server), {
    code: "SERVER_FAILED",
    message: /it has evicted \d+ keys/,
  });
  assert.equal(await server.call("EXISTS", marker), 1);
  await assert.rejects(restore(archived, server), { code: "TARGET_NOT_EMPTY" });
});
