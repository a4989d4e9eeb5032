/** Restores to running servers that are cut off, that choose, and whose expiries are long past. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/base/errors.ts";
import { parseAddress } from "../../src/link/address.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import { until } from "../link/until.ts";
import { ClusterNodes } from "../record/cluster-nodes.ts";
import { randomFrom } from "../record/workload.ts";
import { findServer, missingServers, startServer } from "../support/servers.ts";
import { record } from "./recorded.ts";
import { addressOf, archiveOf, planOf, startMs } from "./server-archive.ts";
import { makeRdb } from "./synthetic.ts";

// oxlint-disable-next-line no-restricted-properties -- why: each run takes another one, and says which
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

const farMs = 4_000_000_000_000;
const pastMs = startMs + 500_000;

for (const id of ["redis-6.0", "redis-7.0", "redis-8.0", "valkey-9"] as const) {
  const hasFields = id === "redis-8.0" || id === "valkey-9";
  const skip = missingServers(id);
  test(`a replay into ${id} does not see that times in the log are past`, { skip }, async () => {
    const archived = await archiveOf([
      `SET extended v PXAT ${pastMs}`,
      "APPEND extended w",
      `PEXPIREAT extended ${farMs}`,
      `SET persisted v PXAT ${pastMs}`,
      "PERSIST persisted",
      `SET expired v PXAT ${pastMs}`,
      "SET plain PXAT",
      "SET other 1",
      ...(hasFields
        ? [
            "HSET hash a 1 b 2 c 3",
            `HPEXPIREAT hash ${pastMs} FIELDS 2 a b`,
            `HPEXPIREAT hash ${farMs} FIELDS 1 a`,
          ]
        : []),
      "SWAPDB 0 1",
      "SELECT 1",
      "RENAME other renamed",
    ]);
    const plan = await planOf(archived, { kind: "latest" });
    await using server = await startServer(id);
    const { client } = server;
    const told = async (ttl: "keep" | "persist" | "shift") => {
      const nowMs = startMs + 1_000_000_000_000;
      const clock = { now: () => nowMs };
      await restoreToServer(archived.view, plan, addressOf(server), {
        overwrite: true,
        ttl,
        clock,
      });
      assert.equal(await client.call("SELECT", 0), "OK");
      assert.equal(await client.call("DBSIZE"), 0);
      await client.call("SELECT", 1);
      const names = (await client.call("KEYS", "*")) as Buffer[];
      return names.map(String).sort();
    };
    const hash = hasFields ? ["hash"] : [];
    const all = ["expired", "extended", ...hash, "persisted", "plain", "renamed"];
    assert.deepEqual(await told("keep"), all.slice(1));
    assert.equal(String(await client.call("GET", "extended")), "vw");
    assert.equal(await client.call("PTTL", "persisted"), -1);
    if (id !== "redis-6.0") assert.equal(await client.call("PEXPIRETIME", "extended"), farMs);
    if (hasFields) {
      assert.equal(await client.call("HLEN", "hash"), 2);
      const times = await client.call("HPEXPIRETIME", "hash", "FIELDS", 2, "a", "c");
      assert.deepEqual(times, [farMs, -1]);
    }
    assert.deepEqual(await told("persist"), all);
    assert.equal(await client.call("PTTL", "extended"), -1);
    assert.deepEqual(await told("shift"), all);
    if (id !== "redis-6.0") {
      const shiftMs = 1_000_000_000_000 - (plan.moment.ms - startMs);
      assert.equal(await client.call("PEXPIRETIME", "expired"), pastMs + shiftMs);
    }
  });
}

for (const id of ["redis-7.0", "valkey-9"] as const) {
  test(`a restore into ${id} that is cut off goes on where it was (seed ${seed})`, {
    skip: missingServers(id),
  }, async () => {
    const random = randomFrom(seed);
    const { archived, checkpoints } = await record(id, seed, 3);
    const last = checkpoints.at(-1);
    assert.ok(last);
    const { replicationId: idPrefix, offset, digest } = last;
    // From the base, so that there is much to replay.
    const plan = await planOf(Object.assign(archived, { objects: withoutSets(archived.objects) }), {
      kind: "position",
      idPrefix,
      offset,
    });
    for (let round = 0; round < 8; round++) {
      await using server = await startServer(id);
      let cuts = 0;
      for (;;) {
        const controller = new AbortController();
        const cutAt = random() * 30;
        const timer = cuts < 5 ? setTimeout(() => controller.abort(), cutAt) : undefined;
        try {
          const { signal } = controller;
          await restoreToServer(archived.view, plan, addressOf(server), { signal });
          break;
        } catch (error) {
          // It was cut off behind its last command: all is there, and the marker gone.
          const isLate = cuts > 0 && error instanceof Failure && error.code === "TARGET_NOT_EMPTY";
          if (isLate && (await server.client.call("EXISTS", "tidemark:restore")) === 0) break;
          if (!controller.signal.aborted) throw error;
          cuts++;
        } finally {
          clearTimeout(timer);
        }
      }
      assert.equal(await server.debugDigest(), digest, `after ${cuts} cuts`);
    }
  });
}

/** Only the base, which is the oldest, stays. */
function withoutSets(objects: ReadonlyMap<string, Uint8Array>): Map<string, Uint8Array> {
  const names = [...objects.keys()].filter((name) => name.includes("/sets/")).sort();
  const oldest = names[0]?.split("/")[3] ?? "";
  const isKept = (name: string) => !name.includes("/sets/") || name.includes(`/${oldest}/`);
  return new Map([...objects].filter(([name]) => isKept(name)));
}

