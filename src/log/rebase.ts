/**
 * A log's beginning written anew: from the position of a snapshot on, which then is its base.
 *
 * WHY. A log begins with a base and grows. Once somebody else keeps all of it up to a later snapshot, the
 * log can begin there. A server loads a base and then every record behind it, so the segment that has the
 * position has to begin exactly there: it is written once more, without what is before.
 *
 *   before    line f … line n ── records ──┬── records ── line n+1 … line l
 *   after                      line n, SELECT ── records ── line n+1 … line l
 *
 * The new file begins with a line that stands at the position and has the number of the line before it,
 * so that no number behind it changes. Line n+1 gets the checksum of the bytes that are before it now.
 * All that follows it is copied.
 *
 * INVARIANTS
 *
 *   1. Nothing here changes what is in force. Files have names that recovery takes away.
 *   2. The new segment is read back and proved, up to the line that the old one ended with.
 *   3. Memory: a few chunks, and the units of one batch as `LogCutter` has them.
 *
 * REJECTED. Beginning with a whole segment, or with the part of one: servers would apply again what the
 * snapshot has. Numbering lines anew: pieces of the log are known elsewhere by the numbers in them. A file
 * of its own for where the log once began: it and the manifest could disagree after a crash.
 */
import { crc32 } from "node:zlib";
import { Failure } from "../base/errors.ts";
import { formatPositionLine, type Position, type PositionLine } from "../codec/aof/annotation.ts";
import { type Cut, LogCutter } from "../codec/aof/cut.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { BaseFile } from "./base-file.ts";
import { type Disk, readPart } from "./disk.ts";
import type { RebaseNote, SegmentEnds } from "./rebase-notes.ts";
import { checkSegment } from "./recover.ts";
import type { Generation, Segment } from "./segment.ts";
import type { SpoolPaths } from "./spool-files.ts";

/** Where a log would begin. */
export type RebasePlan = {
  /** The segment that has the position. It and all before it would go. */
  readonly segment: Segment;
  readonly cut: Cut;
  /** The position line that the log would begin with. */
  readonly first: PositionLine;
  /** All that would go, with the old base; and what of that is written once more. */
  readonly removedBytes: number;
  readonly keptBytes: number;
};

export type RebaseParts = RebaseNote & {
  /** The snapshot at the position; what it throws ends the rebasing. */
  readonly content: (signal: AbortSignal) => AsyncIterable<Uint8Array>;
  readonly sizeBytes: number;
};

/**
 * Finds a position in the closed segments of a log: undefined where none of them has it, or has it inside
 * of a unit.
 *
 * @throws Failure DATA_CORRUPT where the segment is damaged, FILE_MISSING where the log was replaced
 */
export async function planRebase(
  disk: Disk,
  { base, segments }: Generation,
  position: Position,
): Promise<RebasePlan | undefined> {
  let removedBytes = base?.sizeBytes ?? 0;
  for (const segment of segments.slice(0, -1)) {
    removedBytes += segment.sizeBytes;
    const { first, last, path } = segment;
    if (position.offset < first.offset || position.offset > last.offset) continue;
    const cut = await findCut(disk, path, position);
    if (cut.reason !== "position" || !cut.isExact || cut.after === undefined) continue;
    const { sequence, ms } = cut.after;
    const { replicationId, offset } = position;
    return {
      ...{ segment, cut, removedBytes, keptBytes: segment.sizeBytes - cut.offset },
      first: { replicationId, offset, ms, sequence, dataCrc: 0 },
    };
  }
  return undefined;
}

async function findCut(disk: Disk, path: string, position: Position): Promise<Cut> {
  const cutter = new LogCutter({ position });
  for await (const chunk of readPart(disk, { path })) {
    if (!cutter.push(chunk)) break;
  }
  return cutter.finish();
}

/** What `writeStart()` needs of a spool. */
export type StartPlace = {
  readonly disk: Disk;
  readonly paths: SpoolPaths;
  /** What has to stay free for the log meanwhile. */
  readonly spareBytes: number;
};

export type WrittenStart = WrittenRest & { readonly baseBytes: number };

/** The position line that it ends with may have got another checksum. */
type WrittenRest = { readonly restBytes: number; readonly last: PositionLine };

/**
 * Writes what the log is to begin with, under the names for that. `removeStart()` takes it away.
 *
 * @throws Failure also where the disk has not the room: what is recorded needs it more
 */
