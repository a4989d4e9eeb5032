import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backLength, bytes, hex, listpack, listpackOf } from "../../../test/support/rdb-bytes.ts";
import { assertNeverCrashes, elementsOf } from "../../../test/support/rdb-packed.ts";
import { Slice } from "../../base/bytes.ts";
import { ListpackCursor } from "./listpack.ts";

const cursor = new ListpackCursor();
const read = (container: Uint8Array) => elementsOf(cursor, container);
const corrupt = (message: RegExp) => ({ code: "DATA_CORRUPT", offset: 1000, message });

/** A listpack around entries that have their back-lengths already. */
function around(entries: Uint8Array, count: number): Uint8Array {
  const head = Buffer.alloc(6);
  head.writeUInt32LE(7 + entries.length, 0);
  head.writeUInt16LE(count, 4);
  return bytes(head, entries, [0xff]);
}

test("next() reads each encoding, as real servers write it", () => {
  const entries: [entry: string, element: string][] = [
    ["00 01", "0"],
    ["7f 01", "127"],
    ["cf ff 02", "4095"],
    ["d0 00 02", "-4096"],
    ["df ff 02", "-1"],
    ["c0 80 02", "128"],
    ["f1 ff 7f 03", "32767"],
    ["f1 00 10 03", "4096"],
    ["f1 ff ef 03", "-4097"],
    ["f2 ff ff 7f 04", "8388607"],
    ["f2 00 80 00 04", "32768"],
    ["f2 00 00 80 04", "-8388608"],
    ["f3 ff ff ff 7f 05", "2147483647"],
    ["f3 00 00 80 00 05", "8388608"],
    ["f3 00 00 00 80 05", "-2147483648"],
    ["f4 00 00 00 80 00 00 00 00 09", "2147483648"],
    ["f4 ff ff ff ff ff ff ff 7f 09", "9223372036854775807"],
    ["f4 00 00 00 00 00 00 00 80 09", "-9223372036854775808"],
    ["f4 ff ff ff ff ff ff ff ff 09", "-1"],
    ["80 01", ""],
    ["81 61 02", "a"],
    ["82 30 31 03", "01"],
    ["82 2d 30 03", "-0"],
    ["e0 01 61 03", "a"],
    ["f0 01 00 00 00 61 06", "a"],
  ];
  for (const [entry, element] of entries) {
    assert.deepEqual(read(around(hex(entry), 1)), [element], entry);
  }
  const all = entries.map(([entry]) => hex(entry));
  assert.deepEqual(
    read(around(bytes(...all), all.length)),
    entries.map(([, element]) => element),
  );
});

test("next() reads the hash of the format's description", () => {
  const hash = hex("12000000 0400 | 816602 | 817602 | 816e02 | 0a01 | ff");
  assert.deepEqual(read(hash), ["f", "v", "n", "10"]);
});

test("next() reads strings of every form at the bounds of each, and their back-lengths", () => {
  for (const size of [63, 64, 125, 126, 127, 4095, 4096, 16377, 16379, 20000, 2097145, 2097147]) {
    const text = "x".repeat(size);
    assert.deepEqual(read(listpack("a", text, 5)), ["a", text, "5"], `${size}`);
  }
});

test("next() reads both forms of a back-length of all ones, and no other with a zero in front", () => {
  for (const [size, digits] of [
    [16378, 2],
    [2097146, 3],
  ] as const) {
    const head = Buffer.from([0xf0, 0, 0, 0, 0]);
    head.writeUInt32LE(size, 1);
    const entry = bytes(head, new Uint8Array(size).fill(0x78));
    const minimal = backLength(entry.length);
    assert.deepEqual(minimal.length, digits);
    const old = bytes([0], [0xff], minimal.subarray(1));
    const rest = hex("05 01");
    for (const form of [minimal, old]) {
      const elements = read(around(bytes(entry, form, rest), 2));
      assert.deepEqual([elements[0]?.length, elements[1]], [size, "5"]);
    }
    const shorter = bytes(head, new Uint8Array(size - 1).fill(0x78));
    shorter[1] = (size - 1) & 0xff;
    const [first, ...others] = backLength(entry.length - 1);
    const padded = bytes([0, (first as number) | 0x80], others);
    const wrong = around(bytes(shorter, padded, rest), 2);
    assert.throws(() => read(wrong), corrupt(/A wrong back-length/));
  }
});

