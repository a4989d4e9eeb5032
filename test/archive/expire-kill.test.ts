import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { seededRandom } from "../../src/log/testing.ts";
import { keeperRounds } from "./keeper-kill.ts";

test("takeSet() and applyExpiry() leave the catalogue right when they are killed", async (t) => {
  const seed = Number(process.env["SEED"] ?? randomInt(2 ** 32));
  t.diagnostic(`SEED=${seed}`);
  const { sets } = await keeperRounds(seededRandom(seed), 6);
  assert.ok(sets > 0);
});
