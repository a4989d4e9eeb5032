import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  isInstanceName,
  lineName,
  parseLineName,
  parsePieceName,
  parseSetName,
  pieceObject,
  setName,
  splitObject,
} from "./layout.ts";

const id = "0123456789abcdef0123456789abcdef01234567";
const size = fc.nat({ max: 1e11 });
const piece = fc.record({
  firstSequence: size,
  lastSequence: size,
  fromOffset: size,
  toOffset: size,
  fromMs: size,
  toMs: size,
  rawBytes: size,
  sha256: fc.constant("ab".repeat(32)),
});

test("the names of lines, pieces and sets tell what they were made of", () => {
  const moment = { replicationId: id, offset: 12_345, ms: 1_795_348_400_062 };
  assert.equal(lineName(moment), "1795348400062-01234567-0000000000012345");
  assert.deepEqual(parseLineName(lineName(moment)), {
    ms: moment.ms,
    idPrefix: "01234567",
    offset: 12_345,
  });
  assert.equal(setName(moment.ms, "3fa9"), "2026-11-22T11-53-20.062Z-3fa9");
  assert.equal(parseSetName(setName(moment.ms, "3fa9")), moment.ms);
  fc.assert(
    fc.property(piece, (facts) => {
      const object = pieceObject("orders", lineName(moment), facts);
      assert.deepEqual(splitObject(object)?.path.slice(0, 2), ["log", lineName(moment)]);
      assert.deepEqual(parsePieceName(object.split("/").at(-1) ?? ""), { ...facts });
      assert.ok(Buffer.byteLength(object.split("/").at(-1) ?? "") <= 255);
    }),
  );
});

test("byte order of pieces is the order of the log", () => {
  fc.assert(
    fc.property(piece, piece, (a, b) => {
      const [left, right] = [a, b].map((facts) => pieceObject("i", "l", facts)) as [string, string];
      if (a.firstSequence !== b.firstSequence) {
        assert.equal(left < right, a.firstSequence < b.firstSequence);
      }
    }),
  );
});

test("what is none of ours is no name", () => {
  for (const name of ["", "x", "2026-11-22T11-53-20.062Z", "2026-13-40T99-53-20.062Z-3fa9"]) {
    assert.equal(parseSetName(name), undefined);
    assert.equal(parseLineName(name), undefined);
    assert.equal(parsePieceName(name), undefined);
  }
  assert.equal(splitObject("instances/../x"), undefined);
  assert.equal(splitObject("other/x"), undefined);
  for (const name of ["", ".x", "a/b", "a b", "-x", "x".repeat(101), "é"]) {
    assert.equal(isInstanceName(name), false);
  }
});
