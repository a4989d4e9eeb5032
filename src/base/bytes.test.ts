import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { compareBytes, equalBytes, fromLatin1, Slice, toLatin1 } from "./bytes.ts";

suite("Slice", () => {
  test("setInteger() points at the text of any safe integer", () => {
    const slice = new Slice();
    const edges = fc.constantFrom(0, 9, 10, -9, -10, 99, 100, 2 ** 53 - 1, 1 - 2 ** 53);
    fc.assert(
      fc.property(fc.oneof(fc.maxSafeInteger(), fc.integer(), edges), (value) => {
        slice.setInteger(value);
        assert.equal(slice.latin1(), String(value));
      }),
    );
  });

  test("setLatin1() points at one byte a character", () => {
    const slice = new Slice();
    slice.setLatin1("a\u00ff\u0000");
    assert.deepEqual([...slice.view()], [97, 255, 0]);
    slice.setLatin1("");
    assert.equal(slice.length, 0);
  });

  test("view() is borrowed, copy() is owned, also where the bytes are a Buffer", () => {
    for (const bytes of [Uint8Array.of(1, 2, 3, 4), Buffer.of(1, 2, 3, 4)]) {
      const slice = new Slice();
      slice.set(bytes, 1, 3);
      const [view, copy] = [slice.view(), slice.copy()];
      bytes.fill(9);
      assert.deepEqual([...view], [9, 9]);
      assert.deepEqual(copy, Uint8Array.of(2, 3));
    }
  });

  test("reserve() gives a buffer of its own, and the same one while it is large enough", () => {
    const slice = new Slice();
    const first = slice.reserve(10);
    assert.equal(slice.length, 10);
    assert.equal(slice.reserve(32), first);
    const second = slice.reserve(33);
    assert.notEqual(second, first);
    assert.equal(slice.bytes, second);
  });
});

test("fromLatin1() gives back the bytes that toLatin1() was given, or a part of them", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.nat(50), fc.nat(50), (bytes, a, b) => {
      const [start, end] = [Math.min(a, b, bytes.length), Math.min(Math.max(a, b), bytes.length)];
      assert.ok(equalBytes(fromLatin1(toLatin1(bytes)), bytes));
      assert.ok(equalBytes(fromLatin1(toLatin1(bytes, start, end)), bytes.subarray(start, end)));
      const text = [...bytes].map((byte) => String.fromCharCode(byte)).join("");
      assert.equal(toLatin1(bytes), text);
    }),
  );
});

test("compareBytes() orders as memory does: by byte, unsigned, and the shorter first", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4 }), fc.uint8Array({ maxLength: 4 }), (a, b) => {
      const [left, right] = [toLatin1(a), toLatin1(b)];
      assert.equal(Math.sign(compareBytes(a, b)), left < right ? -1 : left > right ? 1 : 0);
      assert.equal(equalBytes(a, b), left === right);
    }),
  );
});
