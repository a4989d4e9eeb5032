import type { FsyncPolicy } from "../../src/log/spool.ts";
import { type Case, runCase } from "./workload.ts";

const policies: readonly FsyncPolicy[] = ["always", "everysec", "no"];

/**
 * One workload, ended at every `stride`-th of its calls to the disk, by the process and by the power.
 * Returns how many cases that were; a case that fails says how to have it again.
 */
export async function runMatrix(seed: number, stride: number): Promise<number> {
  const fsync = policies[seed % policies.length] as FsyncPolicy;
  const common = { seed, fsync, hasErrors: seed % 2 === 1, lives: 3 };
  const calls = await run({ ...common, crashAt: Number.POSITIVE_INFINITY, losesPower: false });
  let cases = 1;
  for (let crashAt = 1 + (seed % stride); crashAt <= calls; crashAt += stride) {
    for (const losesPower of [false, true]) {
      await run({ ...common, crashAt, losesPower });
      cases++;
    }
  }
  return cases;
}

async function run(each: Case): Promise<number> {
  try {
    return await runCase(each);
  } catch (cause) {
    throw new Error(`This case fails: ${JSON.stringify(each)}`, { cause });
  }
}
