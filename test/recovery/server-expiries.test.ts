/** What becomes of expiries when a log is replayed, long after they were set. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { ServerOptions } from "../../src/recovery/restore-request.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import { findServer, missingServers, type RunningServer, startServer } from "../support/servers.ts";
import { addressOf, archiveOf, planOf, snapshotOf, startMs } from "./server-archive.ts";

const own = snapshotOf({ keys: { own: "1" } });
const nowMs = startMs + 1_000_000_000_000;
const program = findServer("redis-8.0")?.bin.server;
const lastFieldMs = 2 ** 46 - 1;

async function restore(
  server: RunningServer,
  units: readonly string[],
  options: ServerOptions & { readonly target?: RestoreTarget } = {},
): Promise<void> {
  await server.call("FLUSHALL");
  const archived = await archiveOf(units, own);
  const { target = { kind: "latest" }, ...rest } = options;
  const plan = await planOf(archived, target);
  const clock = { now: () => nowMs };
  await restoreToServer(archived.view, plan, addressOf(server), { clock, ...rest });
}

suite("expiries of a log", { skip: missingServers("redis-8.0") }, () => {
  test("come back to the millisecond, up to the last ones that there are", async () => {
    await using server = await startServer("redis-8.0");
    const times = [nowMs + 1, 2 ** 42 - 1, 2 ** 42, lastFieldMs];
    const lastKeyMs = String(2n ** 63n - 1n);
    await restore(server, [
      ...times.flatMap((ms, i) => [`HSET h f${i} 1`, `HPEXPIREAT h ${ms} FIELDS 1 f${i}`]),
      ...times.map((ms, i) => `SET k${i} v PXAT ${ms}`),
      `SET last v PXAT ${lastKeyMs}`,
    ]);
    const names = times.map((_, i) => `f${i}`);
    const found = await server.call("HPEXPIRETIME", "h", "FIELDS", times.length, ...names);
    assert.deepEqual(found, times);
    for (const [i, ms] of times.entries()) {
      assert.equal(await server.call("PEXPIRETIME", `k${i}`), ms);
    }
    assert.equal(String(await server.call("PEXPIRETIME", "last")), lastKeyMs);
    await restore(server, ["HSET h f 1", `HPEXPIREAT h ${lastFieldMs} FIELDS 1 f`], {
      ttl: "shift",
    });
    assert.deepEqual(await server.call("HPEXPIRETIME", "h", "FIELDS", 1, "f"), [lastFieldMs]);
  });

  test("that could not be told from what is put off are refused before anything is removed", async () => {
    await using server = await startServer("redis-8.0");
    const units = ["HSET h f 1", `HPEXPIREAT h ${2 ** 46 - 2 ** 43 + 5} FIELDS 1 f`];
    await assert.rejects(restore(server, units), { code: "TARGET_CANNOT_HOLD" });
    assert.equal(await server.call("DBSIZE"), 0);
  });

  for (const how of ["in the server", "elsewhere"] as const) {
    const place: ServerOptions =
      how === "in the server" ? {} : { server: program ?? "", prefix: Buffer.from("") };
    const choice = how === "in the server" ? {} : { conflict: "overwrite" as const };

    test(`that were taken away in time are gone, and what had one is not (replayed ${how})`, async () => {
      await using server = await startServer("redis-8.0");
      const set = (name: string) => [
        `HSET ${name} f 1 g 2`,
        `HPEXPIREAT ${name} ${startMs + 60_000} FIELDS 1 f`,
      ];
      await restore(
        server,
        [
          ...[...set("persist"), "HPERSIST persist FIELDS 1 f"],
          ...[...set("getex"), "HGETEX getex PERSIST FIELDS 1 f"],
          ...[...set("moved"), "RENAME moved renamed", "HPERSIST renamed FIELDS 1 f"],
          ...[...set("grown"), "HINCRBY grown f 5", "HPERSIST grown FIELDS 1 f"],
        ],
        { ...place, ...choice },
      );
      for (const name of ["persist", "getex", "renamed", "grown"]) {
        assert.equal(String(await server.call("HGET", name, "f")), name === "grown" ? "6" : "1");
        assert.deepEqual(await server.call("HPEXPIRETIME", name, "FIELDS", 1, "f"), [-1]);
      }
    });

    test(`count from the time that was asked for (replayed ${how})`, async () => {
      await using server = await startServer("redis-8.0");
      const units = [
        `SET gone v PXAT ${startMs + 5000}`,
        `SET left v PXAT ${startMs + 9000}`,
        "HSET h gone 1 left 2 plain 3",
        `HPEXPIREAT h ${startMs + 5000} FIELDS 1 gone`,
        `HPEXPIREAT h ${startMs + 9000} FIELDS 1 left`,
        ...["SET a 1", "SET b 1", "SET c 1", "SET d 1"],
      ];
      // The last line before it is of the sixth second, and stands at 6000.
      const target: RestoreTarget = { kind: "time", ms: startMs + 6400 };
      const at = async (name: string) => [
        await server.call("PEXPIRETIME", name),
        ...((await server.call("HPEXPIRETIME", "h", "FIELDS", 1, name)) as number[]),
      ];
      await restore(server, units, { target, ttl: "shift", ...place, ...choice });
      assert.deepEqual(await at("left"), [nowMs + 2600, nowMs + 2600]);
      assert.deepEqual(await at("gone"), [-2, -2]);
      await restore(server, units, { target, ttl: "persist", ...place, ...choice });
      assert.deepEqual(await at("left"), [-1, -1]);
      assert.deepEqual(await at("gone"), [-2, -2]);
      const names = (await server.call("HKEYS", "h")) as Buffer[];
      assert.deepEqual(names.map(String).sort(), ["left", "plain"]);
    });
  }
});
