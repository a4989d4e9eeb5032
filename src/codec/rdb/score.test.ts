import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatScore, isIntegerScore, parseScore } from "./score.ts";

const parse = (text: string) => parseScore(Buffer.from(text, "latin1"), 0, text.length);

test("parseScore() gives back what formatScore() wrote, bit for bit", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true }), (score) => Object.is(parse(formatScore(score)), score)),
  );
});

test("formatScore() spells scores as servers do", () => {
  const spelled = [3.14, -3.5e-10, 12345678901234567000, 1e30, -0, Infinity, -Infinity, 10];
  assert.deepEqual(spelled.map(formatScore), [
    "3.14",
    "-3.5e-10",
    "12345678901234567000",
    "1e+30",
    "-0",
    "inf",
    "-inf",
    "10",
  ]);
});

test("parseScore() reads the 17 digits of older servers", () => {
  assert.equal(parse("3.1400000000000001"), 3.14);
  assert.equal(parse("4.6116860184273879e+18"), 2 ** 62);
  assert.equal(parse("-3.4999999999999998e-10"), -3.5e-10);
});

test("parseScore() reads other spellings of numbers", () => {
  assert.deepEqual(["+1", "1.", ".5", "1E3", "-INF", "+infinity", "1e999"].map(parse), [
    1,
    1,
    0.5,
    1000,
    -Infinity,
    Infinity,
    Infinity,
  ]);
});

test("parseScore() gives NaN for what is no decimal number", () => {
  const texts = ["", "nan", "NaN", "-", ".", "e5", "1e", "0x1p3", "1 ", " 1", "1_0", "inf ", "in"];
  for (const text of [...texts, "1".repeat(256)]) assert.equal(parse(text), Number.NaN, text);
});

test("isIntegerScore() is false where an integer would lose something", () => {
  assert.deepEqual([0, -7, 2 ** 53 - 1].map(isIntegerScore), [true, true, true]);
  assert.deepEqual([-0, 0.5, 2 ** 53, Infinity].map(isIntegerScore), [false, false, false, false]);
});
