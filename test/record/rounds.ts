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
  },
});
const first = Number(values.seed);
const ids = serverIds.filter((id) => values.server === undefined || values.server === id);
const total = { rounds: 0, kills: 0, cuts: 0, gaps: 0, failed: 0 };
console.log(`seed ${first}`);
for (let i = 0; i < Number(values.rounds); i++) {
  const id = ids[i % ids.length];
  if (!id) break;
  try {
    const { kills, cuts, gaps } = await runRound(id, first + i);
    total.kills += kills;
    total.cuts += cuts;
    total.gaps += gaps;
  } catch (error) {
    total.failed++;
    console.log(`${id}, seed ${first + i}: ${String(error)}`);
  }
  total.rounds++;
}
console.log(JSON.stringify(total));
process.exitCode = total.failed === 0 ? 0 : 1;