test("a server with keys is refused, and so is one with another restore cut off", {
  skip: missingServers("redis-7.0"),
}, async () => {
  const archived = await archiveOf(["SET a 1"]);
  const plan = await planOf(archived, { kind: "latest" });
  await using server = await startServer("redis-7.0");
  await server.client.call("SET", "mine", 1);
  const restore = (options = {}) =>
    restoreToServer(archived.view, plan, addressOf(server), options);
  await assert.rejects(restore(), { code: "TARGET_NOT_EMPTY" });
  assert.equal(await server.client.call("DBSIZE"), 1);
  await assert.rejects(
    restore({ overwrite: true, safety: () => Promise.reject(new Error("no")) }),
    /no/,
  );
  assert.equal(String(await server.client.call("GET", "mine")), "1");
  await server.client.call("FLUSHALL");
  await server.client.call(
    "SET",
    "tidemark:restore",
    '{"plan":"x","phase":"keys","keys":0,"bytes":0}',
  );
  await assert.rejects(restore(), /another restore/);
  await restore({ overwrite: true });
  assert.equal(await server.client.call("DBSIZE"), 1);
});

test("keys are chosen, renamed, and put among others", {
  skip: missingServers("redis-7.0"),
}, async () => {
  const program = findServer("redis-7.0")?.bin.server;
  assert.ok(program);
  const archived = await archiveOf(["SET key:1 new", "SET other 1", "DEL key:2"], makeRdb(5));
  const plan = await planOf(archived, { kind: "latest" });
  await using server = await startServer("redis-7.0");
  const { client } = server;
  await client.call("SET", "key:1", "mine");
  const restore = (options: Parameters<typeof restoreToServer>[3]) =>
    restoreToServer(archived.view, plan, addressOf(server), {
      selection: { keys: ["key:*"] },
      server: program,
      ...options,
    });
  await assert.rejects(restore({ conflict: "skip", server: undefined }), { code: "SERVER_NEEDED" });
  const { skipped } = await restore({ conflict: "skip" });
  assert.equal(skipped, 1);
  assert.equal(String(await client.call("GET", "key:1")), "mine");
  assert.equal(await client.call("DBSIZE"), 4);
  await client.call("DEL", "key:3");
  await assert.rejects(restore({ conflict: "fail", databases: new Map([[0, 0]]) }), {
    code: "TARGET_NOT_EMPTY",
    message: /key "key:\d": database 0 has it/,
  });
  assert.equal(await client.call("EXISTS", "key:3", "tidemark:restore"), 0, "Nothing was begun");
  await restore({ conflict: "overwrite" });
  assert.equal(String(await client.call("GET", "key:1")), "new");
  await restore({ conflict: "fail", prefix: Buffer.from("old:"), databases: new Map([[0, 3]]) });
  await client.call("SELECT", 3);
  assert.equal(String(await client.call("GET", "old:key:4")), "value 4");
  assert.equal(await client.call("DBSIZE"), 4);
});

test("what a scratch server has replayed is begun again when it was cut off: its keys come in another order", {
  skip: missingServers("redis-7.0"),
}, async () => {
  const program = findServer("redis-7.0")?.bin.server;
  const keys = 100_000;
  const archived = await archiveOf(["SET key:1 new"], makeRdb(keys));
  const plan = await planOf(archived, { kind: "latest" });
  await using server = await startServer("redis-7.0");
  const restore = (conflict: "overwrite" | "fail", signal?: AbortSignal) =>
    restoreToServer(archived.view, plan, addressOf(server), {
      ...{ conflict, server: program, keysPerMark: 1000 },
      ...(signal && { signal }),
    });
  /** Ends it when some of the keys are there. */
  const cutOff = async (conflict: "overwrite" | "fail") => {
    const controller = new AbortController();
    const restoring = restore(conflict, controller.signal).then(
      () => "done",
      () => "cut off",
    );
    await until("some keys are there", async () => {
      return Number(await server.client.call("DBSIZE")) > keys / 10;
    });
    controller.abort();
    assert.equal(await restoring, "cut off");
  };
  await cutOff("overwrite");
  const { isResumed } = await restore("overwrite");
  assert.equal(isResumed, true);
  assert.equal(await server.client.call("DBSIZE"), keys);
  await server.client.call("FLUSHALL");
  await cutOff("fail");
  await assert.rejects(restore("fail"), { code: "TARGET_NOT_EMPTY" });
});

