import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytes, hex, ziplist, ziplistOf } from "../../../test/support/rdb-bytes.ts";
import { assertNeverCrashes, elementsOf } from "../../../test/support/rdb-packed.ts";
import { ZiplistCursor } from "./ziplist.ts";

const cursor = new ZiplistCursor();
const read = (container: Uint8Array) => elementsOf(cursor, container);
const corrupt = (message: RegExp) => ({ code: "DATA_CORRUPT", offset: 1000, message });

test("next() reads each encoding", () => {
  const entries: [entry: string, element: string][] = [
    ["00", ""],
    ["01 61", "a"],
    ["40 01 61", "a"],
    ["80 00 00 00 01 61", "a"],
    ["c0 ff 0f", "4095"],
    ["c0 00 80", "-32768"],
    ["d0 00 00 00 80", "-2147483648"],
    ["d0 ff ff ff 7f", "2147483647"],
    ["e0 ff ff ff ff ff ff ff 7f", "9223372036854775807"],
    ["e0 00 00 00 00 00 00 00 80", "-9223372036854775808"],
    ["f0 70 11 01", "70000"],
    ["f0 00 00 80", "-8388608"],
    ["fe ff", "-1"],
    ["fe 80", "-128"],
    ["f1", "0"],
    ["fb", "10"],
    ["fd", "12"],
  ];
  for (const [entry, element] of entries) {
    assert.deepEqual(read(ziplistOf([hex(entry)])), [element], entry);
  }
  assert.deepEqual(
    read(ziplistOf(entries.map(([entry]) => hex(entry)))),
    entries.map(([, element]) => element),
  );
});

test("next() reads what Redis 6.0 wrote", () => {
  const hash = hex("16000000 13000000 0400 | 000166 | 030176 | 03016e | 03fb | ff");
  assert.deepEqual(read(hash), ["f", "v", "n", "10"]);
  const list = hex(`32000000 1b000000 0600 | 000161 | 03f2 | 02feff | 03c0ff0f | 04f0701101
    | 0514 ${"62".repeat(20)} | ff`);
  assert.deepEqual(read(list), ["a", "1", "-1", "4095", "70000", "b".repeat(20)]);
});

test("next() reads strings of every form at the bounds of each, and what follows them", () => {
  for (const size of [63, 64, 250, 251, 252, 253, 16383, 16384, 70_000]) {
    const text = Buffer.alloc(size, "x");
    const head = Buffer.from([0x80, 0, 0, 0, 0]);
    head.writeUInt32BE(size, 1);
    const forms = [head, ...(size < 16384 ? [[0x40 | (size >> 8), size & 0xff]] : [])];
    if (size < 64) forms.push([size]);
    for (const form of forms) {
      const elements = read(ziplistOf([bytes(form, text), [0xf5]]));
      assert.deepEqual([elements[0]?.length, elements[1]], [size, "4"]);
    }
  }
});

test("next() reads the long form of a small previous size", () => {
  const list = hex("16000000 0d000000 0200 | 000161 | fe03000000 0162 | ff | ff");
  list[0] = 21;
  assert.deepEqual(read(list.subarray(0, 21)), ["a", "b"]);
});

test("next() refuses ff in the place of a previous size of 255, which ends a ziplist for servers", () => {
  const long = bytes([0x40, 250], Buffer.alloc(250, "x"));
  const sound = ziplistOf([bytes(long, "xx").with(1, 252), [0xf5]]);
  assert.equal(read(sound).length, 2);
  const at = 10 + 255;
  assert.deepEqual([...sound.subarray(at, at + 5)], [0xfe, 255, 0, 0, 0]);
  const short = bytes(sound.subarray(0, at), [0xff], sound.subarray(at + 5));
  short[0] = (short[0] as number) - 4;
  assert.throws(() => read(short), corrupt(/A previous size of 255/));
});

test("open() counts the elements where the header does not say how many there are", () => {
  assert.deepEqual(read(ziplistOf([[0xf1], [0xf2]], 65535)), ["0", "1"]);
  const many = Array.from({ length: 65_536 }, () => [0xf1]);
  assert.equal(read(ziplistOf(many, 65535)).length, 65_536);
  assert.equal(read(ziplistOf(many.slice(1), 65535)).length, 65_535);
  assert.deepEqual(read(ziplistOf([])), []);
});

test("open() and next() name what is wrong with a ziplist, and where", () => {
  const good = ziplist("a", "bc");
  const change = (at: number, ...values: number[]) => {
    const changed = Uint8Array.from(good);
    changed.set(values, at);
    return changed;
  };
  const wrong: [container: Uint8Array, message: RegExp][] = [
    [new Uint8Array(0), /No whole header at its byte 0, in the ziplist at byte 1000/],
    [good.subarray(0, 10), /No whole header/],
    [change(0, 99), /Size 99 in a string of 18 bytes at its byte 0,/],
    [change(4, 99), /A last element at 99, not at 13 at its byte 4,/],
    [change(8, 9), /A count of 9 for 2 elements at its byte 8,/],
    [change(8, 1), /A count of 1 for 2 elements/],
    [change(17, 0), /No end mark at its byte 17,/],
    [change(13, 9), /A previous size of 9, not 3 at its byte 13,/],
    [change(10, 1), /A previous size of 1, not 0/],
    [change(13, 0xff), /A previous size of 255, not 3/],
    [change(14, 3), /An element past the end at its byte 13,/],
    [change(14, 0x7f), /An element past the end/],
    [change(14, 0xbf), /An element past the end/],
    [change(14, 0xe0), /An element past the end/],
    [change(14, 0xff), /Byte 0xff starts no element at its byte 14,/],
    [change(14, 0xc1), /Byte 0xc1 starts no element/],
    [ziplistOf([hex("80 ff ff ff ff 61")]), /An element past the end/],
    [ziplistOf([[]]), /An element past the end/],
  ];
  for (const [container, message] of wrong) {
    assert.throws(() => read(container), corrupt(message), Buffer.from(container).toString("hex"));
  }
});

test("open() and next() refuse every strict prefix", () => {
  const container = ziplistOf([[1, 0x61], [0xf5], bytes([60], "x".repeat(60)), hex("c0 ff 0f")]);
  for (let end = 0; end < container.length; end++) {
    assert.throws(() => read(container.subarray(0, end)), corrupt(/./));
  }
});

test("arbitrary bytes are read or refused", () => {
  const framed = fc.uint8Array({ maxLength: 60 }).map((body) => {
    const head = Buffer.alloc(10);
    head.writeUInt32LE(body.length + 11, 0);
    head.writeUInt16LE(65535, 8);
    return bytes(head, body, [0xff]);
  });
  const entries = fc.array(fc.uint8Array({ minLength: 1, maxLength: 9 }));
  const chained = entries.map((list) => ziplistOf(list, 65535));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 60 }), framed, chained), (container) =>
      assertNeverCrashes(cursor, container),
    ),
    { numRuns: 2000 },
  );
});
