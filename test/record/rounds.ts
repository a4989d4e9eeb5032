/**
 * Many rounds of `round.ts`, for a night: `node test/record/rounds.ts --rounds 200 --seed 1`.
 */
import { parseArgs } from "node:util";
import { serverIds } from "../support/servers.ts";
import { runRound } from "./round.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "200" },
    seed: { type: "string", default: String(process.pid) },
    server: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
const first = Number(values.seed);
const ids = serverIds.filter((id) => values.server === undefined || values.server === id);
const total: Record<string, number> = { rounds: 0, failed: 0 };
console.log(`seed ${first}`);
for (let i = 0; i < Number(values.rounds); i++) {
  const id = ids[i % ids.length];
  if (!id) break;
  const startedMs = performance.now();
  try {
    const facts = await runRound(id, first + i);
    for (const [name, count] of Object.entries(facts)) total[name] = (total[name] ?? 0) + count;
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    if (values.verbose) console.log(`${id}, seed ${first + i}: ${seconds} s`);
  } catch (error) {
    total["failed"] = Number(total["failed"]) + 1;
    console.log(`${id}, seed ${first + i}: ${String(error)}`);
  }
  total["rounds"] = i + 1;
}
console.log(JSON.stringify(total));
process.exitCode = total["failed"] === 0 ? 0 : 1;
