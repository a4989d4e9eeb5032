/**
 * Whether a place in a log lies inside of a restore that was recorded: into the very instance that is archived.
 *
 * WHY. Such a restore is in the log like any other writes. A moment in its middle can be restored, and is as
 * incomplete as the instance was then: with `--at latest`, too, where it was killed. And what it replays are commands
 * that somebody may look for with `before:`, who wants the accident and not its repetition.
 *
 * HOW IT SHOWS. By its marker (restore-marker.ts): set when it begins and many times on its way, removed at its end.
 * So the last thing that happened to the marker in front of a place tells. A FLUSHALL takes it away too, but for
 * that of a restore, which sets it in the same transaction.
 *
 *   … DEL | writes … [FLUSHALL SET] keys … SET … SET batch SET batch … DEL | writes …
 *                   └──────────────────── the span ─────────────────────┘
 *
 * The key filters of the blocks say where the marker may be; other blocks are not read. A restore sets it at least
 * every some hundred thousand keys, so no more than `maxPieces` are looked at for the nearest one.
 *
 * LIMITS. Masters of a cluster that was restored into have markers of other names, which are not looked for.
 */

import type { Piece } from "../archive/catalogue.ts";
import type { RdbIndex } from "../archive/object/index-format.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { Slice } from "../base/bytes.ts";
import { iso } from "../base/clock.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import type { LogRange, Plan } from "./plan-result.ts";
import {
  type ArchiveView,
  type CommandPlace,
  type FindOptions,
  findCommand,
  footholdAt,
  logIndexOf,
  openPiece,
} from "./restore-locate.ts";
import { insideNote, isMarkRecord, markerName } from "./restore-marker.ts";

/** A byte of a piece. */
export type Place = { readonly piece: number; readonly offset: number };

export type RestoreSpan = {
  /** In front of the first marker that was found, and the last position line before it. */
  readonly begin: Place & { readonly after: PositionLine | undefined };
  /** The position line behind its end; undefined where it has none, or none was found. */
  readonly end: PositionLine | undefined;
  /** Whether it did anything behind the place. */
  readonly goesOn: boolean;
};

type MarkEvent = Place & {
  readonly kind: "set" | "removed" | "wiped";
  /** The position lines around its unit. */
  readonly after: PositionLine | undefined;
  readonly behind: PositionLine | undefined;
};

const maxPieces = 256;
const maxSetBlocks = 8;
const maxAhead = 8;
const marker = Buffer.from(markerName);

/** The restore that a place is inside of. */
async function restoreAround(
  view: ArchiveView,
  pieces: readonly Piece[],
  place: Place,
): Promise<RestoreSpan | undefined> {
  let begin: MarkEvent | undefined;
  for await (const event of eventsBefore(view, pieces, place)) {
    if (event.kind !== "set") break;
    begin = event;
  }
  return begin && { begin, ...(await whatIsBehind(view, pieces, place)) };
}

/**
 * The last command of a name that no restore has sent. Whoever looks for the accident, to restore what was there
 * before it, must not find that. Where a restore was given up, what others wrote behind it is theirs.
 */
export async function findOwnCommand(
  view: ArchiveView,
  pieces: readonly Piece[],
  options: FindOptions,
): Promise<CommandPlace | undefined> {
  let rest = pieces;
  let before: number | undefined;
  for (;;) {
    const found = await findCommand(view, rest, { ...options, before });
    // That of a restore is in one transaction with its marker, and has been passed over.
    if (found === undefined || found.name.startsWith("FLUSHALL")) return found;
    const place = { piece: found.place.piece, offset: found.at };
    const span = await restoreAround(view, pieces, place);
    if (span === undefined || !span.goesOn) return found;
    rest = pieces.slice(0, span.begin.piece + 1);
    before = span.begin.offset;
  }
}

