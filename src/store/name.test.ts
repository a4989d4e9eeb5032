import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkName, checkPrefix, compareNames, isName } from "./name.ts";

test("compareNames() orders as the bytes of UTF-8 do", () => {
  const unit = fc.constantFrom(
    "a",
    "/",
    "-",
    "é",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "😀",
    "\u{10ffff}",
  );
  const texts = fc.oneof(fc.string({ unit }), fc.string({ unit: "grapheme" }));
  fc.assert(
    fc.property(texts, texts, (a, b) => {
      assert.equal(compareNames(a, b), Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
  );
});

test("checkName() takes what every storage and file system takes, and nothing else", () => {
  const good = ["a", "a/b", "log/0001.aof.zst", "ü/😀", "a b", "~", "x".repeat(255)];
  const bad = ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", ".hidden", "a/.b", "a\\b", "a\0b"];
  const tooLong = ["x".repeat(256), "é".repeat(128), `${"a/".repeat(512)}a`];
  for (const name of good) assert.ok(isName(name), name);
  for (const name of [...bad, ...tooLong, "a\rb", "a\x7fb", "\udc00"]) {
    assert.throws(() => checkName(name), { code: "USAGE" }, name);
  }
});

test("checkPrefix() takes any beginning of a name", () => {
  const name = "log/é😀/0001.aof";
  for (let end = 0; end <= name.length; end++) {
    const prefix = name.slice(0, end);
    if (prefix.isWellFormed()) checkPrefix(prefix);
  }
  for (const bad of ["/", "../", "a//", "a/../", ".t"]) {
    assert.throws(() => checkPrefix(bad), { code: "USAGE" }, bad);
  }
});
