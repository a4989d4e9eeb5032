import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytes, hex, intset } from "../../../test/support/rdb-bytes.ts";
import { assertNeverCrashes, elementsOf } from "../../../test/support/rdb-packed.ts";
import { IntsetCursor } from "./intset.ts";

const cursor = new IntsetCursor();
const read = (container: Uint8Array) => elementsOf(cursor, container);
const corrupt = (message: RegExp) => ({ code: "DATA_CORRUPT", offset: 1000, message });

test("next() reads what a server wrote", () => {
  assert.deepEqual(read(hex("02000000 03000000 0100 0200 2c01")), ["1", "2", "300"]);
});

test("next() gives the members in order, in any width that holds them", () => {
  const widths = [
    [2, 15],
    [4, 31],
    [8, 63],
  ] as const;
  for (const [width, bits] of widths) {
    const member = fc.bigInt({ min: -(2n ** BigInt(bits)), max: 2n ** BigInt(bits) - 1n });
    const members = fc.uniqueArray(member, { minLength: 1 });
    fc.assert(
      fc.property(members, (list) => {
        const sorted = list.sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(read(intset(width, ...sorted)), sorted.map(String));
      }),
    );
  }
});

test("open() and next() name what is wrong with an intset, and where", () => {
  const wrong: [container: Uint8Array, message: RegExp][] = [
    [new Uint8Array(7), /No whole header at its byte 0, in the intset at byte 1000/],
    [hex("03000000 01000000 010000"), /Width 3 at its byte 0,/],
    [hex("02000080 01000000 0100"), /Width -2147483646/],
    [hex("02000000 00000000"), /0 members in 8 bytes at its byte 4,/],
    [hex("02000000 02000000 0100"), /2 members in 10 bytes/],
    [hex("02000000 01000000 0100 0200"), /1 members in 12 bytes/],
    [hex("02000000 ffffffff 0100"), /4294967295 members/],
    [intset(2, 5, 5), /A member not above the last at its byte 10,/],
    [intset(2, 5, -5), /A member not above the last/],
    [intset(4, 70_000, 1), /A member not above the last at its byte 12,/],
    [intset(8, 2n ** 60n, 2n ** 60n), /A member not above the last at its byte 16,/],
    [intset(8, 2n ** 60n + 1n, 2n ** 60n), /A member not above the last/],
  ];
  for (const [container, message] of wrong) assert.throws(() => read(container), corrupt(message));
});

test("open() refuses every strict prefix", () => {
  const container = intset(4, -3, 0, 70_000);
  for (let end = 0; end < container.length; end++) {
    assert.throws(() => read(container.subarray(0, end)), corrupt(/./));
  }
});

test("arbitrary bytes are read or refused", () => {
  const any = fc.uint8Array({ maxLength: 40 });
  const framed = fc
    .tuple(fc.constantFrom(2, 4, 8), fc.nat(6), any)
    .map(([width, count, body]) => bytes([width, 0, 0, 0, count, 0, 0, 0], body));
  fc.assert(
    fc.property(fc.oneof(any, framed), (container) => assertNeverCrashes(cursor, container)),
    { numRuns: 1000 },
  );
});
