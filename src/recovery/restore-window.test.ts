import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Mark } from "./restore-marker.ts";
import { errorsOf, ReplayWindow, resumeAt } from "./restore-window.ts";

const repeatable = { isRepeatable: true, hasExpiry: false, hasRemoval: false };
const once = { ...repeatable, isRepeatable: false };
const expiry = { ...repeatable, hasExpiry: true };
const removal = { ...repeatable, hasRemoval: true };

/** Batches of one command and ten bytes: of each, what its marker says when `answered` commands are known. */
function marks(batches: readonly (typeof repeatable & { answered?: number })[]) {
  const window = new ReplayWindow({ bytes: 0, database: 0 });
  return batches.map(({ answered = 0, ...facts }, i) => {
    const { good, ...rest } = window.next({ bytes: 10 * (i + 1), database: 0 }, facts, answered);
    window.sent(i + 1);
    return [good.bytes, rest.isRepeatable, rest.isBatchRepeatable];
  });
}

suite("ReplayWindow", () => {
  test("says up to where all replies are known, and whether the rest may be done again", () => {
    assert.deepEqual(
      marks([repeatable, repeatable, { ...repeatable, answered: 1 }, { ...once, answered: 2 }]),
      [
        [0, true, true],
        [0, true, true],
        [10, true, true],
        [20, false, false],
      ],
    );
  });

  test("goes on behind a transaction, and may be repeated again when that is known", () => {
    assert.deepEqual(marks([once, repeatable, { ...repeatable, answered: 1 }]), [
      [0, false, false],
      [0, false, true],
      [10, true, true],
    ]);
  });

  test("makes a transaction of what may not be repeated together with what is under way", () => {
    assert.deepEqual(marks([expiry, removal, repeatable]), [
      [0, true, true],
      [0, false, false],
      [0, false, true],
    ]);
    // The marker that stands when the removal is made says 0, whatever is known by then.
    assert.deepEqual(marks([expiry, { ...removal, answered: 1 }]), [
      [0, true, true],
      [10, false, false],
    ]);
    assert.deepEqual(
      marks([expiry, { ...repeatable, answered: 1 }, { ...removal, answered: 2 }])[2],
      [20, true, true],
    );
  });
});

suite("resumeAt()", () => {
  const mark: Mark = {
    ...{ plan: "x", phase: "log", steps: 1, keys: 0, bytes: 30, database: 3 },
    ...{ good: { bytes: 10, database: 1 }, isRepeatable: false, errors: "run:5" },
  };
  const atMark = { bytes: 30, database: 3, repeatedUntil: 30 };
  const atGood = { bytes: 10, database: 1, repeatedUntil: 30 };

  test("goes on at the marker where the server has answered no error since", () => {
    assert.deepEqual(resumeAt(mark, "run:5"), atMark);
    assert.deepEqual(resumeAt({ ...mark, isRepeatable: true }, "run:5"), atMark);
  });

  test("goes on nowhere where it has answered some", () => {
    assert.equal(resumeAt(mark, "run:6"), undefined);
    assert.equal(resumeAt({ ...mark, isRepeatable: true }, "run:6"), undefined);
  });

  test("goes back to what is known where the server does not tell, if all behind it may be repeated", () => {
    for (const errors of [null, "other:5"]) {
      assert.deepEqual(resumeAt({ ...mark, isRepeatable: true }, errors), atGood);
      assert.equal(resumeAt(mark, errors), undefined);
    }
    assert.deepEqual(resumeAt({ ...mark, isRepeatable: true, errors: null }, "run:9"), atGood);
  });

  test("goes on at a marker that all is known up to, whatever came behind", () => {
    assert.deepEqual(resumeAt({ ...mark, good: { bytes: 30, database: 3 } }, "run:9"), atMark);
  });
});

test("errorsOf() leaves out those of clients that are not logged in", () => {
  const info = new Map([
    ["run_id", "ab"],
    ["total_error_replies", "9"],
    ["errorstat_NOAUTH", "count=4"],
  ]);
  assert.equal(errorsOf(info), "ab:5");
  assert.equal(errorsOf(new Map([["run_id", "ab"]])), null);
});
