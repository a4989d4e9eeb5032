import assert from "node:assert/strict";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { checkout } from "../support/checkout.ts";

const sources = await Array.fromAsync(glob("src/**/*.ts", { cwd: checkout }));
const files = await Promise.all(
  sources
    .filter((path) => !path.endsWith(".test.ts"))
    .map(async (path) => {
      const text = await readFile(join(checkout, path), "utf8");
      return { path, text, lines: text.split("\n").length - 1 };
    }),
);

test("a source file of 150 lines or more opens with its design note", () => {
  const without = files
    .filter(({ lines, text }) => lines >= 150 && !/^(#!.*\n)?\/\*\*?\s/.test(text))
    .map(({ path, lines }) => `${path} (${lines} lines)`);
  assert.deepEqual(without, []);
});

test("no source file has more than 700 lines", () => {
  const long = files
    .filter(({ lines }) => lines > 700)
    .map(({ path, lines }) => `${path}: ${lines}`);
  assert.deepEqual(long, []);
});
