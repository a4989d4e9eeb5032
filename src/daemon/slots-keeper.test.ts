import assert from "node:assert/strict";
import { appendFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { until } from "../../test/link/until.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { listSlots, readSlots } from "../archive/cluster-slots.ts";
import { initRepository } from "../archive/repository.ts";
import { systemDisk } from "../log/disk.ts";
import { ClusterFile, type OwnershipChange } from "../record/cluster-file.ts";
import { DirectoryStore } from "../store/directory.ts";
import { type SlotsEvent, SlotsKeeper } from "./slots-keeper.ts";

function change(ms: number): OwnershipChange {
  return { windowMs: null, shards: [{ key: "a", slots: [[0, 16_383]], ms, position: null }] };
}

/** A keeper of a cluster "shop" that runs until it is disposed of. */
class Running implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  readonly events: SlotsEvent[] = [];
  readonly keeper: SlotsKeeper;

  constructor(folder: string) {
    const address = join(folder, "repository");
    this.keeper = new SlotsKeeper({
      ...{ cluster: "shop", folder, disk: systemDisk },
      repository: { address, key: undefined, olderKeys: [], level: undefined },
      onEvent: (event) => this.events.push(event),
    });
    this.#ended = this.keeper.run(this.#stop.signal);
  }

  async told(kind: SlotsEvent["kind"]): Promise<void> {
    await until(kind, async () => this.events.some((event) => event.kind === kind));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }
}

async function stored(folder: string): Promise<number[]> {
  const store = new DirectoryStore(join(folder, "repository"));
  const names = await listSlots(store, "shop");
  const all = await Promise.all(names.map((name) => readSlots(store, name)));
  return all.map(({ shards }) => shards[0]?.ms ?? 0);
}

test("SlotsKeeper puts what was noted before it ran, what is noted meanwhile, and each once", async () => {
  using folder = temporaryFolder();
  await initRepository(new DirectoryStore(join(folder.path, "repository")));
  const file = await ClusterFile.open(systemDisk, folder.path);
  for (const ms of [1, 2]) await file.append(change(ms));
  {
    await using first = new Running(folder.path);
    await first.told("slots stored");
    await file.append(change(3));
    await until("the third is there", async () => (await stored(folder.path)).length === 3);
    await file.append(change(4));
    await first.keeper.putLast(1000);
    assert.deepEqual(await stored(folder.path), [1, 2, 3, 4]);
  }
  await using second = new Running(folder.path);
  await until("it has looked", async () => second.keeper.status.stored === 4);
  assert.deepEqual(second.events, [], "all of it was there");
});

test("SlotsKeeper goes on where the storage was away, and behind a line that is damaged", async () => {
  using folder = temporaryFolder();
  const file = await ClusterFile.open(systemDisk, folder.path);
  await file.append(change(1));
  await using running = new Running(folder.path);
  await running.told("slots failed");
  assert.match(running.keeper.status.trouble ?? "", /there is no repository/);
  await initRepository(new DirectoryStore(join(folder.path, "repository")));
  await running.told("slots stored");
  const [here, away] = [join(folder.path, "repository"), join(folder.path, "away")];
  renameSync(here, away);
  writeFileSync(here, "");
  running.events.length = 0;
  appendFileSync(join(folder.path, "slots.jsonl"), "damaged\n");
  const again = await ClusterFile.open(systemDisk, folder.path);
  await again.append(change(2));
  await running.told("slots failed");
  renameSync(away, join(folder.path, "back"));
  renameSync(here, away);
  renameSync(join(folder.path, "back"), here);
  await running.told("slots stored");
  assert.deepEqual(await stored(folder.path), [1, 2]);
  assert.equal(running.keeper.status.trouble, null);
  const damaged = running.events.filter(({ kind }) => kind === "slots damaged");
  assert.equal(damaged.length, 1, "it is told of once");
});