/** What whoever reads a plan should know where what it gives is not whole, as far as few reads tell. */
export async function notesOfRestore(
  view: ArchiveView,
  { log, set }: Plan,
  pieces: readonly Piece[],
): Promise<string[]> {
  const last = log && (await lastEvent(view, log));
  if (log !== undefined && last?.kind === "set") {
    const piece = pieces.findIndex(({ object }) => object === log.pieces.at(-1)?.object);
    const span = await restoreAround(view, pieces, { piece, offset: log.end.offset });
    return [span === undefined ? insideNote : describe(span)];
  }
  if (last !== undefined) return [];
  const reader = await view.openObject(set.object, set.manifest.snapshot.sizeBytes);
  return (await holdsMarker(reader)) ? [insideNote] : [];
}

function describe({ begin, end }: RestoreSpan): string {
  const at = ({ replicationId, offset, ms }: PositionLine) =>
    `--at @${replicationId}:${offset} (${iso(ms)})`;
  const nearest = [
    ...(begin.after === undefined ? [] : [`before it ${at(begin.after)}`]),
    ...(end === undefined ? ["the log has no end of it"] : [`behind it ${at(end)}`]),
  ];
  return `${insideNote}; ${nearest.join(", ")}`;
}

/** The last one of a range. */
async function lastEvent(
  view: ArchiveView,
  { pieces, start, end }: LogRange,
): Promise<MarkEvent | undefined> {
  const last = { piece: pieces.length - 1, offset: end.offset };
  for await (const event of eventsBefore(view, pieces, last)) {
    return event.piece > 0 || event.offset >= start.offset ? event : undefined;
  }
  return undefined;
}

/** From the last one on, backwards. */
async function* eventsBefore(
  view: ArchiveView,
  pieces: readonly Piece[],
  { piece, offset }: Place,
): AsyncGenerator<MarkEvent> {
  const least = Math.max(0, piece - maxPieces);
  for await (const [number, reader] of readers(view, pieces, downFrom(piece, least))) {
    const to = number === piece ? offset : Number.POSITIVE_INFINITY;
    for (let block = logIndexOf(reader).blocks.length - 1; block >= 0; block--) {
      if ((reader.rawStarts[block] as number) >= to) continue;
      const events = await eventsIn(reader, number, block);
      yield* events.filter((event) => event.offset < to).reverse();
    }
  }
}

async function whatIsBehind(
  view: ArchiveView,
  pieces: readonly Piece[],
  { piece, offset }: Place,
): Promise<Pick<RestoreSpan, "end" | "goesOn">> {
  const most = Math.min(pieces.length - 1, piece + maxPieces);
  const numbers = Array.from({ length: most - piece + 1 }, (_, i) => piece + i);
  let goesOn = false;
  for await (const [number, reader] of readers(view, pieces, numbers)) {
    for (let block = 0; block < logIndexOf(reader).blocks.length; block++) {
      for (const event of await eventsIn(reader, number, block)) {
        if (number === piece && event.offset < offset) continue;
        goesOn ||= event.kind !== "wiped";
        if (event.kind !== "set") return { end: event.behind, goesOn };
      }
    }
  }
  return { end: undefined, goesOn };
}

function downFrom(high: number, low: number): number[] {
  return Array.from({ length: high - low + 1 }, (_, i) => high - i);
}

/** Some are opened ahead of the one that is asked for. */
async function* readers(
  view: ArchiveView,
  pieces: readonly Piece[],
  numbers: readonly number[],
): AsyncGenerator<readonly [number, ObjectReader]> {
  for (let at = 0; at < numbers.length; at += maxAhead) {
    const some = numbers.slice(at, at + maxAhead);
    const opened = await Promise.all(some.map((number) => openPiece(view, pieces, number)));
    for (const [i, reader] of opened.entries()) yield [some[i] as number, reader];
  }
}

