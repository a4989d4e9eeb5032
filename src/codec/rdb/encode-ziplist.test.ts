import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ZiplistEncoder } from "./encode-ziplist.ts";

/** The format's definition. */
function decode(ziplist: Uint8Array): string[] {
  const bytes = Buffer.from(ziplist);
  assert.equal(bytes.readUInt32LE(0), bytes.length);
  assert.equal(bytes.at(-1), 0xff);
  const elements: string[] = [];
  let at = 10;
  let previous = 0;
  let last = 10;
  while (at < bytes.length - 1) {
    const start = at;
    const isLong = bytes[at] === 0xfe;
    assert.equal(isLong ? bytes.readUInt32LE(at + 1) : bytes[at], previous);
    assert.equal(isLong, previous >= 254);
    at += isLong ? 5 : 1;
    const first = bytes[at] as number;
    const integers: Record<number, number> = { 0xc0: 2, 0xd0: 4, 0xe0: 8, 0xf0: 3, 0xfe: 1 };
    if (first < 0xc0) {
      const [head, length] =
        first < 0x40
          ? [1, first]
          : first < 0x80
            ? [2, bytes.readUInt16BE(at) & 0x3fff]
            : [5, bytes.readUInt32BE(at + 1)];
      elements.push(bytes.toString("latin1", at + head, at + head + length));
      at += head + length;
    } else if (first >= 0xf1 && first <= 0xfd) {
      elements.push(String(first - 0xf1));
      at++;
    } else {
      const size = integers[first] as number;
      let value = 0n;
      for (let k = size; k > 0; k--) value = (value << 8n) | BigInt(bytes[at + k] as number);
      elements.push(BigInt.asIntN(8 * size, value).toString());
      at += 1 + size;
    }
    last = start;
    previous = at - start;
  }
  assert.equal(at, bytes.length - 1);
  assert.equal(bytes.readUInt32LE(4), last);
  assert.equal(bytes.readUInt16LE(8), Math.min(elements.length, 65535));
  return elements;
}

function encode(encoder: ZiplistEncoder, elements: readonly string[]): Uint8Array {
  encoder.begin();
  for (const element of elements) {
    const bytes = Buffer.from(`<${element}>`, "latin1");
    encoder.element(bytes, 1, bytes.length - 1);
  }
  const size = encoder.finish();
  return encoder.bytes.slice(0, size);
}

const edges = [0, 3, 4, 7, 15, 23, 31, 63].flatMap((bits) =>
  [-1n, 0n, 1n].flatMap((by) => [2n ** BigInt(bits) + by, -(2n ** BigInt(bits)) + by]),
);
const lengths = [0, 63, 64, 249, 250, 251, 252, 253, 254, 255, 16383, 16384];
const elements = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 80 }),
  fc.integer({ min: -200, max: 200 }).map(String),
  fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }).map(String),
  fc.constantFrom(...edges).map(String),
  fc.constantFrom("-0", "007", "+1", "1.0", "12", "13"),
  fc.constantFrom(...lengths).map((length) => "x".repeat(length)),
);

test("a ziplist holds what it was given", () => {
  const encoder = new ZiplistEncoder();
  fc.assert(
    fc.property(fc.array(elements, { maxLength: 30 }), (given) => {
      assert.deepEqual(decode(encode(encoder, given)), given);
    }),
  );
});

test("integer() writes what element() writes for its text", () => {
  fc.assert(
    fc.property(fc.oneof(fc.integer({ min: -300, max: 300 }), fc.maxSafeInteger()), (value) => {
      const encoder = new ZiplistEncoder();
      encoder.begin();
      encoder.integer(value);
      const size = encoder.finish();
      const bytes = encoder.bytes.slice(0, size);
      assert.deepEqual(bytes, encode(new ZiplistEncoder(), [String(value)]));
    }),
  );
});

test("ziplists are encoded as Redis 6.0 does", () => {
  const hex = (given: string[]) => Buffer.from(encode(new ZiplistEncoder(), given)).toString("hex");
  assert.equal(hex(["f", "v", "n", "10"]), "1600000013000000040000016603017603016e03fbff");
  assert.equal(
    hex(["a", "1", "-1", "4095", "70000", "b".repeat(20)]),
    `320000001b000000060000016103f202feff03c0ff0f04f07011010514${"62".repeat(20)}ff`,
  );
});

test("a count that does not fit is left unknown", () => {
  const bytes = encode(
    new ZiplistEncoder(),
    Array.from({ length: 65536 }, () => "1"),
  );
  assert.equal(Buffer.from(bytes).readUInt16LE(8), 65535);
});
