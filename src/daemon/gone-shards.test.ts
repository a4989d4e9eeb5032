import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { appendBatch, takeBase } from "../../test/archive/shipping.ts";
import { until } from "../../test/link/until.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { readCatalogue } from "../archive/catalogue.ts";
import { setName, setObject } from "../archive/layout.ts";
import { initRepository } from "../archive/repository.ts";
import { systemClock } from "../base/clock.ts";
import { Topology } from "../link/topology.ts";
import { Spool } from "../log/spool.ts";
import { Recorder } from "../record/recorder.ts";
import { DirectoryStore } from "../store/directory.ts";
import { Archive } from "./archive.ts";
import type { BackupEvent } from "./backup-loop.ts";
import { type InstanceConfig, instanceOf, parseConfig, shardConfig } from "./config.ts";
import { expireGoneShards } from "./gone-shards.ts";
import { Turns } from "./supervise.ts";

const key = "0f".repeat(20);
const other = "1e".repeat(20);
const dayMs = 86_400_000;

function configOf(folder: string): InstanceConfig {
  const text = [
    "repositories: {main: {address: repository}}",
    'instances: {shop: {source: "cluster://localhost:1", archive_interval: 1s}}',
  ];
  return instanceOf(parseConfig(text.join("\n"), join(folder, "tidemark.yaml")), "shop");
}

/** The archive of a shard whose recorder has ended, and its spool with two logs. */
async function open(cluster: InstanceConfig, spool: Spool): Promise<Archive> {
  for (const ms of [systemClock.now() - 2000, systemClock.now() - 1000]) {
    await takeBase(spool, ms);
    for (let i = 1; i <= 50; i++) appendBatch(spool, ms + i);
    await spool.flush();
  }
  const recorder = new Recorder({
    findSource: () => assert.fail("It has ended"),
    ...{ connect: {}, spool, clock: systemClock, onEvent: () => {} },
  });
  return new Archive({
    ...{ config: shardConfig(cluster, key), clock: systemClock, turns: new Turns(), steal: false },
    ...{ spool, recorder, topology: new Topology(cluster.address), key, onEvent: () => {} },
  });
}

suite("A shard that is gone", () => {
  test("is shipped to its end when the storage is there, and not given up before", async () => {
    using folder = temporaryFolder();
    const config = configOf(folder.path);
    await using spool = await Spool.open(shardConfig(config, key).spool);
    const archive = await open(config, spool);
    const stop = new AbortController();
    const running = archive.run(stop.signal);
    try {
      await archive.shipAll(AbortSignal.timeout(300));
      assert.equal(archive.status.state, "waiting", "it ends with the signal all the same");
      const shipped = archive.shipAll(stop.signal);
      const store = new DirectoryStore(join(folder.path, "repository"));
      await initRepository(store);
      await shipped;
      const { sets, lines } = await readCatalogue(store, `shop.${key}`);
      assert.deepEqual(
        sets.map(({ isVerified }) => isVerified),
        [true, true],
      );
      const [last, ...more] = lines.at(-1)?.runs.at(-1)?.pieces.slice(-1) ?? [];
      assert.deepEqual([last?.toOffset, more], [spool.position?.offset, []]);
    } finally {
      stop.abort();
      await running;
    }
  });

  test("lets its old history go, where it is not recorded here any more", async () => {
    using folder = temporaryFolder();
    const config = configOf(folder.path);
    const store = new DirectoryStore(join(folder.path, "repository"));
    await initRepository(store);
    {
      await using spool = await Spool.open(shardConfig(config, key).spool);
      const archive = await open(config, spool);
      const stop = new AbortController();
      const running = archive.run(stop.signal);
      await archive.shipAll(stop.signal);
      stop.abort();
      await running;
    }
    const count = async () => (await readCatalogue(store, `shop.${key}`)).sets.length;
    assert.equal(await count(), 2);
    const clock = { now: () => systemClock.now() + 30 * dayMs };
    const events: BackupEvent[] = [];
    const stop = new AbortController();
    let isHere = true;
    let looks = 0;
    const running = expireGoneShards(
      {
        ...{ config, clock, lookEveryMs: 20, onEvent: (event) => events.push(event) },
        isHere: (shard) => {
          looks++;
          return isHere || shard === other;
        },
      },
      stop.signal,
    );
    try {
      await until("it has looked", async () => looks > 2);
      assert.equal(await count(), 2, "who records it lets it go");
      isHere = false;
      await until("it doubts its clock", async () => events.length > 0);
      const [first] = events;
      assert.equal(first?.kind === "expiry failed" && first.failure.code, "CLOCK_DOUBTED");
      // A shard that is here was archived today, and yesterday.
      for (const days of [0, 1]) {
        const set = setName(clock.now() - days * dayMs - 60_000, "00aa");
        await store.put(setObject(`shop.${other}`, set, "manifest"), new Uint8Array());
      }
      await until("it is told", async () => events.some(({ kind }) => kind === "expired"));
      const expired = events.find(({ kind }) => kind === "expired");
      assert.equal(expired?.kind === "expired" && expired.sets, 1);
      assert.equal(await count(), 1, "the newest stays");
    } finally {
      stop.abort();
      await running;
    }
  });
});
