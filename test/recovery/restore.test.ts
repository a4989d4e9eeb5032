/** What was recorded of real servers, restored by them to moments at which it is known what was there. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Target } from "../../src/codec/rdb/model.ts";
import { type Address, parseAddress } from "../../src/link/address.ts";
import { planRestore } from "../../src/recovery/plan.ts";
import type { Plan } from "../../src/recovery/plan-result.ts";
import { downloadRdb } from "../../src/recovery/restore-download.ts";
import { restoreToFolder } from "../../src/recovery/restore-folder.ts";
import { restoreAndRun } from "../../src/recovery/restore-run.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import { freePort } from "../link/ports.ts";
import { randomFrom } from "../record/workload.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  findServer,
  missingServers,
  type RunningServer,
  type ServerId,
  startServer,
} from "../support/servers.ts";
import type { Archived } from "./archived.ts";
import { type Checkpoint, record } from "./recorded.ts";
import { unitsOf } from "./units.ts";

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
    const { archived, checkpoints, base, log } = await record(source, seed);
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

    await t.test(
      "to a folder: a server on it has what one has on the log up to there",
      async () => {
        const random = randomFrom(seed);
        // A log of 6.x has words that only later servers know: see OldRecords.
        const reader = server === "redis-6.0" ? "redis-7.0" : server;
        const units = unitsOf(log);
        for (let i = 0; i < 8; i++) {
          const unit = units[Math.floor(random() * units.length)];
          assert.ok(unit);
          const idPrefix = checkpoints[0]?.replicationId ?? "";
          const plan = await planOf(archived, { kind: "position", idPrefix, offset: unit.offset });
          using folder = temporaryFolder();
          const [dir, truth] = [join(folder.path, "data"), join(folder.path, "truth")];
          await restoreToFolder(archived.view, plan, dir, { target: targetOfReader[reader] });
          writeLog(truth, base, log.subarray(0, unit.end));
          const digests = [await digestOf(reader, dir), await digestOf(reader, truth)];
          assert.equal(digests[0], digests[1], JSON.stringify(plan));
        }
      },
    );

    await t.test(
      "to a file, to a server that is started, and chosen keys of a moment",
      async () => {
        const checkpoint = checkpoints.at(-2);
        assert.ok(checkpoint);
        const [plan] = await plans(checkpoint);
        assert.ok(plan);
        using folder = temporaryFolder();
        const program = findServer(server)?.bin.server;
        assert.ok(program);
        const path = join(folder.path, "dump.rdb");
        await downloadRdb(archived.view, plan, path, { server: program });
        {
          await using loaded = await startServer(server, { dir: folder.path });
          assert.equal(await loaded.debugDigest(), checkpoint.digest);
        }
        const port = await freePort();
        const dir = join(folder.path, "run");
        const options = { program, port, serverArguments: ["--save", ""] };
        const run = await restoreAndRun(archived.view, plan, dir, options);
        try {
          assert.equal(run.keysLoaded, checkpoint.keys);
        } finally {
          run.process.kill("SIGKILL");
          await once(run.process, "exit");
        }
        const some = join(folder.path, "some.rdb");
        const selection = { keys: ["z:*"], databases: [0] };
        const { keys } = await downloadRdb(archived.view, plan, some, {
          server: program,
          pipe: { selection },
        });
        assert.ok(keys !== null && keys < checkpoint.keys);
      },
    );

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

const targetOfReader: Readonly<Partial<Record<ServerId, Target>>> = {
  "redis-7.0": "redis:7.0",
  "redis-8.0": "redis:8",
  "valkey-8.1": "valkey:8",
  "valkey-9": "valkey:9",
};

/** What a stock server would have. */
function writeLog(dir: string, base: Uint8Array, log: Uint8Array): void {
  const folder = join(dir, "appendonlydir");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "appendonly.aof.1.base.rdb"), base);
  writeFileSync(join(folder, "appendonly.aof.1.incr.aof"), log);
  const lines = [
    "file appendonly.aof.1.base.rdb seq 1 type b",
    "file appendonly.aof.1.incr.aof seq 1 type i",
  ];
  writeFileSync(join(folder, "appendonly.aof.manifest"), `${lines.join("\n")}\n`);
}

/** Without the keys that expire while one looks. */
async function digestOf(id: ServerId, dir: string): Promise<string> {
  await using server = await startServer(id, { dir, conf: { appendonly: "yes" } });
  const names = Array.from({ length: 10 }, (_, i) => [`short:${i}`, `fields:${i}`]).flat();
  for (let database = 0; database < 4; database++) {
    await server.client.call("SELECT", database);
    await server.client.call("DEL", ...names);
  }
  return await server.debugDigest();
}

function addressOf(server: RunningServer): Address {
  return parseAddress(`unix://${server.socketPath}`);
}

async function planOf(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}
