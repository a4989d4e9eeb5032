import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { aofFixtures } from "../../../test/support/fixtures.ts";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { type Cut, type CutTarget, LogCutter } from "./cut.ts";
import type { LogOptions } from "./log-scanner.ts";
import { parseManifest } from "./manifest.ts";
import { LogWriter } from "./writer.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const otherId = "f".repeat(40);

function cut(log: Uint8Array | string, target: CutTarget, options: LogOptions = {}, size = 0): Cut {
  const bytes = typeof log === "string" ? fromLatin1(log) : log;
  const cutter = new LogCutter(target, options);
  for (let at = 0; at < bytes.length; at += size || bytes.length) {
    const borrowed = Buffer.from(bytes.subarray(at, at + (size || bytes.length)));
    const wantsMore = cutter.push(borrowed);
    borrowed.fill(0xee);
    if (!wantsMore) break;
  }
  return cutter.finish();
}

const encoded = (...words: readonly string[]) =>
  `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`;
const one = encoded("SET", "k", "\n#TS:999\r\n\0");
const transaction = encoded("MULTI") + one + encoded("SELECT", "3") + encoded("exec");

test("a stock log is cut at the first timestamp that is later than the target", () => {
  const log = `#TS:100\r\n${one}#TS:105\r\n${transaction}#TS:103\r\n${one}#TS:104\r\n`;
  const late = log.indexOf("#TS:105");
  for (const [seconds, offset, nextMs] of [
    [99, 0, 100_000],
    [100, late, 105_000],
    [104, late, 105_000],
    [105, log.length, undefined],
  ] as const) {
    const found = cut(log, { seconds });
    assert.deepEqual([found.offset, found.nextMs], [offset, nextMs]);
    assert.equal(found.reason, nextMs === undefined ? "end" : "time");
  }
  assert.equal(cut(log, { ms: 104_999 }).offset, late);
  assert.equal(cut(log, { ms: 105_000 }).offset, log.length);
});

test("records before the first timestamp are taken", () => {
  const log = `${one}${one}#TS:100\r\n${one}`;
  assert.deepEqual(cut(log, { seconds: 5 }), {
    offset: 2 * one.length,
    records: 2,
    after: undefined,
    reason: "time",
    isExact: true,
    nextMs: 100_000,
    database: undefined,
  });
});

test("a timestamp inside a transaction cuts before the transaction", () => {
  const log = `#TS:1\r\n${one}${encoded("MULTI")}${one}#TS:9\r\n${one}${encoded("EXEC")}`;
  assert.equal(cut(log, { seconds: 5 }).offset, log.indexOf(encoded("MULTI")));
});

test("a torn tail goes too", () => {
  for (const tail of ["*1\r\n$4\r\nPI", encoded("MULTI") + one, "#TS:1"]) {
    const found = cut(`#TS:1\r\n${one}${tail}`, { seconds: 5 });
    assert.deepEqual([found.offset, found.records, found.reason], [7 + one.length, 1, "end"]);
  }
});

test("damage before the cut is thrown, damage behind it is not seen", () => {
  assert.throws(() => cut(`${one}x#TS:9\r\n`, { seconds: 5 }), { code: "DATA_CORRUPT" });
  assert.equal(cut(`${one}#TS:9\r\nx`, { seconds: 5 }).offset, one.length);
});

const units = fc.constantFrom(
  one,
  transaction,
  encoded("DEL", "#TS:1\r\n", "*1\r\n"),
  encoded("incr", "n"),
);
const stamps = fc.integer({ min: 0, max: 12 }).map((seconds) => `#TS:${seconds}\r\n`);

