import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { Archived } from "../../test/recovery/archived.ts";
import { makeRdb } from "../../test/recovery/synthetic.ts";
import { windowsOf } from "../archive/catalogue.ts";
import type { Moment } from "../archive/layout.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { planRestore } from "./plan.ts";
import type { Plan } from "./plan-result.ts";
import type { RestoreTarget } from "./target.ts";

const startMs = 1_795_000_000_000;
const secondMs = 1000;
const batches = 12;
/** Of `INCR n:0000`. */
const batchBytes = 26;

/** What a server went through: a batch a second, and another replication id from some batch on. */
type Past = { readonly ids: readonly [string, string]; readonly failoverAt: number };

/** A log of a part of it, by a recorder whose clock was wrong by so much. */
type Part = {
  readonly past: number;
  readonly from: number;
  readonly to: number;
  readonly skewMs: number;
};

const idOf = (digit: string) => digit.repeat(40);

/** Behind the first so many batches. */
function at({ ids, failoverAt }: Past, batch: number, skewMs = 0): Moment {
  const replicationId = ids[batch > failoverAt ? 1 : 0];
  const offset = 1000 + batch * batchBytes;
  return { replicationId, offset, ms: startMs + batch * secondMs + skewMs };
}

function record(writer: LogWriter, batch: number, word = "INCR"): void {
  const before = writer.length;
  writer.record([word, `n:${String(batch).padStart(4, "0")}`].map((each) => Buffer.from(each)));
  assert.equal(writer.length - before, batchBytes);
}

async function addPart(
  archived: Archived,
  past: Past,
  { from, to, skewMs }: Part,
  wordOf: (batch: number) => string = () => "INCR",
): Promise<string> {
  const writer = new LogWriter();
  const base = at(past, from, skewMs);
  writer.seal(base, base.ms);
  writer.select(0);
  writer.seal(base, base.ms);
  for (let batch = from + 1; batch <= to; batch++) {
    record(writer, batch, wordOf(batch));
    const moment = at(past, batch, skewMs);
    writer.seal(moment, moment.ms);
  }
  const cutAfter = ({ sequence }: { sequence: number }) => sequence % 4 === 3;
  return await archived.addLog(Uint8Array.from(writer.take()), base, { cutAfter });
}

async function planOf(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}

const past: Past = { ids: [idOf("a"), idOf("b")], failoverAt: batches };
const other: Past = { ids: [idOf("c"), idOf("d")], failoverAt: batches };
const part = (from: number, to: number, skewMs = 0): Part => ({ past: 0, from, to, skewMs });
const latest = { kind: "latest" } as const;

