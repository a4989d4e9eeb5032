import assert from "node:assert/strict";
import { test } from "node:test";
import { missingServers, serverIds } from "../support/servers.ts";
import { testHonesty } from "./honesty.ts";
import { randomFrom } from "./workload.ts";

/** RECORD_SEED repeats the moments of a run that has printed it. */
const seed = Number(process.env["RECORD_SEED"] ?? process.pid);

for (const id of serverIds) {
  test(`what ${id} confirms by WAIT and WAITAOF is in the spool after a kill (seed ${seed})`, {
    skip: missingServers(id),
  }, async (context) => {
    const facts = await testHonesty(id, { kills: 2, random: randomFrom(seed) });
    context.diagnostic(`${facts.confirmed} writes confirmed`);
    assert.deepEqual(facts.missing, []);
  });
}

test(`a recorder that acknowledges too early is found out (seed ${seed})`, {
  skip: missingServers("redis-7.0"),
}, async () => {
  const random = randomFrom(seed);
  const facts = await testHonesty("redis-7.0", { kills: 10, random, isHasty: true });
  assert.ok(facts.missing.length > 0, `${facts.honest} of ${facts.kills} seem honest`);
});
