import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RespEncoder } from "../codec/resp/encode.ts";
import { ReplyCounter } from "./restore-pipeline.ts";

type Reply = null | number | string | Error | Uint8Array | Reply[];

const { reply } = fc.letrec<{ reply: Reply }>((tie) => ({
  reply: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constant(null),
    fc.integer(),
    fc.stringMatching(/^[A-Z ]{1,10}$/),
    fc.stringMatching(/^[A-Z]{1,5} [a-z ]{0,9}x$/).map((text) => new Error(text)),
    fc.uint8Array({ maxLength: 30 }),
    fc.array(tie("reply"), { maxLength: 4 }),
  ),
}));

function encode(value: Reply, out: RespEncoder): void {
  if (value === null) out.null();
  else if (typeof value === "number") out.integer(value);
  else if (typeof value === "string") out.simple(value);
  else if (value instanceof Error) out.error(value.message);
  else if (value instanceof Uint8Array) out.bulk(value);
  else {
    out.array(value.length);
    for (const item of value) encode(item, out);
  }
}

function errorsIn(value: Reply): string[] {
  if (value instanceof Error) return [value.message];
  return Array.isArray(value) ? value.flatMap(errorsIn) : [];
}

test("ReplyCounter counts whole replies and shows every error, however they are cut", () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 });
  fc.assert(
    fc.property(fc.array(reply), cuts, (replies, sizes) => {
      const out = new RespEncoder();
      for (const each of replies) encode(each, out);
      const bytes = out.take();
      const counter = new ReplyCounter();
      const errors: string[] = [];
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] as number;
        counter.push(bytes.subarray(at, at + size), (text) => errors.push(text));
        at += size;
      }
      assert.equal(counter.count, replies.length);
      assert.deepEqual(errors, replies.flatMap(errorsIn));
    }),
  );
});

test("ReplyCounter refuses what is no reply", () => {
  for (const text of ["?\r\n", "$x\r\n", "*99999999999\r\n", `${"*1\r\n".repeat(100)}`]) {
    const counter = new ReplyCounter();
    assert.throws(() => counter.push(Buffer.from(text), () => {}), { code: "PROTOCOL_ERROR" });
  }
});
