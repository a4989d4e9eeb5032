/**
 * What a spool's folder says after whatever ended the process, or the machine, that wrote to it.
 *
 * WHY. The position that a recorder goes on from has to be that of the bytes on disk, exactly: one
 * write too few is lost, one too many is applied twice. So it is not kept anywhere else. It is the
 * last position line that the last segment is proved up to.
 *
 * | what is found                                        | what is done                             |
 * | ---------------------------------------------------- | ---------------------------------------- |
 * | no manifest                                          | "empty": the first base is to be taken   |
 * | a log that was written, or gone on with, by others   | refused: Failure, nothing is touched     |
 * | a manifest that cannot be read, a file missing, a    | "damaged": a new base is to be taken,    |
 * | segment without its first or last line               | the files are kept                       |
 * | the last segment ends in part of a batch, in whole   | cut behind its last position line: the   |
 * | records without a line, or in zeros                  | source will send it again                |
 * | wrong bytes in the last segment                      | the same, and what is cut is kept beside |
 * | files that were to come into force, and did not; or  | removed                                  |
 * | that the log was rebased from                        |                                          |
 * | a log that was to be retired, and is not all moved   | moved                                    |
 *
 * Wrong bytes in the last segment are no reason for a new base: the position before them is right,
 * and if the source still has what follows, nothing is lost. After a power loss they may be no damage
 * at all: the pages of a file reach the disk in any order until it is synced.
 *
 * Segments before the last were synced as a whole before the next one came into force. Here only
 * their first and last lines are looked at; `tidemark check` looks at all of their bytes.
 */