suite("planRestore() with logs that overlap", () => {
  test("goes to the end of a standby's, where one set is of both", async () => {
    for (const set of [1, 4]) {
      const archived = new Archived();
      await addPart(archived, past, part(0, 6));
      const standby = await addPart(archived, past, part(2, 10));
      await archived.addSet(makeRdb(1), at(past, set));
      await archived.addSet(makeRdb(1), at(past, 5));
      const plan = await planOf(archived, latest);
      assert.equal(plan.line, standby);
      assert.equal(plan.moment.ms, at(past, 10).ms);
    }
  });

  test("goes to the end of a standby's whose base is older than what is left of the first", async () => {
    const archived = new Archived();
    await addPart(archived, past, part(0, 6));
    const standby = await addPart(archived, past, part(2, 10));
    await archived.addSet(makeRdb(1), at(past, 2), { kind: "base" });
    // By its time it may be of either; taken later than all that is only the standby's.
    await archived.addSet(makeRdb(1), at(past, 4));
    assert.equal((await planOf(archived, latest)).line, standby);
  });

  test("goes furthest by position also where the stamps say otherwise, and says so", async () => {
    const archived = new Archived();
    const ahead = await addPart(archived, past, part(0, 6, 3_600_000));
    const further = await addPart(archived, past, part(2, 10));
    await archived.addSet(makeRdb(1), at(past, 2));
    await archived.addSet(makeRdb(1), at(past, 5, 3_600_000));
    const plan = await planOf(archived, latest);
    assert.equal(plan.line, further);
    assert.match(plan.notes.join("\n"), new RegExp(`log ${ahead} ends at 2026`));
  });

  test("goes further where the history went on under another replication id", async () => {
    const archived = new Archived();
    const failedOver = { ...past, failoverAt: 7 };
    await addPart(archived, failedOver, part(0, 6, 60_000));
    const further = await addPart(archived, failedOver, part(2, 10));
    await archived.addSet(makeRdb(1), at(failedOver, 3));
    await archived.addSet(makeRdb(1), at(failedOver, 5, 60_000));
    assert.equal((await planOf(archived, latest)).line, further);
  });

  test("takes the log whose newest set was taken later, where they have nothing in common", async () => {
    const archived = new Archived();
    await addPart(archived, past, part(0, 10));
    const line = await addPart(archived, other, part(4, 9));
    await archived.addSet(makeRdb(1), at(past, 1));
    await archived.addSet(makeRdb(1), at(other, 5));
    assert.equal((await planOf(archived, latest)).line, line);
  });

  test("answers with a log that can be replayed, where another one has the target too", async () => {
    const archived = new Archived();
    const word = (batch: number) => (batch === 4 ? "WIPE" : "INCR");
    const first = await addPart(archived, past, part(0, 6), word);
    await addPart(archived, past, part(2, 10), word);
    await archived.addSet(makeRdb(1), at(past, 0), { kind: "base" });
    // The standby's own base has gone, and what is left is behind the target.
    await archived.addSet(makeRdb(1), at(past, 8));
    const { replicationId: idPrefix, offset } = at(past, 3);
    for (const target of [
      { kind: "before", command: "WIPE", untilMs: undefined },
      { kind: "position", idPrefix, offset },
      { kind: "time", ms: at(past, 3).ms },
    ] as const) {
      const plan = await planOf(archived, target);
      assert.deepEqual([plan.line, plan.moment.ms], [first, at(past, 3).ms], target.kind);
    }
    assert.equal((await planOf(archived, latest)).moment.ms, at(past, 10).ms);
  });

  test("finds the last command of a name in the log that goes furthest", async () => {
    const archived = new Archived();
    const word = (batch: number) => (batch === 3 || batch === 9 ? "WIPE" : "INCR");
    await addPart(archived, past, part(0, 6, 3_600_000), word);
    const further = await addPart(archived, past, part(2, 10), word);
    await archived.addSet(makeRdb(1), at(past, 2));
    await archived.addSet(makeRdb(1), at(past, 5, 3_600_000));
    const plan = await planOf(archived, { kind: "before", command: "WIPE", untilMs: undefined });
    assert.deepEqual([plan.line, plan.moment.ms], [further, at(past, 8).ms]);
  });
});

const parts = (pasts: number, skew: fc.Arbitrary<number>) =>
  fc.array(
    fc
      .tuple(fc.nat(pasts - 1), fc.nat(batches), fc.nat(batches), skew)
      .filter(([, a, b]) => a !== b)
      .map(([number, a, b, skewMs]): Part => {
        return { past: number, from: Math.min(a, b), to: Math.max(a, b), skewMs };
      }),
    { minLength: 1, maxLength: 4 },
  );

const sets = fc.array(fc.tuple(fc.nat(3), fc.nat(100)), { minLength: 1, maxLength: 5 });

type Line = Part & { readonly name: string; readonly fromMs: number; readonly toMs: number };
type TrueSet = { readonly past: number; readonly batch: number; readonly ms: number };

/** Sets are each of a batch that some log has; their times are right. */
async function build(
  pasts: readonly Past[],
  drawn: readonly Part[],
  places: readonly (readonly [number, number])[],
) {
  const archived = new Archived();
  const lines: Line[] = [];
  for (const one of drawn) {
    const own = pasts[one.past] as Past;
    const [first, last] = [at(own, one.from, one.skewMs), at(own, one.to, one.skewMs)];
    // Two of one name would be one line.
    if (lines.some(({ fromMs, ...line }) => fromMs === first.ms && line.past === one.past))
      continue;
    const name = await addPart(archived, own, one);
    lines.push({ ...one, name, fromMs: first.ms, toMs: last.ms });
  }
  const known: TrueSet[] = [];
  for (const [number, place] of places) {
    const line = lines[number % lines.length] as Line;
    const batch = line.from + (place % (line.to - line.from + 1));
    // No two sets are of the same time.
    const moment = at(pasts[line.past] as Past, batch);
    const ms = moment.ms + 1 + known.length + 100 * line.past;
    await archived.addSet(makeRdb(1), { ...moment, ms });
    known.push({ past: line.past, batch, ms });
  }
  const inTime = (line: Line, { ms }: TrueSet) => ms >= line.fromMs && ms <= line.toMs;
  const isOf = (line: Line, set: TrueSet) =>
    set.past === line.past && set.batch >= line.from && set.batch <= line.to;
  const listed = lines.filter((line) => known.some((set) => inTime(line, set)));
  const lastMs = Math.max(-1, ...listed.map(({ toMs }) => toMs));
  const setsOf = (line: Line) =>
    known.filter((set) => isOf(line, set) && (inTime(line, set) || set.ms > lastMs));
  return { archived, lines, inTime, setsOf };
}

