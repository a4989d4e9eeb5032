import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, Slice } from "../../base/bytes.ts";
import { KeyCollector, maxFilterKeys, mayHoldKey } from "./key-filter.ts";

function filterOf(keys: readonly Uint8Array[]): Uint8Array {
  const collector = new KeyCollector();
  addAll(collector, keys);
  return collector.take() ?? assert.fail("There is a filter");
}

function addAll(collector: KeyCollector, keys: Iterable<Uint8Array>): void {
  const slice = new Slice();
  for (const key of keys) {
    slice.set(key, 0, key.length);
    collector.add(slice);
  }
}

test("mayHoldKey() says yes to every key that was added", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 3000 }), (keys) => {
      const filter = filterOf(keys);
      for (const key of keys) assert.ok(mayHoldKey(filter, key));
    }),
    { numRuns: 200 },
  );
});

test("mayHoldKey() says yes to one in eighteen other keys, whatever names are like", () => {
  for (const name of [
    (i: number) => `user:${i}`,
    (i: number) => `session:${String(i).padStart(12, "0")}:data`,
    (i: number) => (i * 7919).toString(36),
  ]) {
    const count = 40_000;
    const keys = Array.from({ length: 2 * count }, (_, i) => fromLatin1(name(i)));
    const filter = filterOf(keys.slice(0, count));
    assert.equal(filter.length, (count * 6) / 8);
    const wrong = keys.slice(count).filter((key) => mayHoldKey(filter, key)).length;
    const rate = wrong / count;
    assert.ok(rate > 0.05 && rate < 0.062, `${rate} of ${name(0)}`);
  }
});

test("a key that comes twice counts once", () => {
  const keys = Array.from({ length: 100 }, (_, i) => fromLatin1(`k${i}`));
  assert.deepEqual(filterOf([...keys, ...keys, ...keys]), filterOf(keys));
  assert.equal(filterOf(keys).length, 75);
});

test("the filter of given keys is these bytes", () => {
  const filter = filterOf(["a", "user:1", "user:2", "", "\u00ff\u0000"].map(fromLatin1));
  assert.equal(Buffer.from(filter).toString("hex"), "ea5849bc");
});

test("take() begins anew, and gives a filter without bits where there was no key", () => {
  const collector = new KeyCollector();
  addAll(collector, [fromLatin1("a")]);
  assert.ok(collector.take());
  const none = collector.take();
  assert.deepEqual(none, new Uint8Array(0));
  assert.equal(mayHoldKey(new Uint8Array(0), fromLatin1("a")), false);
});

test("take() gives no filter where a key is unknown, or there are too many", () => {
  const collector = new KeyCollector();
  collector.addUnknown();
  addAll(collector, [fromLatin1("a")]);
  assert.equal(collector.take(), undefined);
  const key = Buffer.alloc(4);
  const many = function* () {
    for (let i = 0; i <= maxFilterKeys; i++) {
      key.writeUInt32LE(i);
      yield key;
    }
  };
  addAll(collector, many());
  assert.equal(collector.take(), undefined);
  addAll(collector, [fromLatin1("a")]);
  assert.equal(collector.take()?.length, 1);
});
