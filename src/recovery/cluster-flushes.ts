/**
 * Finds in a shard's log which slots it gave away as a whole in some span of time: the server then removes
 * all of their keys by one command.
 *
 *   CLUSTER FLUSHSLOT slot [SYNC|ASYNC]         Valkey from 9.0
 *   TRIMSLOTS RANGES count first last …         Redis from 8.4
 *
 * Both are listed in the indexes of pieces, so that only blocks with one are read.
 */
import type { Catalogue, Piece } from "../archive/catalogue.ts";
import type { LogBlock } from "../archive/object/index-format.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { Slice } from "../base/bytes.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { slotCount } from "./cluster-rules.ts";
import { type ArchiveView, footholdAt, logIndexOf, openPiece } from "./restore-locate.ts";

export type Span = { readonly fromMs: number; readonly toMs: number };

/** The slots whose keys were removed behind `fromMs`, up to `toMs`. */
export async function findFlushedSlots(
  view: ArchiveView,
  catalogue: Catalogue,
  span: Span,
): Promise<Set<number>> {
  const slots = new Set<number>();
  for (const line of catalogue.lines) {
    for (const { pieces } of line.runs) {
      for (const [number, piece] of pieces.entries()) {
        if (isOutside(piece, span)) continue;
        const reader = await openPiece(view, pieces, number);
        const { blocks } = logIndexOf(reader);
        for (const [block, facts] of blocks.entries()) {
          if (hasRemoval(facts)) await scanBlock(reader, block, span, slots);
        }
      }
    }
  }
  return slots;
}

function isOutside(piece: Piece, { fromMs, toMs }: Span): boolean {
  return piece.toMs <= fromMs || piece.fromMs > toMs;
}

function hasRemoval({ wide, hasMoreWide }: LogBlock): boolean {
  return hasMoreWide || wide.some(({ name }) => /^(CLUSTER FLUSHSLOT|TRIMSLOTS)\b/.test(name));
}

async function scanBlock(
  reader: ObjectReader,
  block: number,
  { fromMs, toMs }: Span,
  slots: Set<number>,
): Promise<void> {
  const { block: from, after } = footholdAt(logIndexOf(reader), block);
  const offset = reader.rawStarts[from] as number;
  const end = reader.rawStarts[block + 1] as number;
  const log = new LogScanner(after === undefined ? { offset } : { offset, after });
  const slice = new Slice();
  let pending: number[] = [];
  for await (const chunk of reader.rawBytes({ from })) {
    log.push(chunk);
    for (let item = log.next(); item !== "more"; item = log.next()) {
      if (item === "record") pending.push(...slotsOf(log.scanner, slice));
      if (item !== "position") continue;
      const ms = log.position?.ms ?? 0;
      if (ms > fromMs && ms <= toMs) for (const slot of pending) slots.add(slot);
      pending = [];
      if (log.scanner.end >= end) return;
    }
  }
}

type Arguments = { readonly argc: number; argument(index: number, slice: Slice): boolean };

function slotsOf(record: Arguments, slice: Slice): number[] {
  const word = (index: number) =>
    record.argument(index, slice) && slice.length < 20 ? slice.latin1().toUpperCase() : "";
  const { argc } = record;
  // Most records are told by the length of their first word.
  if (argc < 3 || !record.argument(0, slice) || (slice.length !== 7 && slice.length !== 9)) {
    return [];
  }
  const name = word(0);
  if (name === "CLUSTER" && word(1) === "FLUSHSLOT") return range(word(2), word(2));
  if (name !== "TRIMSLOTS") return [];
  const slots: number[] = [];
  for (let i = 3; i + 1 < argc; i += 2) slots.push(...range(word(i), word(i + 1)));
  return slots;
}

function range(first: string, last: string): number[] {
  const [from, to] = [Number(first), Number(last)];
  const isRange = /^\d+$/.test(first) && /^\d+$/.test(last) && from <= to && to < slotCount;
  return isRange ? Array.from({ length: to - from + 1 }, (_, i) => from + i) : [];
}
