import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type BackLengths,
  isBoundary,
  ListpackEncoder,
  withBackLengths,
} from "./encode-listpack.ts";

/** The format's definition, for elements of any length and one form of back-lengths. */
function decode(listpack: Uint8Array, form: BackLengths): string[] {
  const bytes = Buffer.from(listpack);
  assert.equal(bytes.readUInt32LE(0), bytes.length);
  assert.equal(bytes.at(-1), 0xff);
  const elements: string[] = [];
  let at = 6;
  const signed = (size: number, from: number) => {
    let value = 0n;
    for (let k = size - 1; k >= 0; k--) value = (value << 8n) | BigInt(bytes[from + k] as number);
    return { size: 1 + size, text: BigInt.asIntN(8 * size, value).toString() };
  };
  const text = (head: number, length: number) => ({
    size: head + length,
    text: bytes.toString("latin1", at + head, at + head + length),
  });
  const entry = (): { size: number; text: string } => {
    const first = bytes[at] as number;
    const second = bytes[at + 1] as number;
    if (first < 0x80) return { size: 1, text: String(first) };
    if (first < 0xc0) return text(1, first & 0x3f);
    if (first < 0xe0) {
      const value = ((first & 0x1f) << 8) | second;
      return { size: 2, text: String(value >= 4096 ? value - 8192 : value) };
    }
    if (first < 0xf0) return text(2, ((first & 0x0f) << 8) | second);
    if (first === 0xf0) return text(5, bytes.readUInt32LE(at + 1));
    assert(first <= 0xf4);
    return signed([2, 3, 4, 8][first - 0xf1] as number, at + 1);
  };
  while (at < bytes.length - 1) {
    const { size, text: element } = entry();
    const digits: number[] = [];
    for (let rest = size; rest > 0; rest = Math.floor(rest / 128))
      digits.unshift((rest % 128) | 0x80);
    if (digits.length < 2 || (form === "old" && digits.every((digit) => digit === 0xff))) {
      if (size >= 128) digits.unshift(0x80);
    }
    digits[0] = (digits[0] as number) & 0x7f;
    assert.deepEqual([...bytes.subarray(at + size, at + size + digits.length)], digits);
    at += size + digits.length;
    elements.push(element);
  }
  assert.equal(at, bytes.length - 1);
  assert.equal(bytes.readUInt16LE(4), Math.min(elements.length, 65535));
  return elements;
}

function encode(encoder: ListpackEncoder, elements: readonly string[]): Uint8Array {
  encoder.begin();
  for (const element of elements) {
    const bytes = Buffer.from(`<${element}>`, "latin1");
    encoder.element(bytes, 1, bytes.length - 1);
  }
  const size = encoder.finish();
  return encoder.bytes.slice(0, size);
}

const numbers = fc.oneof(
  fc.integer({ min: -5000, max: 5000 }),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }),
);
const edges = [0, 6, 7, 12, 15, 23, 31, 63].flatMap((bits) =>
  [-1n, 0n, 1n].flatMap((by) => [2n ** BigInt(bits) + by, -(2n ** BigInt(bits)) + by]),
);
const lengths = [0, 62, 63, 64, 121, 122, 125, 126, 127, 4095, 4096, 16377, 16378, 16379];
const elements = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 80 }),
  numbers.map(String),
  fc.constantFrom(...edges).map(String),
  fc.constantFrom("-0", "007", "+1", "1.0", "", "9223372036854775808"),
  fc.constantFrom(...lengths).map((length) => "x".repeat(length)),
);

for (const form of ["old", "minimal"] as const) {
  test(`a listpack with ${form} back-lengths holds what it was given`, () => {
    const encoder = new ListpackEncoder(form);
    fc.assert(
      fc.property(fc.array(elements, { maxLength: 30 }), (given) => {
        assert.deepEqual(decode(encode(encoder, given), form), given);
      }),
    );
  });
}

