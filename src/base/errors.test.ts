import assert from "node:assert/strict";
import { test } from "node:test";
import { corrupt, exitStatuses, Failure, unsupported } from "./errors.ts";

test("a Failure has a code, an exit status, a hint and, where there is one, an offset and a cause", () => {
  const cause = new Error("disk");
  const failure = new Failure("FILE_FAILED", "Cannot read x: it is gone", { cause });
  assert.deepEqual([failure.code, failure.exit, failure.offset], ["FILE_FAILED", 9, undefined]);
  assert.equal(failure.cause, cause);
  assert.match(failure.hint, /\.$/);
  assert.equal(new Failure("USAGE", "x", { hint: "Do y." }).hint, "Do y.");
  assert.ok(!("cause" in new Failure("USAGE", "x")));
});

test("corrupt() and unsupported() say in words and as a number where it is", () => {
  const [damage, news] = [corrupt(7, "A wrong byte"), unsupported(0, "Version 99")];
  assert.deepEqual(
    [damage.code, damage.offset, damage.message],
    ["DATA_CORRUPT", 7, "A wrong byte at byte 7"],
  );
  assert.deepEqual(
    [news.code, news.offset, news.message],
    ["DATA_UNSUPPORTED", 0, "Version 99 at byte 0"],
  );
});

test("exit statuses are from 2 to 125, which shells leave to programs", () => {
  for (const [status, code] of exitStatuses) {
    assert.ok(status >= 2 && status <= 125, code);
    assert.equal(new Failure(code, "x").exit, status);
  }
});
