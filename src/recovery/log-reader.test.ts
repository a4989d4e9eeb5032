import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Archived } from "../../test/recovery/archived.ts";
import {
  makeLog,
  makeRdb,
  namesIn,
  replicationId,
  type Shape,
} from "../../test/recovery/synthetic.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { readLog } from "./log-reader.ts";
import { planRestore } from "./plan.ts";
import type { Plan } from "./plan-result.ts";
import type { RestoreTarget } from "./target.ts";

const startMs = 1_795_000_000_000;
const base = { replicationId, offset: 1000, ms: startMs };

const shapes: fc.Arbitrary<Shape> = fc.record({
  startOffset: fc.constant(1000),
  startMs: fc.constant(startMs),
  database: fc.integer({ min: 0, max: 3 }),
  batches: fc.array(
    fc.record({
      units: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 6 }),
      silent: fc.constantFrom(0, 0, 14, 37),
      laterMs: fc.integer({ min: 0, max: 400 }),
    }),
    { minLength: 1, maxLength: 30 },
  ),
});

const cases = fc.record({
  shape: shapes,
  blockBytes: fc.constantFrom(100, 400, 4000),
  pieceEvery: fc.integer({ min: 1, max: 12 }),
  from: fc.nat(),
  to: fc.nat(),
});

async function planFor(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}

test("readLog() from a set's position to any other gives the units between, and no others", async () => {
  await fc.assert(
    fc.asyncProperty(cases, async ({ shape, blockBytes, pieceEvery, from, to }) => {
      const log = makeLog(shape);
      const ends = [{ offset: 1000, end: 0 }, ...log.units];
      const start = ends[from % ends.length] as (typeof ends)[number];
      const rest = ends.filter(({ offset }) => offset >= start.offset);
      const end = rest[to % rest.length] as (typeof ends)[number];
      const archived = new Archived();
      const cutAfter = ({ sequence }: { sequence: number }) => sequence % pieceEvery === 0;
      await archived.addLog(log.bytes, base, { blockBytes, cutAfter });
      await archived.addSet(makeRdb(1), { ...base, offset: start.offset, ms: startMs });
      const { offset } = end;
      const plan = await planFor(archived, { kind: "position", idPrefix: "0123", offset });
      assert.deepEqual(plan.moment.position, { replicationId, offset });
      const chunks =
        plan.log === undefined
          ? []
          : await Array.fromAsync(readLog(archived.view, plan.log, { asFile: true }));
      const bytes = Buffer.concat(chunks);
      const wanted = namesIn(log.bytes.subarray(start.end, Math.max(start.end, end.end)));
      assert.deepEqual(namesIn(bytes), wanted);
      assertIsLog(bytes, wanted.length > 0 ? shape.database : undefined);
    }),
    { numRuns: 50 },
  );
});

test("readLog() up to a time gives what is stamped at or before it", async () => {
  await fc.assert(
    fc.asyncProperty(cases, async ({ shape, blockBytes, pieceEvery, to }) => {
      const log = makeLog(shape);
      const lastMs = log.lines.at(-1)?.ms ?? startMs;
      const ms = startMs + (to % (lastMs - startMs + 1));
      const archived = new Archived();
      const cutAfter = ({ sequence }: { sequence: number }) => sequence % pieceEvery === 0;
      await archived.addLog(log.bytes, base, { blockBytes, cutAfter });
      await archived.addSet(makeRdb(1), base, { kind: "base" });
      const plan = await planFor(archived, { kind: "time", ms });
      const chunks =
        plan.log === undefined ? [] : await Array.fromAsync(readLog(archived.view, plan.log));
      const count = log.units.filter((unit) => unit.ms <= ms).length;
      const end = log.units[count - 1]?.end ?? 0;
      assert.deepEqual(namesIn(Buffer.concat(chunks)), namesIn(log.bytes.subarray(0, end)));
      assert.ok(plan.moment.ms <= ms);
    }),
    { numRuns: 50 },
  );
});

/** All position lines in it fit, and the database is selected before the first record. */
function assertIsLog(bytes: Uint8Array, database: number | undefined): void {
  const log = new LogScanner();
  log.push(bytes);
  for (let item = log.next(); item !== "more"; item = log.next());
  assert.equal(log.scanner.tail().kind, "whole");
  if (database !== undefined) assert.equal(log.scanner.database, database);
}

test("readLog() refuses a piece with a flipped bit, naming the object", async () => {
  const log = makeLog({
    startOffset: 1000,
    startMs,
    batches: Array.from({ length: 50 }, () => ({ units: [1, 3, 1], silent: 0, laterMs: 10 })),
  });
  const archived = new Archived();
  await archived.addLog(log.bytes, base, { cutAfter: ({ sequence }) => sequence === 20 });
  await archived.addSet(makeRdb(1), base);
  const plan = await planFor(archived, { kind: "latest" });
  const second = plan.log?.pieces[1]?.object ?? "";
  const bytes = archived.objects.get(second) as Uint8Array;
  bytes[60] = (bytes[60] as number) ^ 4;
  const range = plan.log;
  assert.ok(range);
  await assert.rejects(
    async () => {
      for await (const _ of readLog(archived.view, range));
    },
    (error: Error) => error.message.includes(second),
  );
});

test("readLog() refuses pieces that do not follow each other, whatever their names say", async () => {
  const batches = Array.from({ length: 40 }, () => ({ units: [1], silent: 0, laterMs: 10 }));
  const archived = new Archived();
  const log = makeLog({ startOffset: 1000, startMs, batches });
  await archived.addLog(log.bytes, base, { cutAfter: ({ sequence }) => sequence % 10 === 0 });
  await archived.addSet(makeRdb(1), base);
  const plan = await planFor(archived, { kind: "latest" });
  const [, second, third] = plan.log?.pieces ?? [];
  assert.ok(second && third && plan.log);
  const other = archived.objects.get(third.object) as Uint8Array;
  archived.objects.set(second.object, other);
  const pieces = plan.log.pieces.map((piece) =>
    piece === second ? { ...second, sizeBytes: third.sizeBytes, rawBytes: third.rawBytes } : piece,
  );
  await assert.rejects(async () => {
    for await (const _ of readLog(archived.view, {
      ...(plan.log as NonNullable<typeof plan.log>),
      pieces,
    }));
  }, /DATA_CORRUPT|Position line|Cannot read the log/);
});
