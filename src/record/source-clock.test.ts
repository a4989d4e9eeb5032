import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SourceClock } from "./source-clock.ts";

/** A local clock that is set by the test, and answers of a source that is ahead by so much. */
function setUp(aheadMs: number) {
  const local = { ms: 1_000_000 };
  const clock = new SourceClock({ now: () => local.ms });
  const answer = (ahead = aheadMs, roundTripMs = 2) => {
    const askedAtMs = local.ms;
    local.ms += roundTripMs;
    const sourceMs = askedAtMs + roundTripMs / 2 + ahead;
    clock.add({ askedAtMs, answeredAtMs: local.ms, sourceMs });
  };
  return { local, clock, answer };
}

test("now() is the local time as long as the source has not answered", () => {
  const { local, clock } = setUp(500);
  assert.equal(clock.now(), local.ms);
  assert.equal(clock.skew.uncertaintyMs, Number.POSITIVE_INFINITY);
});

test("now() is the source's time, as far off as half of the round trip", () => {
  const { local, clock, answer } = setUp(500);
  answer(500, 10);
  assert.deepEqual(clock.skew, { skewMs: 500, uncertaintyMs: 5 });
  assert.equal(clock.now(), local.ms + 500);
});

test("add() believes the answer with the shortest round trip", () => {
  const { clock, answer } = setUp(500);
  answer(500, 2);
  answer(540, 100);
  assert.deepEqual(clock.skew, { skewMs: 500, uncertaintyMs: 1 });
});

test("add() notes a jump and does not follow it", () => {
  const { local, clock, answer } = setUp(500);
  answer();
  answer(3_600_500);
  assert.equal(clock.jump?.byMs, 3_600_000);
  assert.equal(clock.now(), local.ms + 500);
  answer();
  assert.equal(clock.now(), local.ms + 500);
});

test("add() goes with a clock that has been set for good", () => {
  const { local, clock, answer } = setUp(500);
  answer();
  for (let i = 0; i < 30; i++) answer(60_500);
  assert.equal(clock.now(), local.ms + 60_500);
});

test("now() never goes back, whatever both clocks do", () => {
  const step = fc.record({ localMs: fc.integer({ min: -5000, max: 5000 }), ahead: fc.integer() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const { local, clock, answer } = setUp(0);
      let last = 0;
      for (const { localMs, ahead } of steps) {
        local.ms += localMs;
        answer(ahead % 10_000);
        const now = clock.now();
        if (now < last) return false;
        last = now;
      }
      return true;
    }),
  );
});