test("elements are encoded in the forms that servers choose", () => {
  const expected = [
    ["0", "0001"],
    ["-1", "dfff02"],
    ["127", "7f01"],
    ["128", "c08002"],
    ["4095", "cfff02"],
    ["4096", "f1001003"],
    ["-4096", "d00002"],
    ["-4097", "f1ffef03"],
    ["32767", "f1ff7f03"],
    ["32768", "f200800004"],
    ["8388607", "f2ffff7f04"],
    ["8388608", "f30000800005"],
    ["2147483647", "f3ffffff7f05"],
    ["2147483648", "f4000000800000000009"],
    ["-2147483648", "f30000008005"],
    ["9223372036854775808", "933932323333373230333638353437373538303814"],
    ["", "8001"],
    ["a", "816102"],
    ["01", "82303103"],
    ["-0", "822d3003"],
  ] as const;
  for (const [element, hex] of expected) {
    const bytes = Buffer.from(encode(new ListpackEncoder("old"), [element]));
    assert.equal(bytes.subarray(6, -1).toString("hex"), hex, element);
  }
});

test("integer() writes what element() writes for its text", () => {
  fc.assert(
    fc.property(fc.oneof(fc.integer({ min: -9999, max: 9999 }), fc.maxSafeInteger()), (value) => {
      const encoder = new ListpackEncoder("old");
      encoder.begin();
      encoder.integer(value);
      const size = encoder.finish();
      const bytes = encoder.bytes.slice(0, size);
      assert.deepEqual(bytes, encode(new ListpackEncoder("old"), [String(value)]));
    }),
  );
});

test("a hash of two fields is encoded as Redis 7.0 does", () => {
  const bytes = encode(new ListpackEncoder("old"), ["f", "v", "n", "10"]);
  assert.equal(Buffer.from(bytes).toString("hex"), "120000000400816602817602816e020a01ff");
});

test("a count that does not fit is left unknown", () => {
  const bytes = encode(
    new ListpackEncoder("old"),
    Array.from({ length: 65536 }, () => "1"),
  );
  assert.equal(Buffer.from(bytes).readUInt16LE(4), 65535);
  assert.equal(bytes.length, 7 + 2 * 65536);
});

test("isBoundary() is true for exactly the lengths whose back-lengths differ", () => {
  for (const length of [16377, 16378, 16379, 2097145, 2097146, 2097147]) {
    const given = ["x".repeat(length)];
    const old = encode(new ListpackEncoder("old"), given);
    const minimal = encode(new ListpackEncoder("minimal"), given);
    assert.equal(isBoundary(length), old.length !== minimal.length);
  }
});

test("withBackLengths() turns either form into the other, and leaves the rest alone", () => {
  const long = fc.constantFrom(1, 16377, 16378, 16379).map((length) => "y".repeat(length));
  const many = fc.array(fc.oneof(long, numbers.map(String)), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(many, (given) => {
      const old = encode(new ListpackEncoder("old"), given);
      const minimal = encode(new ListpackEncoder("minimal"), given);
      for (const source of [old, minimal]) {
        assert.deepEqual(Uint8Array.from(withBackLengths(source, "old")), old);
        assert.deepEqual(Uint8Array.from(withBackLengths(source, "minimal")), minimal);
      }
    }),
    { numRuns: 50 },
  );
});

test("withBackLengths() refuses damage or passes it on, and never hangs", () => {
  const encoder = new ListpackEncoder("old");
  const sound = encode(encoder, ["a", "y".repeat(16378), "12345", "z".repeat(300)]);
  fc.assert(
    fc.property(fc.nat(sound.length - 1), fc.nat(255), (at, byte) => {
      const damaged = sound.slice();
      damaged[at] = byte;
      try {
        withBackLengths(damaged, "minimal");
      } catch (error) {
        assert.equal((error as { code?: string }).code, "DATA_CORRUPT");
      }
    }),
  );
});
