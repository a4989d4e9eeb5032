import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDuration, parseSize } from "./quantity.ts";

test("parseDuration() takes numbers with units, and nothing else", () => {
  const cases = {
    "10s": 10_000,
    "7d": 604_800_000,
    "1h30m": 5_400_000,
    "250ms": 250,
    "2w": 1_209_600_000,
  };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
  for (const text of ["", "10", "s", "1.5h", "-1s", "10 s", "10S", "1y", "999999999999s"]) {
    assert.equal(parseDuration(text), undefined, text);
  }
});

test("parseSize() takes decimal and binary units", () => {
  const cases = { "128MB": 128e6, "64MiB": 2 ** 26, "1 gb": 1e9, "512": 512, "4KiB": 4096 };
  for (const [text, bytes] of Object.entries(cases)) assert.equal(parseSize(text), bytes, text);
  for (const text of ["", "MB", "1.5GB", "-1", "10TB", "9999999999999"]) {
    assert.equal(parseSize(text), undefined, text);
  }
});
