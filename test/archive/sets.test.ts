/** Backup sets of real servers: taken while they are written to, and loaded by the same servers. */
import assert from "node:assert/strict";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { suite, test } from "node:test";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { applyExpiry } from "../../src/archive/expire.ts";
import { initRepository, type Repository } from "../../src/archive/repository.ts";
import { planExpiry } from "../../src/archive/retention.ts";
import { takeSet } from "../../src/archive/take-set.ts";
import { openSet, verifyAll } from "../../src/archive/verify.ts";
import { systemClock } from "../../src/base/clock.ts";
import { takeSnapshot } from "../../src/record/snapshot.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  serverIds,
  startServer,
} from "../support/servers.ts";

const lease = { check: async () => {} };
const instance = "shop";

function sourceOf(server: RunningServer) {
  const options = { connect: {}, clock: systemClock, watchMs: 50 };
  return (signal: AbortSignal | undefined) =>
    takeSnapshot({ path: server.socketPath }, { ...options, signal });
}

/** What a server that starts on the set holds. */
async function digestOf(id: ServerId, repository: Repository, set: string): Promise<string> {
  using folder = temporaryFolder();
  const { reader } = await openSet(repository, instance, set);
  await pipeline(reader.rawBytes(), createWriteStream(join(folder.path, "dump.rdb")));
  await using server = await startServer(id, { dir: folder.path });
  return await server.debugDigest();
}

suite("backup sets", { concurrency: true }, () => {
  for (const id of serverIds) {
    test(`${id}: are what the server held, are verified, and expire`, {
      skip: missingServers(id),
    }, async () => {
      using folder = temporaryFolder();
      await using store = new DirectoryStore(folder.path);
      const key = { id: "test", key: Buffer.alloc(32, 3) };
      const repository = await initRepository(store, { key });
      const conf = { "repl-diskless-sync-delay": 0 };
      await using server = await startServer(id, { conf });
      const digests: string[] = [];
      const sets: string[] = [];
      const options = { kind: "manual", clock: systemClock, lease } as const;
      for (let round = 0; round < 2; round++) {
        await server.call("DEBUG", "POPULATE", 20_000, `round${round}`, 100);
        digests.push(await server.debugDigest());
        const { set, snapshot, cost } = await takeSet(
          ...([repository, instance, sourceOf(server), options] as const),
        );
        sets.push(set);
        assert.equal(snapshot.keys, 20_000 * (round + 1));
        assert.ok((cost.forkMicros ?? 0) > 0);
      }
      for (const [i, set] of sets.entries()) {
        assert.equal(await digestOf(id, repository, set), digests[i]);
      }
      const verified = await verifyAll(repository, instance, { clock: systemClock });
      assert.ok(verified.sets.every(({ isGood }) => isGood));
      const catalogue = await readCatalogue(store, instance);
      const laterMs = systemClock.now() + 8 * 24 * 60 * 60 * 1000;
      const plan = planExpiry(catalogue, { retentionDays: 7 }, laterMs);
      const gone = await applyExpiry(repository, plan, lease, { trustsClock: true });
      assert.equal(gone.sets, 1);
      const left = await readCatalogue(store, instance);
      assert.deepEqual(
        left.sets.map(({ name }) => name),
        [sets[1]],
      );
      assert.equal(await digestOf(id, repository, sets[1] as string), digests[1]);
    });
  }

  test("a backup that is stopped leaves nothing", {
    skip: missingServers("redis-7.0"),
  }, async () => {
    using folder = temporaryFolder();
    await using store = new DirectoryStore(folder.path);
    const repository = await initRepository(store);
    const conf = { "repl-diskless-sync-delay": 0, "rdb-key-save-delay": 2000 };
    await using server = await startServer("redis-7.0", { conf });
    await server.call("DEBUG", "POPULATE", 10_000, "k", 1000);
    const stop = new AbortController();
    const taking = takeSet(repository, instance, sourceOf(server), {
      ...{ kind: "manual", clock: systemClock, lease, signal: stop.signal },
      onProgress: ({ phase }) => {
        if (phase === "uploading") stop.abort();
      },
    });
    await assert.rejects(taking, { code: "ABORTED" });
    const names = await Array.fromAsync(store.list("instances/"), ({ name }) => name);
    assert.deepEqual(names, []);
  });
});
