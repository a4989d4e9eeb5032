/**
 * What lies in a spool, and how one set of files takes the place of another.
 *
 *   FOLDER/
 *     appendonlydir/              the log: any server from 7.0 on starts on FOLDER
 *       appendonly.aof.manifest
 *       appendonly.aof.3.base.rdb
 *       appendonly.aof.7.incr.aof, …
 *       temp-appendonly.aof.manifest   the next manifest: what it names and the one in force does
 *                                      not is unfinished
 *       temp-appendonly.aof.base       a snapshot that is being received
 *       temp-appendonly.aof.rebase,    a later base, and the segment that is to stand behind it, while
 *       temp-appendonly.aof.rest       the log is being rebased (`rebase.ts`)
 *       appendonly.aof.rebased-5.7.incr.aof   that segment, in force: what base 5 left of number 7
 *     retired/2/                  an earlier log, complete, with a manifest of its own
 *     retired/2-damaged/          the same, where something in it was found wrong
 *     damaged/                    tails that were cut off because their bytes were wrong
 *     gaps.jsonl                  spans that no log has
 *     spool.lock, spool.owner     see `folder-lock.ts`
 *
 * INVARIANTS
 *
 *   1. The manifest in force names only files that are complete and durable under those names, but
 *      for the last increment, which grows.
 *   2. A sequence number is used once, whatever becomes of its file: numbers go on from the highest
 *      in any name, so that nothing is ever written over.
 *   3. What leaves the manifest in force is moved by `finishRetiring()`, if it was said durably before; or
 *      it is history in the manifest that it has left for, and `removeHistory()` takes it away.
 */
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { fileNames, formatManifest, type Manifest, parseManifest } from "../codec/aof/manifest.ts";
import { type Disk, readSmall, writeSmall } from "./disk.ts";
import { noteOf } from "./rebase-notes.ts";

const logName = "appendonly.aof";
const manifestName = fileNames.manifest(logName);
const tempManifestName = `temp-${manifestName}`;
const incomingName = `temp-${logName}.base`;
const rebaseName = `temp-${logName}.rebase`;
const restName = `temp-${logName}.rest`;
/** Far above what a spool has: 100 bytes a segment. */
const maxManifestBytes = 16 * 1024 * 1024;

export type SpoolPaths = {
  readonly root: string;
  /** The `appendonlydir`. */
  readonly log: string;
  readonly manifest: string;
  readonly tempManifest: string;
  readonly incomingBase: string;
  /** The base and the first segment of the log when it is rebased. */
  readonly rebasedBase: string;
  readonly rebasedRest: string;
  readonly retired: string;
  readonly damaged: string;
  readonly gaps: string;
};

export function spoolPaths(root: string): SpoolPaths {
  const log = join(root, "appendonlydir");
  return {
    root,
    log,
    manifest: join(log, manifestName),
    tempManifest: join(log, tempManifestName),
    incomingBase: join(log, incomingName),
    rebasedBase: join(log, rebaseName),
    rebasedRest: join(log, restName),
    retired: join(root, "retired"),
    damaged: join(root, "damaged"),
    gaps: join(root, "gaps.jsonl"),
  };
}

export function baseName(sequence: number): string {
  return fileNames.base(logName, sequence, "rdb");
}

export function segmentName(sequence: number): string {
  return fileNames.increment(logName, sequence);
}

/** The segment that is left of another one behind a base. Bases are numbered: it is used once. */
export function rebasedName(sequence: number, base: number): string {
  return fileNames.increment(`${logName}.rebased-${base}`, sequence);
}

/** A manifest; undefined where there is none. @throws Failure DATA_CORRUPT */
export async function readManifest(disk: Disk, folder: string): Promise<Manifest | undefined> {
  const path = join(folder, manifestName);
  const bytes = await readSmall(disk, path, maxManifestBytes);
  if (bytes === undefined) return undefined;
  try {
    return parse(bytes);
  } catch (cause) {
    const { code, message } = cause as Failure;
    throw new Failure(code, `Cannot read "${path}": ${message}`, { cause });
  }
}

/** The highest sequence numbers in any name or manifest, of bases and of increments. */
export async function lastSequences(disk: Disk, paths: SpoolPaths): Promise<Sequences> {
  const last = { base: 0, segment: 0 };
  const retired = await disk.list(paths.retired);
  for (const name of retired) last.base = Math.max(last.base, toNumber(name));
  for (const folder of [paths.log, ...retired.map((name) => join(paths.retired, name))]) {
    // A file that a manifest names may be missing.
    const manifest = await tryReadManifest(disk, folder);
    for (const name of [...(await disk.list(folder)), ...namesOf(manifest)]) {
      const [, number, kind] = /\.(\d{1,15})\.(base|incr)\./.exec(name) ?? [];
      const key = kind === "base" ? "base" : "segment";
      last[key] = Math.max(last[key], Number(number ?? 0));
    }
  }
  return last;
}

export type Sequences = { base: number; segment: number };

/** The number of the newest base that is or was in force. */
export async function lastBaseInForce(
  disk: Disk,
  paths: SpoolPaths,
  inForce: Manifest | undefined,
): Promise<number> {
  const retired = (await disk.list(paths.retired)).map(toNumber);
  return Math.max(inForce?.base?.sequence ?? 0, ...retired);
}

/** The number that a retired log's name begins with. */
function toNumber(name: string): number {
  return Number(/^\d{1,15}/.exec(name)?.[0] ?? 0);
}

