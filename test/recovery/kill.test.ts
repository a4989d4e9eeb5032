/** A restore that is killed never leaves what looks whole and is not. KILL_SEED repeats a run. */
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { missingServers } from "../support/servers.ts";
import { killRounds } from "./kill.ts";

const seed = Number(process.env["KILL_SEED"] ?? randomInt(2 ** 31));

test(`a restore that is killed is seen to be incomplete, and the next one makes it whole (seed ${seed})`, {
  skip: missingServers("redis-8.0"),
}, async (t) => {
  const facts = await killRounds({ rounds: 5, seed, scale: 0.1 });
  t.diagnostic(JSON.stringify(facts));
});