function positionOf(own: Past | undefined, batch: number): Position {
  const { replicationId, offset } = at(own as Past, batch);
  return { replicationId, offset };
}

suite("planRestore() with any logs of one history, by clocks that are wrong", () => {
  const skew = fc.constantFrom(0, 0, 300, -300, 2500, -2500, 3_600_000);

  test("goes to the end of the window that goes furthest by position", async () => {
    await fc.assert(
      fc.asyncProperty(parts(1, skew), sets, fc.nat(batches), async (drawn, places, failoverAt) => {
        const own = { ...past, failoverAt };
        const { archived, setsOf, lines } = await build([own], drawn, places);
        const usable = lines.filter((line) => setsOf(line).length > 0);
        if (usable.length === 0) return;
        const furthest = Math.max(...usable.map(({ to }) => to));
        const plan = await planOf(archived, latest);
        assert.deepEqual(plan.moment.position, positionOf(own, furthest));
        const ends = usable.filter(({ to }) => to === furthest).map(({ toMs }) => toMs);
        assert.ok(ends.includes(plan.moment.ms));
      }),
      { numRuns: 120 },
    );
  });

  test("has a plan for each position and time that some log can be replayed up to", async () => {
    await fc.assert(
      fc.asyncProperty(parts(1, skew), sets, fc.nat(batches), async (drawn, places, failoverAt) => {
        const own = { ...past, failoverAt };
        const { archived, setsOf, lines, inTime } = await build([own], drawn, places);
        for (let batch = 0; batch <= batches; batch++) {
          const able = lines.filter(
            (line) =>
              batch <= line.to &&
              setsOf(line).some((set) => inTime(line, set) && set.batch <= batch),
          );
          const position = positionOf(own, batch);
          if (able.length === 0) continue;
          const target = { kind: "position", idPrefix: position.replicationId } as const;
          const plan = await planOf(archived, { ...target, offset: position.offset });
          assert.deepEqual(plan.moment.position, position);
          for (const { skewMs, ...line } of able) {
            const { ms } = at(own, batch, skewMs);
            const sure = setsOf({ ...line, skewMs }).some((set) => {
              return inTime({ ...line, skewMs }, set) && set.batch <= batch && set.ms <= ms;
            });
            if (sure) await planOf(archived, { kind: "time", ms });
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});

test("planRestore() with any logs of two histories goes to the end of a window, of the newer one's furthest", async () => {
  await fc.assert(
    fc.asyncProperty(parts(2, fc.constant(0)), sets, async (drawn, places) => {
      const pasts = [past, other];
      const { archived, setsOf, lines } = await build(pasts, drawn, places);
      const usable = lines.filter((line) => setsOf(line).length > 0);
      if (usable.length === 0) return;
      const plan = await planOf(archived, latest);
      const chosen = lines.find(({ name }) => name === plan.line);
      // A set that was taken at the end of its log is the log's end.
      const end = plan.moment.position as Position;
      const ends = usable.map((line) => positionOf(pasts[line.past], line.to));
      assert.ok(ends.some((one) => JSON.stringify(one) === JSON.stringify(end)));
      const own = chosen?.past ?? pasts.findIndex(({ ids }) => ids.includes(end.replicationId));
      const furthest = Math.max(...usable.filter((line) => line.past === own).map(({ to }) => to));
      const alike = usable.filter((line) => line.past === own);
      // Logs apart in time are not compared; those that overlap are, and the furthest of one history wins.
      const overlaps = alike.every((a) => alike.some((b) => a !== b && a.toMs > b.fromMs));
      if (alike.length === 1 || overlaps) {
        assert.deepEqual(end, positionOf(pasts[own], furthest));
      }
      const windows = windowsOf(archived.catalogue).map(({ toMs }) => toMs);
      assert.ok(windows.includes(plan.moment.ms) || plan.log === undefined);
    }),
    { numRuns: 60 },
  );
});
