import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Slice } from "./bytes.ts";
import { Glob } from "./glob.ts";

/** The key stands between other bytes, as it does in a chunk. */
function matches(pattern: string, key: string): boolean {
  const bytes = Buffer.from(key);
  const slice = new Slice();
  slice.set(Buffer.concat([Buffer.from("*?"), bytes, Buffer.from("*?")]), 2, 2 + bytes.length);
  return new Glob(pattern).matches(slice);
}

/** Patterns, keys that match, keys that do not: all as KEYS of a real server has it. */
const cases: readonly (readonly [
  pattern: string,
  yes: readonly string[],
  no: readonly string[],
])[] = [
  ["", [""], ["a"]],
  ["*", ["", "a", "a\nb", "é"], []],
  ["**", ["", "a", "ab"], []],
  ["a", ["a"], ["", "A", "aa", "ab"]],
  ["a*", ["a", "ab", "aaa"], ["", "ba"]],
  ["*a", ["a", "ba", "aaa"], ["", "ab"]],
  ["a*b*c", ["abc", "aXbYc", "abcbc", "abbcc"], ["ab", "acb", "abcd"]],
  ["?", ["a", "*", "\0"], ["", "aa", "é"]],
  ["h?llo", ["hello", "h*llo"], ["hllo", "heello"]],
  ["??", ["ab", "é"], ["a"]],
  ["h[ae]llo", ["hallo", "hello"], ["hillo", "hllo"]],
  ["h[^e]llo", ["hallo", "h^llo"], ["hello", "hllo"]],
  ["[a-c]", ["a", "b", "c"], ["d", "-", "A"]],
  ["[c-a]", ["a", "b", "c"], ["d"]],
  ["[a-]", ["a", "]"], ["-", "b"]],
  ["[-a]", ["-", "a"], ["b"]],
  ["[\\]a]", ["]", "a"], ["\\"]],
  ["[\\^a]", ["^", "a"], ["\\"]],
  ["[]", [], ["", "]", "["]],
  ["[^]", ["a", "]"], [""]],
  ["[ab", ["a", "b"], ["[", "ab"]],
  ["[a-", ["a", "-"], ["b"]],
  ["\\*", ["*"], ["a", "\\*"]],
  ["\\a", ["a"], ["\\a"]],
  ["a\\", ["a\\"], ["a"]],
  ["user:[0-9]*:{x}", ["user:1:{x}", "user:42:a:{x}"], ["user::{x}", "user:a:{x}"]],
  ["é*", ["é", "éa"], ["e", "è"]],
];

for (const [pattern, yes, no] of cases) {
  test(`Glob ${JSON.stringify(pattern)} matches as KEYS does`, () => {
    for (const key of yes) assert(matches(pattern, key), JSON.stringify(key));
    for (const key of no) assert(!matches(pattern, key), JSON.stringify(key));
  });
}

test("Glob takes no more steps than pattern times key, however many stars there are", () => {
  const key = "a".repeat(20_000);
  const started = performance.now();
  assert(!matches(`${"*a".repeat(500)}*b`, key));
  assert(matches(`${"*a".repeat(500)}*`, key));
  assert(performance.now() - started < 5000);
});

const pieces = fc.constantFrom("a", "b", "-", "]", "^", "\\", "*", "?", "[", "é");
const texts = fc.array(pieces, { maxLength: 8 }).map((all) => all.join(""));

test("Glob matches a key that is escaped, and only that", () => {
  const escape = (key: string) => key.replaceAll(/[*?[\]\\^-]/g, "\\$&");
  fc.assert(
    fc.property(texts, texts, (key, other) => {
      assert(matches(escape(key), key));
      assert.equal(matches(escape(key), other), key === other);
      assert(matches(`*${escape(key)}*`, other + key + other));
    }),
  );
});

test("Glob ends for any pattern and any key", () => {
  fc.assert(
    fc.property(texts, texts, (pattern, key) => typeof matches(pattern, key) === "boolean"),
  );
});
