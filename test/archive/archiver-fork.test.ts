/** Spools and repositories that were brought back from old copies, and pieces that are not whole. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Archiver, ArchiverEvent } from "../../src/archive/archiver.ts";
import type { SpoolView } from "../../src/archive/archiver-round.ts";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { initRepository } from "../../src/archive/repository.ts";
import { Spool } from "../../src/log/spool.ts";
import { MemoryDisk, seededRandom } from "../../src/log/testing.ts";
import type { Store } from "../../src/store/store.ts";
import { temporaryFolder } from "../support/folder.ts";
import { ManualClock } from "./manual-clock.ts";
import { type SharedStore, sharedStore } from "./shared-store.ts";
import {
  acquire,
  addSet,
  appendBatch,
  archiverOf,
  instance,
  takeBase,
  unitEnds,
  verifyArchive,
} from "./shipping.ts";

const never = new AbortController().signal;

async function world(folder: string) {
  const store = sharedStore();
  let look = () => {};
  const watched: Store = {
    ...store,
    delete: async (names, options) => {
      look();
      await store.delete(names, options);
    },
  };
  const repository = await initRepository(watched);
  const lease = await acquire(repository);
  const events: ArchiverEvent[] = [];
  const asked: string[] = [];
  const clock = new ManualClock();
  return {
    ...{ store, repository, lease, events, asked, clock },
    beforeDelete: (action: () => void) => {
      look = action;
    },
    open: (spool: Spool, disk: MemoryDisk) => {
      const view: SpoolView = Object.create(spool, {
        generation: { get: () => spool.generation },
        written: { get: () => spool.written },
        synced: { get: () => spool.synced },
        retired: { value: () => spool.retired() },
        discard: { value: (name: string) => spool.discard(name) },
        planRebase: { value: spool.planRebase.bind(spool) },
        rebase: { value: spool.rebase.bind(spool) },
        beginAnew: { value: (reason: string) => asked.push(reason) },
      });
      return archiverOf({
        ...{ repository, lease, disk, spool: view, clock, temporaryFolder: folder },
        onEvent: (event) => events.push(event),
        rebase: { minFreedBytes: 1, everyMs: 0 },
      });
    },
    [Symbol.asyncDispose]: () => lease.release(),
  };
}

async function write(spool: Spool, batches: number, ms = 1000): Promise<void> {
  for (let i = 0; i < batches; i++) {
    if (!appendBatch(spool, ms + i)) await spool.room();
    await spool.flush();
  }
}

/** As it ships while it is written to: small pieces, and whole ones of closed segments. */
async function writeAndShip(spool: Spool, archiver: Archiver, rounds: number, ms = 1000) {
  for (let i = 0; i < rounds; i++) {
    await write(spool, 1, ms + i);
    await archiver.shipNow();
  }
}

async function shipAll(archiver: Archiver): Promise<void> {
  await archiver.shipNow();
  await archiver.verifyBases(never);
  await archiver.shipNow();
}

function logOf(store: SharedStore): string[] {
  return [...store.objects.keys()].filter((name) => name.endsWith(".aof.zst")).sort();
}

/** A spool, and a copy of it after `before` batches. */
async function twins(before: number) {
  const make = async () => {
    const disk = new MemoryDisk(seededRandom(1));
    const spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
    await takeBase(spool, 1000);
    await write(spool, before);
    return { disk, spool };
  };
  return { first: await make(), copy: await make() };
}

suite("an archiver of an old copy of the spool", () => {
  for (const [what, more] of [
    ["behind the archive", 0],
    ["ahead of it by now", 40],
  ] as const) {
    test(`ships and deletes nothing in the line, and has a new base taken: ${what}`, async () => {
      using dir = temporaryFolder();
      await using each = await world(dir.path);
      const { first, copy } = await twins(6);
      await writeAndShip(first.spool, each.open(first.spool, first.disk), 14, 2000);
      await shipAll(each.open(first.spool, first.disk));
      const before = logOf(each.store);
      await write(copy.spool, more, 3000);
      const archiver = each.open(copy.spool, copy.disk);
      await writeAndShip(copy.spool, archiver, 14, 4000);
      await archiver.rebase(never);
      assert.deepEqual(logOf(each.store), before);
      assert.equal(each.asked.length, 1);
      assert.match(
        archiver.status.trouble?.failure.message ?? "",
        /is (not|behind) what ".*" has$/,
      );
      await takeBase(copy.spool, 9000);
      await write(copy.spool, 3, 9000);
      await shipAll(archiver);
      assert.equal((await copy.spool.retired()).length, 1, "What only the spool has is kept");
      const { lines } = await readCatalogue(each.repository.store, instance);
      assert.equal(lines.length, 2);
      assert.equal(lines[1]?.runs[0]?.pieces.at(-1)?.lastSequence, copy.spool.synced?.sequence);
      assert.ok(before.every((name) => each.store.objects.has(name)));
      await shipAll(each.open(copy.spool, copy.disk));
      assert.equal(each.asked.length, 1, "Of a retired log, nothing is to be begun anew");
      for (const { spool } of [first, copy]) await spool.close();
    });
  }

  test("does not count what another writer has put into the line since as its own", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const { first, copy } = await twins(2);
    const archiver = each.open(copy.spool, copy.disk);
    await archiver.shipNow();
    await writeAndShip(first.spool, each.open(first.spool, first.disk), 3, 2000);
    const before = logOf(each.store);
    await writeAndShip(copy.spool, archiver, 20, 4000);
    assert.ok(before.every((name) => each.store.objects.has(name)));
    assert.equal(each.asked.length, 1);
    for (const { spool } of [first, copy]) await spool.close();
  });
});

