import { randomInt } from "node:crypto";
import { test } from "node:test";
import { missingServers } from "../support/servers.ts";
import { testMoments } from "./moments.ts";

const seed = Number(process.env["TIDEMARK_SEED"] ?? randomInt(1e9));

for (const id of ["redis-7.0", "valkey-9"] as const) {
  const skip = missingServers(id);
  test(`${id}: what is restored is what the source held (seed ${seed})`, { skip }, async () => {
    await testMoments(id, { moments: 6, seed });
  });
}
