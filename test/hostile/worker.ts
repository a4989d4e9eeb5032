/**
 * Runs cases in a thread of its own, whose heap is small: one that takes too much memory, or does
 * not end, takes down this thread only, and `progress` tells which one it was.
 */
import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { runCase } from "./case.ts";
import { Subjects } from "./subjects.ts";

export type Job = {
  readonly cases: number;
  readonly seed: number;
  /** How many cases are done, and the seed of the one that runs. */
  readonly progress: Int32Array<SharedArrayBuffer>;
};

/** What was seen of all cases. */
export type Summary = {
  readonly ends: Record<string, number>;
  readonly withKeys: number;
  readonly largestGrowth: number;
  readonly totalGrowth: number;
  readonly slowestMs: number;
  readonly slowestSeed: number;
};

assert(parentPort, "Runs as a worker");
const { cases, seed, progress } = workerData as Job;
const subjects = new Subjects();
const ends: Record<string, number> = {};
let withKeys = 0;
let largestGrowth = 0;
let totalGrowth = 0;
let slowestMs = 0;
let slowestSeed = 0;

for (let i = 0; i < cases; i++) {
  const caseSeed = (seed + i) | 0;
  Atomics.store(progress, 1, caseSeed);
  const startedAt = performance.now();
  const { end, keys, size, largest, total } = runCase(caseSeed, subjects);
  const tookMs = performance.now() - startedAt;
  if (tookMs > slowestMs) [slowestMs, slowestSeed] = [tookMs, caseSeed];
  ends[end] = (ends[end] ?? 0) + 1;
  if (keys > 0) withKeys++;
  largestGrowth = Math.max(largestGrowth, largest / (size + 4096));
  totalGrowth = Math.max(totalGrowth, total / (size + 4096));
  Atomics.add(progress, 0, 1);
}

const summary: Summary = {
  ends,
  withKeys,
  largestGrowth,
  totalGrowth,
  slowestMs,
  slowestSeed,
};
parentPort.postMessage(summary);
