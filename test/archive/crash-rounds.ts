/** `node test/archive/crash-rounds.ts`: kills a process that archives, again and again. */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { seededRandom } from "../../src/log/testing.ts";
import { crashRounds } from "./crash.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "200" },
    seed: { type: "string", default: String(randomInt(2 ** 31)) },
  },
});
console.log(`${values.rounds} rounds from seed ${values.seed}`);
const startedAt = performance.now();
const facts = await crashRounds(seededRandom(Number(values.seed)), Number(values.rounds));
console.log(`All well in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`, facts);
