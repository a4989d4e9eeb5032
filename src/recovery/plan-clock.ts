/**
 * Whether the clock of the source was ahead behind the place where a restore to a time ends.
 *
 * WHY. The first stamp that is later than the target ends a restore. A clock that was an hour ahead for five
 * minutes stamps these an hour late, and as stamps never go back, all that follows is held at the last of
 * these until the hour is over. A target in that hour ends before all of it, acknowledged writes
 * included. No other answer is right for everybody, so the plan says it.
 *
 * HOW IT SHOWS. Stamps step forward at the cut, and soon stand still. Of pieces their names tell it, of blocks
 * the index of the piece that has the cut, and of one block its position lines: the stamp does not move from one
 * to the next, several times. Where nothing steps at the cut, nothing is read.
 */
import type { Piece } from "../archive/catalogue.ts";
import type { LogBlock } from "../archive/object/index-format.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { type ArchiveView, footholdAt, type LogPlace, logIndexOf } from "./restore-locate.ts";

const leastStepMs = 10_000;
/** So many lines of one stamp a burst does not have, mostly. */
const leastHeldLines = 8;

export type TimeCut = LogPlace & {
  /** The first stamp behind the cut. */
  readonly nextMs: number;
};

/** The stamp that was held behind the cut; undefined where none was, as far as that shows. */
export async function findHeldStamp(
  view: ArchiveView,
  pieces: readonly Piece[],
  cut: TimeCut,
): Promise<number | undefined> {
  const { after, nextMs } = cut;
  const stepMs = nextMs - (after?.ms ?? nextMs);
  if (stepMs < leastStepMs) return undefined;
  const [piece, ...later] = pieces.slice(cut.piece);
  const held = later.find((each) => isHeld(each, nextMs + stepMs));
  if (piece === undefined || held !== undefined) return held?.toMs;
  const reader = await view.openObject(piece.object, piece.sizeBytes);
  const { blocks } = logIndexOf(reader);
  const at = reader.rawStarts.findLastIndex((start) => start <= cut.offset);
  const heldMs = heldIn(blocks.slice(at));
  if (heldMs !== undefined || at >= blocks.length) return heldMs;
  return await scanBlock(reader, at, cut.offset);
}

/** The time before its first byte is that of the piece before: so it stood still over their border too. */
function isHeld(piece: Piece, untilMs: number): boolean {
  const { fromMs, toMs, fromOffset, toOffset, firstSequence, lastSequence } = piece;
  const hasMore = lastSequence > firstSequence && toOffset > fromOffset;
  return hasMore && fromMs === toMs && toMs <= untilMs;
}

function heldIn(blocks: readonly LogBlock[]): number | undefined {
  let since: PositionLine | undefined;
  for (const { first, last } of blocks) {
    if (first === null || last === null) continue;
    if (since === undefined || first.ms !== last.ms || last.ms !== since.ms) since = last;
    else if (last.sequence - since.sequence >= leastHeldLines) return last.ms;
  }
  return undefined;
}

async function scanBlock(
  reader: ObjectReader,
  block: number,
  offset: number,
): Promise<number | undefined> {
  const { after, block: from } = footholdAt(logIndexOf(reader), block);
  const start = reader.rawStarts[from] as number;
  const log = new LogScanner({ offset: start, ...(after !== undefined && { after }) });
  let heldMs = -1;
  let lines = 0;
  for await (const chunk of reader.rawBytes({ from, to: block + 1 })) {
    log.push(chunk);
    for (let item = log.next(); item !== "more"; item = log.next()) {
      if (item !== "position" || log.scanner.start < offset) continue;
      const ms = log.position?.ms ?? 0;
      lines = ms === heldMs ? lines + 1 : 1;
      heldMs = ms;
      if (lines === leastHeldLines) return ms;
    }
  }
  return undefined;
}
