/** A spool that is written to at random, and what its archive has to be. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Archiver, type ArchiverOptions } from "../../src/archive/archiver.ts";
import type { SpoolView } from "../../src/archive/archiver-round.ts";
import { type Catalogue, readCatalogue } from "../../src/archive/catalogue.ts";
import { lineName } from "../../src/archive/layout.ts";
import { Lease } from "../../src/archive/lease.ts";
import { openObject, type Repository } from "../../src/archive/repository.ts";
import { verifyLog } from "../../src/archive/verify.ts";
import { type Disk, readAt } from "../../src/log/disk.ts";
import type { Generation } from "../../src/log/segment.ts";
import type { Spool } from "../../src/log/spool.ts";
import type { Random } from "../../src/log/testing.ts";
import { baseOffset, batchAt, replicationId } from "../log/numbered.ts";

export const instance = "shop";

/** The shortest RDB that a server takes: no checksum. */
const emptyRdb = Buffer.from("REDIS0011\xff\0\0\0\0\0\0\0\0", "latin1");

/** Keeps the logs that are discarded, as whoever compares needs them: line to bytes. */
export type Keeper = (line: string, log: Uint8Array) => Promise<void>;

/** A spool that gives what it discards to a keeper first. */
export function keeping(spool: Spool, disk: Disk, keep: Keeper): SpoolView {
  return {
    get generation() {
      return spool.generation;
    },
    get written() {
      return spool.written;
    },
    get synced() {
      return spool.synced;
    },
    retired: () => spool.retired(),
    discard: async (name) => {
      const found = (await spool.retired()).find((each) => each.name === name);
      assert.ok(found !== undefined, "A retired log is discarded");
      // Where a process before has begun, it was kept then.
      if (found.damaged.length === 0) await keep(nameOf(found), await readLog(disk, found));
      await spool.discard(name);
    },
  };
}

/** Keeps them in a folder: each whole, or not at all. */
export function keepIn(folder: string): Keeper {
  mkdirSync(folder, { recursive: true });
  return async (line, log) => {
    writeFileSync(join(folder, `${line}.part`), log);
    renameSync(join(folder, `${line}.part`), join(folder, line));
  };
}

export function readKept(folder: string): Map<string, Uint8Array> {
  const names = readdirSync(folder).filter((name) => !name.endsWith(".part"));
  return new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
}

function nameOf({ segments: [start] }: Generation): string {
  assert.ok(start !== undefined);
  return lineName(start.first);
}

export async function readLog(disk: Disk, { segments }: Generation): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (const { path, sizeBytes } of segments) {
    const file = await disk.open(path, "read");
    parts.push(await readAt(file, 0, sizeBytes));
    await file.close();
  }
  return Buffer.concat(parts);
}

/** Takes a base, if there is none, or another one. */
export async function takeBase(spool: Spool, ms: number): Promise<void> {
  const offset = spool.position === undefined ? baseOffset : spool.position.offset + 77;
  const base = await spool.beginBase({ replicationId, offset, ms, database: 3 }, "it was time");
  await base.write(emptyRdb);
  await base.commit();
}

/** Appends a batch that follows from where the log is. */
export function appendBatch(spool: Spool, ms: number): boolean {
  const startOffset = spool.position?.offset ?? 0;
  const bytes = batchAt(startOffset);
  const offset = startOffset + bytes.length;
  return spool.append(bytes, { replicationId, startOffset, offset, ms, database: 0 });
}

export function archiverOf(
  options: Pick<ArchiverOptions, "repository" | "spool" | "lease" | "temporaryFolder"> &
    Partial<ArchiverOptions>,
): Archiver {
  const sourceFacts = () => ({ name: "redis://here:6379", version: "7.0.15" });
  return new Archiver({ instance, sourceFacts, maxGatheredBytes: 1500, ...options });
}

export async function acquire(repository: Repository, owner = "a test"): Promise<Lease> {
  return await Lease.acquire(repository, instance, { owner, holder: "the spool" });
}

export type Expected = {
  readonly spool: Spool;
  readonly disk: Disk;
  /** The logs that were discarded. */
  readonly kept: ReadonlyMap<string, Uint8Array>;
};

/** Everything is there, once, and nothing else is. */
export async function verifyArchive(
  repository: Repository,
  expected: Expected,
): Promise<Catalogue> {
  const { spool, disk } = expected;
  const catalogue = await readCatalogue(repository.store, instance);
  assert.deepEqual(catalogue.unknown, []);
  assert.deepEqual([...catalogue.unfinished.keys()], []);
  const logs = new Map(expected.kept);
  const whole = new Set<string>();
  for (const each of [...(await spool.retired()), spool.generation]) {
    if (each === undefined) continue;
    logs.set(nameOf(each), await readLog(disk, each));
    if (each.damaged.length === 0) whole.add(nameOf(each));
  }
  assert.deepEqual(catalogue.lines.map(({ name }) => name).sort(), [...logs.keys()].sort());
  for (const { name, runs, covered, ms } of catalogue.lines) {
    assert.deepEqual([name, runs.length], [name, 1]);
    // Of one that was discarded, a stale listing may have hidden some, and expiry takes them; of a damaged
    // one, nothing is touched until it is sure that its files are not being moved.
    if (whole.has(name)) assert.deepEqual(covered, []);
    const sets = catalogue.sets.filter((set) => set.ms === ms);
    assert.deepEqual(
      sets.map(({ isVerified }) => isVerified),
      [true],
      "One base each, verified",
    );
    const parts: Uint8Array[] = [];
    for (const { object, sizeBytes } of runs[0]?.pieces ?? []) {
      const reader = await openObject(repository, object, sizeBytes);
      parts.push(...(await Array.fromAsync(reader.rawBytes())));
    }
    const log = logs.get(name) as Uint8Array;
    assert.ok(Buffer.concat(parts).equals(log), `${name} is what the spool had`);
  }
  const clock = { now: () => 0 };
  const { findings, holes } = await verifyLog(repository, instance, { clock });
  assert.deepEqual([findings, holes], [[], []]);
  return catalogue;
}

/** One run of appends, of random length. */
export async function writeSome(spool: Spool, random: Random, nowMs: () => number): Promise<void> {
  if (spool.state.kind === "empty" || random.chance(0.04)) await takeBase(spool, nowMs());
  for (let left = random.below(12); left > 0; left--) {
    if (!appendBatch(spool, nowMs())) await spool.room();
    if (random.chance(0.3)) spool.tick();
  }
  if (random.chance(0.6)) await spool.flush();
}
