/** A spool that is written to at random, and what its archive has to be. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Archiver, type ArchiverOptions } from "../../src/archive/archiver.ts";
import { baseSetName } from "../../src/archive/archiver-base.ts";
import type { SpoolView } from "../../src/archive/archiver-round.ts";
import { formatSetManifest, type SetManifest } from "../../src/archive/backup-set.ts";
import { type Catalogue, readCatalogue } from "../../src/archive/catalogue.ts";
import { type LineFacts, lineName, setName, setObject } from "../../src/archive/layout.ts";
import { Lease } from "../../src/archive/lease.ts";
import { ObjectWriter } from "../../src/archive/object/object-writer.ts";
import { RdbBlocks } from "../../src/archive/object/rdb-blocks.ts";
import { openObject, type Repository, writerOptions } from "../../src/archive/repository.ts";
import { verifyLog, verifySet } from "../../src/archive/verify.ts";
import { Slice } from "../../src/base/bytes.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogChecker } from "../../src/codec/aof/check.ts";
import { RecordScanner } from "../../src/codec/aof/framing.ts";
import { type Disk, readAt } from "../../src/log/disk.ts";
import type { Generation } from "../../src/log/segment.ts";
import type { Spool } from "../../src/log/spool.ts";
import type { Random } from "../../src/log/testing.ts";
import { baseOffset, batchAt, replicationId } from "../log/numbered.ts";

export const instance = "shop";

/** The shortest RDB that a server takes: no checksum. */
const emptyRdb = Buffer.from("REDIS0011\xff\0\0\0\0\0\0\0\0", "latin1");

/** An RDB that says where it was taken: an auxiliary field and no keys. */
function rdbAt(offset: number): Uint8Array {
  const text = String(offset).padStart(20, "0");
  return Buffer.from(`REDIS0011\xfa\x02at\x14${text}\xff\0\0\0\0\0\0\0\0`, "latin1");
}

/** Keeps the segments that the spool lets go of, as whoever compares needs them: `partName()` to bytes. */
export type Keeper = (part: string, bytes: Uint8Array) => Promise<void>;

/** By line, then in order. */
function partName(line: string, { sequence }: PositionLine): string {
  return `${line}.${String(sequence).padStart(12, "0")}`;
}

