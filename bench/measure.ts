import { spawnSync } from "node:child_process";

/** Seconds that a program takes as a whole process; throws where it fails. */
export function timeProcess(program: string, args: readonly string[]): number {
  const startMs = performance.now();
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  const seconds = (performance.now() - startMs) / 1000;
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
  return seconds;
}

/** The largest memory, in MB, that a program held: from GNU time. */
export function peakMegabytes(program: string, args: readonly string[]): number {
  const { stderr, status } = spawnSync("/usr/bin/time", ["-f", "peak %M", program, ...args], {
    encoding: "utf8",
    stdio: ["ignore", "ignore", "pipe"],
  });
  const peak = /peak (\d+)/.exec(stderr)?.[1];
  if (status !== 0 || peak === undefined)
    throw new Error(`${program} ended with ${status}: ${stderr}`);
  return Number(peak) / 1024;
}

export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] as number;
}

export type Side = { readonly name: string; readonly run: () => number };

/** Runs the sides in turn, so that a machine that slows down slows all of them; gives all seconds. */
export function alternate(sides: readonly Side[], rounds: number): number[][] {
  const seconds: number[][] = sides.map(() => []);
  for (let round = 0; round <= rounds; round++) {
    for (const [i, side] of sides.entries()) {
      const taken = side.run();
      // The first round warms the page cache.
      if (round > 0) seconds[i]?.push(taken);
    }
  }
  return seconds;
}

/** The middle of the ratios of two sides, round by round. */
export function ratio(slower: readonly number[], faster: readonly number[]): number {
  return median(slower.map((seconds, i) => seconds / (faster[i] as number)));
}
