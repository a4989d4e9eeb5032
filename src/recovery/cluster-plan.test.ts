import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Archived } from "../../test/recovery/archived.ts";
import { clusterName, viewOf } from "../../test/recovery/clustered.ts";
import { makeRdb, replicationId } from "../../test/recovery/synthetic.ts";
import type { SlotRange, SlotsChange } from "../archive/cluster-slots.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { type ClusterPlan, type ClusterView, planCluster } from "./cluster-plan.ts";
import { slotRules } from "./cluster-rules.ts";
import { type Outside, outsideFailure } from "./plan-result.ts";
import type { RestoreTarget } from "./target.ts";

const startMs = 1_700_000_000_000;

/** A log with a command at each of some seconds; and another one beside it, where `archived` has one. */
async function shard(
  key: string,
  commands: Readonly<Record<number, string>>,
  archived = new Archived(`${clusterName}.${key}`),
): Promise<Archived> {
  const [first = 0] = Object.keys(commands).map(Number);
  const base = { replicationId, offset: 0, ms: startMs + 1000 * first };
  const writer = new LogWriter();
  writer.seal(base, base.ms);
  writer.select(0);
  let offset = 0;
  for (const [second, command] of Object.entries(commands)) {
    const before = writer.length;
    writer.record(command.split(" ").map((word) => Buffer.from(word)));
    offset += writer.length - before;
    writer.seal({ replicationId, offset }, startMs + 1000 * Number(second));
  }
  await archived.addLog(Uint8Array.from(writer.take()), base);
  await archived.addSet(makeRdb(0), base, { kind: "base" });
  return archived;
}

function change(
  second: number,
  shards: Readonly<Record<string, readonly SlotRange[]>>,
): SlotsChange {
  const ms = startMs + 1000 * second;
  const all = Object.entries(shards).map(([key, slots]) => ({ key, slots, ms, position: null }));
  return { windowMs: 5000, shards: all };
}

async function bed(): Promise<ClusterView> {
  const all = {
    a: await shard("a", {
      0: "SET a 1",
      50: "FLUSHALL",
      60: "CLUSTER FLUSHSLOT 3",
      100: "SET a 2",
    }),
    b: await shard("b", { 0: "SET b 1", 52: "FLUSHALL", 90: "SET b 2" }),
    c: await shard("c", { 58: "SET c 1", 120: "SET c 2" }),
  };
  const archives = new Map(
    Object.entries(all).map(([key, each]) => [`${clusterName}.${key}`, each]),
  );
  return viewOf(archives, [
    change(1, { a: [[0, 9]], b: [[10, 16_383]] }),
    change(61, { a: [[0, 1]], b: [[10, 16_383]], c: [[2, 9]] }),
  ]);
}

async function plan(target: RestoreTarget): Promise<ClusterPlan | Outside> {
  const result = await planCluster(await bed(), clusterName, target);
  return result.kind === "plan" ? result.plan : result;
}

const at = (second: number) => ({ kind: "time", ms: startMs + 1000 * second }) as const;
const iso = (second: number) => new Date(startMs + 1000 * second).toISOString();

suite("planCluster()", () => {
  test("has a plan for each shard that had slots, to the same time", async () => {
    const found = (await plan(at(30))) as ClusterPlan;
    assert.deepEqual(
      found.shards.map(({ key }) => key),
      ["a", "b"],
    );
    assert.ok(found.shards.every((each) => each.plan.target.kind === "time"));
    assert.match(found.notes.join(), /slots 2-9 went to shop\.c later/);
  });

  test("takes the next owner along where its log reaches back, but for what moved as a whole", async () => {
    const found = (await plan(at(59))) as ClusterPlan;
    const rules = Object.fromEntries(found.shards.map((each) => [each.key, each.rules]));
    assert.deepEqual([...(rules["a"]?.slice(1, 3) ?? [])], [slotRules.own, slotRules.own]);
    assert.deepEqual(
      [...(rules["c"]?.slice(2, 5) ?? [])],
      [...[slotRules.next, slotRules.copy, slotRules.next]],
    );
  });

  test("has an id that is the same for the same, and another one for another time", async () => {
    const ids = await Promise.all([at(30), at(30), at(31)].map(plan));
    const [a, b, c] = ids.map((each) => (each as ClusterPlan).id);
    assert.equal(a, b);
    assert.notEqual(a, c);
  });

  test("takes the earliest end of its shards' windows for the latest moment", async () => {
    const found = (await plan({ kind: "latest" })) as ClusterPlan;
    assert.equal(found.ms, startMs + 90_000);
  });

  test("goes to the end that they have in common, where a shard has a log within another one's time", async () => {
    const logs = { 0: "SET a 1", 50: "SET a 2", 100: "SET a 3" };
    const a = await shard("a", logs);
    await shard("a", { 20: "SET a 1", 30: "SET a 2" }, a);
    const view = viewOf(new Map([[`${clusterName}.a`, a]]), [change(1, { a: [[0, 16_383]] })]);
    const result = await planCluster(view, clusterName, { kind: "latest" });
    assert.equal(result.kind === "plan" && result.plan.ms, at(100).ms);
  });

  test("refuses a time that not all have, with what they have in common", async () => {
    for (const [second, before, after] of [
      [95, 90, undefined],
      [0.5, undefined, 1],
    ] as const) {
      const found = (await plan(at(second))) as Outside;
      assert.deepEqual(
        found.windows.map(({ fromMs, toMs }) => [fromMs, toMs]),
        [[startMs + 1000, startMs + 90_000]],
      );
      assert.equal(found.before?.target, before && iso(before));
      assert.equal(found.after?.target, after && iso(after));
      assert.equal(outsideFailure(found).code, "OUTSIDE_WINDOWS");
    }
  });

  test("says when a command came to which shard, and does not guess", async () => {
    const target = { kind: "before", command: "FLUSHALL", untilMs: undefined } as const;
    await assert.rejects(plan(target), (error: Error & { hint: string }) => {
      assert.match(error.hint, new RegExp(`shop.a at ${iso(50)}, shop.b at ${iso(52)}`));
      assert.match(error.hint, new RegExp(`--at ${iso(49.999)}`));
      return true;
    });
    const never = { kind: "before", command: "SWAPDB", untilMs: undefined } as const;
    await assert.rejects(plan(never), { code: "OUTSIDE_WINDOWS" });
  });

  test("refuses a position, a set, and a cluster of which nothing is known", async () => {
    await assert.rejects(plan({ kind: "position", idPrefix: "0", offset: 1 }), { code: "USAGE" });
    await assert.rejects(plan({ kind: "set", name: "x" }), /a set is of one shard/);
    const empty = viewOf(new Map(), []);
    await assert.rejects(planCluster(empty, clusterName, at(1)), { code: "OBJECT_MISSING" });
  });
});
