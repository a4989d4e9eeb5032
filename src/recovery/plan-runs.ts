/** The runs of an archive's logs, with the sets that they may be replayed from, and in which order to try them. */
import type { Catalogue, ListedSet, LogLine, Piece } from "../archive/catalogue.ts";
import type { UsableSet } from "./plan-set.ts";

/** A run of pieces with the sets that are in its time. */
export type Candidate = {
  readonly line: LogLine;
  readonly pieces: readonly [Piece, ...Piece[]];
  readonly sets: readonly ListedSet[];
  readonly fromMs: number;
  readonly toMs: number;
};

/** Runs that can be restored, by their ends; sets newest first. `more` are sets of another time. */
export function runsOf(
  catalogue: Catalogue,
  more: ReadonlyMap<readonly Piece[], readonly ListedSet[]> = new Map(),
): Candidate[] {
  const runs: Candidate[] = [];
  const usable = catalogue.sets.filter(({ fault }) => fault === undefined);
  for (const line of catalogue.lines) {
    for (const { pieces } of line.runs) {
      const [first, ...rest] = pieces;
      const toMs = pieces.at(-1)?.toMs;
      if (first === undefined || toMs === undefined) continue;
      const inTime = usable.filter(({ ms }) => ms >= first.fromMs && ms <= toMs);
      const sets = [...inTime, ...(more.get(pieces) ?? [])];
      const oldest = sets[0];
      if (oldest === undefined) continue;
      const fromMs = Math.min(oldest.ms, toMs);
      runs.push({ line, pieces: [first, ...rest], sets: sets.reverse(), fromMs, toMs });
    }
  }
  return runs.sort((a, b) => a.toMs - b.toMs);
}

/** Verified ones first, then the newest. */
export function compareLate(one: UsableSet, other: UsableSet): number {
  const [a, b] = [one.manifest, other.manifest];
  if (one.listed.isVerified !== other.listed.isVerified) return one.listed.isVerified ? -1 : 1;
  const isOne = a.position.replicationId === b.position.replicationId;
  return (isOne ? b.position.offset - a.position.offset : 0) || b.startedMs - a.startedMs;
}

/** Verified sets first, and of each kind the newest. */
export function chooseFirst(sets: readonly ListedSet[]): ListedSet[] {
  return sets.toSorted((a, b) => Number(b.isVerified) - Number(a.isVerified) || b.ms - a.ms);
}

export function mayHave({ fromOffset, toOffset }: Piece, offset: number): boolean {
  return (offset >= fromOffset && offset <= toOffset) || toOffset < fromOffset;
}
