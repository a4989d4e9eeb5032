import assert from "node:assert/strict";
import { test } from "node:test";
import { readers, runRound } from "./record/round.ts";
import { missingServers, serverIds } from "./support/servers.ts";

/** RECORD_SEED repeats the rounds of a run that has printed it. */
const seed = Number(process.env["RECORD_SEED"] ?? process.pid);

for (const id of serverIds) {
  for (const round of [0, 1]) {
    test(`a recorder of ${id} loses nothing when it is killed and cut off (seed ${seed + round})`, {
      skip: missingServers(id, readers[id] ?? id),
    }, async (context) => {
      const { kills, cuts, gaps } = await runRound(id, seed + round);
      context.diagnostic(`${kills} kills, ${cuts} cuts`);
      assert.equal(gaps, 0);
    });
  }
}
