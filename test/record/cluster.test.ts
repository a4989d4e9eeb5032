/** A cluster is recorded while its slots move, a replica takes over and a shard is added. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseOwnershipChange } from "../../src/record/cluster-file.ts";
import { askAnyStatus, type ClusterStatus, type ShardStatus } from "../../src/record/status.ts";
import { tidemark } from "../cli/tidemark.ts";
import { until } from "../link/until.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers } from "../support/servers.ts";
import { digestOfSpool } from "./cluster-digests.ts";
import { ClusterNodes, type Node } from "./cluster-nodes.ts";
import { Recording } from "./recording.ts";

async function statusOf(recording: Recording): Promise<ClusterStatus | undefined> {
  const status = await askAnyStatus(recording.spool).catch(() => undefined);
  if (recording.process.exitCode !== null) throw new Error(`It has ended: ${recording.said}`);
  return status && "shards" in status ? status : undefined;
}

/** Waits until so many shards are followed. */
async function streaming(recording: Recording, count: number): Promise<readonly ShardStatus[]> {
  return await until(`${count} shards are followed`, async () => {
    const shards = (await statusOf(recording))?.shards ?? [];
    const isDone = shards.length === count && shards.every((s) => s.status?.state === "streaming");
    return isDone && shards;
  });
}

/** Writes to all tags, on and on, until it is told to stop. */
async function write(cluster: ClusterNodes, tags: readonly string[], signal: AbortSignal) {
  for (let i = 0; !signal.aborted; i++) {
    const tag = tags[i % tags.length] as string;
    await cluster.call("SET", `${tag}:${i % 500}`, `v${i}`);
    await cluster.call("RPUSH", `${tag}:list`, `v${i}`);
    if (i % 7 === 0) await cluster.call("DEL", `${tag}:${(i + 250) % 500}`);
    if (i % 20 === 0) await sleep(1);
  }
}

/** In `valkey-9`: the keys come over as one, and the slots change hands at one moment. */
async function moveAtOnce(slot: number, from: Node, to: Node): Promise<void> {
  await from.server.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id);
  await until("the slot has moved", async () => {
    const [newest] = (await from.server.call("CLUSTER", "GETSLOTMIGRATIONS")) as Buffer[][];
    return newest?.some((field) => String(field) === "success");
  });
}

suite("A recorder of a cluster", { concurrency: 2 }, () => {
  for (const id of ["redis-7.0", "redis-8.0", "valkey-9"] as const) {
    test(`${id}: each shard's log has what the shard has, whatever moves`, {
      skip: missingServers(id),
    }, async (context) => {
      using folder = temporaryFolder();
      await using cluster = await ClusterNodes.start(id, 3);
      const [a, b, c, , , replicaOfC] = cluster.nodes as [Node, Node, Node, Node, Node, Node];
      const tags = Array.from({ length: 40 }, (_, i) => `{t${i}}`);
      const slotOf = new Map<string, number>();
      for (const tag of tags)
        slotOf.set(tag, Number(await a.server.call("CLUSTER", "KEYSLOT", tag)));
      const spool = join(folder.path, "spool");
      const address = `cluster://127.0.0.1:${a.port},127.0.0.1:${b.port}`;
      await using first = new Recording(address, spool);
      await streaming(first, 3);
      await using stack = new AsyncDisposableStack();
      let recording = first;
      const stop = new AbortController();
      const writing = write(cluster, tags, stop.signal);
      /** So many slots with keys, of those that a node owns. */
      const some = async (node: Node, count: number) => {
        const own: number[] = [];
        for (const slot of new Set(slotOf.values())) {
          if (own.length < count && (await cluster.owner(slot)) === node) own.push(slot);
        }
        assert.equal(own.length, count);
        return own;
      };
      try {
        await cluster.move(await some(a, 2), a, b);
        await cluster.move(await some(b, 1), b, a, () => cluster.failover(replicaOfC));
        if (id === "valkey-9") await moveAtOnce((await some(b, 1))[0] as number, b, a);
        await first.end("SIGKILL");
        const added = await cluster.add();
        recording = new Recording(address, spool);
        stack.use(recording);
        await cluster.move(await some(a, 1), a, added);
        if (id === "valkey-9") await moveAtOnce((await some(b, 1))[0] as number, b, added);
        else await cluster.move(await some(b, 1), b, added);
        await streaming(recording, 4);
      } finally {
        stop.abort();
        await writing;
      }
      const masters = [a, b, replicaOfC, cluster.nodes.at(-1) as Node];
      const wanted = await Promise.all(masters.map(({ server }) => server.replicationOffset()));
      const shards = await until("all of it is recorded", async () => {
        const found = (await statusOf(recording))?.shards ?? [];
        const state = JSON.parse(readFileSync(join(spool, "cluster.json"), "utf8")) as State;
        const ordered = masters.map(({ id: node }) => {
          const key = state.shards.find(({ nodes }) => nodes[0] === node)?.key;
          return found.find(({ shard }) => shard === key);
        });
        const isDone = ordered.every(
          (shard, i) => (shard?.status?.writtenOffset ?? 0) >= (wanted[i] as number),
        );
        return isDone && (ordered as ShardStatus[]);
      });
      assert.equal(shards[2]?.shard, c.id, "the shard keeps its key when its replica takes over");
      context.diagnostic(`${shards.map(({ status }) => status?.gaps.length).join(", ")} gaps`);
      assert.deepEqual(
        shards.map(({ status }) => status?.gaps.length),
        [0, 0, 0, 0],
      );
      const shown = await tidemark("status", spool);
      for (const { shard } of shards) assert.ok(shown.stdout.includes(shard.slice(0, 12)));
      await checkHistory(spool, cluster);
      assert.equal(await recording.end(), 0, recording.said);
      for (const [i, { shard }] of shards.entries()) {
        const digest = await digestOfSpool(id, join(spool, "shards", shard));
        assert.equal(digest, await masters[i]?.server.debugDigest(), `shard ${i}`);
      }
      const wrong = await tidemark("record", `redis://127.0.0.1:${a.port}`, spool);
      assert.match(wrong.stderr, /it has the spools of a cluster/);
      const other = await tidemark("record", address, join(spool, "shards", c.id));
      assert.match(other.stderr, /it is the spool of one server/);
    });
  }
});

