import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../base/errors.ts";
import { defaultRetry, type RetryOptions, retrying } from "./retry.ts";

const busy = () => new Failure("STORE_BUSY", "x");
const asked: number[] = [];
const options: RetryOptions = {
  ...defaultRetry,
  attempts: 5,
  firstDelayMs: 2,
  maxDelayMs: 8,
  random: { below: (bound) => asked.push(bound) && 0, chance: () => false },
};

test("retrying() tries again while the store is busy, and waits longer each time", async () => {
  let count = 0;
  asked.length = 0;
  const action = async () => {
    if (++count < 5) throw busy();
    return count;
  };
  assert.equal(await retrying(options, undefined, action), 5);
  assert.deepEqual(asked, [2, 3, 5, 5]);
});

test("retrying() gives up after so many attempts, and at once where it cannot help", async () => {
  for (const [failure, expected] of [[busy(), 5] as const, [new Error("bug"), 1] as const]) {
    let count = 0;
    const action = async () => {
      count++;
      throw failure;
    };
    await assert.rejects(retrying(options, undefined, action), failure);
    assert.equal(count, expected);
  }
});

test("retrying() does not wait once it is stopped", async () => {
  const stop = new AbortController();
  const slow = { ...options, firstDelayMs: 1e6, maxDelayMs: 1e6 };
  const action = async () => {
    queueMicrotask(() => stop.abort());
    throw busy();
  };
  await assert.rejects(retrying(slow, stop.signal, action), { code: "ABORTED" });
});
