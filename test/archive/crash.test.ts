import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../src/log/testing.ts";
import { crashRounds } from "./crash.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

test(`an archiver that is killed goes on where it was, from seed ${seed}`, async () => {
  const { kills } = await crashRounds(seededRandom(seed), 5);
  assert.equal(kills, 5);
});