test("A recorder of a cluster goes with a shard whose master dies, and keeps its key", {
  skip: missingServers("redis-8.0"),
}, async () => {
  using folder = temporaryFolder();
  await using cluster = await ClusterNodes.start("redis-8.0", 3);
  const [a, , c, , , replicaOfC] = cluster.nodes as [Node, Node, Node, Node, Node, Node];
  const spool = join(folder.path, "spool");
  await using recording = new Recording(`cluster://127.0.0.1:${c.port}`, spool, [
    "--follow",
    "master",
  ]);
  await streaming(recording, 3);
  for (let i = 0; i < 300; i++) await cluster.call("SET", `key:${i}`, "before");
  await until(
    "the replica has it all",
    async () =>
      (await replicaOfC.server.replicationOffset()) >= (await c.server.replicationOffset()),
  );
  await c.server.stop("SIGKILL");
  await until("the replica is master", async () => {
    return /role:master/.test(String(await replicaOfC.server.call("INFO", "replication")));
  });
  await until("the others know it", async () => {
    return (await cluster.owner(16_383)).id === replicaOfC.id && isUp(a);
  });
  for (let i = 0; i < 300; i++) await cluster.call("SET", `key:${i}`, "after");
  const wanted = await replicaOfC.server.replicationOffset();
  const shard = await until("it is recorded", async () => {
    const found = (await statusOf(recording))?.shards.find(({ shard: key }) => key === c.id);
    return (found?.status?.writtenOffset ?? 0) >= wanted && found;
  });
  assert.equal(shard.status?.gaps.length, 0);
  assert.equal(await recording.end(), 0, recording.said);
  const digest = await digestOfSpool("redis-8.0", join(spool, "shards", c.id));
  assert.equal(digest, await replicaOfC.server.debugDigest());
});

async function isUp({ server }: Node): Promise<boolean> {
  return /cluster_state:ok/.test(String(await server.call("CLUSTER", "INFO")));
}

type State = { readonly shards: readonly { readonly key: string; readonly nodes: string[] }[] };

/** The last line says what the cluster says; the first is older. */
async function checkHistory(spool: string, cluster: ClusterNodes): Promise<void> {
  const text = readFileSync(join(spool, "slots.jsonl"), "utf8");
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => parseOwnershipChange(line, "slots.jsonl"));
  assert.ok(lines.length >= 2 && lines[0]?.windowMs === null && lines[0].shards.length === 3);
  const last = lines.at(-1)?.shards ?? [];
  assert.equal(last.length, 4);
  assert.ok(last.filter(({ position }) => position !== null).length >= 3);
  const slots = last.flatMap((shard) => shard.slots).toSorted(([x], [y]) => x - y);
  assert.equal(
    slots.reduce((sum, [first, to]) => sum + to - first + 1, 0),
    16_384,
  );
  const state = JSON.parse(readFileSync(join(spool, "cluster.json"), "utf8")) as State;
  for (const { key, slots: owned, ms } of last) {
    const node = state.shards.find((shard) => shard.key === key)?.nodes[0];
    assert.equal((await cluster.owner(owned[0]?.[0] ?? 0)).id, node);
    assert.ok(ms > 1.7e12);
  }
}
