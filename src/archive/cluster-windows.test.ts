import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { SlotsChange } from "./cluster-slots.ts";
import { commonWindows, type Span } from "./cluster-windows.ts";

function change(ms: number, keys: string, windowMs: number | null = 0, endMs?: number) {
  const replicationId = "ab".repeat(20);
  const position = endMs === undefined ? null : { replicationId, offset: 1, ms: endMs };
  const shards = keys.split("").map((key): SlotsChange["shards"][number] => {
    return { key, slots: [[0, 1]], ms, position };
  });
  return { windowMs, shards };
}

function windows(spans: Record<string, readonly [number, number][]>): Map<string, Span[]> {
  const entries = Object.entries(spans).map(([key, all]): [string, Span[]] => {
    return [key, all.map(([fromMs, toMs]) => ({ fromMs, toMs }))];
  });
  return new Map(entries);
}

test("commonWindows() has what all shards with slots have", () => {
  const all = windows({
    a: [[10, 100]],
    b: [
      [20, 50],
      [60, 120],
    ],
    c: [[0, 5]],
  });
  assert.deepEqual(commonWindows([change(15, "ab", null)], all), [
    { fromMs: 20, toMs: 50 },
    { fromMs: 60, toMs: 100 },
  ]);
  assert.deepEqual(commonWindows([change(15, "abd", null)], all), []);
});

test("commonWindows() asks for a shard only while it has slots", () => {
  const all = windows({ a: [[10, 200]], b: [[10, 70]], c: [[105, 200]] });
  const changes = [change(10, "ab", null), change(60, "a"), change(100, "ac")];
  assert.deepEqual(commonWindows(changes, all), [
    { fromMs: 10, toMs: 100 },
    { fromMs: 105, toMs: 200 },
  ]);
});

test("commonWindows() asks for both sides of a change while it is not known which it was", () => {
  const all = windows({ a: [[0, 200]], b: [[0, 200]], c: [[97, 200]] });
  const seen = commonWindows([change(0, "ab", null), change(100, "ac", 10)], all);
  assert.deepEqual(seen, [
    { fromMs: 0, toMs: 90 },
    { fromMs: 97, toMs: 200 },
  ]);
  const restarted = commonWindows([change(0, "ab", null), change(100, "ac", null, 50)], all);
  assert.deepEqual(restarted, [
    { fromMs: 0, toMs: 50 },
    { fromMs: 97, toMs: 200 },
  ]);
});

test("commonWindows() goes on over changes that move slots between the same shards", () => {
  const all = windows({ a: [[0, 200]], b: [[0, 200]] });
  const changes = [change(0, "ab", null), change(50, "ab", 5), change(60, "ab", null)];
  assert.deepEqual(commonWindows(changes, all), [{ fromMs: 0, toMs: 200 }]);
});

const spans = fc
  .uniqueArray(fc.integer({ min: 0, max: 60 }), { minLength: 2, maxLength: 8 })
  .map((ends) => {
    const sorted = ends.toSorted((x, y) => x - y);
    const pairs = Array.from({ length: Math.floor(sorted.length / 2) }, (_, i): Span => {
      return { fromMs: sorted[2 * i] as number, toMs: sorted[2 * i + 1] as number };
    });
    return pairs;
  });

test("commonWindows() says of every moment what the last change before it says", () => {
  const keys = fc.constantFrom("a", "b", "ab", "abc", "c");
  const times = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(
      spans,
      spans,
      spans,
      times,
      fc.array(keys, { minLength: 5, maxLength: 5 }),
      (...all) => {
        const [a, b, c, at, sides] = all;
        const by = new Map([
          ["a", a],
          ["b", b],
          ["c", c],
        ]);
        const changes = at.toSorted((x, y) => x - y).map((ms, i) => change(ms, sides[i] as string));
        const found = commonWindows(changes, by);
        for (let ms = 0.5; ms < 60; ms++) {
          const last = changes.findLast(({ shards }) => (shards[0]?.ms ?? 0) <= ms) ?? changes[0];
          const isWhole = last?.shards.every(({ key }) => by.get(key)?.some(has(ms)));
          assert.equal(found.some(has(ms)), isWhole, `at ${ms}`);
        }
      },
    ),
  );
});

function has(ms: number) {
  return ({ fromMs, toMs }: Span) => fromMs <= ms && ms <= toMs;
}
