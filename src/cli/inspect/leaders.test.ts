import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Leaders } from "./leaders.ts";

test("Leaders keeps the greatest, and of equal ones the first", () => {
  const ranks = fc.array(fc.nat(20), { maxLength: 100 });
  fc.assert(
    fc.property(ranks, fc.nat(12), (list, max) => {
      const leaders = new Leaders<number>(max);
      for (const [index, rank] of list.entries()) leaders.add(rank, index);
      const expected = list
        .map((rank, index) => ({ rank, index }))
        .sort((a, b) => b.rank - a.rank || a.index - b.index)
        .slice(0, max);
      assert.deepEqual(
        leaders.list(),
        expected.map(({ index }) => index),
      );
    }),
  );
});
