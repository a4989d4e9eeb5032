/** Spools that begin their logs at backup sets: they stay bounded, and nothing that is archived changes. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import type { Archiver, ArchiverEvent } from "../../src/archive/archiver.ts";
import type { RebaseOptions } from "../../src/archive/archiver-rebase.ts";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { initRepository, openObject, type Repository } from "../../src/archive/repository.ts";
import { takeSet } from "../../src/archive/take-set.ts";
import { systemClock } from "../../src/base/clock.ts";
import { Spool } from "../../src/log/spool.ts";
import { MemoryDisk, seededRandom } from "../../src/log/testing.ts";
import { Recorder } from "../../src/record/recorder.ts";
import { takeSnapshot } from "../../src/record/snapshot.ts";
import { planRestore } from "../../src/recovery/plan.ts";
import { restoreToFolder } from "../../src/recovery/restore-folder.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { readAll } from "../../src/store/store.ts";
import { until } from "../link/until.ts";
import { randomFrom, writeLasting } from "../record/workload.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  startServer,
} from "../support/servers.ts";
import { sharedStore } from "./shared-store.ts";
import {
  acquire,
  addSet,
  appendBatch,
  archiverOf,
  instance,
  keeping,
  takeBase,
  unitEnds,
  verifyArchive,
} from "./shipping.ts";

const never = new AbortController().signal;
const always: RebaseOptions = { minFreedBytes: 1, everyMs: 0 };

async function world(folder: string) {
  const repository = await initRepository(sharedStore());
  const lease = await acquire(repository);
  const disk = new MemoryDisk(seededRandom(1));
  const spool = await Spool.open("/spool", { disk, segmentBytes: 4000 });
  const kept = new Map<string, Uint8Array>();
  const events: ArchiverEvent[] = [];
  await takeBase(spool, 1000);
  const open = (rebase: RebaseOptions | undefined, on: Repository = repository) =>
    archiverOf({
      ...{ repository: on, lease, disk, temporaryFolder: folder },
      spool: keeping(spool, disk, async (name, bytes) => void kept.set(name, bytes)),
      onEvent: (event) => events.push(event),
      ...(rebase && { rebase }),
    });
  return {
    ...{ repository, lease, spool, disk, kept, events, open },
    count: (kind: string) => events.filter((event) => event.kind === kind).length,
    [Symbol.asyncDispose]: async () => {
      await lease.release();
      await spool.close();
    },
  };
}

async function write(spool: Spool, batches: number): Promise<void> {
  for (let i = 0; i < batches; i++) {
    if (!appendBatch(spool, 1000 + i)) await spool.room();
    await spool.flush();
  }
}

async function shipAll(archiver: Archiver): Promise<void> {
  await archiver.shipNow();
  await archiver.verifyBases(never);
  await archiver.shipNow();
}

/** A place in the last closed segment. */
function lateEnd(spool: Spool): number {
  assert.ok(spool.generation !== undefined);
  return unitEnds(spool.generation).at(-3) as number;
}

