import { Worker } from "node:worker_threads";
import type { Job, Summary } from "./worker.ts";

/** A case that takes longer hangs. */
const longestCaseMs = 10_000;
const lookEveryMs = 500;
/** The heap that all cases must do with; a leak or a blown-up value needs more. */
const heapMb = 96;

class CaseFailed extends Error {
  override readonly name = "CaseFailed";
}

/** Runs that many cases, of the seed and those that follow it. */
export async function runCases(cases: number, seed: number): Promise<Summary> {
  const progress = new Int32Array(new SharedArrayBuffer(8));
  const job: Job = { cases, seed, progress };
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: job,
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  });
  const { promise, resolve, reject } = Promise.withResolvers<Summary>();
  const fail = (reason: string, cause?: unknown) => {
    const caseSeed = Atomics.load(progress, 1) >>> 0;
    const again = `node test/hostile/fuzz.ts --cases 1 --seed ${caseSeed}`;
    reject(new CaseFailed(`Case ${caseSeed} ${reason}; again: ${again}`, { cause }));
  };
  worker.once("message", resolve);
  worker.once("error", (error) => fail("failed", error));
  worker.once("exit", (status) => fail(`ended with status ${status}`));

  let seen = { done: -1, atMs: performance.now() };
  const watch = setInterval(() => {
    const done = Atomics.load(progress, 0);
    const nowMs = performance.now();
    if (done !== seen.done) seen = { done, atMs: nowMs };
    else if (nowMs - seen.atMs > longestCaseMs) fail("does not end");
  }, lookEveryMs);
  try {
    return await promise;
  } finally {
    clearInterval(watch);
    await worker.terminate();
  }
}
