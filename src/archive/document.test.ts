import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { formatDocument, parseDocument } from "./document.ts";

const fields = { format: 1, note: "héllo \u2028 \ud83d\ude00", list: [1, { a: null }] };

test("parseDocument() gives what formatDocument() was given", () => {
  assert.deepEqual(parseDocument(formatDocument(fields), "x"), fields);
  const any = fc.dictionary(
    fc.string().filter((name) => !["sum", "__proto__", "format"].includes(name)),
    fc.jsonValue(),
    { minKeys: 1 },
  );
  fc.assert(
    fc.property(any, (value) => {
      const back = parseDocument(formatDocument(value), "x");
      assert.equal(JSON.stringify(back), JSON.stringify(value));
    }),
  );
});

test("parseDocument() finds every flipped bit, missing byte and additional byte", () => {
  const bytes = formatDocument(fields);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = new Uint8Array(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
    assert.throws(() => parseDocument(flipped, "x"), { code: "DATA_CORRUPT" }, `bit ${bit}`);
  }
  for (let end = 0; end < bytes.length; end++) {
    assert.throws(() => parseDocument(bytes.subarray(0, end), "x"), { code: "DATA_CORRUPT" });
  }
  const more = Buffer.concat([bytes, Buffer.from("\n")]);
  assert.throws(() => parseDocument(more, "x"), { code: "DATA_CORRUPT" });
});

test("parseDocument() never fails otherwise, whatever the bytes are", () => {
  const sealed = fc.uint8Array().map((body) => {
    const sum = createHash("sha256").update(body).digest("hex");
    return Buffer.concat([body, Buffer.from(`,\n  "sum": "${sum}"\n}\n`)]);
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), sealed), (bytes) => {
      assert.throws(() => parseDocument(bytes, "x"), { code: "DATA_CORRUPT" });
    }),
  );
});

test("parseDocument() refuses a newer format by its number", () => {
  assert.throws(() => parseDocument(formatDocument({ format: 2 }), "sets/x"), {
    code: "DATA_UNSUPPORTED",
    message: 'Cannot read "sets/x": it has format 2',
  });
});
