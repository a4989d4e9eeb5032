import assert from "node:assert/strict";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import type { ArchiverEvent } from "../../src/archive/archiver.ts";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { Lease } from "../../src/archive/lease.ts";
import { initRepository, openRepository, type Repository } from "../../src/archive/repository.ts";
import { Failure } from "../../src/base/errors.ts";
import { systemDisk } from "../../src/log/disk.ts";
import type { Generation } from "../../src/log/segment.ts";
import { Spool } from "../../src/log/spool.ts";
import { MemoryDisk, seededRandom } from "../../src/log/testing.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import type { Store } from "../../src/store/store.ts";
import { faultyStore } from "../../src/store/testing.ts";
import { temporaryFolder } from "../support/folder.ts";
import { ManualClock } from "./manual-clock.ts";
import { type SharedStore, sharedStore } from "./shared-store.ts";
import {
  acquire,
  addRandomSet,
  appendBatch,
  archiverOf,
  instance,
  keeping,
  readParts,
  takeBase,
  verifyArchive,
  writeSome,
} from "./shipping.ts";

type World = {
  readonly disk: MemoryDisk;
  readonly store: SharedStore;
  readonly repository: Repository;
  readonly spool: Spool;
  readonly lease: Lease;
  readonly kept: Map<string, Uint8Array>;
  readonly events: ArchiverEvent[];
  readonly folder: string;
};

async function world(folder: string): Promise<World & AsyncDisposable> {
  const store = sharedStore();
  const repository = await initRepository(store);
  const disk = new MemoryDisk(seededRandom(1));
  const spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
  const lease = await acquire(repository);
  return {
    ...{ disk, store, repository, spool, lease, folder, kept: new Map(), events: [] },
    [Symbol.asyncDispose]: async () => {
      await lease.release();
      await spool.close();
    },
  };
}

function newArchiver(each: World, repository = each.repository) {
  const { spool, disk, lease, folder, kept, events } = each;
  return archiverOf({
    ...{ repository, lease, disk, temporaryFolder: folder },
    spool: keeping(spool, disk, async (line, log) => void kept.set(line, log)),
    onEvent: (event) => events.push(event),
  });
}

async function write(spool: Spool, batches: number): Promise<void> {
  for (let i = 0; i < batches; i++) {
    if (!appendBatch(spool, 1000 + i)) await spool.room();
    await spool.flush();
  }
}

/** Ships all, has the bases verified, and lets go of what is retired. */
async function shipAll(archiver: ReturnType<typeof newArchiver>): Promise<void> {
  await archiver.shipNow();
  await archiver.verifyBases(new AbortController().signal);
  await archiver.shipNow();
}

