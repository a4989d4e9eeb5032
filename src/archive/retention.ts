/**
 * What of an instance may go, by a policy: a plan, made from the catalogue alone.
 *
 * WHY a plan. What is deleted is gone. So it is found out by a function of values, which a test can ask a
 * million questions, and shown to whoever wants to see it; `expire.ts` does what it says.
 *
 * WHICH SETS STAY
 *
 *   kept        somebody said so
 *   young       not older than `retentionDays`
 *   last, daily, weekly, monthly
 *               the newest good set of each of the last so many sets, days, weeks (from Monday), months
 *               that have one, in the policy's time zone
 *   window      the log window starts from it: see below
 *   newest      the newest good set of all; where none is good, the newest
 *
 * A set that was not verified is not good, and does not count where good ones are counted. One that is known
 * to restore nothing (`fault`) is nobody's foothold: it stays only where it is kept, or young, or alone.
 *
 * WHICH LOG STAYS. The log window is the last `logWindowDays`: within it, every moment that can be restored
 * now can be restored afterwards. Of each run of the log (a part of a line without a hole) that reaches into
 * the window, there is a set that it is replayed from: the newest good one at or before the start of the
 * window, or else the first one behind it. It stays, and so does the log from there to the run's end.
 *
 * INVARIANTS
 *
 *   1. No moment of the log window that was restorable is lost; neither is one that was restorable from a
 *      good set to become restorable only from one that is not.
 *   2. Of a run, what goes is its beginning, or all of it: there is no new hole.
 *   3. The newest run of the newest line goes on: an instance without writes has no new log, and its
 *      window still reaches to now.
 *   4. Twice the same: what is planned for what is left is nothing.
 *
 * A set's time and the times in a log are taken by two clocks that were measured apart, so the log stays
 * from a little before the set (`slackMs`). And where logs overlap, a time is of several: so this takes each
 * set for one of every run that has its time, names which it relies on for which run (`footing`), and is asked
 * again without those of which it is not so (`expire.ts`).
 *
 * WHETHER THE CLOCK IS RIGHT is in doubt where the archive cannot have slept until now: see `doubtOf()`.
 *
 * REJECTED. Log that a set older than the window could be rolled forward with: without its end at the
 * window it would be an island, of no use that the set itself does not have.
 */
import { iso } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { ObjectInfo } from "../store/store.ts";
import {
  type Catalogue,
  type ListedSet,
  type LogLine,
  type Piece,
  type Run,
  resolveRuns,
  type Window,
  windowsOf,
} from "./catalogue.ts";

export type RetentionPolicy = {
  readonly retentionDays: number;
  readonly keepLast?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  /** 7 by default; there is no upper bound. */
  readonly logWindowDays?: number | undefined;
  /** As the IANA names it; UTC by default. */
  readonly timeZone?: string | undefined;
  /** Allows `retentionDays` outside of 7 to 730. */
  readonly allowAnyRetention?: boolean | undefined;
  /** The longest time between two sets, as they are taken: so long an idle instance is silent. 1 by default. */
  readonly setEveryDays?: number | undefined;
};

export type Reason =
  | "kept"
  | "young"
  | "last"
  | "daily"
  | "weekly"
  | "monthly"
  | "window"
  | "newest";

export type SetDecision = {
  readonly set: ListedSet;
  /** Why it stays; nothing: it goes. */
  readonly reasons: readonly Reason[];
};

/** A run that stays, what is left of it, and a set that it is replayed from. */
export type Foothold = {
  readonly run: Run;
  readonly pieces: readonly Piece[];
  readonly set: ListedSet;
};

export type ExpiryPlan = {
  readonly instance: string;
  readonly policy: RetentionPolicy;
  readonly nowMs: number;
  /** From where on all that can be restored can be restored afterwards. */
  readonly windowStartMs: number;
  /** All, oldest first. */
  readonly sets: readonly SetDecision[];
  /** That go, of each line oldest first, what they cover before them. */
  readonly pieces: readonly Piece[];
  /** Objects of sets that never came to be. */
  readonly leftovers: readonly string[];
  readonly freedBytes: number;
  /** What the log that remains is replayed from. */
  readonly footing: readonly Foothold[];
  /** That remain. */
  readonly windows: readonly Window[];
  /** Why this machine's clock may be wrong; undefined: nothing says so. */
  readonly clockDoubt: string | undefined;
  /** For people: sets that are not counted on, and why. */
  readonly notes: readonly string[];
};

