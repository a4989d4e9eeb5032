import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Latencies } from "./latencies.ts";

test("percentile() is at least what that share took, and at most 6 % more", () => {
  const times = fc.array(fc.double({ min: 0.01, max: 100_000, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(times, fc.constantFrom(0.5, 0.99, 1), (all, share) => {
      const latencies = new Latencies();
      for (const ms of all) latencies.add(ms);
      const exact = all.toSorted((a, b) => a - b)[Math.ceil(all.length * share) - 1] as number;
      const told = latencies.percentile(share) as number;
      assert.ok(told >= exact * 0.99 && told <= exact * 1.06, `${told} for ${exact}`);
    }),
  );
});

test("percentile() is null where nothing was added, and never negative or endless", () => {
  const latencies = new Latencies();
  assert.equal(latencies.percentile(0.99), null);
  latencies.add(-1);
  assert.equal(latencies.percentile(0.99), 0.001);
  latencies.add(Number.POSITIVE_INFINITY);
  assert.ok((latencies.percentile(1) as number) > 600_000);
});
