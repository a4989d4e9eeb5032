/**
 * Which of several logs of an instance goes furthest.
 *
 * WHY not by their times alone. Two logs overlap where a standby recorded before it took over, or where a clock was
 * set. What the one that ends later by its stamps does not have is lost to whoever restores from it.
 *
 * HOW
 *
 *   1. A log that has the end of another one in it, and more behind that, goes further: under one
 *      replication id offsets tell it, over a change of id the place of the end is looked for.
 *   2. Of logs that have nothing in common, the one whose newest set was taken later, by the clock of who took it.
 *      A log that goes further than another is as new as that one at least.
 *   3. Of what is the same by then, the one that ends later by its stamps.
 *
 * INVARIANTS
 *
 *   1. Nothing is read where no log overlaps another in time, or ends at a greater offset than the one that ends
 *      last; of the latter, which a wrong clock may have stamped, a few are enough.
 *   2. Of a log, few indexes are read: replication ids change seldom, so the changes are found by bisection.
 */
import type { Piece } from "../archive/catalogue.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import type { Candidate } from "./plan-runs.ts";
import { type ArchiveView, locatePosition, logIndexOf, openPiece } from "./restore-locate.ts";

/** When the newest set of a log was taken, by the clock of who took it. */
type TakenMs = (run: Candidate) => Promise<number>;

const maxFurtherByName = 8;

type Standing = {
  readonly run: Candidate;
  readonly ids: ReadonlySet<string>;
  readonly end: PositionLine | undefined;
  takenMs: number;
  /** How many it goes further than, one behind the other. */
  rank: number;
};

/** Of runs by their ends. Logs that overlap are compared when it comes to them. @throws Failure of the store */
export async function* newestFirst(
  view: ArchiveView,
  runs: readonly Candidate[],
  takenMs: TakenMs,
): AsyncGenerator<Candidate> {
  let rest = runs.toReversed();
  while (rest.length > 0) {
    const group = overlapping(rest);
    rest = rest.filter((run) => !group.includes(run));
    if (group.length < 2) yield* group;
    else yield* await inOrder(view, group, takenMs);
  }
}

/** The first, and those that it is not clear of at a glance. */
function overlapping(runs: readonly Candidate[]): Candidate[] {
  const [first] = runs;
  const group: Candidate[] = [];
  let fromMs = Number.POSITIVE_INFINITY;
  let furtherByName = 0;
  const endOf = (run: Candidate | undefined) => run?.pieces.at(-1)?.toOffset ?? 0;
  for (const run of runs) {
    if (run !== first && run.toMs <= fromMs) {
      if (endOf(run) <= endOf(first) || furtherByName === maxFurtherByName) continue;
      furtherByName++;
    }
    group.push(run);
    fromMs = Math.min(fromMs, run.pieces[0].fromMs);
  }
  return group;
}

async function inOrder(
  view: ArchiveView,
  runs: readonly Candidate[],
  takenMs: TakenMs,
): Promise<Candidate[]> {
  const all: Standing[] = [];
  for (const run of runs) {
    const reach = await reachOf(view, run.pieces);
    all.push({ run, ...reach, takenMs: await takenMs(run), rank: 0 });
  }
  const further: (readonly [Standing, Standing])[] = [];
  for (const one of all) {
    for (const other of all) {
      if (one !== other && (await goesFurther(view, one, other))) further.push([one, other]);
    }
  }
  // As often as the longest row of such logs may be long.
  for (const _ of all) {
    for (const [one, other] of further) {
      one.takenMs = Math.max(one.takenMs, other.takenMs);
      one.rank = Math.max(one.rank, other.rank + 1);
    }
  }
  all.sort((a, b) => b.takenMs - a.takenMs || b.rank - a.rank || b.run.toMs - a.run.toMs);
  return all.map(({ run }) => run);
}

/** Whether a log has the end of another one in it, and more behind it. */
async function goesFurther(view: ArchiveView, one: Standing, other: Standing): Promise<boolean> {
  const { ids, end, run } = one;
  if (end === undefined || other.end === undefined) return false;
  const { replicationId, offset } = other.end;
  if (end.replicationId === replicationId) return end.offset > offset;
  if (!ids.has(replicationId)) return false;
  return (await locatePosition(view, run.pieces, { replicationId, offset })) !== undefined;
}

/** The replication ids that a log has, and its last position line. */
async function reachOf(
  view: ArchiveView,
  pieces: readonly Piece[],
): Promise<Pick<Standing, "ids" | "end">> {
  const ids = new Set<string>();
  const endOf = async (number: number) => {
    const { blocks, last } = logIndexOf(await openPiece(view, pieces, number));
    return { lines: blocks.flatMap(({ first, last: line }) => [first, line]), last };
  };
  const add = ({ lines, last }: Awaited<ReturnType<typeof endOf>>) => {
    for (const line of [...lines, last]) if (line !== null) ids.add(line.replicationId);
  };
  /** What is between two pieces that were added: nothing new where both end under one id. */
  const addBetween = async (low: number, high: number, ends: readonly [Line, Line]) => {
    if (high - low < 2 || ends[0]?.replicationId === ends[1]?.replicationId) return;
    const middle = (low + high) >> 1;
    const found = await endOf(middle);
    add(found);
    await addBetween(low, middle, [ends[0], found.last]);
    await addBetween(middle, high, [found.last, ends[1]]);
  };
  const first = await endOf(0);
  const last = pieces.length === 1 ? first : await endOf(pieces.length - 1);
  add(first);
  add(last);
  await addBetween(0, pieces.length - 1, [first.last, last.last]);
  return { ids, end: last.last ?? undefined };
}

type Line = PositionLine | null;
