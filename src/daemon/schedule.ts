/**
 * When the next set of an instance is due.
 *
 * WHY COMPUTED and not a timer: machines sleep, are restarted, have their clocks set. What is due follows
 * from the policy, the time, and when the newest set was; so a moment that was missed is caught up
 * once, and one that was kept is not kept twice.
 *
 * INVARIANTS
 *
 *   1. A moment of the policy is kept by any good set from then on, whoever asked for it: a source is not
 *      made to fork twice for one promise.
 *   2. The jitter of an instance is the same every day: a share of the policy's, by its name. So
 *      intervals stay even, and instances of one policy do not begin together.
 *   3. Where a day has the time twice, or not at all (the clocks change), there is one moment.
 */

import { crc32 } from "node:zlib";
import { Cron } from "croner";

export const weekdays = [
  "monday",
  "tuesday",
  "wednesday",
  "thursday",
  "friday",
  "saturday",
  "sunday",
] as const;
export type Weekday = (typeof weekdays)[number];

export type BackupPolicy = {
  readonly days: readonly Weekday[];
  readonly hour: number;
  readonly minute: number;
  /** As the IANA names it, "Europe/Prague". */
  readonly timeZone: string;
  readonly jitterMs: number;
};

export type Due = {
  /** The last moment of the policy that is not in the future; undefined where there is none. */
  readonly lastMs: number | undefined;
  /** The next one. */
  readonly nextMs: number;
};

/** Where the policy of an instance stands. */
export function dueAt(policy: BackupPolicy, instance: string, nowMs: number): Due {
  const offset = jitterOf(policy, instance);
  const cron = toCron(policy);
  // Croner's seconds: the moment itself counts as past.
  const reference = new Date(nowMs - offset + 1000);
  const last = cron.previousRuns(1, reference)[0];
  const next = cron.nextRun(new Date(nowMs - offset));
  return {
    lastMs: last === undefined ? undefined : last.getTime() + offset,
    nextMs: (next?.getTime() ?? Number.POSITIVE_INFINITY) + offset,
  };
}

/**
 * Whether a set is due: none has been taken since the last moment. Of an instance that has none at all, the
 * policy alone cannot tell: its base may be on its way, or all sets be lost. That is sets-seen.ts.
 */
export function isDue(due: Due, newestSetMs: number | undefined): boolean {
  return newestSetMs !== undefined && due.lastMs !== undefined && newestSetMs < due.lastMs;
}

function jitterOf({ jitterMs }: BackupPolicy, instance: string): number {
  return Math.floor((crc32(instance) / 2 ** 32) * jitterMs);
}

function toCron({ days, hour, minute, timeZone }: BackupPolicy): Cron {
  const numbers = days.map((day) => (weekdays.indexOf(day) + 1) % 7);
  return new Cron(`0 ${minute} ${hour} * * ${numbers.join(",")}`, {
    timezone: timeZone,
    paused: true,
  });
}
