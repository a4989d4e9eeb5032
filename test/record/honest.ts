/**
 * Many kills of `honesty.ts`, over all servers: `node test/record/honest.ts --kills 1000 --seed 1`. With
 * `--hasty`, of a recorder that acknowledges too early, which has to be found out.
 */
import { parseArgs } from "node:util";
import { serverIds } from "../support/servers.ts";
import { testHonesty } from "./honesty.ts";
import { randomFrom } from "./workload.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "1000" },
    seed: { type: "string", default: String(process.pid) },
    server: { type: "string" },
    hasty: { type: "boolean", default: false },
  },
});
const ids = serverIds.filter((id) => values.server === undefined || values.server === id);
const random = randomFrom(Number(values.seed));
const kills = Math.ceil(Number(values.kills) / ids.length);
const total = { kills: 0, honest: 0, confirmed: 0 };
console.log(`seed ${values.seed}`);
for (const id of ids) {
  const facts = await testHonesty(id, { kills, random, isHasty: values.hasty });
  console.log(`${id}: ${JSON.stringify({ ...facts, missing: facts.missing.slice(0, 9) })}`);
  total.kills += facts.kills;
  total.honest += facts.honest;
  total.confirmed += facts.confirmed;
}
console.log(JSON.stringify(total));
process.exitCode = total.honest === total.kills ? 0 : 1;