/** A spool that gives what it lets go of to a keeper first. */
export function keeping(spool: Spool, disk: Disk, keep: Keeper): SpoolView {
  const keepAll = async (found: Generation, count = found.segments.length) => {
    for (const [name, bytes] of await readParts(disk, found, count)) await keep(name, bytes);
  };
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
      if (found.damaged.length === 0) await keepAll(found);
      await spool.discard(name);
    },
    planRebase: (at) => spool.planRebase(at),
    rebase: async (plan, parts, signal) => {
      const { generation } = spool;
      // There is none while a new base comes into force.
      if (generation === undefined) return undefined;
      const at = generation.segments.findIndex(({ name }) => name === plan.segment.name);
      await keepAll(generation, at + 1);
      return await spool.rebase(plan, parts, signal);
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

function nameOf({ rebased, segments: [start] }: Generation): string {
  assert.ok(start !== undefined);
  return lineName(rebased?.origin ?? start.first);
}

/** The first segments of a log, but for one that was begun anew: what that was, is kept. */
export async function readParts(
  disk: Disk,
  generation: Generation,
  count = generation.segments.length,
): Promise<Map<string, Uint8Array>> {
  const parts = new Map<string, Uint8Array>();
  const line = nameOf(generation);
  for (const { path, sizeBytes, first, was } of generation.segments.slice(0, count)) {
    if (was !== undefined) continue;
    const file = await disk.open(path, "read");
    parts.set(partName(line, first), await readAt(file, 0, sizeBytes));
    await file.close();
  }
  return parts;
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

/** Puts a good set into the repository: a snapshot of where the log stood at a position. */
export async function addSet(repository: Repository, offset: number, ms: number): Promise<string> {
  const set = setName(ms, String(offset % 10_000).padStart(4, "0"));
  const writer = new ObjectWriter(new RdbBlocks(), writerOptions(repository));
  const snapshot = setObject(instance, set, "snapshot");
  await repository.store.upload(snapshot, writer.bytes([rdbAt(offset)]), {});
  const { index, sha256, sizeBytes } = writer.summary;
  const { rawBytes, rawSha256, magic, keys } = index;
  const manifest: SetManifest = {
    ...{ format: 1, set, instance, kind: "automatic", ms, startedMs: ms, endedMs: ms },
    ...{ position: { replicationId, offset }, database: null, writer: "a test" },
    source: { name: "redis://here:6379", role: "replica", version: "7.0.15" },
    cost: {
      ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
      ...{ p99BeforeMs: null, p99DuringMs: null },
    },
    snapshot: { sizeBytes, sha256, rawBytes, rawSha256, magic, keys },
  };
  const object = setObject(instance, set, "manifest");
  await repository.store.put(object, formatSetManifest(manifest), {});
  const { isGood } = await verifySet(repository, instance, set, { clock: { now: () => ms } });
  assert.ok(isGood);
  return set;
}

/** One of somewhere in the closed segments. */
export async function addRandomSet(
  repository: Repository,
  { generation }: Spool,
  random: Random,
  ms: number,
): Promise<void> {
  const ends = generation === undefined ? [] : unitEnds(generation);
  const offset = ends[random.below(ends.length)];
  if (offset !== undefined) await addSet(repository, offset, ms);
}

/** Where units end in the closed segments of a log: every record is one. */
export function unitEnds({ rebased, segments }: Generation): number[] {
  const first = segments[0]?.first.offset ?? 0;
  const last = segments.at(-2)?.last.offset ?? 0;
  const ends: number[] = [];
  for (let at = (rebased?.origin ?? segments[0]?.first)?.offset ?? 0; at < last; ) {
    const bytes = batchAt(at);
    ends.push(...recordsOf(bytes).map(({ end }) => at + end));
    at += bytes.length;
  }
  return ends.filter((end) => end > first && end <= last);
}

type FoundRecord = { readonly text: string; readonly end: number };

/** All but those that a writer adds. */
function recordsOf(bytes: Uint8Array): FoundRecord[] {
  const scanner = new RecordScanner();
  const slice = new Slice();
  const found: FoundRecord[] = [];
  scanner.push(bytes);
  for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
    if (item !== "record" || !scanner.argument(0, slice) || slice.latin1() === "SELECT") continue;
    scanner.raw(slice);
    found.push({ text: slice.latin1(), end: scanner.end });
  }
  return found;
}

/** The log in force is what was written since its base, and a base that is of where it begins. */
async function verifySpool(spool: Spool, disk: Disk): Promise<void> {
  const { generation } = spool;
  const [start] = generation?.segments ?? [];
  if (generation?.base === undefined || start === undefined) return;
  const base = await disk.open(generation.base.path, "read");
  const content = await readAt(base, 0, 1000);
  await base.close();
  const from = start.first.offset;
  assert.deepEqual(
    Buffer.from(content),
    generation.rebased === undefined ? emptyRdb : rdbAt(from),
    "The base is of where the log begins",
  );
  const checker = new LogChecker();
  const found: string[] = [];
  for (const { path, sizeBytes } of generation.segments) {
    const file = await disk.open(path, "read");
    const bytes = await readAt(file, 0, sizeBytes);
    await file.close();
    checker.push(bytes);
    found.push(...recordsOf(bytes).map(({ text }) => text));
  }
  assert.equal(checker.finish().verdict, "ok");
  const expected: string[] = [];
  const end = generation.segments.at(-1)?.last.offset ?? 0;
  for (let at = (generation.rebased?.origin ?? start.first).offset; at < end; ) {
    const bytes = batchAt(at);
    for (const record of recordsOf(bytes)) if (at + record.end > from) expected.push(record.text);
    at += bytes.length;
  }
  assert.deepEqual(found, expected, "Each record once, in order");
}

export type Expected = {
  readonly spool: Spool;
  readonly disk: Disk;
  /** What the spool has let go of. */
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
  const bases = new Set(catalogue.lines.map(baseOf));
  const unfinished = [...catalogue.unfinished.keys()].filter((set) => bases.has(set));
  assert.deepEqual(unfinished, [], "What was begun of a base is ended");
  const parts = new Map(expected.kept);
  const present = new Set<string>();
  for (const each of [...(await spool.retired()), spool.generation]) {
    if (each === undefined) continue;
    present.add(nameOf(each));
    for (const [name, bytes] of await readParts(disk, each)) parts.set(name, bytes);
  }
  await verifySpool(spool, disk);
  const lines = new Set([...parts.keys()].map((name) => name.split(".")[0]));
  assert.deepEqual(new Set(catalogue.lines.map(({ name }) => name)), lines);
  for (const line of catalogue.lines) {
    const { name, runs, covered } = line;
    assert.deepEqual([name, runs.length], [name, 1]);
    // A stale listing may have hidden one before its log was discarded; expiry takes it along.
    if (present.has(name)) assert.deepEqual(covered, []);
    const sets = catalogue.sets.filter((set) => set.name === baseOf(line));
    assert.deepEqual(
      sets.map(({ isVerified }) => isVerified),
      [true],
      "One base each, verified",
    );
    const shipped: Uint8Array[] = [];
    for (const { object, sizeBytes } of runs[0]?.pieces ?? []) {
      const reader = await openObject(repository, object, sizeBytes);
      shipped.push(...(await Array.fromAsync(reader.rawBytes())));
    }
    const names = [...parts.keys()].filter((part) => part.startsWith(`${name}.`)).sort();
    const log = Buffer.concat(names.map((part) => parts.get(part) as Uint8Array));
    assert.ok(Buffer.concat(shipped).equals(log), `${name} is what the spool had`);
  }
  const clock = { now: () => 0 };
  const { findings, holes } = await verifyLog(repository, instance, { clock });
  assert.deepEqual([findings, holes], [[], []]);
  return catalogue;
}

/** The set that a line begins with. */
function baseOf({ idPrefix, offset, ms }: LineFacts): string {
  return baseSetName({ replicationId: idPrefix, offset, ms });
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
