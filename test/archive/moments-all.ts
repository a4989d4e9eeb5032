/**
 * Every server, a hundred moments each, over some minutes of writes:
 * `node test/archive/moments-all.ts --moments 100 --seed 1 [--server redis-8.0]`. With `--storage moto` or
 * `radosgw` the repository is a bucket there, and of the requests one in twenty goes wrong.
 */
import { parseArgs } from "node:util";
import { seededRandom } from "../../src/log/testing.ts";
import { FaultProxy } from "../store/proxy.ts";
import { startMoto, startRadosgw } from "../store/servers.ts";
import { serverIds } from "../support/servers.ts";
import { testMoments } from "./moments.ts";

const { values } = parseArgs({
  options: {
    moments: { type: "string", default: "100" },
    pause: { type: "string", default: "2000" },
    seed: { type: "string", default: String(process.pid) },
    server: { type: "string" },
    storage: { type: "string" },
    faults: { type: "string", default: "0.05" },
  },
});
await using stack = new AsyncDisposableStack();
const requests = { faults: (): unknown => undefined };

/** The address of a bucket behind a bad way to it; undefined where a folder will do. */
async function openStorage(): Promise<string | undefined> {
  if (values.storage === undefined) return undefined;
  const storage = stack.use(await (values.storage === "moto" ? startMoto() : startRadosgw()));
  const proxy = stack.use(await FaultProxy.open(storage.port, seededRandom(Number(values.seed))));
  proxy.chance = Number(values.faults);
  requests.faults = () => proxy.seen;
  Object.assign(process.env, storage.env);
  return storage.address("moments").replace(storage.endpoint, proxy.endpoint);
}

const bucket = await openStorage();
console.log(`seed ${values.seed}`);
for (const id of serverIds) {
  if (values.server !== undefined && values.server !== id) continue;
  const options = {
    ...{ moments: Number(values.moments), pauseMs: Number(values.pause) },
    ...(bucket !== undefined && { repository: bucket.replace("/moments", `/${id}`) }),
  };
  const startedAtMs = performance.now();
  try {
    const facts = await testMoments(id, { ...options, seed: Number(values.seed) });
    const seconds = Math.round((performance.now() - startedAtMs) / 1000);
    const found = JSON.stringify({ ...facts, faults: requests.faults() });
    console.log(`${id}: all equal, ${found}, ${seconds} s`);
  } catch (error) {
    console.log(`${id}: ${String(error)}`);
    process.exitCode = 1;
  }
}