suite("an archiver", () => {
  test("ships the base, closed segments as one piece each, and what is new of the open one", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 20);
    const archiver = newArchiver(each);
    await shipAll(archiver);
    const { lines, sets } = await verifyArchive(each.repository, each);
    const segments = each.spool.generation?.segments ?? [];
    assert.ok(segments.length > 2);
    assert.deepEqual(
      lines[0]?.runs[0]?.pieces.map(({ firstSequence, lastSequence }) => [
        firstSequence,
        lastSequence,
      ]),
      segments.map(({ first, last }) => [first.sequence, last.sequence]),
    );
    assert.deepEqual(
      sets.map(({ isVerified }) => isVerified),
      [true],
    );
    assert.deepEqual(each.events.map(({ kind }) => kind).slice(0, 2), ["base", "piece"]);
    assert.deepEqual(readdirSync(dir.path), []);
  });

  test("says what is shipped, and how much is not", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    const archiver = newArchiver(each);
    assert.equal(archiver.status.shippedTo, undefined);
    assert.ok(archiver.status.behindBytes > 0);
    await archiver.shipNow();
    assert.deepEqual(archiver.status.shippedTo, each.spool.synced);
    assert.deepEqual([archiver.status.behindBytes, archiver.status.behindMs], [0, 0]);
    await write(each.spool, 12);
    const { behindBytes, behindMs } = archiver.status;
    assert.ok(behindBytes > 1000 && behindMs === 11, `${behindBytes} ${behindMs}`);
    await archiver.shipNow();
    assert.deepEqual([archiver.status.behindBytes, archiver.status.behindMs], [0, 0]);
  });

  test("ships the pieces of a segment once more as one, and deletes them then", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    const archiver = newArchiver(each);
    let most = 0;
    for (let i = 0; i < 16; i++) {
      await write(each.spool, 1);
      await shipAll(archiver);
      const { lines } = await verifyArchive(each.repository, each);
      const pieces = lines[0]?.runs[0]?.pieces.length ?? 0;
      most = Math.max(most, pieces - (each.spool.generation?.segments.length ?? 0));
    }
    assert.ok(most > 1);
    assert.ok(each.events.some(({ kind }) => kind === "tidied"));
  });

  test("ships nothing that is not synced", async ({ signal }) => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    const archiver = newArchiver(each);
    await write(each.spool, 2);
    const { synced } = each.spool;
    appendBatch(each.spool, 2000);
    while (each.spool.pendingBytes > 0) await nextTurn(signal);
    assert.notDeepEqual(each.spool.written, synced);
    await archiver.shipNow();
    assert.deepEqual(archiver.status.shippedTo, synced);
  });

  test("writes nothing where nothing is new, and asks for nothing", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 10);
    let calls = 0;
    const { store } = each.repository;
    const counted: Store = {
      ...store,
      put: (...args) => (calls++, store.put(...args)),
      list: (...args) => (calls++, store.list(...args)),
      delete: (...args) => (calls++, store.delete(...args)),
    };
    const archiver = newArchiver(each, { ...each.repository, store: counted });
    await shipAll(archiver);
    calls = 0;
    for (let i = 0; i < 10; i++) await archiver.shipNow();
    assert.equal(calls, 0);
  });

  test("goes on where another one ended, and ships nothing twice", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    for (let i = 0; i < 10; i++) {
      await write(each.spool, 1 + (i % 3));
      await newArchiver(each).shipNow();
      each.events.length = 0;
      await newArchiver(each).shipNow();
      assert.deepEqual(each.events, []);
    }
    await shipAll(newArchiver(each));
    await verifyArchive(each.repository, each);
  });

  test("discards a retired log when its base was verified, and keeps it until then", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const archiver = newArchiver(each);
    for (let i = 0; i < 3; i++) {
      await takeBase(each.spool, 1000 * (i + 1));
      await write(each.spool, 8);
    }
    await archiver.shipNow();
    await archiver.shipNow();
    assert.equal((await each.spool.retired()).length, 2);
    await shipAll(archiver);
    assert.equal((await each.spool.retired()).length, 0);
    const { lines } = await verifyArchive(each.repository, each);
    assert.equal(lines.length, 3);
  });

  test("goes on discarding a log where it was ended in between", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 8);
    await takeBase(each.spool, 2000);
    const { spool, disk, kept } = each;
    const view = keeping(spool, disk, async (line, log) => void kept.set(line, log));
    const discard = async (name: string) => {
      const found = (await spool.retired()).find((one) => one.name === name);
      for (const { path } of found?.segments.slice(0, 1) ?? []) await disk.remove(path);
      throw new Failure("FILE_FAILED", "The disk is away");
    };
    const { repository, lease } = each;
    const options = { repository, lease, disk, temporaryFolder: dir.path };
    const failing = archiverOf({
      ...options,
      spool: Object.assign(Object.create(view), { discard }),
    });
    await failing.shipNow();
    const parts = await readParts(disk, (await spool.retired())[0] as Generation);
    for (const [name, bytes] of parts) kept.set(name, bytes);
    await assert.rejects(shipAll(failing), { code: "FILE_FAILED" });
    assert.equal((await spool.retired()).length, 1);
    const next = archiverOf({ ...options, spool: view });
    await shipAll(next);
    assert.equal((await spool.retired()).length, 0);
    assert.equal(next.status.trouble, undefined);
    await verifyArchive(repository, each);
    assert.deepEqual(readdirSync(dir.path), []);
  });

  test("keeps a retired log whose base does not come back", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const archiver = newArchiver(each);
    await takeBase(each.spool, 1000);
    await takeBase(each.spool, 2000);
    await archiver.shipNow();
    for (const [name, { bytes }] of each.store.objects) {
      if (name.endsWith("snapshot.rdb.zst")) bytes[10] = (bytes[10] as number) ^ 4;
    }
    await shipAll(archiver);
    assert.equal((await each.spool.retired()).length, 1);
    assert.match(archiver.status.trouble?.failure.message ?? "", /does not come back/);
  });

  test("does not ship again what has expired", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 30);
    await shipAll(newArchiver(each));
    const { lines, sets } = await readCatalogue(each.repository.store, instance);
    const pieces = lines[0]?.runs[0]?.pieces ?? [];
    await each.repository.store.delete(pieces.slice(0, 3).map(({ object }) => object));
    await each.repository.store.delete(
      ["manifest.json", "snapshot.rdb.zst", "verified.json"].map(
        (part) => `instances/shop/sets/${sets[0]?.name}/${part}`,
      ),
    );
    each.events.length = 0;
    await newArchiver(each).shipNow();
    assert.deepEqual(each.events, []);
  });

  test("ships again what is missing in the middle", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 30);
    await shipAll(newArchiver(each));
    const { lines } = await readCatalogue(each.repository.store, instance);
    const gone = lines[0]?.runs[0]?.pieces[2]?.object ?? "";
    await each.repository.store.delete([gone]);
    await newArchiver(each).shipNow();
    await verifyArchive(each.repository, each);
  });

  test("names what is damaged in the spool, and ships all else", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 30);
    const path = each.spool.generation?.segments[1]?.path ?? "";
    each.disk.poke(path, (bytes) => {
      bytes[500] = (bytes[500] as number) ^ 1;
      return bytes;
    });
    const archiver = newArchiver(each);
    await archiver.shipNow();
    assert.equal(archiver.status.trouble?.failure.code, "DATA_CORRUPT");
    await takeBase(each.spool, 5000);
    await shipAll(archiver);
    assert.equal((await each.spool.retired()).length, 1, "It is kept");
    const { lines } = await readCatalogue(each.repository.store, instance);
    assert.deepEqual(
      lines.map(({ runs }) => runs.length),
      [2, 1],
    );
  });

  test("does not go on with a log that is not the one it has shipped", async () => {
    using dir = temporaryFolder();
    const store = sharedStore();
    const repository = await initRepository(store);
    await using lease = await acquire(repository);
    const logs = [1, 2].map(async (ms) => {
      const disk = new MemoryDisk(seededRandom(1));
      const spool = await Spool.open("/spool", { disk });
      await takeBase(spool, 1000);
      for (let i = 0; i < 3; i++) appendBatch(spool, 2000 + i * ms);
      await spool.flush();
      return { spool, disk };
    });
    const [first, second] = await Promise.all(logs);
    assert.ok(first !== undefined && second !== undefined);
    const options = { repository, lease, temporaryFolder: dir.path };
    await archiverOf({ ...options, ...first }).shipNow();
    const count = store.objects.size;
    const other = archiverOf({ ...options, ...second });
    await other.shipNow();
    assert.match(other.status.trouble?.failure.message ?? "", /it is not what ".*" has$/);
    assert.equal(store.objects.size, count);
    for (const { spool } of [first, second]) await spool.close();
  });

  test("keeps large objects in its folder while they are made, for nobody else to read", async () => {
    using dir = temporaryFolder();
    const folder = join(dir.path, "archive");
    mkdirSync(folder);
    const stray = join(folder, "01234567-0123-0123-0123-0123456789ab.part");
    writeFileSync(stray, "what a process before has left");
    writeFileSync(join(folder, "notes.txt"), "not ours");
    await using each = await world(folder);
    await takeBase(each.spool, 1000);
    await write(each.spool, 10);
    const modes: number[] = [];
    const { store } = each.repository;
    const watching: Store = {
      ...store,
      upload: (name, chunks, options) => {
        for (const file of readdirSync(folder).filter((file) => file.endsWith(".part"))) {
          modes.push(statSync(join(folder, file)).mode & 0o777);
        }
        return store.upload(name, chunks, options);
      },
    };
    const archiver = archiverOf({
      ...{ lease: each.lease, disk: each.disk, spool: each.spool, temporaryFolder: folder },
      ...{ repository: { ...each.repository, store: watching }, maxGatheredBytes: 100 },
    });
    await shipAll(archiver);
    assert.ok(modes.length > 0 && modes.every((mode) => mode === 0o600), modes.join());
    assert.deepEqual(readdirSync(folder), ["notes.txt"]);
    await verifyArchive(each.repository, each);
  });

  test("encrypts what it ships, where the repository is", async () => {
    using dir = temporaryFolder();
    const store = sharedStore();
    const key = { id: "k", key: Buffer.alloc(32, 1) };
    const repository = await initRepository(store, { key });
    const disk = new MemoryDisk(seededRandom(1));
    await using spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
    await takeBase(spool, 1000);
    await write(spool, 20);
    await using lease = await acquire(repository);
    await shipAll(archiverOf({ repository, lease, disk, spool, temporaryFolder: dir.path }));
    const kept = new Map<string, Uint8Array>();
    await verifyArchive(repository, { spool, disk, kept });
    for (const [name, { bytes }] of store.objects) {
      if (name.endsWith(".zst"))
        assert.equal(Buffer.from(bytes).toString("latin1", 0, 8), "TMSEALED");
    }
    await assert.rejects(openRepository(store), { code: "KEY_NEEDED" });
  });
});

