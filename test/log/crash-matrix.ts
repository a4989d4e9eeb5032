/**
 * `node test/log/crash-matrix.ts`: spools that end at every call to the disk, by the thousand.
 * `--seed N --cases 1` has one workload again.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { runMatrix } from "./matrix.ts";

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "100" },
    seed: { type: "string", default: String(randomInt(2 ** 32)) },
  },
});
const [workloads, seed] = [Number(values.cases), Number(values.seed)];
console.log(`${workloads} workloads from seed ${seed}`);
const startedAt = performance.now();
let cases = 0;
for (let i = 0; i < workloads; i++) cases += await runMatrix((seed + i) >>> 0, 1);
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
console.log(`All well: ${cases} crashes in ${seconds} s`);
