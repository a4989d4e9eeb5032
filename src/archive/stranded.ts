/**
 * Log that is there, and that nothing can be restored from: no set that can be used is in its time.
 *
 * WHY. Windows are what can be restored, and gaps what is missing between them. Behind the last window there may be
 * log without a set: its sets are lost or damaged, or pieces before it are missing. Whoever looks at windows
 * alone sees that they end, and not that the log goes on.
 */
import { type Catalogue, type ListedSet, type Piece, type Window, windowsOf } from "./catalogue.ts";

export type Stranded = {
  readonly line: string;
  /** What of the log's time no window has. */
  readonly fromMs: number;
  readonly toMs: number;
  /** With nothing behind it: what is recorded now is stranded as well, until a set is taken. */
  readonly isNewest: boolean;
  readonly reason: string;
};

/** Oldest first. */
export function strandedOf(catalogue: Catalogue): Stranded[] {
  const windows = windowsOf(catalogue);
  const newest = newestRunOf(catalogue);
  const found: Stranded[] = [];
  for (const line of catalogue.lines) {
    for (const [i, { pieces }] of line.runs.entries()) {
      const [first, last] = [pieces[0], pieces.at(-1)];
      if (first === undefined || last === undefined || hasSet(catalogue.sets, first, last))
        continue;
      const fromMs = endOfCover(windows, first.fromMs);
      const isNewest = first === newest && !catalogue.sets.some((set) => isGoodFrom(set, first));
      if (fromMs > first.fromMs && fromMs >= last.toMs) continue;
      const reason = reasonOf(catalogue, first, last, i > 0);
      found.push({ line: line.name, fromMs, toMs: last.toMs, isNewest, reason });
    }
  }
  return found.sort((a, b) => a.fromMs - b.fromMs);
}

/** The start of the newest run: of all logs, or of one. Undefined where there is no log. */
export function newestRunOf({ lines }: Catalogue, line?: string): Piece | undefined {
  let newest: { readonly first: Piece; readonly toMs: number } | undefined;
  for (const { name, runs } of lines) {
    if (line !== undefined && name !== line) continue;
    const pieces = runs.at(-1)?.pieces ?? [];
    const [first, last] = [pieces[0], pieces.at(-1)];
    if (first === undefined || last === undefined) continue;
    if (newest === undefined || last.toMs >= newest.toMs) newest = { first, toMs: last.toMs };
  }
  return newest?.first;
}

function hasSet(sets: readonly ListedSet[], first: Piece, last: Piece): boolean {
  return sets.some(({ ms, fault }) => fault === undefined && ms >= first.fromMs && ms <= last.toMs);
}

/** A source that is idle since a set leaves no log behind it. */
function isGoodFrom({ ms, isVerified }: ListedSet, first: Piece): boolean {
  return isVerified && ms >= first.fromMs;
}

/** Windows of another log may have the beginning, where two recorders ran. */
function endOfCover(windows: readonly Window[], fromMs: number): number {
  let endMs = fromMs;
  for (const window of windows) {
    if (window.fromMs <= endMs && window.toMs > endMs) endMs = window.toMs;
  }
  return endMs;
}

function reasonOf({ sets }: Catalogue, first: Piece, last: Piece, isBehindHole: boolean): string {
  const damaged = sets.findLast(({ ms }) => ms >= first.fromMs && ms <= last.toMs);
  if (damaged?.fault !== undefined) return `set ${damaged.name} cannot be used: ${damaged.fault}`;
  if (isBehindHole) return "log before it is missing, and no set was taken since";
  return "the sets that it could be replayed from are not there";
}