/** What waits for something ends with its test: else this file would not, where that never comes. */
async function nextTurn(signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise(setImmediate);
}

suite("an archiver that runs", () => {
  test("keeps trying while the storage is away, says so, and catches up", async ({ signal }) => {
    using dir = temporaryFolder();
    const clock = new ManualClock();
    const store = sharedStore(clock.now);
    let isAway = false;
    let attempts = 0;
    const mayFail: Store = {
      ...store,
      put: async (name, ...rest) => {
        if (isAway && name.endsWith(".aof.zst")) {
          attempts++;
          throw new Failure("STORE_BUSY", "The storage is away");
        }
        return await store.put(name, ...rest);
      },
    };
    const repository = await initRepository(mayFail);
    const disk = new MemoryDisk(seededRandom(1));
    await using spool = await Spool.open("/spool", { disk });
    await takeBase(spool, 1000);
    const events: ArchiverEvent[] = [];
    const lease = await Lease.acquire(repository, instance, { owner: "a test", clock });
    const archiver = archiverOf({
      ...{ repository, lease, disk, spool, clock, temporaryFolder: dir.path },
      onEvent: (event) => events.push(event),
      maxGatheredBytes: 1_000_000,
    });
    const stop = new AbortController();
    const running = archiver.run(stop.signal);
    const turn = () => nextTurn(signal);
    const untilItWaits = async (count: number, ms: number) => {
      while (attempts < count || !clock.waits.includes(ms)) await turn();
      assert.equal(attempts, count);
    };
    await untilItWaits(0, 10_000);
    isAway = true;
    await write(spool, 5);
    await clock.pass(10_000);
    const delays = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
    for (const [i, ms] of delays.entries()) {
      await untilItWaits(i + 1, ms);
      await clock.pass(ms);
    }
    await untilItWaits(9, 60_000);
    const { trouble, behindBytes } = archiver.status;
    assert.ok(trouble?.failure.code === "STORE_BUSY" && behindBytes > 0);
    assert.equal(events.filter(({ kind }) => kind === "trouble").length, 1);
    isAway = false;
    await clock.pass(60_000);
    while (archiver.status.trouble !== undefined) await turn();
    assert.deepEqual([archiver.status.trouble, archiver.status.behindBytes], [undefined, 0]);
    assert.ok(events.some(({ kind }) => kind === "well"));
    stop.abort();
    await running;
    await lease.release();
    await verifyArchive(repository, { spool, disk, kept: new Map() });
  });

  test("writes nothing more when it wakes up and another one has taken over", async ({
    signal,
  }) => {
    using dir = temporaryFolder();
    const clock = new ManualClock();
    const asleep = new ManualClock();
    const store = sharedStore(clock.now);
    const repository = await initRepository(store);
    const disk = new MemoryDisk(seededRandom(1));
    await using spool = await Spool.open("/spool", { disk });
    await takeBase(spool, 1000);
    const held = await Lease.acquire(repository, instance, { owner: "first", clock: asleep });
    const options = { repository, disk, spool, clock: asleep, temporaryFolder: dir.path };
    let isVerified = false;
    const archiver = archiverOf({
      ...{ ...options, lease: held },
      onEvent: ({ kind }) => {
        isVerified ||= kind === "verified";
      },
    });
    const running = archiver.run(new AbortController().signal);
    while (!isVerified) {
      signal.throwIfAborted();
      await asleep.pass(10);
    }
    const settled = Promise.allSettled([running]);
    const taking = Lease.acquire(repository, instance, { owner: "second", clock });
    await clock.pass(70_000);
    await using lease = await taking;
    await lease.check();
    await write(spool, 5);
    const before = [...store.objects.keys()];
    await asleep.pass(100_000);
    const [result] = await settled;
    assert.ok(result.status === "rejected");
    assert.match(String(result.reason), /second, process \d+ on .* has taken over/);
    assert.deepEqual([...store.objects.keys()], before);
    await held.release();
  });

  test("ends at once when it is stopped, whatever it is doing", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await takeBase(each.spool, 1000);
    await write(each.spool, 30);
    const { store } = each.repository;
    const stop = new AbortController();
    let calls = 0;
    const stopping: Store = {
      ...store,
      put: (...args) => {
        if (++calls === 4) stop.abort();
        return store.put(...args);
      },
    };
    await newArchiver(each, { ...each.repository, store: stopping }).run(stop.signal);
    assert.ok(calls <= 5, `${calls}`);
    await shipAll(newArchiver(each));
    await verifyArchive(each.repository, each);
  });
});

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const rounds = Number(process.env["ROUNDS"] ?? 6);

