import { test } from "node:test";
import { missingServers, serverIds } from "../support/servers.ts";
import { readers, runRound } from "./round.ts";

/** RECORD_SEED repeats the rounds of a run that has printed it. */
const seed = Number(process.env["RECORD_SEED"] ?? process.pid);

for (const id of serverIds) {
  for (const round of [0, 1]) {
    test(`a recorder of ${id} loses nothing, whatever is killed and cut off (seed ${seed + round})`, {
      skip: missingServers(id, readers[id] ?? id),
    }, async (context) => {
      const facts = await runRound(id, seed + round);
      context.diagnostic(JSON.stringify(facts));
    });
  }
}
