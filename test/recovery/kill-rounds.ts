/**
 * `node test/recovery/kill-rounds.ts --rounds 200 --seed 1 [--scale 1]`: kills restores, again
 * and again, into folders and into a server.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { killRounds } from "./kill.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "200" },
    seed: { type: "string", default: String(randomInt(2 ** 31)) },
    scale: { type: "string", default: "1" },
  },
});
const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
const scale = Number(values.scale);
console.log(`${rounds} rounds from seed ${seed}`);
const startedMs = performance.now();
const report = (text: string) => console.log(text);
const facts = await killRounds({ rounds, seed, scale, report });
const seconds = Math.round((performance.now() - startedMs) / 1000);
console.log(`all well in ${seconds} s: ${JSON.stringify(facts)}`);
