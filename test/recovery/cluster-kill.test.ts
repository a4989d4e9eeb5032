/** A cluster's restore that is killed never leaves what looks whole and is not. KILL_SEED repeats a run. */
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { missingServers } from "../support/servers.ts";
import { clusterKillRounds } from "./cluster-kill.ts";

const seed = Number(process.env["KILL_SEED"] ?? randomInt(2 ** 31));
const rounds = Number(process.env["KILL_ROUNDS"] ?? 3);

test(`a restore of a cluster that is killed is made whole by the next one (seed ${seed})`, {
  skip: missingServers("redis-8.0"),
}, async (t) => {
  const report = (text: string) => t.diagnostic(text);
  const facts = await clusterKillRounds({ rounds, seed, moreKeys: 60_000, report });
  t.diagnostic(JSON.stringify(facts));
});
