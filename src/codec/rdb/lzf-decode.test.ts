import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hex } from "../../../test/support/rdb-bytes.ts";
import { Failure } from "../../base/errors.ts";
import { decompressLzf, mayDecompress } from "./lzf-decode.ts";
import { LzfEncoder } from "./lzf-encode.ts";

const origin = 1000;
const margin = 8;

/** Decompresses between bytes that must neither be read nor written. */
function decompress(packed: Uint8Array, size: number): Uint8Array {
  const source = new Uint8Array(packed.length + 2 * margin).fill(0x21);
  source.set(packed, margin);
  const target = new Uint8Array(size + margin).fill(0xee);
  try {
    decompressLzf(source, margin, margin + packed.length, target, size, origin);
  } finally {
    assert.ok(target.subarray(size).every((byte) => byte === 0xee));
  }
  return target.subarray(0, size);
}

const text = (packed: string, size: number) =>
  Buffer.from(decompress(hex(packed), size)).toString("latin1");

test("decompressLzf() reads what servers wrote", () => {
  assert.equal(text("01 61 61 e0 2f 00 01 61 61", 60), "a".repeat(60));
  assert.equal(text("01 78 78 e0 39 00 01 78 78", 70), "x".repeat(70));
  const node = decompress(
    hex(`04 320000001b 2003 15 06000001 6103f202feff03c0ff0f04f07011010514 62 e00a00 00 ff`),
    50,
  );
  const list = `320000001b0000000600000161 03f202feff03c0ff0f04f07011010514${"62".repeat(20)}ff`;
  assert.deepEqual(node, new Uint8Array(hex(list)));
});

test("decompressLzf() copies what overlaps byte by byte", () => {
  assert.equal(text("01 61 62 e0 05 01", 16), "ab".repeat(8));
  assert.equal(text("00 61 20 00", 4), "aaaa");
});

test("decompressLzf() reads back what a compressor wrote, for any bytes", () => {
  const encoder = new LzfEncoder();
  const bytes = fc.array(fc.constantFrom(97, 98, 99), { minLength: 5, maxLength: 9000 });
  fc.assert(
    fc.property(bytes, (list) => {
      const source = Uint8Array.from(list);
      const target = new Uint8Array(source.length);
      const size = encoder.encode(source, 0, source.length, target, 0, source.length);
      if (size === 0) return;
      assert.deepEqual(decompress(target.subarray(0, size), source.length), source);
    }),
  );
});

test("decompressLzf() names what is wrong, and where", () => {
  const wrong: [packed: string, size: number, offset: number, message: RegExp][] = [
    ["04 61", 5, 1001, /LZF data past its end at byte 1001/],
    ["01 61 62", 1, 1001, /LZF data past its end/],
    ["00 61 20", 4, 1003, /LZF data past its end/],
    ["00 61 e0 00", 10, 1003, /LZF data past its end/],
    ["00 61 20 00", 3, 1004, /LZF data past its end/],
    ["20 00", 3, 1002, /An LZF reference before the start at byte 1002/],
    ["00 61 20 01", 4, 1004, /An LZF reference before the start/],
    ["00 61", 2, 1000, /LZF data of 1 bytes where 2 are stated at byte 1000/],
    ["", 1, 1000, /LZF data of 0 bytes where 1 are stated/],
  ];
  for (const [packed, size, offset, message] of wrong) {
    assert.throws(() => text(packed, size), { code: "DATA_CORRUPT", offset, message }, packed);
  }
});

test("mayDecompress() takes what is possible, and nothing that grows more", () => {
  assert.ok(mayDecompress(3, 264) && mayDecompress(1, 1) && mayDecompress(0, 0));
  assert.ok(!mayDecompress(3, 265) && !mayDecompress(0, 1) && !mayDecompress(5, 0));
});

test("arbitrary bytes are decompressed within their bounds, or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(400), (packed, size) => {
      try {
        decompress(packed, size);
      } catch (error) {
        assert(error instanceof Failure, String(error));
        assert.equal(error.code, "DATA_CORRUPT");
        assert(Number(error.offset) >= origin && Number(error.offset) <= origin + packed.length);
      }
    }),
    { numRuns: 2000 },
  );
});