test("nextInteger() is exact over 64 bits, and refuses a string", () => {
  const blob = new Slice();
  const element = new Slice();
  const container = listpack(2n ** 63n - 1n, -(2n ** 63n), 7, "7");
  blob.set(container, 0, container.length);
  cursor.open(blob, 1000);
  assert.equal(cursor.nextInteger(element), 2n ** 63n - 1n);
  assert.equal(cursor.nextInteger(element), -(2n ** 63n));
  assert.equal(cursor.nextInteger(element), 7n);
  assert.throws(() => cursor.nextInteger(element), corrupt(/No integer where one must be/));
  assert.throws(() => cursor.nextInteger(element), corrupt(/No integer where one must be/));
});

test("open() counts the elements where the header does not say how many there are", () => {
  const many = Array.from({ length: 70_000 }, (_, i) => i % 3);
  assert.equal(read(listpack(...many)).length, 70_000);
  assert.deepEqual(read(listpackOf([[5], [6]], 65535)), ["5", "6"]);
  assert.equal(read(listpack(...many.slice(0, 65535))).length, 65535);
  assert.deepEqual(read(listpackOf([])), []);
});

test("open() and next() name what is wrong with a listpack, and where", () => {
  const good = listpack("a", 300);
  const change = (at: number, ...values: number[]) => {
    const changed = Uint8Array.from(good);
    changed.set(values, at);
    return changed;
  };
  const wrong: [container: Uint8Array, message: RegExp][] = [
    [new Uint8Array(0), /No whole header at its byte 0, in the listpack at byte 1000/],
    [good.subarray(0, 6), /No whole header/],
    [change(0, 99), /Size 99 in a string of 13 bytes at its byte 0,/],
    [change(3, 0xff), /Size 4278190093 in a string/],
    [change(4, 1), /A count of 1 for 2 elements at its byte 4,/],
    [change(4, 9), /A count of 9 for 2 elements/],
    [change(12, 0), /No end mark at its byte 12,/],
    [change(6, 0xff), /Byte 0xff starts no element at its byte 6,/],
    [change(6, 0xf5), /Byte 0xf5 starts no element/],
    [change(8, 3), /A wrong back-length at its byte 8,/],
    [change(6, 0xbf), /An element past the end at its byte 6,/],
    [change(6, 0xef, 0xff), /An element past the end/],
    [change(9, 0xf0), /An element past the end|An element cut off/],
    [listpackOf([hex("f0 ff ff ff ff 61")]), /An element past the end/],
    [around(hex("f4 00 00 00"), 1), /An element past the end/],
    [around(hex("f0 01 00"), 1), /An element cut off/],
    [around(hex("00 81"), 1), /A wrong back-length/],
  ];
  for (const [container, message] of wrong) {
    assert.throws(() => read(container), corrupt(message), Buffer.from(container).toString("hex"));
  }
});

test("next() gives back what was put in, whatever the elements are", () => {
  const integers = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const small = fc.oneof(fc.integer({ min: -5000, max: 5000 }).map(BigInt), integers);
  const texts = fc.uint8Array({ maxLength: 200 }).filter((text) => !/^-?\d+$/.test(String(text)));
  fc.assert(
    fc.property(fc.array(fc.oneof(small, texts)), (elements) => {
      const wanted = elements.map((element) =>
        typeof element === "bigint" ? String(element) : Buffer.from(element).toString("latin1"),
      );
      assert.deepEqual(read(listpack(...elements)), wanted);
    }),
  );
});

test("open() and next() refuse every strict prefix", () => {
  const container = listpack("a", 300, "b".repeat(70), -5000, 2n ** 40n);
  for (let end = 0; end < container.length; end++) {
    assert.throws(() => read(container.subarray(0, end)), corrupt(/./));
  }
});

test("arbitrary bytes are read or refused", () => {
  const framed = fc.uint8Array({ maxLength: 60 }).map((body) => around(body, 65535));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 60 }), framed), (container) =>
      assertNeverCrashes(cursor, container),
    ),
    { numRuns: 2000 },
  );
});
