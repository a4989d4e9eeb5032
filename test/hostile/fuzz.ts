/**
 * `npm run fuzz`: damaged files by the hundred thousand. `--cases 1 --seed N` has one again, where
 * the same fixtures are (a checkout alone has fewer of them).
 */
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { runCases } from "./run.ts";

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "100000" },
    seed: { type: "string", default: String(randomInt(2 ** 32)) },
    workers: { type: "string", default: String(availableParallelism()) },
  },
});
const [cases, seed] = [Number(values.cases), Number(values.seed)];
const workers = Math.min(Number(values.workers), cases);
console.log(`${cases} cases from seed ${seed}, ${workers} at a time`);

const startedAt = performance.now();
const share = Math.ceil(cases / workers);
const runs = Array.from({ length: workers }, (_, i) =>
  runCases(Math.min(share, cases - i * share), (seed + i * share) >>> 0),
);
try {
  const summaries = await Promise.all(runs);
  for (const summary of summaries) console.log(summary);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const peakMb = Math.round(process.resourceUsage().maxRSS / 1024);
  console.log(`All well in ${seconds} s; ${peakMb} MB at most`);
} catch (error) {
  console.error(error);
  process.exit(1);
}
