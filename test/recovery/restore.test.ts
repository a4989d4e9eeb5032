/** What was recorded of real servers, restored by them to moments at which it is known what was there. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { type Address, parseAddress } from "../../src/link/address.ts";
import { type Plan, planRestore } from "../../src/recovery/plan.ts";
import { restoreToFolder } from "../../src/recovery/restore-folder.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  startServer,
} from "../support/servers.ts";
import type { Archived } from "./archived.ts";
import { type Checkpoint, record } from "./recorded.ts";

/** Which server loads what was recorded of which source, and for which target. */
const servers = [
  ["redis-6.0", "redis-6.0"],
  ["redis-7.0", "redis-7.0"],
  ["redis-8.0", "redis-8.0"],
  ["valkey-8.1", "valkey-8.1"],
  ["valkey-9", "valkey-9"],
] as const satisfies readonly (readonly [ServerId, ServerId])[];

// oxlint-disable-next-line no-restricted-properties -- why: each run takes another one, and says which
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

for (const [source, server] of servers) {
  const skip = missingServers(source, server);
  test(`what ${source} was where it paused is restored (seed ${seed})`, { skip }, async (t) => {
    const { archived, checkpoints } = await record(source, seed);
    const plans = async (checkpoint: Checkpoint) => {
      const { replicationId, offset, ms } = checkpoint;
      const position = { kind: "position", idPrefix: replicationId.slice(0, 6), offset } as const;
      return [await planOf(archived, position), await planOf(archived, { kind: "time", ms })];
    };

    await t.test("to a folder: a server on it has the digest of the source", async () => {
      for (const checkpoint of checkpoints) {
        for (const plan of await plans(checkpoint)) {
          using folder = temporaryFolder();
          const dir = join(folder.path, "data");
          await restoreToFolder(archived.view, plan, dir);
          await using restored = await startServer(server, { dir, conf: { appendonly: "yes" } });
          assert.equal(await restored.debugDigest(), checkpoint.digest, JSON.stringify(plan));
        }
      }
    });

    await t.test("to a running server, emptied each time", async () => {
      await using target = await startServer(server);
      let safety = 0;
      for (const checkpoint of checkpoints) {
        const [plan] = await plans(checkpoint);
        assert.ok(plan);
        const restored = await restoreToServer(archived.view, plan, addressOf(target), {
          overwrite: true,
          safety: async () => void safety++,
        });
        assert.equal(await target.debugDigest(), checkpoint.digest, JSON.stringify(plan));
        assert.equal(restored.isResumed, false);
      }
      assert.equal(safety, checkpoints.length - 1);
      assert.equal(await target.client.call("GET", "tidemark:restore"), null);
    });
  });
}

function addressOf(server: RunningServer): Address {
  return parseAddress(`unix://${server.socketPath}`);
}

async function planOf(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}
