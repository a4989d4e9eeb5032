import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LzfEncoder } from "./lzf-encode.ts";

/** The format's definition. */
function decode(packed: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let at = 0; at < packed.length; ) {
    const control = packed[at++] as number;
    if (control < 0x20) {
      const end = at + control + 1;
      assert(end <= packed.length, "A literal run past the end");
      while (at < end) out.push(packed[at++] as number);
      continue;
    }
    let length = control >> 5;
    if (length === 7) length += packed[at++] as number;
    const from = out.length - (((control & 0x1f) << 8) | (packed[at++] as number)) - 1;
    assert(from >= 0, "A reference before the start");
    for (let i = 0; i < length + 2; i++) out.push(out[from + i] as number);
  }
  return Uint8Array.from(out);
}

function encode(encoder: LzfEncoder, source: Uint8Array, limit: number): Uint8Array {
  const margin = 3;
  const target = new Uint8Array(margin + Math.max(limit, 0) + margin).fill(0xaa);
  const size = encoder.encode(source, 0, source.length, target, margin, limit);
  assert(size <= Math.max(limit, 0));
  assert(
    target.subarray(0, margin).every((byte) => byte === 0xaa),
    "Bytes before the target",
  );
  assert(
    target.subarray(margin + limit).every((byte) => byte === 0xaa),
    "Bytes past the limit",
  );
  return target.slice(margin, margin + size);
}

/** Text of few letters, repeated pieces, and noise. */
const sources = fc.oneof(
  fc.uint8Array({ maxLength: 600 }),
  fc.array(fc.constantFrom(97, 98), { maxLength: 600 }).map((bytes) => Uint8Array.from(bytes)),
  fc
    .array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(400)), { maxLength: 12 })
    .map((parts) => Buffer.concat(parts.map(([part, n]) => Buffer.alloc(n, part)))),
);

test("encode() gives bytes that decode to the source, whatever was encoded before", () => {
  const encoder = new LzfEncoder();
  fc.assert(
    fc.property(sources, (source) => {
      const packed = encode(encoder, source, source.length - 4);
      if (packed.length > 0) assert.deepEqual(decode(packed), Uint8Array.from(source));
    }),
  );
});

test("encode() respects any limit", () => {
  const encoder = new LzfEncoder();
  fc.assert(
    fc.property(sources, fc.nat(600), (source, limit) => {
      const packed = encode(encoder, source, limit);
      if (packed.length > 0) assert.deepEqual(decode(packed), Uint8Array.from(source));
    }),
  );
});

test("encode() writes what liblzf writes", () => {
  const encoder = new LzfEncoder();
  const hex = (source: string | Uint8Array) =>
    Buffer.from(encode(encoder, Buffer.from(source), source.length - 4)).toString("hex");
  assert.equal(hex("a".repeat(60)), "016161e02f00016161");
  assert.equal(hex("x".repeat(70)), "017878e03900017878");
  assert.equal(hex("x".repeat(65)), "017878e03400017878");
  const ziplist =
    "320000001b000000060000016103f202feff03c0ff0f04f070110105146262626262626262626262626262626262626262ff";
  assert.equal(
    hex(Buffer.from(ziplist, "hex")),
    "04320000001b200315060000016103f202feff03c0ff0f04f07011010514" + "62e00a0000ff",
  );
});

test("encode() finds repeats as far back as 8192 bytes, and no farther", () => {
  const encoder = new LzfEncoder();
  const noise = Uint8Array.from({ length: 8192 }, (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 24);
  const near = Buffer.concat([noise, noise]);
  const packed = encode(encoder, near, near.length - 4);
  assert.deepEqual(decode(packed), Uint8Array.from(near));
  assert(packed.length < 9000);
});

test("encode() compresses a long source, and gives up on noise", () => {
  const encoder = new LzfEncoder();
  const text = Buffer.alloc(1_000_000, "the quick brown fox jumps over the lazy dog. ");
  const packed = encode(encoder, text, text.length - 4);
  assert(packed.length < 20_000);
  assert.deepEqual(decode(packed), Uint8Array.from(text));
  let state = 1;
  const noise = Uint8Array.from({ length: 100_000 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
  assert.equal(encode(encoder, noise, noise.length - 4).length, 0);
});

test("encode() stays right when its numbering of positions wraps", () => {
  const encoder = new LzfEncoder();
  const large = new Uint8Array(2 ** 26);
  for (let i = 0; i < 80; i++) {
    // With no room for its output a call ends at once, but its positions are numbered all the same.
    encoder.encode(large, 0, i % 40 < 31 ? large.length : 2 ** 21 + i, large, 0, 0);
    const small = Buffer.from("one two one two one two one two");
    assert.deepEqual(decode(encode(encoder, small, 27)), Uint8Array.from(small));
  }
});
