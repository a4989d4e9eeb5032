/**
 * Stores the base that a line begins with, as a backup set of kind "base".
 *
 * INVARIANTS
 *
 *   1. A line has one base set: its name follows from the line's, so that who starts again finds it.
 *   2. The manifest is written last. A set without one is begun from the start.
 */
import { createHash } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { type Disk, readAt, readPart } from "../log/disk.ts";
import type { Base, Segment } from "../log/segment.ts";
import type { Ship } from "./archiver-piece.ts";
import { formatSetManifest, type SetManifest } from "./backup-set.ts";
import { lineName, type Moment, setName, setObject, setObjects, setPrefix } from "./layout.ts";
import { ObjectWriter } from "./object/object-writer.ts";
import { RdbBlocks } from "./object/rdb-blocks.ts";
import { writerOptions } from "./repository.ts";

/** Where bases come from, for people. */
export type SourceFacts = { readonly name: string; readonly version: string };

export type BaseState = "missing" | "stored" | "verified";

/** The set of the base that a line begins with. */
export function baseSetName(first: Moment): string {
  const random = createHash("sha256").update(lineName(first)).digest("hex").slice(0, 4);
  return setName(first.ms, random);
}

export async function readBaseState(
  ship: Ship,
  set: string,
  signal: AbortSignal,
): Promise<BaseState> {
  const { repository, instance } = ship;
  const prefix = setPrefix(instance, set);
  const found = new Set<string>();
  for await (const { name } of repository.store.list(prefix, { signal })) {
    found.add(name.slice(prefix.length));
  }
  if (!found.has(setObjects.manifest)) return "missing";
  return found.has(setObjects.verified) ? "verified" : "stored";
}

export type BaseOptions = {
  readonly base: Base;
  /** The first segment behind it. */
  readonly segment: Segment;
  readonly source: SourceFacts;
  readonly clock: Clock;
  readonly writer: string;
};

/** @throws Failure of the file, of the store */
export async function shipBase(
  ship: Ship,
  { base, segment, source, clock, writer: writerName }: BaseOptions,
  signal: AbortSignal,
): Promise<SetManifest> {
  const { repository, instance, disk, lease } = ship;
  const { first } = segment;
  const set = baseSetName(first);
  const startedMs = clock.now();
  const writer = new ObjectWriter(new RdbBlocks(), writerOptions(repository));
  const bytes = readPart(disk, { path: base.path, end: base.sizeBytes });
  await lease.check(signal);
  const snapshot = setObject(instance, set, "snapshot");
  await repository.store.upload(snapshot, writer.bytes(bytes), { signal });
  const { index, sha256, sizeBytes } = writer.summary;
  const { replicationId, offset, ms } = first;
  const manifest: SetManifest = {
    ...{
      format: 1,
      set,
      instance,
      kind: "base",
      position: { replicationId, offset },
      ms,
      startedMs,
    },
    endedMs: clock.now(),
    database: (await databaseAt(disk, segment)) ?? null,
    source: { name: source.name, role: "spool", version: source.version },
    cost: {
      ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
      ...{ p99BeforeMs: null, p99DuringMs: null },
    },
    snapshot: {
      ...{ sizeBytes, sha256, rawBytes: index.rawBytes, rawSha256: index.rawSha256 },
      ...{ magic: index.magic, keys: index.keys },
    },
    writer: writerName,
  };
  await lease.check(signal);
  const object = setObject(instance, set, "manifest");
  await repository.store.put(object, formatSetManifest(manifest), { signal });
  return manifest;
}

/** The database that a segment begins with: before its second position line, there is a SELECT of it. */
async function databaseAt(disk: Disk, { path, first }: Segment): Promise<number | undefined> {
  const file = await disk.open(path, "read");
  try {
    const scanner = new LogScanner();
    scanner.push(await readAt(file, 0, 1024));
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      const line = scanner.position;
      if (item !== "position" || line === undefined || line.sequence === first.sequence) continue;
      return line.offset === first.offset ? scanner.scanner.database : undefined;
    }
    return undefined;
  } finally {
    await file.close();
  }
}
