import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  type Expiring,
  heldBelowMs,
  heldTime,
  hold,
  holdText,
  lastFieldMs,
} from "./restore-held.ts";

const kinds: readonly Expiring[] = ["keys", "fields"];

suite("hold()", () => {
  test("puts off what a clock may reach, and heldTime() gives it back", () => {
    const near = fc.integer({ min: 0, max: heldBelowMs - 1 });
    fc.assert(
      fc.property(fc.constantFrom(...kinds), near, (of, ms) => {
        const held = hold(ms, of);
        assert.ok(held > 2 ** 45 && (of === "keys" || held <= lastFieldMs));
        assert.equal(heldTime(held, of), ms);
        assert.equal(heldTime(ms, of), undefined);
      }),
    );
  });

  test("leaves what is far away as it is, up to the last time that a server takes", () => {
    for (const ms of [heldBelowMs, 2 ** 45, lastFieldMs, 2n ** 63n - 1n]) {
      for (const of of kinds) {
        assert.equal(hold(ms, of), ms);
        assert.equal(heldTime(ms, of), undefined);
      }
    }
  });

  test("refuses a time that could not be told from those that were put off", () => {
    for (const of of kinds) {
      const held = hold(1_700_000_000_000, of);
      assert.throws(() => hold(held, of), { code: "TARGET_CANNOT_HOLD" });
    }
  });

  test("takes times before 1970 for the beginning of it", () => {
    assert.equal(heldTime(hold(-5n, "keys"), "keys"), 0);
  });
});

test("holdText() counts in the seconds of the command, and leaves what is no number", () => {
  fc.assert(
    fc.property(fc.constantFrom(...kinds), fc.integer({ min: 0, max: 2 ** 31 }), (of, seconds) => {
      const held = Number(holdText(String(seconds), of, true));
      assert.equal(heldTime(held * 1000, of), seconds * 1000);
    }),
  );
  for (const text of ["x", "", "1e5", String(lastFieldMs)]) {
    assert.equal(holdText(text, "fields", false), text);
  }
});