/**
 * Puts a manifest in force, with files that are new in it. `create` makes them, complete and synced;
 * a crash before the end leaves the old manifest, and `removeUnfinished()` takes the files away.
 */
export async function publishManifest(
  disk: Disk,
  paths: SpoolPaths,
  manifest: Manifest,
  create: () => Promise<void>,
): Promise<void> {
  await writeSmall(disk, paths.tempManifest, formatManifest(manifest));
  await disk.syncFolder(paths.log);
  await create();
  // Nothing says that the names reach the disk in the order in which they were made.
  await disk.syncFolder(paths.log);
  await disk.rename(paths.tempManifest, paths.manifest);
  await disk.syncFolder(paths.log);
}

/** Takes away what a crash left of files that were never in force. */
export async function removeUnfinished(
  disk: Disk,
  paths: SpoolPaths,
  inForce: Manifest | undefined,
): Promise<void> {
  const bytes = await readSmall(disk, paths.tempManifest, maxManifestBytes);
  if (bytes === undefined) return;
  const next = tryParse(bytes);
  // Without a manifest in force, this was to be the first: one base, one increment. If it names
  // more, somebody has taken the manifest away, and its files are data.
  if (inForce !== undefined || next?.increments.length === 1) {
    const kept = namesOf(inForce);
    for (const name of namesOf(next)) {
      if (!kept.has(name)) await disk.remove(join(paths.log, name));
    }
    await disk.syncFolder(paths.log);
  }
  await disk.remove(paths.tempManifest);
}

/** Takes away what the manifest in force does not need any more. Returns what it is without that. */
export async function removeHistory(
  disk: Disk,
  paths: SpoolPaths,
  inForce: Manifest,
): Promise<Manifest> {
  const { history } = inForce;
  if (history.length === 0) return inForce;
  const kept = namesOf(inForce);
  for (const { file } of history) {
    if (!kept.has(file)) await disk.remove(join(paths.log, file));
  }
  // The next manifest does not name them: they have to be gone before it comes.
  await disk.syncFolder(paths.log);
  return { ...inForce, history: [] };
}

/** Says durably that a log's files belong together, and where they go when it is not in force. */
export async function beginRetiring(
  disk: Disk,
  paths: SpoolPaths,
  { base, increments }: Manifest,
  name: string,
): Promise<void> {
  const folder = join(paths.retired, name);
  await disk.makeFolder(folder);
  await disk.syncFolder(paths.root);
  await disk.syncFolder(paths.retired);
  const temporary = join(folder, tempManifestName);
  await writeSmall(disk, temporary, formatManifest({ base, increments, history: [] }));
  await disk.rename(temporary, join(folder, manifestName));
  await disk.syncFolder(folder);
}

/** Moves what was to be retired and is not in force; takes back what is in force all the same. */
export async function finishRetiring(
  disk: Disk,
  paths: SpoolPaths,
  inForce: Manifest | undefined,
): Promise<void> {
  const kept = namesOf(inForce);
  const present = new Set(await disk.list(paths.log));
  for (const name of await disk.list(paths.retired)) {
    const folder = join(paths.retired, name);
    const names = namesOf(await tryReadManifest(disk, folder));
    await disk.remove(join(folder, tempManifestName));
    const isInForce = [...names].some((file) => kept.has(file));
    if (isInForce) {
      await disk.remove(join(folder, manifestName));
      // Were it to come back when these files have gone for good, it would be a log that has lost them.
      await disk.syncFolder(folder);
    }
    if (isInForce || names.size === 0) {
      await disk.removeFolder(folder);
      continue;
    }
    const left = [...names].filter((file) => present.has(file));
    for (const file of left) await disk.rename(join(paths.log, file), join(folder, file));
    if (left.length > 0) {
      await disk.syncFolder(folder);
      await disk.syncFolder(paths.log);
    }
  }
}

/** Moves a manifest that cannot be read out of the way, and whatever may belong to it. */
export async function setAside(disk: Disk, paths: SpoolPaths, name: string): Promise<void> {
  const folder = join(paths.retired, name);
  await disk.makeFolder(folder);
  const isPart = (file: string) => /\.\d+\.(base|incr)\./.test(file);
  await disk.rename(paths.manifest, join(folder, "unreadable.manifest"));
  for (const file of (await disk.list(paths.log)).filter(isPart)) {
    await disk.rename(join(paths.log, file), join(folder, file));
  }
  for (const each of [folder, paths.log, paths.retired, paths.root]) await disk.syncFolder(each);
}

/** A manifest; undefined where there is none that can be read. */
export async function tryReadManifest(disk: Disk, folder: string): Promise<Manifest | undefined> {
  const bytes = await readSmall(disk, join(folder, manifestName), maxManifestBytes);
  return bytes === undefined ? undefined : tryParse(bytes);
}

/** @throws Failure DATA_CORRUPT */
function parse(bytes: Uint8Array): Manifest {
  const manifest = parseManifest(bytes);
  noteOf(manifest);
  return manifest;
}

function tryParse(bytes: Uint8Array): Manifest | undefined {
  try {
    return parse(bytes);
  } catch {
    return undefined;
  }
}

function namesOf(manifest: Manifest | undefined): ReadonlySet<string> {
  if (manifest === undefined) return new Set();
  const { base, increments } = manifest;
  return new Set([...(base === undefined ? [] : [base]), ...increments].map(({ file }) => file));
}
