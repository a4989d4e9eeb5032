import assert from "node:assert/strict";
import { test } from "node:test";
import { Archived } from "../../test/recovery/archived.ts";
import { makeLog, makeRdb, namesIn, replicationId } from "../../test/recovery/synthetic.ts";
import { formatSetManifest, parseSetManifest, type SetManifest } from "../archive/backup-set.ts";
import { setObject } from "../archive/layout.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { readLog } from "./log-reader.ts";
import { planRestore } from "./plan.ts";
import { type Outside, outsideFailure, type Plan } from "./plan-result.ts";
import { openSnapshot } from "./restore-snapshot.ts";
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

/** Changes what a manifest says, and where it is put. */
function rewrite(
  archived: Archived,
  set: string,
  change: Partial<SetManifest>,
  to = setObject("shop", set, "manifest"),
): void {
  const object = setObject("shop", set, "manifest");
  const manifest = parseSetManifest(archived.objects.get(object) as Uint8Array, object);
  archived.objects.set(to, formatSetManifest({ ...manifest, ...change }));
}

const hourMs = 3_600_000;
const whole = makeLog({ startOffset: 1000, startMs, batches });
const unitAt = (unit: number) => ({
  ...base,
  offset: whole.units[unit]?.offset ?? 0,
  ms: whole.units[unit]?.ms ?? 0,
});

/** One log with a base and a set in the middle. */
async function oneLine(): Promise<{ archived: Archived; first: string; second: string }> {
  const archived = new Archived();
  await archived.addLog(whole.bytes, base, { cutAfter: ({ sequence }) => sequence % 5 === 0 });
  const first = await archived.addSet(makeRdb(1), base, { kind: "base" });
  const second = await archived.addSet(makeRdb(2), unitAt(19));
  return { archived, first, second };
}

test("planRestore() to the latest goes to the end of a log that has the position of a set stamped later", async () => {
  for (const laterMs of [hourMs, 500]) {
    const { archived } = await oneLine();
    // A unit in the middle; the source's clock was ahead, or the set is stamped when its snapshot began.
    const ahead = await archived.addSet(makeRdb(3), {
      ...unitAt(25),
      ms: startMs + 20_000 + laterMs,
    });
    const plan = await planOf(archived, { kind: "latest" });
    assert.equal(plan.set.name, ahead);
    assert.equal(plan.moment.position?.offset, whole.units.at(-1)?.offset);
    assert.ok(plan.log !== undefined);
  }
});

test("planRestore() to the latest takes a log whose only set is stamped later than its end", async () => {
  const archived = new Archived();
  await archived.addLog(whole.bytes, base);
  await archived.addSet(makeRdb(3), { ...unitAt(25), ms: startMs + 20_500 });
  const plan = await planOf(archived, { kind: "latest" });
  assert.equal(plan.moment.position?.offset, whole.units.at(-1)?.offset);
});

test("planRestore() to the latest takes a set as it is that stands behind all log, and no other", async () => {
  const { archived } = await oneLine();
  const end = whole.units.at(-1)?.offset ?? 0;
  const behind = await archived.addSet(makeRdb(3), {
    ...base,
    offset: end + 10,
    ms: startMs + 30_000,
  });
  const plan = await planOf(archived, { kind: "latest" });
  assert.deepEqual([plan.set.name, plan.log], [behind, undefined]);
  assert.match(plan.notes.join("\n"), /is taken as it is: its position is in no log/);
  // Of a history that had ended when the log's own set was taken, by the clock of who took both.
  rewrite(archived, behind, {
    position: { replicationId: "f".repeat(40), offset: 5 },
    startedMs: startMs - 1,
  });
  const other = await planOf(archived, { kind: "latest" });
  assert.notEqual(other.set.name, behind);
  assert.equal(other.moment.ms, startMs + 20_000);
});

test("planRestore() to the latest takes the later one of two logs, although a clock was ahead in the first", async () => {
  const archived = new Archived();
  const ahead = batches.map((batch, i) => (i === 10 ? { ...batch, laterMs: hourMs } : batch));
  const early = makeLog({ startOffset: 1000, startMs, batches: ahead });
  await archived.addLog(early.bytes, base);
  await archived.addSet(makeRdb(1), base, { kind: "base" });
  const place = { replicationId: "e".repeat(40), offset: 9000, ms: startMs + 60_000 };
  const late = makeLog({ startOffset: 9000, startMs: place.ms, batches, id: place.replicationId });
  const line = await archived.addLog(late.bytes, place);
  const set = await archived.addSet(makeRdb(1), place, { kind: "base" });
  const plan = await planOf(archived, { kind: "latest" });
  assert.deepEqual([plan.set.name, plan.line], [set, line]);
});

const broken: Readonly<
  Record<string, readonly [(archived: Archived, set: string) => void, RegExp]>
