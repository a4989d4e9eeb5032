/** What comes of planning: a plan, or what can be restored instead. */

import type { SetManifest } from "../archive/backup-set.ts";
import {
  type Catalogue,
  type ListedSet,
  type Piece,
  type Window,
  windowsOf,
} from "../archive/catalogue.ts";
import { iso } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import type { LogPlace } from "./restore-locate.ts";
import { formatTarget, type RestoreTarget } from "./target.ts";

/** A part of a log. Places count its own pieces: the first one is 0. */
export type LogRange = {
  readonly pieces: readonly Piece[];
  readonly start: LogPlace;
  readonly end: LogPlace;
};

/** Where the data will stand. */
export type Moment = {
  /** The time of the last position line before the cut; of a set as it is, its own. */
  readonly ms: number;
  /** Where that is known to the byte. */
  readonly position: Position | undefined;
};

export type Plan = {
  /** The same for what restores the same bytes. */
  readonly id: string;
  readonly instance: string;
  readonly target: RestoreTarget;
  readonly set: {
    readonly name: string;
    readonly object: string;
    readonly manifest: SetManifest;
  };
  /** The log that is replayed on it; undefined: the set as it is. */
  readonly line: string | undefined;
  readonly log: LogRange | undefined;
  readonly moment: Moment;
  /** What is read of the repository, about, and what it becomes. */
  readonly readBytes: number;
  readonly rawBytes: number;
  readonly rawLogBytes: number;
  readonly estimatedMs: number;
  /** For people: what was chosen otherwise than they may expect. */
  readonly notes: readonly string[];
};

/**
 * What expiries are counted from. At a time that was asked for nothing has come since the last line of the log, and
 * yet time has gone by; it is in a window, so the log had reached it.
 */
export function expiriesFromMs({ target, moment }: Pick<Plan, "target" | "moment">): number {
  return target.kind === "time" ? Math.max(target.ms, moment.ms) : moment.ms;
}

/** A moment that can be restored. */
export type Nearest = { readonly ms: number; readonly target: string };

export type Outside = {
  readonly target: RestoreTarget;
  /** What keeps it from being restored. */
  readonly found: string;
  readonly windows: readonly Window[];
  readonly before: Nearest | undefined;
  readonly after: Nearest | undefined;
};

export type PlanResult =
  | { readonly kind: "plan"; readonly plan: Plan }
  | ({ readonly kind: "outside" } & Outside);

/** What keeps a target from being restored; and the time that it is. */
export type Refusal = { readonly found: string; readonly ms?: number };

/** As a failure, with the windows and the nearest moments in its hint. */
export function outsideFailure({ target, found, windows, before, after }: Outside): Failure {
  const list = windows.map(({ fromMs, toMs }) => `  ${iso(fromMs)} to ${iso(toMs)}`);
  const nearest = [
    ...(before ? [`before it ${before.target}`] : []),
    ...(after ? [`behind it ${after.target}`] : []),
  ];
  const hint = [
    windows.length === 0 ? "No window is there." : `What can be restored:\n${list.join("\n")}`,
    ...(nearest.length === 0 ? [] : [`The nearest moments: ${nearest.join(", ")}.`]),
  ].join("\n");
  const message = `Cannot restore to ${formatTarget(target)}: ${found}`;
  return new Failure("OUTSIDE_WINDOWS", message, { hint });
}

/** What can be restored instead of the target. */
export function outside(catalogue: Catalogue, target: RestoreTarget, refusal: Refusal): PlanResult {
  const windows = windowsOf(catalogue);
  const { found, ms } = refusal;
  const result = { kind: "outside", target, found, windows } as const;
  if (ms === undefined) return { ...result, before: undefined, after: undefined };
  const ends = windows.flatMap(({ fromMs, toMs }) => [fromMs, toMs]).map(atTime);
  const usable = catalogue.sets.filter(({ fault }) => fault === undefined);
  const moments = [...ends, ...usable.map((set) => atSet(set))];
  const before = moments.filter((each) => each.ms < ms).sort((a, b) => b.ms - a.ms)[0];
  const after = moments.filter((each) => each.ms > ms).sort((a, b) => a.ms - b.ms)[0];
  return { ...result, before, after };
}

function atTime(ms: number): Nearest {
  return { ms, target: iso(ms) };
}

function atSet({ name, ms }: ListedSet): Nearest {
  return { ms, target: `set:${name}` };
}