const retentionBounds = { least: 7, most: 730 } as const;
const defaultLogWindowDays = 7;
const dayMs = 24 * 60 * 60 * 1000;
const slackMs = 10 * 60 * 1000;
/** By the clock of the storage. Nobody takes so long for the rest of a set. */
const leftoverAgeMs = dayMs;

/** @throws Failure USAGE where it makes no sense */
export function checkPolicy(policy: RetentionPolicy): void {
  const { retentionDays, logWindowDays = defaultLogWindowDays, timeZone = "UTC" } = policy;
  const { least, most } = retentionBounds;
  const refuse = (found: string, hint: string) => {
    throw new Failure("USAGE", `Cannot use the retention policy: ${found}`, { hint });
  };
  if (!(retentionDays >= 0 && Number.isFinite(retentionDays))) {
    refuse(`${retentionDays} is no number of days`, "Give the retention in days, as 30.");
  }
  const isOutside = retentionDays < least || retentionDays > most;
  if (isOutside && policy.allowAnyRetention !== true) {
    const found = `a retention of ${retentionDays} days is not between ${least} and ${most}`;
    refuse(
      found,
      "Choose one that is, or allow any: --allow-any-retention, or allow_any_retention in tidemark.yaml.",
    );
  }
  if (!(logWindowDays >= 0 && Number.isFinite(logWindowDays))) {
    refuse(`a log window of ${logWindowDays} days`, "Give the log window in days, as 7.");
  }
  for (const name of ["keepLast", "keepDaily", "keepWeekly", "keepMonthly"] as const) {
    const count = policy[name] ?? 0;
    if (!Number.isSafeInteger(count) || count < 0) {
      refuse(`${name} is ${count}`, "Give how many sets are to be kept: a whole number.");
    }
  }
  if (!isTimeZone(timeZone)) {
    refuse(`there is no time zone "${timeZone}"`, 'Name it as in "Europe/Berlin", or "UTC".');
  }
}

function isTimeZone(timeZone: string): boolean {
  try {
    Intl.DateTimeFormat("en", { timeZone });
    return true;
  } catch {
    return false;
  }
}

/**
 * `isOf` says whether a set that has the time of a run may be of that run.
 *
 * @throws Failure USAGE where the policy makes no sense
 */
export function planExpiry(
  catalogue: Catalogue,
  policy: RetentionPolicy,
  nowMs: number,
  isOf: (set: ListedSet, run: Run) => boolean = () => true,
): ExpiryPlan {
  checkPolicy(policy);
  const windowStartMs = nowMs - (policy.logWindowDays ?? defaultLogWindowDays) * dayMs;
  const reasons = new Map<string, Reason[]>(catalogue.sets.map(({ name }) => [name, []]));
  const stays = (set: ListedSet | undefined, reason: Reason) => {
    const given = set && reasons.get(set.name);
    if (given?.includes(reason) === false) given.push(reason);
  };
  for (const set of catalogue.sets) {
    if (set.isKept) stays(set, "kept");
    if (set.ms > nowMs - policy.retentionDays * dayMs) stays(set, "young");
  }
  const usable = catalogue.sets.filter(({ fault }) => fault === undefined);
  const good = usable.filter(({ isVerified }) => isVerified);
  for (const [set, reason] of countedSets(good, policy)) stays(set, reason);
  stays(good.at(-1) ?? usable.at(-1) ?? catalogue.sets.at(-1), "newest");
  const pieces: Piece[] = [];
  const footing: Foothold[] = [];
  for (const line of catalogue.lines) {
    const isLast = line === newestLine(catalogue.lines);
    const anchors = anchorsOf(line, usable, { windowStartMs, isLast, isOf });
    for (const { sets, run, stay } of anchors) {
      for (const set of sets) {
        stays(set, "window");
        footing.push({ run, pieces: run.pieces.slice(stay), set });
      }
    }
    pieces.push(...piecesBefore(line, anchors));
  }
  const decisions = catalogue.sets.map((set) => ({ set, reasons: reasons.get(set.name) ?? [] }));
  return complete(catalogue, { policy, nowMs, windowStartMs }, { decisions, pieces, footing });
}