import { dirname, join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { type CheckResult, LogChecker } from "../codec/aof/check.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import type { Manifest } from "../codec/aof/manifest.ts";
import { type Disk, type DiskFile, writeAll } from "./disk.ts";
import { noteOf } from "./rebase-notes.ts";
import { type Generation, readEnds, readGeneration } from "./segment.ts";
import {
  finishRetiring,
  readManifest,
  removeHistory,
  removeUnfinished,
  type SpoolPaths,
} from "./spool-files.ts";

export type Recovered =
  | { readonly kind: "empty" }
  | {
      readonly kind: "ready";
      readonly manifest: Manifest;
      /** All but the last segment. */
      readonly closed: Generation;
      readonly last: LastSegment;
      /** What was cut off the last segment. */
      readonly cutBytes: number;
      /** Where that had wrong bytes: what was wrong, and where it is kept. */
      readonly damage: Failure | undefined;
    }
  | {
      readonly kind: "damaged";
      readonly failure: Failure;
      /** Where the log ended, if that can be said. */
      readonly last: PositionLine | undefined;
    };

export type LastSegment = {
  readonly name: string;
  readonly path: string;
  readonly sequence: number;
  /** The end of the last position line. */
  readonly sizeBytes: number;
  readonly first: PositionLine;
  readonly last: PositionLine;
  /** The database that was selected there. */
  readonly database: number | undefined;
  /** No record is between this position and `last`. */
  readonly changedOffset: number;
};

const chunkBytes = 256 * 1024;

/** @throws Failure FILE_EXISTS where the log is not ours, FILE_FAILED */
export async function recover(disk: Disk, paths: SpoolPaths): Promise<Recovered> {
  let manifest: Manifest | undefined;
  try {
    manifest = await readManifest(disk, paths.log);
  } catch (error) {
    if (!(error instanceof Failure) || !error.code.startsWith("DATA_")) throw error;
    const names = (await disk.list(paths.log)).filter((name) => /\.incr\./.test(name));
    if (!(await hasOurs(disk, paths, names))) throw error;
    return { kind: "damaged", failure: error, last: undefined };
  }
  await mustBeOurs(disk, paths, manifest);
  for (const folder of [paths.root, paths.log, paths.retired]) await disk.makeFolder(folder);
  await disk.syncFolder(dirname(paths.root));
  await disk.syncFolder(paths.root);
  // What is seen may have been renamed by a process that ended before it could sync that.
  await disk.syncFolder(paths.log);
  for (const path of [paths.incomingBase, paths.rebasedBase, paths.rebasedRest]) {
    await disk.remove(path);
  }
  await removeUnfinished(disk, paths, manifest);
  await finishRetiring(disk, paths, manifest);
  if (manifest === undefined) return { kind: "empty" };
  const found = await recoverLog(disk, paths, manifest);
  const left = await removeOurHistory(disk, paths, manifest, found);
  return found.kind === "ready" ? { ...found, manifest: left } : found;
}

/** What a server has made history, in a log that it has written, is left to it. */
export async function removeOurHistory(
  disk: Disk,
  paths: SpoolPaths,
  manifest: Manifest,
  { kind }: Recovered,
): Promise<Manifest> {
  const isOurs = kind === "ready" || noteOf(manifest) !== undefined;
  return isOurs ? await removeHistory(disk, paths, manifest) : manifest;
}

/** A log that nobody writes to: where it is proved to end. It is cut there, and synced. */
export async function recoverLog(
  disk: Disk,
  paths: SpoolPaths,
  manifest: Manifest,
): Promise<Exclude<Recovered, { kind: "empty" }>> {
  const entry = manifest.increments.at(-1);
  const closed = await readGeneration(disk, paths.log, "current", {
    ...manifest,
    increments: manifest.increments.slice(0, -1),
  });
  const before = closed.segments.at(-1)?.last;
  const damaged = (found: string, last: PositionLine | undefined) => {
    const message = `Cannot go on with the log in "${paths.log}": ${found}`;
    const failure = new Failure("DATA_CORRUPT", message, {
      hint: "A new base is taken; what is there is kept in the retired folder.",
    });
    return { kind: "damaged", failure, last } as const;
  };
  const path = entry === undefined ? "" : join(paths.log, entry.file);
  const hasLast = entry !== undefined && (await disk.list(paths.log)).includes(entry.file);
  const checked = hasLast ? await checkSegment(disk, path, before) : undefined;
  if (closed.damaged.length > 0) {
    return damaged(`"${closed.damaged[0]}" is missing or not whole`, checked?.result.last);
  }
  if (entry === undefined || checked === undefined)
    return damaged("its last file is missing", before);
  const { result, database } = checked;
  const { first, last, sealedEnd, changedOffset = 0 } = result;
  if (first === undefined || last === undefined) {
    return damaged(`"${entry.file}" has no whole position line`, before);
  }
  const damage = await cutBehind(disk, paths, { path, name: entry.file, result });
  const { file: name, sequence } = entry;
  return {
    kind: "ready",
    manifest,
    closed,
    last: { name, path, sequence, sizeBytes: sealedEnd, first, last, database, changedOffset },
    cutBytes: result.sizeBytes - sealedEnd,
    damage,
  };
}

/** A folder that others write to is left alone: what looks torn to us may be their data. */
async function mustBeOurs(
  disk: Disk,
  paths: SpoolPaths,
  manifest: Manifest | undefined,
): Promise<void> {
  const refuse = (found: string) =>
    new Failure("FILE_EXISTS", `Cannot record into "${paths.root}": ${found}`, {
      hint: "Choose another folder, or move what is there away.",
    });
  const names = (await disk.list(paths.log)).filter(
    (name) => name.endsWith(".manifest") && !name.startsWith("temp-"),
  );
  const other = names.find((name) => join(paths.log, name) !== paths.manifest);
  if (other !== undefined) throw refuse(`it has another log, "${other}"`);
  if (manifest === undefined) return;
  const entry = manifest.increments.at(-1);
  if (entry === undefined) throw refuse("its log was written by a server");
  const head = (await readEnds(disk, join(paths.log, entry.file)))?.head;
  if (head === undefined || head === "" || head.startsWith("#TM")) return;
  throw refuse(`"${entry.file}" in it was written by a server`);
}

/** Whether one of these files begins as ours do. */
async function hasOurs(disk: Disk, paths: SpoolPaths, names: readonly string[]): Promise<boolean> {
  for (const name of names) {
    if ((await readEnds(disk, join(paths.log, name)))?.head.startsWith("#TM")) return true;
  }
  return false;
}

export type CheckedSegment = {
  readonly result: CheckResult;
  readonly database: number | undefined;
};

/** Proves a segment, and tells the database that is selected where it is proved up to. */
export async function checkSegment(
  disk: Disk,
  path: string,
  after: PositionLine | undefined,
): Promise<CheckedSegment> {
  const file = await disk.open(path, "read");
  try {
    const checker = new LogChecker(after === undefined ? {} : { after });
    await readAll(file, Number.POSITIVE_INFINITY, (chunk) => checker.push(chunk));
    const result = checker.finish();
    const scanner = new RecordScanner();
    await readAll(file, result.sealedEnd, (chunk) => {
      scanner.push(chunk);
      while (scanner.next() !== "more");
    });
    return { result, database: scanner.database };
  } finally {
    await file.close();
  }
}

async function readAll(
  file: DiskFile,
  end: number,
  take: (chunk: Uint8Array) => void,
): Promise<void> {
  const chunk = new Uint8Array(chunkBytes);
  for (let at = 0; at < end; ) {
    const size = await file.read(chunk.subarray(0, Math.min(chunkBytes, end - at)), at);
    if (size === 0) return;
    take(chunk.subarray(0, size));
    at += size;
  }
}

type Tail = { readonly path: string; readonly name: string; readonly result: CheckResult };

/**
 * Cuts the segment behind its last position line, and makes it durable: so far it was only written.
 *
 * For that all of it is written once more, as it is. The process before may have been told that a
 * sync had failed. Then the kernel has its pages for written, though they are not, and would leave
 * them out of every sync from then on.
 */
async function cutBehind(disk: Disk, paths: SpoolPaths, tail: Tail): Promise<Failure | undefined> {
  const { result } = tail;
  let damage: Failure | undefined;
  if (result.verdict === "corrupt" && result.offset < result.sizeBytes - result.trailingZeros) {
    const kept = await keepTail(disk, paths, tail);
    const message = `Damage in "${tail.path}": ${result.reason}`;
    damage = new Failure("DATA_CORRUPT", message, {
      offset: result.offset,
      hint: `What follows byte ${result.sealedEnd} was cut off and is kept as "${kept}".`,
    });
  }
  const file = await disk.open(tail.path, "write");
  try {
    if (result.sealedEnd < result.sizeBytes) await file.truncate(result.sealedEnd);
    const chunk = new Uint8Array(chunkBytes);
    for (let at = 0; at < result.sealedEnd; ) {
      const size = await file.read(chunk, at);
      if (size === 0) break;
      await writeAll(file, chunk.subarray(0, size), at);
      at += size;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return damage;
}

async function keepTail(
  disk: Disk,
  paths: SpoolPaths,
  { path, name, result }: Tail,
): Promise<string> {
  await disk.makeFolder(paths.damaged);
  await disk.syncFolder(paths.root);
  const taken = new Set(await disk.list(paths.damaged));
  let number = 1;
  const nameOf = () => `${name}.from-${result.sealedEnd}.${number}`;
  while (taken.has(nameOf())) number++;
  const kept = join(paths.damaged, nameOf());
  const copied = await copyPart(disk, { from: path, start: result.sealedEnd, to: kept });
  await copied.close();
  await disk.syncFolder(paths.damaged);
  return kept;
}

type Part = {
  readonly from: string;
  readonly to: string;
  readonly start?: number;
  readonly end?: number;
};

/** Copies bytes of a file into a new one, which is synced and left open. */
export async function copyPart(
  disk: Disk,
  { from, to, start = 0, end = Number.POSITIVE_INFINITY }: Part,
): Promise<DiskFile> {
  const source = await disk.open(from, "read");
  try {
    const target = await disk.open(to, "create");
    try {
      const chunk = new Uint8Array(chunkBytes);
      for (let at = start; at < end; ) {
        const size = await source.read(chunk.subarray(0, Math.min(chunkBytes, end - at)), at);
        if (size === 0) break;
        await writeAll(target, chunk.subarray(0, size), at - start);
        at += size;
      }
      await target.sync();
      return target;
    } catch (error) {
      await target.close();
      throw error;
    }
  } finally {
    await source.close();
  }
}