suite("an archiver that rebases", () => {
  test("has the spool begin at the set, and goes on with the line, over restarts too", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const { spool, repository } = each;
    let archiver = each.open(always);
    for (let round = 1; round <= 3; round++) {
      await write(spool, 40);
      await shipAll(archiver);
      const before = spool.generation?.segments.length ?? 0;
      const offset = lateEnd(spool);
      await addSet(repository, offset, 2000 + round);
      await archiver.rebase(never);
      assert.equal(each.count("rebased"), round);
      const { generation } = spool;
      assert.equal(generation?.segments[0]?.first.offset, offset);
      assert.ok((generation?.segments.length ?? 0) < before);
      assert.equal(generation?.rebased?.origin.sequence, 0);
      const { lines } = await verifyArchive(repository, each);
      assert.equal(lines.length, 1);
      each.events.push({ kind: "well" });
      const shipped = each.count("piece") + each.count("base");
      if (round === 2) archiver = each.open(always);
      await archiver.shipNow();
      await archiver.rebase(never);
      assert.equal(each.count("piece") + each.count("base"), shipped, "Nothing is shipped again");
      assert.equal(each.count("rebased"), round, "A set is used once");
    }
    assert.equal(each.count("base"), 1);
    await takeBase(spool, 9000);
    await shipAll(archiver);
    assert.equal(
      (await spool.retired()).length,
      0,
      "A log that was rebased is discarded as others",
    );
    assert.equal((await verifyArchive(repository, each)).lines.length, 2);
    assert.equal(each.count("stuck") + each.count("trouble"), 0);
  });

  test("ships what is behind the segment as it would have been, after a restart too", async () => {
    // Where the log begins in the last batch of a segment, the line that this ends with is another one.
    for (const fromEnd of [-1, -2]) {
      using dir = temporaryFolder();
      await using each = await world(dir.path);
      const { repository, disk, spool } = each;
      await write(spool, 40);
      await shipAll(each.open(always));
      const { generation } = spool;
      const offset = generation && unitEnds(generation).at(fromEnd);
      await addSet(repository, offset as number, 2000);
      const archiver = each.open(always);
      await shipAll(archiver);
      await archiver.rebase(never);
      assert.equal(each.count("rebased"), 1);
      await spool.close();
      await using next = await Spool.open("/spool", { disk, segmentBytes: 4000 });
      await write(next, 40);
      const { lease, kept } = each;
      const options = { repository, lease, disk, spool: next, temporaryFolder: dir.path };
      await shipAll(archiverOf(options));
      await verifyArchive(repository, { spool: next, disk, kept });
    }
  });

  test("does so by itself while it runs", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const archiver = archiverOf({
      ...{ repository: each.repository, lease: each.lease, disk: each.disk },
      ...{ spool: each.spool, temporaryFolder: dir.path, intervalMs: 5, rebase: always },
      onEvent: (event) => each.events.push(event),
    });
    await write(each.spool, 40);
    await addSet(each.repository, lateEnd(each.spool), 2000);
    const stop = new AbortController();
    const running = archiver.run(stop.signal);
    await until("it is rebased", async () => each.count("rebased") === 1);
    stop.abort();
    await running;
  });

  test("leaves the spool as it is where it was not asked, or that is not worth it", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await write(each.spool, 40);
    const start = each.spool.generation?.segments[0];
    const rebase = async (options: RebaseOptions | undefined) => {
      const archiver = each.open(options);
      await shipAll(archiver);
      await archiver.rebase(never);
      assert.equal(each.spool.generation?.segments[0]?.path, start?.path);
    };
    await addSet(each.repository, lateEnd(each.spool), 2000);
    await rebase(undefined);
    await rebase({ minFreedBytes: 1_000_000, everyMs: 0 });
    await rebase({});
  });

  test("leaves it where the position is not in a closed segment, or in none", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await write(each.spool, 40);
    const start = each.spool.generation?.segments[0];
    await addSet(each.repository, each.spool.position?.offset ?? 0, 2000);
    await addSet(each.repository, lateEnd(each.spool) + 1, 2001);
    await addSet(each.repository, 10, 2002);
    const archiver = each.open(always);
    await shipAll(archiver);
    await archiver.rebase(never);
    assert.equal(each.spool.generation?.segments[0]?.path, start?.path);
    await write(each.spool, 40);
    await shipAll(archiver);
    await archiver.rebase(never);
    assert.equal(each.count("rebased"), 1, "The one that was in the open segment is taken then");
    await verifyArchive(each.repository, each);
  });

  test("leaves it until all that would go is there, its base too", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await write(each.spool, 40);
    await addSet(each.repository, lateEnd(each.spool), 2000);
    const archiver = each.open(always);
    await archiver.rebase(never);
    await archiver.shipNow();
    await archiver.rebase(never);
    assert.equal(each.count("rebased"), 0, "The base was not read back");
    await archiver.verifyBases(never);
    const { lines } = await readCatalogue(each.repository.store, instance);
    const { object = "" } = lines[0]?.runs[0]?.pieces[1] ?? {};
    const bytes = await readAll(each.repository.store, object, 1_000_000, {});
    await each.repository.store.delete([object]);
    await archiver.rebase(never);
    assert.equal(each.count("rebased"), 0, "A piece is missing");
    await each.repository.store.put(object, bytes, {});
    await archiver.rebase(never);
    assert.equal(each.count("rebased"), 1);
    await verifyArchive(each.repository, each);
  });

  test("leaves it where the set does not come back, and says so once", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    await write(each.spool, 40);
    const set = await addSet(each.repository, lateEnd(each.spool), 2000);
    const object = `instances/${instance}/sets/${set}/snapshot.rdb.zst`;
    const bytes = await readAll(each.repository.store, object, 1_000_000, {});
    bytes[20] = (bytes[20] as number) ^ 1;
    await each.repository.store.put(object, bytes, {});
    const archiver = each.open(always);
    await shipAll(archiver);
    const before = await each.disk.list("/spool/appendonlydir");
    for (let i = 0; i < 3; i++)
      await assert.rejects(archiver.rebase(never), { code: "DATA_CORRUPT" });
    assert.deepEqual([each.count("rebased"), each.count("not rebased")], [0, 1]);
    assert.deepEqual(await each.disk.list("/spool/appendonlydir"), before);
  });

  test("begins a line where the spool does, in another repository", async () => {
    using dir = temporaryFolder();
    await using each = await world(dir.path);
    const archiver = each.open(always);
    await write(each.spool, 40);
    await shipAll(archiver);
    await addSet(each.repository, lateEnd(each.spool), 2000);
    await archiver.rebase(never);
    assert.equal(each.count("rebased"), 1);
    const other = await initRepository(sharedStore());
    const next = each.open(always, other);
    await shipAll(next);
    const { lines, sets } = await readCatalogue(other.store, instance);
    const first = each.spool.generation?.segments[0]?.first;
    const [piece] = lines[0]?.runs[0]?.pieces ?? [];
    assert.deepEqual([lines.length, lines[0]?.runs.length, sets.length], [1, 1, 1]);
    assert.deepEqual([piece?.firstSequence, piece?.fromOffset], [first?.sequence, first?.offset]);
    assert.equal(sets[0]?.isVerified, true);
    await write(each.spool, 40);
    await shipAll(next);
    await addSet(other, lateEnd(each.spool), 3000);
    await next.rebase(never);
    assert.equal(each.count("rebased"), 2);
    await next.shipNow();
    const after = await readCatalogue(other.store, instance);
    assert.deepEqual([after.lines.length, after.lines[0]?.runs.length], [1, 1]);
    assert.equal(each.count("stuck") + each.count("trouble"), 0);
  });
});