function complete(
  catalogue: Catalogue,
  facts: Pick<ExpiryPlan, "policy" | "nowMs" | "windowStartMs">,
  {
    decisions,
    ...rest
  }: Pick<ExpiryPlan, "pieces" | "footing"> & { readonly decisions: SetDecision[] },
): ExpiryPlan {
  const { pieces } = rest;
  const leftovers = leftoversOf(catalogue, facts.nowMs);
  const going = decisions.filter(({ reasons }) => reasons.length === 0).map(({ set }) => set);
  const freedBytes = [...going, ...pieces, ...leftovers].reduce((sum, { sizeBytes }) => {
    return sum + sizeBytes;
  }, 0);
  return {
    instance: catalogue.instance,
    ...facts,
    ...rest,
    sets: decisions,
    leftovers: leftovers.map(({ name }) => name),
    freedBytes,
    windows: windowsOf(without(catalogue, going, pieces)),
    clockDoubt: doubtOf(catalogue, facts.nowMs, facts.policy),
    notes: catalogue.sets.flatMap(({ name, fault }) => {
      return fault === undefined ? [] : [`set ${name} is not counted on: ${fault}`];
    }),
  };
}

/**
 * Why this machine's clock may be wrong, as far as an archive tells; undefined where it does not.
 *
 * What an hour of a clock that is a year ahead deletes is gone. So it is believed only where the archive knows of a
 * time near to it, and not only since today: else sets and log of this hour, which the same clock may have
 * stamped, would speak for it. An instance that goes on after a long rest is believed a day later.
 */
export function doubtOf(
  { sets, lines }: Catalogue,
  nowMs: number,
  { setEveryDays = 1 }: Pick<RetentionPolicy, "setEveryDays"> = {},
): string | undefined {
  const silenceMs = (setEveryDays + 1) * dayMs;
  const pieces = lines.flatMap(({ runs }) => runs.flatMap((run) => run.pieces));
  const past = [
    ...sets.map(({ ms }) => ms),
    ...pieces.flatMap(({ fromMs, toMs }) => [fromMs, toMs]),
  ]
    .filter((ms) => ms <= nowMs)
    .sort((a, b) => b - a);
  const [newest] = past;
  if (newest === undefined) return undefined;
  const now = `it is ${iso(nowMs)} by this machine's clock`;
  if (newest < nowMs - silenceMs)
    return `${now}, and nothing in the archive is newer than ${iso(newest)}`;
  const before = past.find((ms) => ms < nowMs - dayMs);
  if (before === undefined || before >= nowMs - dayMs - silenceMs) return undefined;
  return `${now}; the archive knows of that time since less than a day, and before it of nothing newer than ${iso(before)}`;
}

/** The catalogue as it is when these have gone. */
export function without(
  catalogue: Catalogue,
  sets: readonly ListedSet[],
  pieces: readonly Piece[],
): Catalogue {
  const [goneSets, gonePieces] = [new Set(sets), new Set(pieces)];
  return {
    ...catalogue,
    sets: catalogue.sets.filter((set) => !goneSets.has(set)),
    lines: catalogue.lines.flatMap((line) => {
      const all = [...line.runs.flatMap((run) => run.pieces), ...line.covered];
      const left = all.filter((piece) => !gonePieces.has(piece));
      return left.length === 0 ? [] : [{ ...line, ...resolveRuns(left) }];
    }),
  };
}

/** The newest good set of each of the last so many days, and so on. */
function* countedSets(
  good: readonly ListedSet[],
  policy: RetentionPolicy,
): Generator<readonly [ListedSet, Reason]> {
  const { keepLast = 0, keepDaily = 0, keepWeekly = 0, keepMonthly = 0, timeZone = "UTC" } = policy;
  const format = new Intl.DateTimeFormat("en-CA", {
    ...{ timeZone, year: "numeric", month: "2-digit", day: "2-digit" },
  });
  const rules: readonly (readonly [Reason, number, (set: ListedSet) => string])[] = [
    ["last", keepLast, ({ name }) => name],
    ["daily", keepDaily, ({ ms }) => format.format(ms)],
    ["weekly", keepWeekly, ({ ms }) => mondayOf(format.format(ms))],
    ["monthly", keepMonthly, ({ ms }) => format.format(ms).slice(0, 7)],
  ];
  for (const [reason, count, spanOf] of rules) {
    const seen = new Set<string>();
    for (const set of count === 0 ? [] : good.toReversed()) {
      const span = spanOf(set);
      if (seen.has(span)) continue;
      if (seen.size === count) break;
      seen.add(span);
      yield [set, reason];
    }
  }
}

