/** `node test/log/kill-rounds.ts`: kills a process that appends, again and again. */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import type { FsyncPolicy } from "../../src/log/spool.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { killRounds } from "./kill.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "50" },
    seed: { type: "string", default: String(randomInt(2 ** 32)) },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
for (const fsync of ["always", "everysec", "no"] satisfies FsyncPolicy[]) {
  console.log(`${fsync}: ${rounds} rounds from seed ${seed}`);
  console.log(`  all well, ${await killRounds(seededRandom(seed), rounds, fsync)} bytes`);
}