suite("a spool of a real server that is rebased while it is written to", () => {
  for (const id of ["redis-7.0", "redis-8.0", "valkey-9"] satisfies ServerId[]) {
    test(`is what ${id} starts on, and restores to every moment`, {
      skip: missingServers(id),
    }, async () => {
      await rebaseRealServer(id);
    });
  }
});

type Observed = {
  readonly replicationId: string;
  readonly offset: number;
  readonly digest: string;
};

async function rebaseRealServer(id: ServerId): Promise<void> {
  using dir = temporaryFolder();
  const conf = { "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1 };
  await using source = await startServer(id, { conf });
  const folder = join(dir.path, "spool");
  const spool = await Spool.open(folder, {
    segmentBytes: 40_000,
    onChange: () => recorder?.spoolChanged(),
  });
  const recorder: Recorder = new Recorder({
    findSource: async () => ({ endpoint: { path: source.socketPath }, why: "it is the only one" }),
    ...{ connect: {}, spool, clock: systemClock, onEvent: () => {} },
  });
  const repository = await initRepository(new DirectoryStore(join(dir.path, "repository")));
  await using lease = await acquire(repository);
  const events: ArchiverEvent[] = [];
  const archiver = archiverOf({
    ...{ repository, lease, spool, intervalMs: 30, rebase: always },
    temporaryFolder: join(folder, "shipping"),
    onEvent: (event) => events.push(event),
  });
  const stop = new AbortController();
  const jobs = [recorder.run(stop.signal), archiver.run(stop.signal)];
  let observed: Observed[] = [];
  try {
    observed = await writeAndRebase(source, repository, () => {
      return events.filter(({ kind }) => kind === "rebased").length;
    });
    const end = observed.at(-1)?.offset ?? 0;
    await until("all is archived", async () => (archiver.status.shippedTo?.offset ?? 0) >= end);
  } finally {
    stop.abort();
    await Promise.allSettled(jobs);
    await spool.close();
  }
  await Promise.all(jobs);
  const bad = events.filter(({ kind }) => /trouble|stuck|not rebased/.test(kind));
  assert.deepEqual([bad, spool.gaps], [[], []]);
  assert.ok(spool.generation?.rebased !== undefined);
  const copy = join(dir.path, "copy");
  cpSync(folder, copy, { recursive: true });
  assert.equal(await digestOf(id, copy), observed.at(-1)?.digest, "The spool");
  await restoreAll(id, repository, dir.path, observed);
}

/** Until the spool was rebased three times; says what the source held at moments in between. */
async function writeAndRebase(
  source: RunningServer,
  repository: Repository,
  rebased: () => number,
): Promise<Observed[]> {
  const gate = { isOver: false };
  const writing = [1, 2].map(async (seed) => {
    await using client = await source.connect();
    for (const random = randomFrom(seed); !gate.isOver; ) {
      await writeLasting(client, 50, random);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  await using observer = await source.connect();
  const observed: Observed[] = [];
  const observe = async () => {
    const asked = ["MULTI", "DEBUG DIGEST", "INFO replication", "EXEC"];
    const replies = await Promise.all(asked.map((text) => observer.call(...text.split(" "))));
    const [digest, info] = replies.at(-1) as [unknown, unknown];
    const field = (name: string) =>
      new RegExp(`^${name}:(\\S+)`, "m").exec(String(info))?.[1] ?? "";
    const offset = Number(field("master_repl_offset"));
    observed.push({ replicationId: field("master_replid"), offset, digest: String(digest) });
  };
  try {
    await until("there is a base", async () => {
      return (await readCatalogue(repository.store, instance)).sets.length > 0;
    });
    await observe();
    for (let tries = 0; rebased() < 3; tries++) {
      assert.ok(tries < 60, "It is rebased");
      await takeLater(source, repository);
      if (tries % 3 === 0) await observe();
    }
  } finally {
    gate.isOver = true;
    await Promise.all(writing);
  }
  await observe();
  return observed;
}

/** A set, when some more was written. */
async function takeLater(source: RunningServer, repository: Repository): Promise<void> {
  const options = { connect: {}, clock: systemClock, watchMs: 20 };
  const offset = (await source.replicationOffset()) + 100_000;
  await until("more is written", async () => (await source.replicationOffset()) > offset);
  await takeSet(
    repository,
    instance,
    (signal) => takeSnapshot({ path: source.socketPath }, { ...options, signal }),
    { kind: "automatic", clock: systemClock, lease: { check: async () => {} } },
  );
}

/** What was archived before the spool was rebased restores as what was archived after. */
async function restoreAll(
  id: ServerId,
  repository: Repository,
  folder: string,
  observed: readonly Observed[],
): Promise<void> {
  const { store } = repository;
  const view = {
    openObject: (object: string, sizeBytes: number) => openObject(repository, object, sizeBytes),
    readSmall: (object: string, maxBytes: number) => readAll(store, object, maxBytes, {}),
  };
  const catalogue = await readCatalogue(store, instance);
  assert.equal(catalogue.lines.length, 1);
  for (const [i, { replicationId, offset, digest }] of observed.entries()) {
    const target = { kind: "position", idPrefix: replicationId, offset } as const;
    const result = await planRestore(view, catalogue, target);
    assert.ok(result.kind === "plan", JSON.stringify(result));
    const to = join(folder, `restored-${i}`);
    await restoreToFolder(view, result.plan, to);
    assert.equal(await digestOf(id, to), digest, `Moment ${i}`);
  }
}

async function digestOf(id: ServerId, dir: string): Promise<string> {
  const conf = { appendonly: "yes", "aof-load-truncated": "no" };
  await using reader = await startServer(id, { dir, conf });
  return await reader.debugDigest();
}
