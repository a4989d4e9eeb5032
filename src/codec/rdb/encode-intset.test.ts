import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IntsetEncoder } from "./encode-intset.ts";
import { Int64 } from "./integer.ts";

function encode(encoder: IntsetEncoder, members: readonly bigint[]): Uint8Array {
  const integer = new Int64();
  encoder.begin();
  for (const member of members) {
    assert(integer.parse(Buffer.from(`${member}`), 0, `${member}`.length));
    encoder.add(integer);
  }
  const size = encoder.finish();
  return encoder.bytes.slice(0, size);
}

/** The format's definition. */
function decode(intset: Uint8Array): { width: number; members: bigint[] } {
  const view = new DataView(intset.buffer, intset.byteOffset, intset.length);
  const width = view.getUint32(0, true);
  const members = Array.from({ length: view.getUint32(4, true) }, (_, i) => {
    let value = 0n;
    for (let k = width - 1; k >= 0; k--)
      value = (value << 8n) | BigInt(view.getUint8(8 + i * width + k));
    return BigInt.asIntN(8 * width, value);
  });
  assert.equal(intset.length, 8 + width * members.length);
  return { width, members };
}

const edges = [15n, 31n, 53n, 63n].flatMap((bits) => [2n ** bits - 1n, -(2n ** bits)]);
const beyond = [15n, 31n, 53n].flatMap((bits) => [2n ** bits, -(2n ** bits) - 1n]);
const integers = fc.oneof(
  fc.integer({ min: -300, max: 300 }).map(BigInt),
  fc.integer().map(BigInt),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom(...edges, ...beyond),
);

test("an intset has its members in ascending order, in the smallest width that holds them all", () => {
  const encoder = new IntsetEncoder(512);
  fc.assert(
    fc.property(fc.uniqueArray(integers, { minLength: 1, maxLength: 40 }), (members) => {
      const { width, members: found } = decode(encode(encoder, members));
      assert.deepEqual(
        found,
        members.toSorted((a, b) => (a < b ? -1 : 1)),
      );
      const fits = (bits: number) =>
        members.every((member) => BigInt.asIntN(bits, member) === member);
      assert.equal(width, fits(16) ? 2 : fits(32) ? 4 : 8);
    }),
  );
});

test("finish() returns 0 when a member came twice", () => {
  const encoder = new IntsetEncoder(512);
  assert.equal(encode(encoder, [5n, 1n, 5n]).length, 0);
  assert.equal(encode(encoder, [5n, 2n ** 63n - 1n, 5n]).length, 0);
});

test("an intset is encoded as Redis 7.0 does", () => {
  const bytes = encode(new IntsetEncoder(512), [300n, 1n, 2n]);
  assert.equal(Buffer.from(bytes).toString("hex"), "0200000003000000010002002c01");
});