/** What happens to the marker in one block. */
async function eventsIn(reader: ObjectReader, piece: number, block: number): Promise<MarkEvent[]> {
  const index = logIndexOf(reader);
  const facts = index.blocks[block];
  const hasWipe = facts?.hasMoreWide || facts?.wide.some(({ name }) => name === "FLUSHALL");
  if (!hasWipe && !(await reader.mayHold(block, marker))) return [];
  const { after, block: from } = footholdAt(index, block);
  const offset = reader.rawStarts[from] as number;
  const trail = new MarkTrail(piece, new LogScanner({ offset, ...(after && { after }) }));
  const end = reader.rawStarts[block + 1] as number;
  for await (const chunk of reader.rawBytes({ from })) {
    if (trail.push(chunk, end)) break;
  }
  const start = reader.rawStarts[block] as number;
  return trail.events.filter((event) => event.offset >= start && event.offset < end);
}

class MarkTrail {
  readonly events: MarkEvent[] = [];
  readonly #piece: number;
  readonly #log: LogScanner;
  readonly #slice = new Slice();
  /** Those that no position line has come behind. */
  #open: Omit<MarkEvent, "behind">[] = [];
  #unitStart: number;
  #inUnit: MarkEvent["kind"] | undefined;

  constructor(piece: number, log: LogScanner) {
    this.#piece = piece;
    this.#log = log;
    this.#unitStart = log.scanner.start;
  }

  /** True when all up to `end` is known, and the position line behind it. */
  push(chunk: Uint8Array, end: number): boolean {
    const log = this.#log;
    log.push(chunk);
    for (let item = log.next(); item !== "more"; item = log.next()) {
      if (item === "record") this.#take();
      else if (item === "position") this.#close();
      if (log.scanner.unitStart !== undefined) continue;
      this.#endUnit();
      if (item === "position" && log.scanner.end >= end) return true;
    }
    return false;
  }

  #take(): void {
    const { scanner } = this.#log;
    const slice = this.#slice;
    if (!scanner.argument(0, slice)) return;
    if (slice.length === 8 && slice.latin1().toUpperCase() === "FLUSHALL") this.#inUnit = "wiped";
    else if ((scanner.database ?? 0) === 0 && scanner.argc <= 3 && slice.length <= 6) {
      const isSet = slice.length === 3 && scanner.argc === 3;
      if (isMarkRecord(scanner, markerName)) this.#inUnit = isSet ? "set" : "removed";
    }
  }

  #endUnit(): void {
    const { scanner, position } = this.#log;
    const place = { piece: this.#piece, offset: this.#unitStart };
    if (this.#inUnit) this.#open.push({ ...place, kind: this.#inUnit, after: position });
    this.#inUnit = undefined;
    this.#unitStart = scanner.end;
  }

  #close(): void {
    const behind = this.#log.position;
    this.events.push(...this.#open.map((event) => ({ ...event, behind })));
    this.#open = [];
  }
}

/**
 * Whether a snapshot has the marker: bytes are looked for, as no key of another kind is called so. One block in
 * twenty may have it; where these are many, only the restore itself finds out.
 */
async function holdsMarker(reader: ObjectReader): Promise<boolean> {
  const { blocks } = reader.index as RdbIndex;
  let left = maxSetBlocks;
  for (let block = 0; block < blocks.length && left > 0; block++) {
    if (!(await reader.mayHold(block, marker))) continue;
    left--;
    if (await hasBytes(reader, block, marker)) return true;
  }
  return false;
}

/** Whether a block has some bytes anywhere. */
export async function hasBytes(
  reader: ObjectReader,
  block: number,
  bytes: Uint8Array,
): Promise<boolean> {
  let before: Uint8Array = new Uint8Array(0);
  for await (const chunk of reader.rawBytes({ from: block, to: block + 1, sums: false })) {
    const both = Buffer.concat([before, chunk]);
    if (both.includes(Buffer.from(bytes))) return true;
    before = both.subarray(Math.max(0, both.length - bytes.length + 1));
  }
  return false;
}
