/**
 * Finds a place in an archived log: where it stood at a time or at a position, or where the last
 * command of some name begins.
 *
 * WHY. The names of pieces tell times and offsets, so that a piece is found without reading any; its
 * index tells them of its blocks; and within one block, `LogCutter` finds the byte. So whatever the
 * size of the archive, a place costs one index and one block.
 *
 * INVARIANTS
 *
 *   1. A place is the end of a unit, or of an annotation behind one. All of the block before it has
 *      been verified.
 *   2. What the names and the index say is only believed to find the block: if the block says
 *      something else, that is damage, or there is no such place.
 */
import type { Piece } from "../archive/catalogue.ts";
import type { LogBlock, LogIndex } from "../archive/object/index-format.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { Position, PositionLine } from "../codec/aof/annotation.ts";
import { type Cut, LogCutter } from "../codec/aof/cut.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { markerName } from "./restore-marker.ts";

/** What restoring needs of a repository. */
export type ArchiveView = {
  /** @throws Failure DATA_CORRUPT, OBJECT_MISSING and others of the store */
  readonly openObject: (object: string, sizeBytes: number) => Promise<ObjectReader>;
  /** An object that is known to be small, such as a manifest. */
  readonly readSmall: (object: string, maxBytes: number) => Promise<Uint8Array>;
};

/** A place in the pieces of a run. */
export type LogPlace = {
  /** The piece, by its number in the run, and the offset in its raw bytes. */
  readonly piece: number;
  readonly offset: number;
  /** The database that is selected there, if the log has said so by then. */
  readonly database: number | undefined;
  /** The last position line before it. */
  readonly after: PositionLine | undefined;
};

export type Located = LogPlace & { readonly cut: Cut };

/** A block from whose start the checksums of position lines can be verified, with what is known there. */
export type Foothold = {
  readonly block: number;
  readonly after: PositionLine | undefined;
  readonly database: number | undefined;
};

/** The index of a piece of a log. @throws Failure DATA_CORRUPT where it is something else */
export function logIndexOf(reader: ObjectReader): LogIndex {
  if (reader.index.kind === "aof") return reader.index;
  throw new Failure("DATA_CORRUPT", `Cannot read ${reader.name}: it is no piece of a log`);
}

/** The last block, up to `block`, that starts behind a position line or with the piece. */
export function footholdAt(index: LogIndex, block: number): Foothold {
  let at = block;
  while (at > 0 && index.blocks[at - 1]?.isSealed === false) at--;
  const before = index.blocks[at - 1];
  return {
    block: at,
    after: before?.last ?? index.after ?? undefined,
    database: index.blocks[at]?.database ?? undefined,
  };
}

/** The number of the first piece of which `isPast` is true; that of all pieces where none is. */
function firstPiece(pieces: readonly Piece[], isPast: (piece: Piece) => boolean): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isPast(pieces[middle] as Piece)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Behind all that is stamped at or before `ms`. */
export async function locateTime(
  view: ArchiveView,
  pieces: readonly Piece[],
  ms: number,
): Promise<Located> {
  const at = firstPiece(pieces, ({ toMs }) => toMs > ms);
  // The end of the log is found as any other place: what stands there, its last block knows.
  const number = Math.min(at, pieces.length - 1);
  const reader = await openPiece(view, pieces, number);
  const index = logIndexOf(reader);
  const past = index.blocks.findIndex(({ last }) => last !== null && last.ms > ms);
  const block = past < 0 ? index.blocks.length - 1 : past;
  const cutter = (foothold: Foothold) => new LogCutter({ ms }, optionsAt(reader, foothold));
  return await cutIn(reader, number, footholdAt(index, block), cutter);
}

