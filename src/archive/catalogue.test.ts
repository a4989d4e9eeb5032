import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ObjectInfo } from "../store/store.ts";
import { CatalogueBuilder, type Piece, resolveRuns, windowsOf } from "./catalogue.ts";
import { lineName, pieceObject, setName, setObject } from "./layout.ts";

const id = "0123456789abcdef0123456789abcdef01234567";
const startMs = 1_795_000_000_000;
const line = lineName({ replicationId: id, offset: 0, ms: startMs });
const sha256 = "ab".repeat(32);

/** A piece with a second and ten bytes for each position line. */
function piece(firstSequence: number, lastSequence: number): Piece {
  const facts = {
    ...{ firstSequence, lastSequence, sha256 },
    fromOffset: firstSequence * 10,
    toOffset: (lastSequence + 1) * 10,
    fromMs: startMs + firstSequence * 1000,
    toMs: startMs + (lastSequence + 1) * 1000,
    rawBytes: 100,
  };
  return { ...facts, object: pieceObject("i", line, facts), sizeBytes: 50 };
}

function catalogueOf(objects: readonly string[]) {
  const builder = new CatalogueBuilder("i");
  for (const name of objects.toSorted()) {
    const object: ObjectInfo = { name, sizeBytes: 50, modifiedMs: 0 };
    builder.add(object);
  }
  return builder.finish();
}

function setObjects(atMs: number, ...parts: ("snapshot" | "manifest" | "verified" | "keep")[]) {
  return parts.map((part) => setObject("i", setName(atMs, "0000"), part));
}

function names(pieces: readonly Piece[]): string[] {
  return pieces.map(({ firstSequence, lastSequence }) => `${firstSequence}-${lastSequence}`);
}

test("a merged piece stands for those that it covers", () => {
  const { runs, covered } = resolveRuns([piece(0, 4), piece(0, 19), piece(5, 19), piece(20, 30)]);
  assert.deepEqual(
    runs.map((run) => names(run.pieces)),
    [["0-19", "20-30"]],
  );
  assert.deepEqual(names(covered), ["0-4", "5-19"]);
});

test("a piece that leads nowhere does not stand in the way of those that go on", () => {
  const { runs, covered } = resolveRuns([piece(0, 6), piece(0, 4), piece(5, 9), piece(10, 12)]);
  assert.deepEqual(
    runs.map((run) => names(run.pieces)),
    [["0-4", "5-9", "10-12"]],
  );
  assert.deepEqual(names(covered), ["0-6"]);
});

test("a missing piece breaks the log", () => {
  const { runs } = resolveRuns([piece(0, 4), piece(6, 9), piece(10, 12)]);
  assert.deepEqual(
    runs.map((run) => names(run.pieces)),
    [["0-4"], ["6-9", "10-12"]],
  );
});

test("the order in which pieces are found is of no consequence", () => {
  const cuts = fc.uniqueArray(fc.nat({ max: 40 }), { minLength: 2 });
  fc.assert(
    fc.property(cuts, fc.array(fc.nat()), (ends, shuffle) => {
      const sorted = ends.toSorted((a, b) => a - b);
      const pieces = sorted.slice(1).map((end, i) => piece(sorted[i] as number, end - 1));
      const mixed = pieces.toSorted((_a, _b) => ((shuffle.pop() ?? 0) % 2 === 0 ? 1 : -1));
      assert.deepEqual(
        resolveRuns(mixed).runs.map((run) => names(run.pieces)),
        [names(pieces)],
      );
    }),
  );
});

test("a set is there when its manifest is", () => {
  const catalogue = catalogueOf([
    ...setObjects(startMs, "snapshot", "manifest", "verified"),
    ...setObjects(startMs + 5000, "snapshot"),
    ...setObjects(startMs + 9000, "snapshot", "manifest", "keep"),
    "instances/i/lease/0000000001.json",
    "instances/i/somebody's",
  ]);
  assert.deepEqual(
    catalogue.sets.map(({ ms, isVerified, isKept }) => [ms - startMs, isVerified, isKept]),
    [
      [0, true, false],
      [9000, false, true],
    ],
  );
  assert.equal(catalogue.unfinished.size, 1);
  assert.deepEqual(catalogue.unknown, ["instances/i/somebody's"]);
});

test("a set whose snapshot is gone is told, is not good, and begins no window", () => {
  const catalogue = catalogueOf([
    ...setObjects(startMs, "manifest", "verified"),
    piece(0, 4).object,
  ]);
  assert.deepEqual(
    catalogue.sets.map(({ isVerified, sizeBytes, fault }) => [isVerified, sizeBytes, fault]),
    [[false, 0, "its snapshot is not there"]],
  );
  assert.deepEqual(windowsOf(catalogue), []);
});

test("a window begins at a set, and ends where the log does or is broken", () => {
  const catalogue = catalogueOf([
    ...setObjects(startMs, "snapshot", "manifest"),
    ...setObjects(startMs + 7000, "snapshot", "manifest"),
    ...[piece(0, 4), piece(6, 9), piece(10, 12)].map(({ object }) => object),
  ]);
  assert.deepEqual(
    windowsOf(catalogue).map(({ fromMs, toMs, sets }) => [
      fromMs - startMs,
      toMs - startMs,
      sets.length,
    ]),
    [
      [0, 5000, 1],
      [7000, 13_000, 1],
    ],
  );
});

test("where no set is, nothing can be restored", () => {
  assert.deepEqual(windowsOf(catalogueOf([piece(0, 4).object])), []);
});
