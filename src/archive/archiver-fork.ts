/**
 * Whether a log of the spool and its line in the repository are one story.
 *
 * WHY. A spool may be an old copy: a machine that was brought back from a snapshot, or a clone of one. It goes on
 * from where it was, and writes other position lines under the sequence numbers of those that were shipped. To
 * ship these into the same line, or to delete what they seem to stand for, would destroy the true ones.
 *
 * So when a line was listed, each of its pieces has to begin and to end where the spool has a position line of
 * that number, with the same offset and time, as far as the spool has that part of the log. That the archive
 * is ahead of the spool is the plainest case: only what is synced is shipped.
 */
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import type { Disk } from "../log/disk.ts";
import type { SegmentEnds } from "../log/rebase-notes.ts";
import type { Segment } from "../log/segment.ts";
import { findMark, type Mark } from "./archiver-piece.ts";
import type { Piece } from "./catalogue.ts";

/** A segment of the log, with what it was before it was begun anew. */
type ForkSegment = { readonly segment: Segment; readonly was: SegmentEnds | undefined };

type ForkOptions = {
  readonly disk: Disk;
  readonly segments: readonly ForkSegment[];
  /** The end of what may be shipped. */
  readonly end: PositionLine;
  /** All that is listed. */
  readonly pieces: readonly Piece[];
};

type ForkResult = {
  /** Undefined: they are one. */
  readonly failure: Failure | undefined;
  /** The last place in the log that was looked for in a file. */
  readonly mark: Mark | undefined;
  /** A file was away: this is to be asked again. */
  readonly isUnsure: boolean;
};

/** Where a piece says that the log stood at a position line. */
type Point = {
  readonly sequence: number;
  readonly offset: number;
  readonly ms: number;
  readonly piece: Piece;
};

export async function findFork(options: ForkOptions): Promise<ForkResult> {
  const { segments, end, pieces } = options;
  const points = new Map<number, Point>();
  for (const point of pieces.flatMap(pointsOf)) {
    const known = points.get(point.sequence);
    const isOther = known !== undefined && !isAt(known, point);
    if (isOther || point.sequence > end.sequence) {
      return { failure: forked(segments, end, point), mark: undefined, isUnsure: false };
    }
    points.set(point.sequence, point);
  }
  let mark: Mark | undefined;
  let isUnsure = false;
  for (const [i, each] of segments.entries()) {
    const first = (each.was ?? each.segment).first.sequence;
    const last = i === segments.length - 1 ? end : each.segment.last;
    const own = [...points.values()]
      .filter(({ sequence }) => sequence >= first && sequence <= last.sequence)
      .sort((a, b) => a.sequence - b.sequence);
    const before = segments[i - 1];
    const after = before && (before.was ?? before.segment).last;
    const found = await compare(options, { each, after, last }, own);
    isUnsure ||= found.isUnsure;
    mark = found.mark ?? mark;
    if (found.other === undefined) continue;
    return { failure: forked([each], end, found.other), mark: undefined, isUnsure: false };
  }
  return { failure: undefined, mark, isUnsure };
}

type Place = {
  readonly each: ForkSegment;
  readonly after: PositionLine | undefined;
  readonly last: PositionLine;
};

type Compared = {
  readonly other: Point | undefined;
  readonly mark: Mark | undefined;
  readonly isUnsure: boolean;
};

/** Looks for points in one segment. Damage in it is told of by who ships it. */
async function compare(
  { disk }: ForkOptions,
  { each, after, last }: Place,
  points: readonly Point[],
): Promise<Compared> {
  const { path } = each.segment;
  let from: Mark = { path, at: 0, line: after };
  let mark: Mark | undefined;
  try {
    for (const point of points) {
      if (point.sequence === last.sequence) {
        if (!isAt(point, last)) return { other: point, mark: undefined, isUnsure: false };
        continue;
      }
      // Of one that was begun anew, the file has not all of it.
      if (each.was !== undefined) continue;
      from = await findMark(disk, from, point.sequence);
      const { line } = from;
      if (line === undefined || !isAt(point, line)) {
        return { other: point, mark: undefined, isUnsure: false };
      }
      mark = from;
    }
    return { other: undefined, mark, isUnsure: false };
  } catch (error) {
    if (!(error instanceof Failure) || !/^(DATA_|FILE_MISSING)/.test(error.code)) throw error;
    return { other: undefined, mark, isUnsure: error.code === "FILE_MISSING" };
  }
}

/** Of the first piece of a log there is no line before. */
function pointsOf(piece: Piece): Point[] {
  const { firstSequence, lastSequence, fromOffset, fromMs, toOffset, toMs } = piece;
  const end = { sequence: lastSequence, offset: toOffset, ms: toMs, piece };
  if (firstSequence === 0) return [end];
  return [{ sequence: firstSequence - 1, offset: fromOffset, ms: fromMs, piece }, end];
}

function isAt(point: Point, line: Pick<PositionLine, "sequence" | "offset" | "ms">): boolean {
  return point.sequence === line.sequence && point.offset === line.offset && point.ms === line.ms;
}

function forked(segments: readonly ForkSegment[], end: PositionLine, point: Point): Failure {
  const path = segments.at(-1)?.segment.path ?? "";
  const { sequence, piece } = point;
  return sequence > end.sequence
    ? differs(path, piece, `it ends with position line ${end.sequence}, and is behind what`)
    : differs(path, piece);
}

/** What the spool has is not what was shipped. */
export function differs(path: string, piece: Piece, found?: string): Failure {
  const words = found ?? `up to position line ${piece.lastSequence} it is not what`;
  const message = `Cannot go on with archiving "${path}": ${words} "${piece.object}" has`;
  return new Failure("DATA_CORRUPT", message, {
    hint: "The spool is an old copy, or another writer has gone on with it. `up` takes a new base. What the spool has since stays in its folder of retired logs; move that away when it is not needed.",
  });
}