export async function writeStart(
  { disk, paths, spareBytes }: StartPlace,
  plan: RebasePlan,
  { content, sizeBytes }: RebaseParts,
  signal: AbortSignal,
): Promise<WrittenStart> {
  const needed = sizeBytes + plan.keptBytes + spareBytes;
  const free = await disk.freeBytes(paths.log);
  if (free < needed) {
    const found = `${needed} bytes are needed for that, and ${free} are free`;
    throw new Failure("FILE_FAILED", `Cannot begin the log in "${paths.log}" anew: ${found}`);
  }
  const base = await BaseFile.create(disk, paths.rebasedBase);
  try {
    for await (const chunk of content(signal)) {
      failIfStopped(signal, paths);
      await base.write(chunk);
    }
    if (base.sizeBytes !== sizeBytes) {
      const found = `the snapshot has ${base.sizeBytes} bytes instead of ${sizeBytes}`;
      throw new Failure("DATA_CORRUPT", `Cannot begin the log in "${paths.log}" anew: ${found}`);
    }
    await base.finish();
  } catch (error) {
    await base.remove();
    throw error;
  }
  return { baseBytes: sizeBytes, ...(await writeRest(disk, plan, paths, signal)) };
}

export async function removeStart(disk: Disk, paths: SpoolPaths): Promise<void> {
  for (const path of [paths.rebasedBase, paths.rebasedRest]) await disk.remove(path);
}

function failIfStopped(signal: AbortSignal, { log }: SpoolPaths): void {
  if (!signal.aborted) return;
  const message = `Cannot begin the log in "${log}" anew: it was stopped`;
  throw new Failure("ABORTED", message, { cause: signal.reason });
}

/** Writes what a segment has behind the cut, as a segment. */
async function writeRest(
  disk: Disk,
  { segment, cut, first }: RebasePlan,
  paths: SpoolPaths,
  signal: AbortSignal,
): Promise<WrittenRest> {
  const path = paths.rebasedRest;
  const { path: from, last } = segment;
  const file = await BaseFile.create(disk, path);
  try {
    const next = await findLineBehind(disk, from, cut.offset);
    const copy = async (start: number, end: number, take?: (chunk: Uint8Array) => void) => {
      for await (const chunk of readPart(disk, { path: from, start, end })) {
        failIfStopped(signal, paths);
        take?.(chunk);
        await file.write(chunk);
      }
    };
    const header = headerOf(first, cut.database, next !== undefined);
    await file.write(header);
    if (next !== undefined) {
      let dataCrc = crc32(header.subarray(formatPositionLine(first).length));
      await copy(cut.offset, next.start, (chunk) => {
        dataCrc = crc32(chunk, dataCrc);
      });
      await file.write(formatPositionLine({ ...next.line, dataCrc }));
      await copy(next.end, segment.sizeBytes);
    }
    await file.finish();
  } catch (error) {
    await file.remove();
    throw error;
  }
  return { restBytes: file.sizeBytes, last: await proveRest(disk, path, { first, last }) };
}

/** Without records behind it, a segment is a position line: the next one selects its database itself. */
function headerOf(first: PositionLine, database: number | undefined, hasMore: boolean): Uint8Array {
  const { sequence, ms } = first;
  const writer = new LogWriter(
    sequence === 0 ? {} : { after: { ...first, sequence: sequence - 1 } },
  );
  writer.seal(first, ms);
  if (hasMore) writer.stamp(ms);
  if (hasMore && database !== undefined) writer.select(database);
  return writer.take();
}

type PlacedLine = { readonly line: PositionLine; readonly start: number; readonly end: number };

/** The first position line at or behind a place. */
async function findLineBehind(
  disk: Disk,
  path: string,
  offset: number,
): Promise<PlacedLine | undefined> {
  const log = new LogScanner();
  for await (const chunk of readPart(disk, { path })) {
    log.push(chunk);
    for (let item = log.next(); item !== "more"; item = log.next()) {
      const { start, end } = log.scanner;
      if (item !== "position" || start < offset) continue;
      return { line: log.position as PositionLine, start, end };
    }
  }
  return undefined;
}

/** Reads it back. Returns the position line that it ends with. @throws Failure DATA_CORRUPT */
async function proveRest(
  disk: Disk,
  path: string,
  { first, last }: SegmentEnds,
): Promise<PositionLine> {
  const { result } = await checkSegment(disk, path, undefined);
  const isWhole = result.verdict === "ok" && result.sealedEnd === result.sizeBytes;
  const isIt =
    result.first?.sequence === first.sequence &&
    result.last?.sequence === last.sequence &&
    result.last.offset === last.offset;
  if (isWhole && isIt) return result.last;
  const found = result.verdict === "corrupt" ? result.reason : "it is another one";
  throw new Failure("DATA_CORRUPT", `Cannot begin the log anew with "${path}": ${found}`);
}