> = {
  "without a snapshot": [
    (archived, set) => archived.objects.delete(setObject("shop", set, "snapshot")),
    /its snapshot is not there/,
  ],
  "with a snapshot that is cut off": [
    (archived, set) => {
      const object = setObject("shop", set, "snapshot");
      archived.objects.set(object, (archived.objects.get(object) as Uint8Array).slice(0, 50));
    },
    /its snapshot has 50 bytes; its manifest says \d+/,
  ],
  "with a snapshot whose end is damaged": [
    (archived, set) => {
      const object = setObject("shop", set, "snapshot");
      const bytes = new Uint8Array(archived.objects.get(object) as Uint8Array);
      bytes.fill(0, -20);
      archived.objects.set(object, bytes);
    },
    /Cannot read .*snapshot/,
  ],
  "with a damaged manifest": [
    (archived, set) => archived.objects.set(setObject("shop", set, "manifest"), Buffer.from("{}")),
    /no sum at its end/,
  ],
  "of another instance": [
    (archived, set) => rewrite(archived, set, { instance: "other" }),
    /it is of set ".*" of "other"/,
  ],
  "of another name": [
    (archived, set) => rewrite(archived, set, { set: "2026-11-18T00-00-00.000Z-0000" }),
    /it is of set/,
  ],
};
for (const [words, [damage, found]] of Object.entries(broken)) {
  test(`planRestore() passes over a set ${words}, and refuses it where it is named`, async () => {
    const { archived, first, second } = await oneLine();
    damage(archived, second);
    for (const target of [{ kind: "time", ms: startMs + 15_000 }, { kind: "latest" }] as const) {
      const plan = await planOf(archived, target);
      assert.equal(plan.set.name, first);
      const notes = plan.notes.join("\n");
      assert.match(notes, new RegExp(`^set ${second} was passed over: .*`));
      assert.match(notes, found);
    }
    await assert.rejects(planOf(archived, { kind: "set", name: second }), {
      message: found,
      hint: /tidemark verify 2026.*tidemark backups/,
    });
    // Where it is all that there is, the reason is told, and no window is promised.
    damage(archived, first);
    for (const target of [{ kind: "time", ms: startMs + 15_000 }, { kind: "latest" }] as const) {
      const outside = await outsideOf(archived, target);
      assert.deepEqual(outside.windows, []);
      assert.match(outside.found, /set 2026.* was passed over: /);
      assert.match(outside.found, found);
    }
  });
}

test("planRestore() without a set takes the one before it", async () => {
  const { archived, first, second } = await oneLine();
  for (const kind of ["time", "latest"] as const) {
    const target = { kind, ms: startMs + 15_000 } as RestoreTarget;
    const options = { without: [second] };
    const result = await planRestore(archived.view, archived.catalogue, target, options);
    assert.equal(result.kind === "plan" && result.plan.set.name, first);
  }
});

test("openSnapshot() of a set with a damaged block says how to do without it", async () => {
  const { archived, second } = await oneLine();
  const plan = await planOf(archived, { kind: "latest" });
  assert.equal(plan.set.name, second);
  const bytes = new Uint8Array(archived.objects.get(plan.set.object) as Uint8Array);
  bytes[10] = (bytes[10] as number) ^ 1;
  archived.objects.set(plan.set.object, bytes);
  const snapshot = await openSnapshot(archived.view, plan);
  await assert.rejects(Array.fromAsync(snapshot.bytes()), {
    code: "DATA_CORRUPT",
    hint: new RegExp(`tidemark verify ${second}.*--without-set ${second}`),
  });
});

test("planRestore() tries the next log where one of another instance lies in the way", async () => {
  const { archived } = await oneLine();
  const strange = { replicationId: "d".repeat(40), offset: 70_000, ms: startMs + 5000 };
  const log = makeLog({
    ...{ startOffset: strange.offset, startMs: strange.ms, batches, id: strange.replicationId },
  });
  const line = await archived.addLog(log.bytes, strange);
  for (const target of [{ kind: "time", ms: startMs + 15_000 }, { kind: "latest" }] as const) {
    const plan = await planOf(archived, target);
    assert.notEqual(plan.line, line);
    // It ends later than the log of the instance.
    const notes = target.kind === "time" ? "^$" : `^log ${line} ends at .* of another instance$`;
    assert.match(plan.notes.join("\n"), new RegExp(notes));
  }
});

test("planRestore() to a time says that the source's clock was ahead then", async () => {
  const many = Array.from({ length: 60 }, () => ({ units: [1], silent: 0, laterMs: 1000 }));
  const jumping = many.map((batch, i) => {
    return { ...batch, laterMs: 1000 + (i === 20 ? hourMs : 0) - (i === 30 ? hourMs : 0) };
  });
  const logs = [many, jumping].map((each) =>
    makeLog({ startOffset: 1000, startMs, batches: each }),
  );
  // One piece, of one block or of many; and pieces that end somewhere, or where the clock was set.
  const cuts: readonly ((line: { sequence: number }) => boolean)[] = [
    () => false,
    ({ sequence }) => sequence % 3 === 0,
    ({ sequence }) => sequence === 22 || sequence === 33,
  ];
  for (const [number, log] of logs.entries()) {
    for (const blockBytes of [100, 1_000_000]) {
      for (const cutAfter of cuts) {
        const archived = new Archived();
        await archived.addLog(log.bytes, base, { cutAfter, blockBytes });
        await archived.addSet(makeRdb(1), base, { kind: "base" });
        const target = { kind: "time", ms: startMs + 40_000 } as const;
        const plan = await planOf(archived, target);
        const notes = plan.notes.join("\n");
        if (number === 0) assert.equal(notes, "");
        else assert.match(notes, /clock was ahead, it seems: behind 2026-11-18T11:07:00/);
        const early = await planOf(archived, { kind: "time", ms: startMs + 10_000 });
        assert.deepEqual(early.notes, []);
        const options = { nowMs: startMs + 60_000 };
        const live = await planRestore(archived.view, archived.catalogue, target, options);
        const told = live.kind === "plan" && live.plan.notes.join("\n").includes("still to come");
        assert.equal(told, number === 1);
      }
    }
  }
});
