/**
 * Which moments of a cluster can be restored: those that every shard that had slots then has in a window.
 *
 * WHEN A CHANGE WAS. It is seen by looking, so it was somewhere between the look before and the one that saw it;
 * and after a restart, since the logs ended. In that time the shards of both sides are needed.
 */
import { type SlotsChange, seenMs } from "./cluster-slots.ts";

/** Ends belong to it. */
export type Span = { readonly fromMs: number; readonly toMs: number };

/** Since when which shards are needed. */
type Stage = { readonly fromMs: number; readonly keys: ReadonlySet<string> };

/** Of changes oldest first, and the windows of each shard by its key, oldest first. */
export function commonWindows(
  changes: readonly SlotsChange[],
  windows: ReadonlyMap<string, readonly Span[]>,
): Span[] {
  const stages = stagesOf(changes);
  const found: Span[] = [];
  for (const [index, { fromMs, keys }] of stages.entries()) {
    const toMs = stages[index + 1]?.fromMs ?? Number.POSITIVE_INFINITY;
    let common: Span[] = [{ fromMs, toMs }];
    for (const key of keys) common = intersect(common, windows.get(key) ?? []);
    for (const span of common) {
      const last = found.at(-1);
      if (last !== undefined && last.toMs >= span.fromMs) {
        found[found.length - 1] = { fromMs: last.fromMs, toMs: Math.max(last.toMs, span.toMs) };
      } else {
        found.push(span);
      }
    }
  }
  return found;
}

/** Before the first change nothing else is known: it counts as having been so. */
function stagesOf(changes: readonly SlotsChange[]): Stage[] {
  const stages: Stage[] = [];
  let before: ReadonlySet<string> | undefined;
  let endMs = Number.NEGATIVE_INFINITY;
  for (const change of changes) {
    const keys = new Set(
      change.shards.flatMap((shard) => (shard.slots.length > 0 ? shard.key : [])),
    );
    const seen = seenMs(change);
    if (before === undefined) {
      stages.push({ fromMs: endMs, keys });
    } else if (keys.symmetricDifference(before).size > 0) {
      stages.push({ fromMs: Math.max(endMs, startMs(change, seen)), keys: keys.union(before) });
      stages.push({ fromMs: seen, keys });
    }
    before = keys;
    endMs = seen;
  }
  return stages;
}

/** When it can have been at the earliest. */
function startMs({ windowMs, shards }: SlotsChange, seen: number): number {
  if (windowMs !== null) return seen - windowMs;
  // The last of them: the log of a shard that nobody writes to ends long before.
  const ends = shards.flatMap(({ position }) => (position === null ? [] : [position.ms]));
  return ends.length === 0 ? seen : Math.min(seen, Math.max(...ends));
}

/** What both have, in the order of time. */
export function intersect(some: readonly Span[], others: readonly Span[]): Span[] {
  const common = some.flatMap((span) =>
    others.flatMap((other) => {
      const fromMs = Math.max(span.fromMs, other.fromMs);
      const toMs = Math.min(span.toMs, other.toMs);
      return fromMs <= toMs ? [{ fromMs, toMs }] : [];
    }),
  );
  return common.sort((a, b) => a.fromMs - b.fromMs);
}
