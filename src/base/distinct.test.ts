import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Slice } from "./bytes.ts";
import { Distinct } from "./distinct.ts";

function sliceOf(text: string): Slice {
  const slice = new Slice();
  slice.setLatin1(text);
  return slice;
}

test("add() says whether a string is new, as a Set does", () => {
  const short = fc.string({ unit: "binary-ascii", maxLength: 3 });
  fc.assert(
    fc.property(fc.array(fc.tuple(short, fc.nat(2)), { maxLength: 500 }), (added) => {
      const distinct = new Distinct(1000);
      const seen = new Set<string>();
      for (const [text, salt] of added) {
        const name = `${salt} ${text}`;
        assert.equal(distinct.add(sliceOf(text), salt), !seen.has(name));
        seen.add(name);
      }
    }),
  );
});

test("add() tells many strings apart, however alike they are", () => {
  const distinct = new Distinct(1_000_000);
  const slice = new Slice();
  const count = 200_000;
  for (const round of [true, false]) {
    for (let i = 0; i < count; i++) {
      slice.setInteger(i);
      assert.equal(distinct.add(slice), round);
    }
  }
  const zeros = new Uint8Array(1000);
  for (let size = 0; size < zeros.length; size++) {
    slice.set(zeros, 0, size);
    assert.ok(distinct.add(slice));
  }
  assert.equal(distinct.unchecked, 0);
});

test("add() looks at the string only, not at what stands around it", () => {
  const distinct = new Distinct(10);
  const slice = new Slice();
  slice.set(Buffer.from("xabcx"), 1, 4);
  assert.ok(distinct.add(slice));
  slice.set(Buffer.from("yyabcyy"), 2, 5);
  assert.ok(!distinct.add(slice));
});

test("add() counts what it did not keep beyond the limit, and goes on knowing the rest", () => {
  const distinct = new Distinct(3);
  for (const text of ["a", "b", "c"]) assert.ok(distinct.add(sliceOf(text)));
  for (const text of ["d", "d", "e"]) assert.ok(distinct.add(sliceOf(text)));
  assert.equal(distinct.unchecked, 3);
  assert.ok(!distinct.add(sliceOf("b")));
});

test("clear() forgets all, and gives memory back", () => {
  const distinct = new Distinct(100_000);
  for (const count of [1, 50_000, 5]) {
    for (let i = 0; i < count; i++) assert.ok(distinct.add(sliceOf(`${i}`)));
    distinct.clear();
  }
  assert.equal(distinct.unchecked, 0);
});

test("add() gives up on strings that were made to collide, instead of comparing all with all", () => {
  const distinct = new Distinct(1_000_000);
  const slice = new Slice();
  let made = 0;
  for (let i = 0; made < 1500; i++) {
    slice.setInteger(i);
    if ((firstHash(slice.view()) & 0xfff) !== 0) continue;
    assert.ok(distinct.add(slice));
    made++;
  }
  assert.ok(distinct.unchecked > 400, `${distinct.unchecked}`);
});

/** The half of the fingerprint that chooses the slot. */
function firstHash(bytes: Uint8Array): number {
  let x = 0x811c9dc5;
  for (const byte of bytes) x = Math.imul(x ^ byte, 0x01000193);
  x ^= bytes.length;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