suite("an archiver that finds a merged piece cut short", () => {
  /** With the small ones still there. */
  async function broken(each: Awaited<ReturnType<typeof world>>) {
    const disk = new MemoryDisk(seededRandom(1));
    const spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
    await takeBase(spool, 1000);
    const small = new Map(each.store.objects);
    const archiver = each.open(spool, disk);
    while ((spool.generation?.segments.length ?? 0) < 3) {
      await writeAndShip(spool, archiver, 1);
      for (const [name, object] of each.store.objects) small.set(name, object);
    }
    await shipAll(archiver);
    const [merged = ""] = logOf(each.store);
    const { bytes, modifiedMs } = each.store.objects.get(merged) ?? {
      bytes: Buffer.of(),
      modifiedMs: 0,
    };
    for (const [name, object] of small) {
      if (name.endsWith(".aof.zst")) each.store.objects.set(name, object);
    }
    each.store.objects.set(merged, { bytes: bytes.subarray(0, 100), modifiedMs });
    return { disk, spool, merged, bytes };
  }

  test("ships it once more before it deletes what it stands for", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const { disk, spool, merged, bytes } = await broken(each);
    const archiver = each.open(spool, disk);
    const before = logOf(each.store).length;
    each.beforeDelete(() => {
      assert.equal(each.store.objects.get(merged)?.bytes.length, bytes.length);
    });
    for (let i = 0; i < 3; i++) await shipAll(archiver);
    assert.ok(logOf(each.store).length < before);
    await verifyArchive(each.repository, { spool, disk, kept: new Map() });
    await spool.close();
  });

  test("keeps the log in the spool until it is whole, and ships it from there", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const { disk, spool, merged, bytes } = await broken(each);
    await addSet(each.repository, unitEnds(spool.generation ?? assert.fail()).at(-3) ?? 0, 2000);
    const archiver = each.open(spool, disk);
    await archiver.rebase(never);
    assert.ok(!each.events.some(({ kind }) => kind === "rebased"));
    await takeBase(spool, 5000);
    await shipAll(archiver);
    await shipAll(archiver);
    assert.equal(each.store.objects.get(merged)?.bytes.length, bytes.length);
    assert.equal((await spool.retired()).length, 0);
    await spool.close();
  });
});

suite("an archiver whose repository was brought back from an older copy", () => {
  test("ships again what the spool has, its base too, when an hour has passed", async () => {
    for (const isEmpty of [false, true]) {
      using dir = temporaryFolder();
      await using each = await world(dir.path);
      const disk = new MemoryDisk(seededRandom(1));
      await using spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
      await takeBase(spool, 1000);
      const archiver = each.open(spool, disk);
      await write(spool, 8);
      if (!isEmpty) await shipAll(archiver);
      const old = new Map(each.store.objects);
      await write(spool, 20, 2000);
      await shipAll(archiver);
      for (const name of [...each.store.objects.keys()]) {
        if (!old.has(name)) each.store.objects.delete(name);
      }
      for (const [name, object] of old) each.store.objects.set(name, object);
      await shipAll(archiver);
      assert.deepEqual(logOf(each.store), logOf({ ...each.store, objects: old }));
      await each.clock.pass(60 * 60 * 1000);
      await shipAll(archiver);
      await shipAll(archiver);
      await verifyArchive(each.repository, { spool, disk, kept: new Map() });
      assert.equal(archiver.status.trouble, undefined);
    }
  });

  test("lists it when a segment was closed, a minute after the last time", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const disk = new MemoryDisk(seededRandom(1));
    await using spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
    await takeBase(spool, 1000);
    const archiver = each.open(spool, disk);
    await write(spool, 12);
    await shipAll(archiver);
    each.store.objects.delete(logOf(each.store)[1] ?? "");
    await each.clock.pass(60 * 1000);
    const count = spool.generation?.segments.length ?? 0;
    while (spool.generation?.segments.length === count) await write(spool, 1, 2000);
    await shipAll(archiver);
    await verifyArchive(each.repository, { spool, disk, kept: new Map() });
  });

  test("says so, and has a new base taken, where the spool has let go of it", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const disk = new MemoryDisk(seededRandom(1));
    await using spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
    await takeBase(spool, 1000);
    const archiver = each.open(spool, disk);
    await write(spool, 40);
    await shipAll(archiver);
    await addSet(each.repository, unitEnds(spool.generation ?? assert.fail()).at(-3) ?? 0, 2000);
    await archiver.rebase(never);
    assert.ok(each.events.some(({ kind }) => kind === "rebased"));
    for (const name of logOf(each.store).slice(3)) each.store.objects.delete(name);
    const next = each.open(spool, disk);
    await next.shipNow();
    assert.deepEqual(each.asked, [], "A listing may be late");
    await next.shipNow();
    await next.shipNow();
    assert.equal(each.asked.length, 1);
    assert.match(next.status.trouble?.failure.message ?? "", /does not have the log before it/);
  });
});
