import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { quoteWord, splitWords } from "./words.ts";

const split = (text: string) => splitWords(fromLatin1(text))?.map((word) => toLatin1(word));

test("splitWords() splits at white space and decodes quoted words", () => {
  const cases: readonly [line: string, words: string[] | undefined][] = [
    ["", []],
    [" \t\r\n\v\f", []],
    ["set a  b", ["set", "a", "b"]],
    [` "a b" 'c d' `, ["a b", "c d"]],
    [`""`, [""]],
    [`foo"bar"`, ["foobar"]],
    [`"\\x41\\xfF\\n\\r\\t\\b\\a\\q\\\\\\""`, ['A\xff\n\r\t\b\x07q\\"']],
    [`"\\x4"`, ["x4"]],
    [`'\\x41\\n\\''`, [`\\x41\\n'`]],
    [`"a`, undefined],
    [`'a`, undefined],
    [`"a\\`, undefined],
    [`"a\\"`, undefined],
    [`"a"b`, undefined],
    [`'a'b`, undefined],
    [`"a""b"`, undefined],
  ];
  for (const [line, words] of cases) assert.deepEqual(split(line), words, JSON.stringify(line));
});

test("splitWords() gives what quoteWord() was given, whatever the bytes", () => {
  const words = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 6 });
  fc.assert(
    fc.property(words, (list) => {
      const line = list.map((word) => quoteWord(word)).join(" ");
      assert.match(line, /^[\x20-\x7e]*$/);
      assert.deepEqual(splitWords(fromLatin1(line)), list);
    }),
  );
});

test("splitWords() takes any bytes", () => {
  fc.assert(fc.property(fc.uint8Array(), (line) => void splitWords(line)));
});

test("quoteWord() quotes only what needs it, as servers do in a manifest", () => {
  assert.equal(quoteWord(fromLatin1("appendonly.aof.1.base.rdb")), "appendonly.aof.1.base.rdb");
  assert.equal(quoteWord(fromLatin1(`my "aof" file`)), `"my \\"aof\\" file"`);
  assert.equal(quoteWord(fromLatin1("\xc5\xbe\n\x01\x7f")), `"\\xc5\\xbe\\n\\x01\\x7f"`);
  assert.equal(quoteWord(fromLatin1("")), `""`);
});
