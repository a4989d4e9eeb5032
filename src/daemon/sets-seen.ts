/**
 * What the sets of an instance say to its schedule: when the newest good one was begun, and whether one is wanted
 * at once, whatever the schedule says.
 *
 * WANTED AT ONCE. Log is worth nothing without a set to replay it on. Where the log that is written to has none that is
 * good (all were deleted or damaged, or pieces behind them are missing), every second until the next set is
 * one that cannot be restored. And where all sets say that they were begun in the future, no moment would ever be due.
 *
 * INVARIANTS
 *
 *   1. A set counts by what its manifest says, not by its name: it is listed with the size that the manifest
 *      has, and was begun, by this machine's clock, not later than now.
 *   2. A base that was sent and is still to be read back is waited for.
 *   3. At most `maxManifests` are read.
 */
import { sizeFault } from "../archive/backup-set.ts";
import type { Catalogue, ListedSet, Piece } from "../archive/catalogue.ts";
import { newestRunOf } from "../archive/stranded.ts";
import { readSetManifest } from "../archive/verify.ts";
import type { Readable } from "../archive/verify-object.ts";
import { Failure } from "../base/errors.ts";

export type SetsSeen = {
  /** When the newest good set was begun, by our clock; undefined where there is none. */
  readonly newestGoodMs: number | undefined;
  /** Why a set is wanted at once. */
  readonly wanted: string | undefined;
  /** False: the log that is written to is not known yet, so neither is whether one is wanted for it. */
  readonly isSure: boolean;
};

export type LookOptions = {
  /** The log that is written to; undefined: it is not known whether its base was sent. */
  readonly line: string | undefined;
  /** Sets that are still to be read back: asked for before the listing was made. */
  readonly toVerify: readonly string[];
  readonly nowMs: number;
  readonly signal?: AbortSignal;
};

const maxManifests = 16;
/** Clocks are set by less every day. */
export const clockSlackMs = 60_000;

/** @throws Failure of the store */
export async function lookAtSets(
  repository: Readable,
  catalogue: Catalogue,
  options: LookOptions,
): Promise<SetsSeen> {
  const { instance, sets } = catalogue;
  const { line, toVerify, nowMs } = options;
  const run = line === undefined ? undefined : newestRunOf(catalogue, line);
  let newestGoodMs: number | undefined;
  let future: string | undefined;
  let isCovered = line === undefined || sets.some((set) => isExpected(set, run, toVerify));
  const good = sets.filter(({ isVerified }) => isVerified).reverse();
  for (const set of good.slice(0, maxManifests)) {
    const seen = await readSeen(repository, instance, set, options);
    if (seen === undefined) continue;
    isCovered ||= isOf(seen, run, line ?? "");
    if (seen.startedMs > nowMs + clockSlackMs) future ??= set.name;
    else newestGoodMs ??= seen.startedMs;
    if (newestGoodMs !== undefined) break;
  }
  const wanted = wantedWhy({ run, isCovered, newestGoodMs, future });
  return { newestGoodMs, wanted, isSure: line !== undefined };
}

type Seen = {
  readonly ms: number;
  readonly startedMs: number;
  readonly position: { readonly replicationId: string; readonly offset: number };
};

/** Undefined: nothing can be restored from it. */
async function readSeen(
  repository: Readable,
  instance: string,
  set: ListedSet,
  options: Pick<LookOptions, "signal">,
): Promise<Seen | undefined> {
  try {
    const manifest = await readSetManifest(repository, instance, set.name, options);
    return sizeFault(manifest, set) === undefined ? manifest : undefined;
  } catch (error) {
    if (!(error instanceof Failure) || !/^(OBJECT_MISSING|DATA_|LIMIT_)/.test(error.code))
      throw error;
    // Of what a newer version has written, nothing is known here: its mark and its name count.
    if (error.code !== "DATA_UNSUPPORTED") return undefined;
    return { ms: set.ms, startedMs: set.ms, position: { replicationId: "", offset: -1 } };
  }
}

function isExpected(
  { name, ms, fault }: ListedSet,
  run: Piece | undefined,
  toVerify: readonly string[],
): boolean {
  return fault === undefined && ms >= (run?.fromMs ?? 0) && toVerify.includes(name);
}

/** Whether the run can be replayed on it: by its time, or its position where the log's clock was wrong. */
function isOf({ ms, position }: Seen, run: Piece | undefined, line: string): boolean {
  if (run === undefined) return true;
  const [, idPrefix = ""] = line.split("-");
  const isSameId = position.replicationId.startsWith(idPrefix);
  return ms >= run.fromMs || (isSameId && position.offset >= run.fromOffset);
}

function wantedWhy({
  run,
  isCovered,
  newestGoodMs,
  future,
}: {
  readonly run: Piece | undefined;
  readonly isCovered: boolean;
  readonly newestGoodMs: number | undefined;
  readonly future: string | undefined;
}): string | undefined {
  if (!isCovered) {
    const since = run === undefined ? "" : ` since ${new Date(run.fromMs).toISOString()}`;
    return `no good set is there to restore the log${since} from`;
  }
  if (newestGoodMs === undefined && future !== undefined) {
    return `set ${future} is stamped in the future (the clock was wrong), and no other one is there`;
  }
  return undefined;
}
