/** `node test/archive/keeper-rounds.ts`: kills a process that backs up and expires, again and again. */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { seededRandom } from "../../src/log/testing.ts";
import { keeperRounds } from "./keeper-kill.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "200" },
    seed: { type: "string", default: String(randomInt(2 ** 32)) },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
console.log(`${rounds} rounds from seed ${seed}`);
console.log(`all well: ${JSON.stringify(await keeperRounds(seededRandom(seed), rounds))}`);