test("the cut of a stock log is the longest prefix without a later timestamp, for every second", () => {
  const logs = fc.array(fc.oneof(units, stamps), { maxLength: 20 });
  fc.assert(
    fc.property(logs, fc.integer({ min: 1, max: 60 }), (parts, size) => {
      for (let seconds = -1; seconds <= 12; seconds++) {
        const isLater = (part: string) => Number(/^#TS:(\d+)/.exec(part)?.[1] ?? -1) > seconds;
        const end = parts.findIndex(isLater);
        const kept = end < 0 ? parts : parts.slice(0, end);
        const found = cut(parts.join(""), { seconds }, {}, size);
        assert.equal(found.offset, kept.join("").length);
      }
    }),
    { numRuns: 60 },
  );
});

type Batch = { readonly units: readonly string[]; readonly ms: number };

/** A sealed log whose offsets count the bytes of its records; where each batch and unit ends. */
function seal(batches: readonly Batch[], extraBytes = 0) {
  const writer = new LogWriter();
  let offset = 1_000;
  writer.seal({ replicationId, offset }, 0);
  const parts = [writer.take()];
  const place = () => parts.reduce((sum, part) => sum + part.length, 0);
  const batchEnds = [{ offset, end: place(), ms: 0 }];
  const unitEnds = [{ offset, end: place() }];
  for (const { units, ms } of batches) {
    writer.stamp(ms);
    for (const unit of units) {
      writer.raw(fromLatin1(unit));
      parts.push(writer.take());
      offset += unit.length;
      unitEnds.push({ offset, end: place() });
    }
    offset += extraBytes;
    writer.seal({ replicationId, offset }, ms);
    parts.push(writer.take());
    batchEnds.push({ offset, end: place(), ms: writer.position?.ms ?? 0 });
  }
  return { bytes: Buffer.concat(parts), batchEnds, unitEnds };
}

const batches = fc.array(
  fc.record({ units: fc.array(units, { maxLength: 4 }), ms: fc.integer({ min: 1, max: 9_000 }) }),
  { maxLength: 6 },
);

test("the cut of a sealed log takes the batches that were stamped up to the millisecond", () => {
  fc.assert(
    fc.property(
      batches,
      fc.integer({ min: 0, max: 9_001 }),
      fc.nat({ max: 200 }),
      (list, ms, size) => {
        const { bytes, batchEnds } = seal(list);
        const expected = batchEnds.findLast((batch) => batch.ms <= ms);
        const found = cut(bytes, { ms }, {}, size + 1);
        assert.equal(found.offset, expected?.end);
        assert.equal(found.after?.offset, expected?.offset);
        assert.equal(found.reason, expected === batchEnds.at(-1) ? "end" : "time");
      },
    ),
    { numRuns: 100 },
  );
});

test("a target in seconds takes all milliseconds of its second", () => {
  const { bytes, batchEnds } = seal([
    { units: [one], ms: 4_999 },
    { units: [one], ms: 5_999 },
    { units: [one], ms: 6_000 },
  ]);
  assert.equal(cut(bytes, { seconds: 5 }).offset, batchEnds[2]?.end);
  assert.equal(cut(bytes, { ms: 5_000 }).offset, batchEnds[1]?.end);
  assert.equal(cut(bytes, { ms: 5_000 }).nextMs, 5_999);
});

test("a timestamp counts for a batch only while no position line stands behind it", () => {
  const writer = new LogWriter();
  writer.seal({ replicationId, offset: 0 }, 0);
  writer.raw(fromLatin1(one));
  writer.stamp(9_000);
  writer.raw(fromLatin1(one));
  const open = toLatin1(writer.take());
  writer.seal({ replicationId, offset: 9 }, 3_000);
  const sealed = open + toLatin1(writer.take());
  const start = open.indexOf("*");
  const stamp = open.indexOf("#TS:9\r\n", start + one.length);
  assert.equal(cut(open, { ms: 5_000 }).offset, stamp);
  assert.equal(cut(open, { ms: 9_000 }).offset, open.length);
  assert.equal(cut(sealed, { ms: 5_000 }).offset, sealed.length);
  assert.equal(cut(sealed, { ms: 2_999 }).offset, start);
});

test("a position is cut to the byte where the log is the replication stream", () => {
  fc.assert(
    fc.property(batches, fc.nat({ max: 200 }), (list, size) => {
      const { bytes, batchEnds, unitEnds } = seal(list);
      const last = batchEnds.at(-1)?.offset ?? 0;
      const targets = unitEnds.flatMap(({ offset }) => [offset, offset + 1, offset - 1]);
      for (const offset of targets) {
        const found = cut(bytes, { position: { replicationId, offset } }, {}, size + 1);
        const batch = batchEnds.find((end) => end.offset === offset);
        const unit = unitEnds.findLast((end) => end.offset <= offset);
        const isReached = offset >= 1_000 && offset <= last;
        assert.equal(found.isExact, isReached && unit?.offset === offset);
        if (isReached) assert.equal(found.offset, batch?.end ?? endOf(batchEnds, unit));
        else assert.equal(found.offset, offset < 1_000 ? 0 : batchEnds.at(-1)?.end);
      }
    }),
    { numRuns: 40 },
  );
});

type End = { readonly offset: number; readonly end: number };

/** Where to cut behind a unit: behind the last position line that follows it, if there is one. */
function endOf(batchEnds: readonly End[], unit: End | undefined): number | undefined {
  return batchEnds.findLast(({ offset }) => offset === unit?.offset)?.end ?? unit?.end;
}

test("a position is counted back from the end of a batch: what was left out is in front", () => {
  const { bytes, batchEnds, unitEnds } = seal([{ units: [one, one], ms: 1 }], 14);
  const start = batchEnds[0]?.offset ?? 0;
  const at = (offset: number) => {
    const found = cut(bytes, { position: { replicationId, offset } });
    return [found.offset, found.isExact];
  };
  // 14 bytes of the stream, which the log does not have, are before the first unit.
  for (const left of [0, 1, 13, 14]) assert.deepEqual(at(start + left), [batchEnds[0]?.end, true]);
  assert.deepEqual(at(start + 14 + 5), [batchEnds[0]?.end, false]);
  assert.deepEqual(at(start + 14 + one.length), [unitEnds[1]?.end, true]);
  assert.deepEqual(at(start + 14 + 2 * one.length), [batchEnds[1]?.end, true]);
});

test("a cut tells the database that is selected there", () => {
  const writer = new LogWriter();
  writer.seal({ replicationId, offset: 0 }, 1);
  writer.select(3);
  writer.raw(fromLatin1(one + encoded("SELECT", "5") + one));
  writer.seal({ replicationId, offset: 1000 }, 1);
  const log = toLatin1(writer.take());
  const at = (offset: number) => cut(log, { position: { replicationId, offset } }).database;
  assert.deepEqual([at(1000), at(1000 - one.length), at(999 - one.length)], [5, 5, 3]);
});

test("a position under another id ends where the history went on under a new one", () => {
  const writer = new LogWriter();
  writer.seal({ replicationId, offset: 10 }, 1);
  writer.seal({ replicationId, offset: 20 }, 1);
  const turn = toLatin1(writer.take());
  writer.seal({ replicationId: otherId, offset: 30 }, 1);
  const log = turn + toLatin1(writer.take());
  const at = (id: string, offset: number) => {
    const found = cut(log, { position: { replicationId: id, offset } });
    return [found.offset, found.isExact];
  };
  assert.deepEqual(at(replicationId, 20), [turn.length, true]);
  assert.deepEqual(at(replicationId, 25), [turn.length, false]);
  assert.deepEqual(at(otherId, 30), [log.length, true]);
  assert.deepEqual(at(otherId, 20), [turn.length, true]);
  assert.deepEqual(at("0".repeat(40), 20), [log.length, false]);
});

test("a position that the file before has reached cuts at the start", () => {
  const after = { replicationId, offset: 10, ms: 1, sequence: 0, dataCrc: 0 };
  const writer = new LogWriter({ after });
  writer.seal({ replicationId, offset: 20 }, 1);
  const log = writer.take();
  const at = (offset: number) => cut(log, { position: { replicationId, offset } }, { after });
  assert.deepEqual([at(10).offset, at(10).isExact], [0, true]);
  assert.deepEqual([at(9).offset, at(9).isExact], [0, false]);
  assert.deepEqual([at(20).offset, at(20).isExact], [log.length, true]);
});

for (const fixture of aofFixtures().filter(({ checkpoints }) => checkpoints?.length > 0)) {
  test(`${fixture.id} is cut where the stock tool cuts it, at every second that is known`, () => {
    const manifest = fixture.files.find(({ file }) => file.endsWith(".manifest"));
    assert.ok(manifest);
    const name = parseManifest(manifest.read()).increments.at(-1)?.file;
    const bytes = fixture.files.find(({ file }) => file.endsWith(`/${name}`))?.read();
    assert.ok(bytes);
    for (const { unixSeconds, incrBytes } of fixture.checkpoints) {
      for (const size of [0, 501]) {
        assert.equal(cut(bytes, { seconds: unixSeconds }, {}, size).offset, incrBytes);
      }
    }
  });
}