/** The day on which the week of a day begins. Days alone are counted, so no time zone matters here. */
function mondayOf(day: string): string {
  const ms = Date.parse(`${day}T00:00:00Z`);
  const sinceMonday = (new Date(ms).getUTCDay() + 6) % 7;
  return new Date(ms - sinceMonday * dayMs).toISOString().slice(0, 10);
}

function newestLine(lines: readonly LogLine[]): LogLine | undefined {
  return lines.reduce<LogLine | undefined>((newest, line) => {
    return newest === undefined || endOf(line) >= endOf(newest) ? line : newest;
  }, undefined);
}

function endOf({ runs }: LogLine): number {
  return runs.at(-1)?.pieces.at(-1)?.toMs ?? 0;
}

/** What a run is replayed from, and from when on its log is needed. */
type Anchor = {
  readonly run: Run;
  readonly sets: readonly ListedSet[];
  /** The number of the first piece that stays; that of all pieces where none does. */
  readonly stay: number;
};

function anchorsOf(
  { runs }: LogLine,
  allSets: readonly ListedSet[],
  {
    windowStartMs,
    isLast,
    isOf,
  }: {
    readonly windowStartMs: number;
    readonly isLast: boolean;
    readonly isOf: (set: ListedSet, run: Run) => boolean;
  },
): Anchor[] {
  return runs.map((run, i): Anchor => {
    const [first, last] = [run.pieces[0] as Piece, run.pieces.at(-1) as Piece];
    const goesOn = isLast && i === runs.length - 1;
    if (last.toMs < windowStartMs && !goesOn) {
      return { run, sets: [], stay: run.pieces.length };
    }
    const inTime = allSets.filter(({ ms }) => ms >= first.fromMs && ms <= last.toMs);
    const sets = inTime.filter((set) => isOf(set, run));
    const good = sets.filter(({ isVerified }) => isVerified);
    // Where no good one is old enough, one that is not good is better than none.
    const needed = [findAnchor(good, windowStartMs), findAnchor(sets, windowStartMs)];
    const [best, oldest] = needed;
    const isCovered = best !== undefined && best.ms <= Math.max(windowStartMs, oldest?.ms ?? 0);
    const kept = (isCovered ? [best] : needed).filter((set) => set !== undefined);
    // Without any set nothing can be restored from it yet; its base may be under way.
    const fromMs = kept.length === 0 ? first.fromMs : Math.min(...kept.map(({ ms }) => ms));
    const stay = run.pieces.findIndex(({ toMs }) => toMs >= fromMs - slackMs);
    return { run, sets: kept, stay };
  });
}

/** The newest at or before the start of the window, else the first behind it. */
function findAnchor(sets: readonly ListedSet[], windowStartMs: number): ListedSet | undefined {
  return sets.findLast(({ ms }) => ms <= windowStartMs) ?? sets[0];
}

/** What is not needed of each run: first what its pieces cover, else that would be the log again. */
function piecesBefore({ covered }: LogLine, anchors: readonly Anchor[]): Piece[] {
  return anchors.flatMap(({ run: { pieces }, stay }) => {
    const going = pieces.slice(0, stay);
    const [first, last] = [going[0], going.at(-1)];
    if (first === undefined || last === undefined) return [];
    const isIn = (piece: Piece) =>
      piece.firstSequence >= first.firstSequence && piece.firstSequence <= last.lastSequence;
    return [...covered.filter(isIn), ...going];
  });
}

/** Objects of sets that did not come to be, or whose removal was cut off, and are nobody's any more. */
export function leftoversOf({ unfinished }: Catalogue, nowMs: number): ObjectInfo[] {
  return [...unfinished.values()].flatMap((objects) => {
    const newestMs = Math.max(...objects.map(({ modifiedMs }) => modifiedMs));
    return nowMs - newestMs > leftoverAgeMs ? objects : [];
  });
}
