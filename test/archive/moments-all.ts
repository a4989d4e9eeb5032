/**
 * Every server, a hundred moments each, over some minutes of writes:
 * `node test/archive/moments-all.ts --moments 100 --seed 1 [--server redis-8.0]`.
 */
import { parseArgs } from "node:util";
import { serverIds } from "../support/servers.ts";
import { testMoments } from "./moments.ts";

const { values } = parseArgs({
  options: {
    moments: { type: "string", default: "100" },
    pause: { type: "string", default: "2000" },
    seed: { type: "string", default: String(process.pid) },
    server: { type: "string" },
  },
});
console.log(`seed ${values.seed}`);
for (const id of serverIds) {
  if (values.server !== undefined && values.server !== id) continue;
  const options = { moments: Number(values.moments), pauseMs: Number(values.pause) };
  const startedAtMs = performance.now();
  try {
    const facts = await testMoments(id, { ...options, seed: Number(values.seed) });
    const seconds = Math.round((performance.now() - startedAtMs) / 1000);
    console.log(`${id}: all equal, ${JSON.stringify(facts)}, ${seconds} s`);
  } catch (error) {
    console.log(`${id}: ${String(error)}`);
    process.exitCode = 1;
  }
}