suite(`an archiver, with everything going wrong from seed ${seed}`, () => {
  for (let round = 0; round < rounds; round++) {
    test(`round ${round}`, async () => {
      using dir = temporaryFolder();
      await shipThroughTrouble(seed + round, dir.path);
    });
  }
});

/**
 * Random writes, bases, sets, rebases, faults of the storage, restarts, power losses; then all of it is
 * there, once.
 */
async function shipThroughTrouble(from: number, folder: string): Promise<void> {
  const random = seededRandom(from);
  const store = random.chance(0.2) ? new DirectoryStore(join(folder, "repo")) : sharedStore();
  const key = random.chance(0.3) ? { id: "k", key: Buffer.alloc(32, 1) } : undefined;
  const made = await initRepository(store, { key });
  const faults = { errorBefore: 0.05, errorAfter: 0.05, tornUpload: 0.1, tornRead: 0.05 };
  const faulty = faultyStore(made.store, random, { ...faults, staleList: 0.05, slowTurns: 3 });
  const repository = { ...made, store: faulty };
  await using lease = await acquire(made);
  let disk = new MemoryDisk(random);
  let nowMs = 1_000_000;
  const openSpool = () =>
    Spool.open("/spool", { disk, segmentBytes: 3000, clock: { now: () => nowMs } });
  let spool = await openSpool();
  const kept = new Map<string, Uint8Array>();
  const temporary = join(folder, "archive");
  const open = (on: Repository) =>
    archiverOf({
      ...{ repository: on, lease, disk, temporaryFolder: temporary },
      spool: keeping(spool, disk, async (line, log) => void kept.set(line, log)),
      ...(random.chance(0.5) ? {} : { maxGatheredBytes: 100 }),
      rebase: { minFreedBytes: 1, everyMs: 0 },
    });
  let archiver = open(repository);
  let rebasing: Promise<unknown> = Promise.resolve();
  for (let step = 0; step < 60; step++) {
    nowMs += random.below(900);
    await writeSome(spool, random, () => nowMs);
    if (random.chance(0.2)) await addRandomSet(made, spool, random, nowMs);
    const stop = new AbortController();
    const { signal } = stop;
    if (random.chance(0.3)) {
      await rebasing;
      rebasing = mayFail(archiver.rebase(signal));
    }
    const isShipping = random.chance(0.7);
    const work = mayFail(isShipping ? archiver.shipNow(signal) : archiver.verifyBases(signal));
    if (random.chance(0.2)) {
      for (let turns = random.below(30); turns > 0; turns--) await new Promise(setImmediate);
      stop.abort();
    }
    await work;
    assert.equal(lease.isLost, false);
    if (random.chance(0.15)) {
      if (random.chance(0.5)) {
        await spool.close();
        await rebasing;
        disk = disk.restart({ losesPower: false });
      } else {
        // The spool of before goes on writing until then.
        await disk.end();
        disk = disk.restart({ losesPower: true });
        rebasing = Promise.resolve();
      }
      spool = await openSpool();
      archiver = open(repository);
    }
  }
  await spool.flush();
  await rebasing;
  faulty.heal();
  archiver = open(made);
  await shipAll(archiver);
  assert.equal(archiver.status.trouble, undefined);
  await verifyArchive(made, { spool, disk, kept });
  assert.deepEqual(readdirSync(temporary), []);
  await spool.close();
}

async function mayFail(work: Promise<unknown>): Promise<void> {
  const [result] = await Promise.allSettled([work]);
  if (result.status === "rejected") assert.ok(result.reason instanceof Failure, `${result.reason}`);
}

test("the machine's own disk is read as the one in memory is", async () => {
  using dir = temporaryFolder();
  const repository = await initRepository(new DirectoryStore(join(dir.path, "repo")));
  await using spool = await Spool.open(join(dir.path, "spool"), { segmentBytes: 4000 });
  await takeBase(spool, 1000);
  await write(spool, 20);
  await using lease = await acquire(repository);
  const temporary = join(dir.path, "spool", "archive");
  await shipAll(archiverOf({ repository, lease, spool, temporaryFolder: temporary }));
  await verifyArchive(repository, { spool, disk: systemDisk, kept: new Map() });
});
