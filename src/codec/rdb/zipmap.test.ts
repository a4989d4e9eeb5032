import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytes, hex, zipmap } from "../../../test/support/rdb-bytes.ts";
import { assertNeverCrashes, elementsOf } from "../../../test/support/rdb-packed.ts";
import { ZipmapCursor } from "./zipmap.ts";

const cursor = new ZipmapCursor();
const read = (container: Uint8Array) => elementsOf(cursor, container);
const corrupt = (message: RegExp) => ({ code: "DATA_CORRUPT", offset: 1000, message });

test("next() reads fields and values, and passes over unused bytes", () => {
  const map = hex("02 | 03666f6f 03 00 626172 | 0568656c6c6f 05 02 776f726c64 0000 | ff");
  assert.deepEqual(read(map), ["foo", "bar", "hello", "world"]);
  assert.deepEqual(read(hex("00 ff")), []);
});

test("next() reads long lengths, and short ones in the long form", () => {
  const long = "x".repeat(300);
  const map = bytes([1, 254, 44, 1, 0, 0], long, [254, 1, 0, 0, 0, 3], "v", [0, 0, 0, 0xff]);
  assert.deepEqual(read(map), [long, "v"]);
  const edge = "y".repeat(253);
  assert.deepEqual(read(bytes([1, 1], "k", [253, 0], edge, [0xff])), ["k", edge]);
});

test("open() counts the pairs where the header does not say how many there are", () => {
  for (const count of [254, 255]) {
    const map = Uint8Array.from(zipmap(["a", "1"], ["b", "2"]));
    map[0] = count;
    assert.deepEqual(read(map), ["a", "1", "b", "2"]);
  }
});

test("open() names what is wrong with a zipmap, and where", () => {
  const wrong: [container: Uint8Array, message: RegExp][] = [
    [new Uint8Array(0), /No whole header at its byte 0, in the zipmap at byte 1000/],
    [hex("ff"), /No whole header/],
    [hex("00 00"), /No end mark at its byte 1,/],
    [hex("02 0161 0100 62 ff"), /A count of 2 for 1 pairs at its byte 0,/],
    [hex("01 0161 ff"), /A field without a value at its byte 3,/],
    [hex("01 0561 ff"), /An element past the end/],
    [hex("01 0161 0500 62 ff"), /An element past the end/],
    [hex("01 0161 0105 62 ff"), /An element past the end/],
    [hex("01 0161 01 ff"), /An element past the end/],
    [hex("01 ff61 0100 62 ff"), /An element past the end/],
    [hex("01 fe ffffffff ff"), /An element past the end/],
    [hex("01 fe 0100 ff"), /An element past the end/],
  ];
  for (const [container, message] of wrong) assert.throws(() => read(container), corrupt(message));
});

test("open() refuses every strict prefix", () => {
  const container = zipmap(["foo", "bar"], ["", "x"], ["hello", "world"]);
  for (let end = 0; end < container.length; end++) {
    assert.throws(() => read(container.subarray(0, end)), corrupt(/./));
  }
});

test("arbitrary bytes are read or refused", () => {
  const any = fc.uint8Array({ maxLength: 40 });
  const framed = any.map((body) => bytes([254], body, [0xff]));
  fc.assert(
    fc.property(fc.oneof(any, framed), (container) => assertNeverCrashes(cursor, container)),
    { numRuns: 1000 },
  );
});
