import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Int64, parseInt32 } from "./integer.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const notCanonical = [
  "",
  "-",
  "-0",
  "007",
  "+1",
  " 1",
  "1 ",
  "1.0",
  "1e3",
  "0x1",
  "--1",
  "١",
  "1:",
  "/1",
];

test("parseInt32() takes canonical text in range, and nothing else", () => {
  const edges = ["0", "1", "-1", "9", "10", "2147483647", "-2147483648"];
  for (const text of edges) assert.equal(parseInt32(bytes(text), 0, text.length), Number(text));
  const beyond = ["2147483648", "-2147483649", "99999999999", "-9999999999", "100000000000"];
  for (const text of [...notCanonical, ...beyond]) {
    assert.equal(parseInt32(bytes(text), 0, bytes(text).length), Number.NaN, text);
  }
});

test("parseInt32() looks only between start and end", () => {
  assert.equal(parseInt32(bytes("x-12y"), 1, 4), -12);
});

test("parseInt32() gives back what String() wrote", () => {
  fc.assert(fc.property(fc.integer(), (n) => parseInt32(bytes(`${n}`), 0, `${n}`.length) === n));
});

const int64s = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.maxSafeInteger().map(BigInt),
  fc.integer().map(BigInt),
);

test("Int64.parse() keeps all 64 bits", () => {
  const integer = new Int64();
  fc.assert(
    fc.property(int64s, (n) => {
      assert(integer.parse(bytes(`${n}`), 0, `${n}`.length));
      assert.equal((BigInt(integer.high) << 32n) | BigInt(integer.low >>> 0), n);
      assert.equal(integer.value, Number(n));
    }),
  );
});

test("Int64.parse() refuses what is not canonical or needs more bits", () => {
  const integer = new Int64();
  const beyond = [
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999",
    "0000000000000000001",
    "-000000000000000001",
    "123456789012345678x",
    "-----------------1",
    "1".repeat(21),
  ];
  for (const text of [...notCanonical, ...beyond]) {
    assert.equal(integer.parse(bytes(text), 0, bytes(text).length), false, text);
  }
});

test("Int64.parse() takes text exactly when its integer is spelled that way", () => {
  const integer = new Int64();
  const texts = fc.stringMatching(/^[-0-9. ]{0,22}$/);
  fc.assert(
    fc.property(texts, (text) => {
      const isCanonical = /^(0|-?[1-9][0-9]*)$/.test(text);
      const fits = isCanonical && BigInt.asIntN(64, BigInt(text)) === BigInt(text);
      assert.equal(integer.parse(bytes(text), 0, text.length), fits);
    }),
  );
});