/** Behind the unit that ends at a position, or the last one before it: see `cut.isExact`. */
export async function locatePosition(
  view: ArchiveView,
  pieces: readonly Piece[],
  position: Position,
): Promise<Located | undefined> {
  // Offsets may step back where the history goes on under another id: so all pieces are looked at.
  for (const [number, piece] of pieces.entries()) {
    const { fromOffset, toOffset } = piece;
    const isFirst = number === 0;
    const mayHave =
      (isFirst ? position.offset >= fromOffset : position.offset > fromOffset) &&
      position.offset <= toOffset;
    if (!mayHave && toOffset >= fromOffset) continue;
    const found = await locateIn(await openPiece(view, pieces, number), number, position);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function locateIn(
  reader: ObjectReader,
  number: number,
  position: Position,
): Promise<Located | undefined> {
  const index = logIndexOf(reader);
  let before: PositionLine | null = index.after;
  for (const [block, { first, last }] of index.blocks.entries()) {
    const lines: (PositionLine | null)[] = [before, first, last];
    const hasId = lines.some((line) => line?.replicationId === position.replicationId);
    before = last ?? before;
    if (!hasId) continue;
    const isEarlier =
      last?.replicationId === position.replicationId && last.offset < position.offset;
    if (isEarlier) continue;
    const cutter = (foothold: Foothold) => new LogCutter({ position }, optionsAt(reader, foothold));
    const found = await cutIn(reader, number, footholdAt(index, block), cutter);
    if (found.cut.reason === "position") return found;
  }
  return undefined;
}

/**
 * The database that is selected at the end of the piece before `number`: what the last SELECT says. A
 * segment starts with one, so no more pieces are read than its own.
 */
export async function databaseBefore(
  view: ArchiveView,
  pieces: readonly Piece[],
  number: number,
): Promise<number | undefined> {
  for (let at = number - 1; at >= 0; at--) {
    const reader = await openPiece(view, pieces, at);
    const { blocks } = logIndexOf(reader);
    const from = Math.max(
      0,
      blocks.findLastIndex(({ database }) => database !== null),
    );
    const scanner = new RecordScanner({ keepBytes: 1024 });
    for await (const chunk of reader.rawBytes({ from })) {
      scanner.push(chunk);
      while (scanner.next() !== "more");
    }
    const database = scanner.database ?? blocks[from]?.database ?? undefined;
    if (database !== undefined) return database;
  }
  return undefined;
}

export async function openPiece(
  view: ArchiveView,
  pieces: readonly Piece[],
  number: number,
): Promise<ObjectReader> {
  const { object, sizeBytes } = pieces[number] as Piece;
  return await view.openObject(object, sizeBytes);
}

function optionsAt(reader: ObjectReader, { block, after }: Foothold) {
  const offset = reader.rawStarts[block] as number;
  return after === undefined ? { offset } : { offset, after };
}

async function cutIn(
  reader: ObjectReader,
  piece: number,
  foothold: Foothold,
  open: (foothold: Foothold) => LogCutter,
): Promise<Located> {
  const cutter = open(foothold);
  for await (const chunk of reader.rawBytes({ from: foothold.block })) {
    if (!cutter.push(chunk)) break;
  }
  const cut = cutter.finish();
  const { offset, after, database = foothold.database } = cut;
  return { piece, offset, after, database, cut };
}

export type CommandPlace = {
  /** In front of the unit that has it. */
  readonly place: LogPlace;
  readonly position: Position;
  /** As the log has it, in upper case; when it came; and how many bytes into the piece it stands. */
  readonly name: string;
  readonly ms: number;
  readonly at: number;
};

export type FindOptions = {
  /** Two words for a subcommand. */
  readonly command: string;
  readonly untilMs: number;
  /** Whether the indexes list it. Else all blocks are read, from the end. */
  readonly isWide: boolean;
  /** Of the last piece only what is in front of this byte. */
  readonly before?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of each piece that was looked at. */
  readonly onPiece?: ((piece: Piece) => void) | undefined;
};

/** Indexes that are read at the same time. */
const maxAhead = 8;

/**
 * The last command of a name, looked for from the end of the pieces. Those in one transaction with the marker of a
 * restore are passed over; for others of it see restore-span.ts.
 */
export async function findCommand(
  view: ArchiveView,
  pieces: readonly Piece[],
  options: FindOptions,
): Promise<CommandPlace | undefined> {
  const { untilMs, signal, onPiece } = options;
  const last = firstPiece(pieces, ({ fromMs }) => fromMs > untilMs) - 1;
  const ahead: Promise<ObjectReader>[] = [];
  for (let number = last; number >= 0; number--) {
    signal?.throwIfAborted();
    for (let next = number - ahead.length; ahead.length < maxAhead && next >= 0; next--) {
      const opening = openPiece(view, pieces, next);
      // Told to whoever comes to that piece; nobody does where the search has ended.
      opening.catch(() => {});
      ahead.push(opening);
    }
    const reader = await (ahead.shift() as Promise<ObjectReader>);
    const before = number === pieces.length - 1 ? options.before : undefined;
    const found = await findInPiece(reader, number, { ...options, before });
    if (found !== undefined) return found;
    onPiece?.(pieces[number] as Piece);
  }
  return undefined;
}

async function findInPiece(
  reader: ObjectReader,
  piece: number,
  options: FindOptions,
): Promise<CommandPlace | undefined> {
  const index = logIndexOf(reader);
  for (let block = index.blocks.length - 1; block >= 0; block--) {
    const facts = index.blocks[block] as LogBlock;
    if (!mayHave(facts, options)) continue;
    const found = await scanBlock(reader, piece, block, options);
    if (found !== undefined) return found;
  }
  return undefined;
}

function mayHave(block: LogBlock, { command, untilMs, isWide }: FindOptions): boolean {
  const isLate = block.first !== null && block.last !== null && block.first.ms > untilMs;
  // A block's first line stands behind its first batch: one that is late makes all of it late.
  if (isLate) return false;
  return !isWide || block.hasMoreWide || block.wide.some(({ name }) => isCommand(name, command));
}

/** The last one in a block, with the start of its unit. */
async function scanBlock(
  reader: ObjectReader,
  piece: number,
  block: number,
  { command, untilMs, before = Number.POSITIVE_INFINITY }: FindOptions,
): Promise<CommandPlace | undefined> {
  const foothold = footholdAt(logIndexOf(reader), block);
  const end = Math.min(reader.rawStarts[block + 1] as number, before);
  const start = reader.rawStarts[block] as number;
  const log = new LogScanner(optionsAt(reader, foothold));
  const { scanner } = log;
  const slice = new Slice();
  let database = foothold.database;
  let unit: LogPlace = { piece, offset: scanner.start, database, after: log.position };
  /** Of records in the batch that is read: all so far, and those in front of the unit. */
  let bytes = 0;
  let unitBytes = 0;
  /** Of the unit that is read, and of the batch. */
  let inUnit: Found | undefined;
  let pending: Found | undefined;
  let isOfRestore = false;
  let found: CommandPlace | undefined;
  for await (const chunk of reader.rawBytes({ from: foothold.block, to: reach(reader, block) })) {
    log.push(chunk);
    for (let item = log.next(); item !== "more"; item = log.next()) {
      if (item === "record") {
        const isInBlock = scanner.start >= start && scanner.start < end;
        if (isInBlock && startsAs(scanner, command, slice)) {
          const name = nameOf(scanner, slice);
          if (isCommand(name, command))
            inUnit = { place: unit, unitBytes, name, at: scanner.start };
        }
        bytes += scanner.end - scanner.start;
        if (inUnit !== undefined && setsMarker(scanner, slice)) isOfRestore = true;
        database = scanner.database ?? foothold.database;
      } else if (item === "position") {
        const line = log.position as PositionLine;
        if (pending !== undefined && line.ms <= untilMs) found = placeOf(pending, line, bytes);
        pending = undefined;
        bytes = 0;
        if (scanner.end >= end) return found;
      }
      if (scanner.unitStart === undefined) {
        if (!isOfRestore) pending = inUnit ?? pending;
        inUnit = undefined;
        isOfRestore = false;
        unit = { piece, offset: scanner.end, database, after: log.position };
        unitBytes = bytes;
      }
    }
  }
  return found;
}

type Found = Omit<CommandPlace, "ms" | "position"> & { readonly unitBytes: number };

/** What is left out of a batch is at its start: so its positions are counted back from the line behind it. */
function placeOf(
  { unitBytes, ...found }: Found,
  { replicationId, offset, ms }: PositionLine,
  bytes: number,
): CommandPlace {
  return { ...found, ms, position: { replicationId, offset: offset - (bytes - unitBytes) } };
}

/** The block behind the one in which the position line is that stands behind all of this one. */
function reach(reader: ObjectReader, block: number): number {
  const { blocks } = logIndexOf(reader);
  let to = block;
  while (to < blocks.length - 1 && blocks[to]?.isSealed === false) to++;
  return to + 1;
}

type Arguments = {
  readonly argc: number;
  argument(index: number, slice: Slice): boolean;
};

const longestWord = 64;

/** Whether the name of a record may be the first word of a command: told without making a text. */
function startsAs(record: Arguments, command: string, slice: Slice): boolean {
  if (!record.argument(0, slice)) return false;
  const { bytes, start, end } = slice;
  if (end - start > command.length) return false;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    const upper = byte >= 97 && byte <= 122 ? byte - 32 : byte;
    if (upper !== command.charCodeAt(i - start)) return false;
  }
  return true;
}

/** Whether a record sets the marker of a restore: its own, or one of those in a cluster. */
function setsMarker(record: Arguments, slice: Slice): boolean {
  if (record.argc !== 3 || !startsAs(record, "SET", slice) || slice.length !== 3) return false;
  if (!record.argument(1, slice) || slice.length > longestWord) return false;
  return slice.latin1().startsWith(markerName);
}

/** The first word of a record and, for what may be a subcommand, the second one. */
function nameOf(record: Arguments, slice: Slice): string {
  if (!record.argument(0, slice) || slice.length > longestWord) return "";
  const first = slice.latin1().toUpperCase();
  if (record.argc < 2 || !record.argument(1, slice) || slice.length > longestWord) return first;
  return `${first} ${slice.latin1().toUpperCase()}`;
}

/** Whether a name, perhaps with one word more, is that of a command. */
function isCommand(name: string, command: string): boolean {
  return name === command || name.startsWith(`${command} `);
}
