import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Crc64, crc64, crc64Input, joinCrc64 } from "./crc64.ts";

/** The definition, a bit at a time. */
function reference(bytes: Uint8Array): bigint {
  let state = 0n;
  for (const byte of bytes) {
    state ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      state = (state >> 1n) ^ (state & 1n ? 0x95ac9329ac4bc9b5n : 0n);
    }
  }
  return state;
}

test("crc64() gives the published check value", () => {
  assert.equal(crc64(Buffer.from("123456789")), 0xe9c6d914c4b8d9can);
  assert.equal(crc64(Buffer.from("a")), 0x5fb354025b277b14n);
  assert.equal(crc64(Uint8Array.from({ length: 256 }, (_, i) => i)), 0x88bfa574e806500en);
  assert.equal(crc64(new Uint8Array(100)), 0n);
});

test("crc64() agrees with the definition for any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => crc64(bytes) === reference(bytes)),
  );
});

test("update() may be called with pieces cut anywhere", () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(200), { maxLength: 5 }), (whole, cuts) => {
      const crc = new Crc64();
      const ends = [...cuts.map((cut) => cut % whole.length), whole.length].sort((a, b) => a - b);
      let from = 0;
      for (const to of ends) {
        crc.update(whole, from, to);
        from = to;
      }
      return crc.value() === reference(whole);
    }),
  );
});

test("update() sums more bytes than the module's memory holds at once", () => {
  const bytes = new Uint8Array(300_001).map((_, i) => (i * 7) ^ (i >> 8));
  assert.equal(crc64(bytes), reference(bytes));
});

test("update() sums bytes that were put into the module's own memory", () => {
  const input = crc64Input();
  input.set(Buffer.from("..123456789"));
  const crc = new Crc64();
  crc.update(input, 2, 11);
  assert.equal(crc.value(), 0xe9c6d914c4b8d9can);
});

test("joinCrc64() gives the sum of both runs of bytes", () => {
  const bytes = fc.uint8Array({ maxLength: 100 });
  fc.assert(
    fc.property(bytes, bytes, (first, second) => {
      const whole = Buffer.concat([first, second]);
      return joinCrc64(crc64(first), crc64(second), second.length) === crc64(whole);
    }),
  );
});