test("a set, and a moment, are restored to a cluster, keys by their slots", {
  skip: missingServers("redis-7.0"),
}, async () => {
  const program = findServer("redis-7.0")?.bin.server;
  assert.ok(program);
  await using cluster = await ClusterNodes.start("redis-7.0", 3);
  const [first] = cluster.nodes;
  assert.ok(first);
  const archived = await archiveOf(["SET {tag}a 1", "RENAME {tag}a b", "DEL key:7"], makeRdb(1000));
  const address = parseAddress(`redis://127.0.0.1:${first.port}`);
  const plan = await planOf(archived, { kind: "latest" });
  await assert.rejects(restoreToServer(archived.view, plan, address), { code: "SERVER_NEEDED" });
  const restored = await restoreToServer(archived.view, plan, address, { server: program });
  assert.equal(restored.servers.length, 3);
  const sizes: number[] = [];
  for (const { client } of cluster.nodes) {
    const role = String(await client.call("INFO", "replication"));
    if (/role:master/.test(role)) sizes.push(Number(await client.call("DBSIZE")));
  }
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    1000,
  );
  assert.ok(sizes.every((size) => size > 200));
});

test("a row of repeatable commands, repeated behind any part of it, gives the same", {
  skip: missingServers("redis-8.0"),
}, async () => {
  await using server = await startServer("redis-8.0");
  const { client } = server;
  const random = randomFrom(seed);
  const below = (count: number) => Math.floor(random() * count);
  const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
  /** In one row there are either expiries or removals of elements: see LogCommands. */
  const makeRow = (length: number): string[][] => {
    const without = below(2) === 0 ? /^PEXPIREAT$/ : /^(HDEL|SREM|ZREM)$/;
    const row: string[][] = [];
    while (row.length < length) {
      const command = make();
      if (!without.test(command[0] ?? "")) row.push(command);
    }
    return row;
  };
  const make = (): string[] => {
    const [key, one, other] = [`k${below(3)}`, `f${below(3)}`, `f${below(3)}`];
    return pick([
      ["SET", key, one],
      ["DEL", key, `k${below(3)}`],
      ["MSET", key, one, `k${below(3)}`, other],
      ["SETRANGE", key, String(below(6)), one],
      ["SETBIT", key, String(below(40)), String(below(2))],
      ["PEXPIREAT", key, String(farMs + below(5))],
      ["PERSIST", key],
      ["HSET", key, one, other],
      ["HDEL", key, one, other],
      ["HPEXPIREAT", key, String(farMs + below(5)), "FIELDS", "1", one],
      ["HPERSIST", key, "FIELDS", "1", one],
      ["SADD", key, one, other],
      ["SREM", key, one, other],
      ["ZADD", key, String(below(9)), one],
      ["ZREM", key, one, other],
      ["SELECT", String(below(2))],
    ]);
  };
  /** A log has only what had an effect: servers pass nothing else on. */
  const runAll = async (row: readonly string[][]) => {
    const done: string[][] = [];
    for (const command of row) {
      const reply = await client.ask(...command);
      if (reply instanceof Error) assert.match(reply.message, /^WRONGTYPE/);
      else if (!/PE/.test(command[0] ?? "") || [reply].flat()[0] === 1) done.push(command);
    }
    return done;
  };
  for (let round = 0; round < 150; round++) {
    const before = [["SELECT", "0"], ...Array.from({ length: 10 }, make), ["SELECT", "0"]];
    await client.call("FLUSHALL");
    await runAll(before);
    const row = await runAll(makeRow(25));
    const digest = await server.debugDigest();
    const times = await client.pipeline([
      ["PEXPIRETIME", "k0"],
      ["PEXPIRETIME", "k1"],
    ]);
    await client.call("FLUSHALL");
    await runAll(before);
    await runAll(row.slice(0, below(row.length + 1)));
    await client.call("SELECT", 0);
    await runAll(row);
    assert.equal(
      await server.debugDigest(),
      digest,
      `round ${round}: ${JSON.stringify({ before, row })}`,
    );
    assert.deepEqual(
      await client.pipeline([
        ["PEXPIRETIME", "k0"],
        ["PEXPIRETIME", "k1"],
      ]),
      times,
    );
  }
});

test("a restore waits for another one that still writes to the server", {
  skip: missingServers("redis-7.0"),
}, async () => {
  const archived = await archiveOf(["SET a 1"]);
  const plan = await planOf(archived, { kind: "latest" });
  await using server = await startServer("redis-7.0");
  const other = await server.connect();
  await other.call("CLIENT", "SETNAME", "tidemark-restore");
  let isGone = false;
  const restoring = restoreToServer(archived.view, plan, addressOf(server)).then(() => isGone);
  await until("both are connected", async () => {
    const list = String(await server.client.call("CLIENT", "LIST"));
    return list.match(/ name=tidemark-restore /g)?.length === 2;
  });
  assert.equal(await server.client.call("DBSIZE"), 0);
  isGone = true;
  other.close();
  assert.equal(await restoring, true);
  assert.equal(await server.client.call("GET", "a").then(String), "1");
});
