import assert from "node:assert/strict";
import { test } from "node:test";
import { Archived } from "../../test/recovery/archived.ts";
import { makeLog, makeRdb, namesIn, replicationId } from "../../test/recovery/synthetic.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { readLog } from "./log-reader.ts";
import { type Outside, outsideFailure, type Plan, planRestore } from "./plan.ts";
import { parseTarget, type RestoreTarget } from "./target.ts";

const startMs = 1_795_000_000_000;
const base = { replicationId, offset: 1000, ms: startMs };
const batches = Array.from({ length: 20 }, () => ({ units: [1, 2], silent: 0, laterMs: 1000 }));

async function planOf(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}

async function outsideOf(archived: Archived, target: RestoreTarget): Promise<Outside> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "outside", JSON.stringify(result));
  return result as Outside;
}

/** Two logs with a gap of a minute between them. */
async function twoLines(): Promise<Archived> {
  const archived = new Archived();
  for (const at of [0, 80_000]) {
    const place = { ...base, offset: 1000 + at, ms: startMs + at };
    const log = makeLog({ startOffset: place.offset, startMs: place.ms, batches });
    await archived.addLog(log.bytes, place, { cutAfter: ({ sequence }) => sequence % 5 === 0 });
    await archived.addSet(makeRdb(1), place, { kind: "base" });
  }
  return archived;
}

test("planRestore() refuses a time in a gap, with the windows and the moments on both sides", async () => {
  const archived = await twoLines();
  const outside = await outsideOf(archived, { kind: "time", ms: startMs + 50_000 });
  assert.deepEqual(
    outside.windows.map(({ fromMs, toMs }) => [fromMs - startMs, toMs - startMs]),
    [
      [0, 20_000],
      [80_000, 100_000],
    ],
  );
  assert.equal(outside.before?.ms, startMs + 20_000);
  assert.equal(outside.after?.ms, startMs + 80_000);
  const failure = outsideFailure(outside);
  assert.match(failure.hint, /2026-11-18T11:06:40\.000Z to 2026-11-18T11:07:00\.000Z/);
  // What is told as the nearest moment can be asked for.
  for (const nearest of [outside.before, outside.after]) {
    await planOf(archived, parseTarget(nearest?.target ?? "", startMs));
  }
});

test("planRestore() refuses a time before the first set, and one behind the end of the log", async () => {
  const archived = await twoLines();
  const early = await outsideOf(archived, { kind: "time", ms: startMs - 1 });
  assert.deepEqual([early.before, early.after?.ms], [undefined, startMs]);
  const late = await outsideOf(archived, { kind: "time", ms: startMs + 100_001 });
  assert.match(late.found, /the log ends at/);
  assert.deepEqual([late.before?.ms, late.after], [startMs + 100_000, undefined]);
  assert.equal((await planOf(archived, { kind: "latest" })).moment.ms, startMs + 100_000);
});

test("planRestore() takes the newest verified set whose position is in the log", async () => {
  const archived = await twoLines();
  const log = makeLog({ startOffset: 1000, startMs, batches });
  const at = (unit: number) => ({
    ...base,
    offset: log.units[unit]?.offset ?? 0,
    ms: log.units[unit]?.ms ?? 0,
  });
  const good = await archived.addSet(makeRdb(2), at(9));
  const unverified = await archived.addSet(makeRdb(3), at(13), { isVerified: false });
  const strange = await archived.addSet(makeRdb(3), { ...at(13), offset: at(13).offset + 1 });
  const plan = await planOf(archived, { kind: "time", ms: startMs + 15_000 });
  assert.equal(plan.set.name, good);
  assert.deepEqual(plan.notes, [`set ${strange} was passed over: its position is not in the log`]);
  assert.notEqual(unverified, good);
  // Before the good one there is only the base.
  const earlier = await planOf(archived, { kind: "time", ms: startMs + 3000 });
  assert.equal(earlier.set.manifest.kind, "base");
  assert.deepEqual(earlier.moment.ms, startMs + 3000);
});

test("planRestore() of a set is the set as it is, by its name or a beginning of it", async () => {
  const archived = await twoLines();
  const [first] = archived.catalogue.sets;
  assert.ok(first);
  const plan = await planOf(archived, { kind: "set", name: first.name.slice(0, 21) });
  assert.deepEqual([plan.set.name, plan.log, plan.line], [first.name, undefined, undefined]);
  await assert.rejects(planOf(archived, { kind: "set", name: "2026" }), /2 sets begin so/);
  await assert.rejects(planOf(archived, { kind: "set", name: "x" }), /no such set/);
});

test("planRestore() of a position that no log has is refused", async () => {
  const archived = await twoLines();
  const position = { kind: "position", idPrefix: "0123", offset: 50_000 } as const;
  assert.match((await outsideOf(archived, position)).found, /no log/);
  assert.match((await outsideOf(archived, { ...position, idPrefix: "ff" })).found, /no log/);
});

/** FLUSHALL in a transaction at 5 s and at 15 s, a GETDEL at 10 s; INCRs between. */
async function accident(): Promise<{ archived: Archived; bytes: Uint8Array }> {
  const writer = new LogWriter();
  writer.seal(base, startMs);
  writer.select(0);
  let offset = 1000;
  for (let i = 0; i < 20; i++) {
    const before = writer.length;
    const record = (...words: string[]) => writer.record(words.map((word) => Buffer.from(word)));
    record("INCR", `n:${3 * i}`);
    if (i === 10) record("getdel", "x");
    if (i % 10 === 5) {
      writer.begin();
      record("INCR", `n:${3 * i + 1}`);
      record("FlushAll");
      writer.end();
    }
    record("INCR", `n:${3 * i + 2}`);
    offset += writer.length - before;
    writer.seal({ replicationId, offset }, startMs + 1000 * i);
  }
  const bytes = Uint8Array.from(writer.take());
  const archived = new Archived();
  const cutAfter = ({ sequence }: { sequence: number }) => sequence % 3 === 0;
  await archived.addLog(bytes, base, { blockBytes: 100, cutAfter });
  await archived.addSet(makeRdb(1), base, { kind: "base" });
  return { archived, bytes };
}

for (const [text, last] of [
  ["before:FLUSHALL", "n:45"],
  ["before:flushall@2026-11-18T11:06:50Z", "n:15"],
  ["before:GETDEL", "n:30"],
  ["before:EXEC", "n:45"],
] as const) {
  test(`planRestore() to ${text} ends in front of its unit`, async () => {
    const { archived } = await accident();
    const plan = await planOf(archived, parseTarget(text, startMs));
    assert.ok(plan.log);
    const chunks = await Array.fromAsync(readLog(archived.view, plan.log));
    assert.equal(namesIn(Buffer.concat(chunks)).at(-1), last);
  });
}

test("planRestore() to before a command that never came is refused", async () => {
  const { archived } = await accident();
  const outside = await outsideOf(archived, parseTarget("before:SWAPDB", startMs));
  assert.equal(outside.found, "no SWAPDB is in the log");
});
