/**
 * What `tidemark status` says of an instance: what can be restored, how far behind, how large.
 *
 * WHY FROM TWO PLACES. What can be restored, the repository alone says, also when nothing runs and from another
 * machine. How far behind it is, only the process knows that ships; it is asked where it runs here.
 */
import { parseVerifiedMark } from "../../archive/backup-set.ts";
import {
  type Catalogue,
  type ListedSet,
  readCatalogue,
  type Window,
  windowsOf,
  withFaults,
} from "../../archive/catalogue.ts";
import type { Span } from "../../archive/cluster-windows.ts";
import { maxDocumentBytes } from "../../archive/document.ts";
import { setObject } from "../../archive/layout.ts";
import { type Stranded, strandedOf } from "../../archive/stranded.ts";
import { findFault, readSetManifest } from "../../archive/verify.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import type { InstanceStatus } from "../../daemon/instance.ts";
import { clockSlackMs } from "../../daemon/sets-seen.ts";
import { readAll } from "../../store/store.ts";
import { renderPairs, style, title } from "../render/table.ts";
import { formatBytes, formatDuration, formatTime, plural, printable } from "../render/text.ts";
import type { Place } from "./place.ts";

/** What is between two windows: nothing of it can be restored. */
export type Gap = {
  readonly fromMs: number;
  readonly toMs: number;
  readonly reason: string | null;
};

/** Version 1 of what `tidemark status --json` prints of an instance. Times are Unix milliseconds. */
export type ArchivedStatus = {
  readonly instance: string;
  readonly repository: string;
  /** Where the configuration has the instance, if that is another repository: this is an older copy. */
  readonly movedTo: string | null;
  /** Null where no `tidemark up` runs it here. */
  readonly live: InstanceStatus | null;
  readonly windows: readonly Window[];
  readonly gaps: readonly Gap[];
  /** Log that is there, and cannot be restored. */
  readonly stranded: readonly Stranded[];
  /** What is stamped in the future. */
  readonly clockTroubles: readonly string[];
  readonly sets: {
    readonly count: number;
    readonly good: number;
    /** Of which it can be seen that nothing can be restored from them. */
    readonly damaged: number;
    readonly kept: number;
    readonly sizeBytes: number;
    readonly newestGood: { readonly set: string; readonly ms: number } | null;
    /** When the newest good one was last read back. */
    readonly verifiedMs: number | null;
  };
  readonly log: {
    readonly pieces: number;
    readonly sizeBytes: number;
    readonly rawBytes: number;
  };
};

const shownWindows = 8;
const maxFaults = 16;
const maxStampsRead = 4;

export async function readStatus(
  place: Place,
  live: InstanceStatus | null,
): Promise<ArchivedStatus> {
  const { repository, instance } = place;
  const catalogue = await readSoundCatalogue(place);
  const windows = windowsOf(catalogue);
  const good = catalogue.sets.filter(({ isVerified }) => isVerified);
  const newest = good.at(-1);
  const sum = <Item>(items: readonly Item[], of: (item: Item) => number) =>
    items.reduce((total, item) => total + of(item), 0);
  const pieces = catalogue.lines.flatMap(({ runs }) => runs.flatMap((run) => run.pieces));
  return {
    ...{ instance, live, windows, repository: repository.store.name },
    movedTo: place.movedTo ?? null,
    gaps: gapsOf(windows, live),
    stranded: strandedOf(catalogue),
    clockTroubles: await findClockTroubles(place, windows, good),
    sets: {
      ...{ count: catalogue.sets.length, good: good.length },
      damaged: catalogue.sets.filter(({ fault }) => fault !== undefined).length,
      kept: catalogue.sets.filter(({ isKept }) => isKept).length,
      sizeBytes: sum(catalogue.sets, ({ sizeBytes }) => sizeBytes),
      newestGood: newest ? { set: newest.name, ms: newest.ms } : null,
      verifiedMs: newest ? await readVerifiedMs(place, newest.name) : null,
    },
    log: {
      pieces: pieces.length,
      sizeBytes: sum(pieces, ({ sizeBytes }) => sizeBytes),
      rawBytes: sum(pieces, ({ rawBytes }) => rawBytes),
    },
  };
}

/** The newest good set is what all rely on: its manifest is asked too, until one of them agrees. */
async function readSoundCatalogue({ repository, instance }: Place): Promise<Catalogue> {
  const catalogue = await readCatalogue(repository.store, instance);
  const faults = new Map<string, string>();
  for (const set of catalogue.sets.toReversed()) {
    if (!set.isVerified) continue;
    const fault = await findFault(repository, instance, set);
    if (fault === undefined || faults.size === maxFaults) break;
    faults.set(set.name, fault);
  }
  return withFaults(catalogue, faults);
}

async function readVerifiedMs(
  { repository, instance }: Place,
  set: string,
): Promise<number | null> {
  const object = setObject(instance, set, "verified");
  try {
    const bytes = await readAll(repository.store, object, maxDocumentBytes);
    return parseVerifiedMark(bytes, object).ms;
  } catch (error) {
    // It may have gone since the listing; and `verify` says what is wrong with it.
    if (error instanceof Failure && /^(OBJECT_MISSING|DATA_)/.test(error.code)) return null;
    throw error;
  }
}

/**
 * Times that are still to come: some clock was ahead then. A log holds its time until it is that late; so
 * moments cannot be told apart until then.
 */
async function findClockTroubles(
  { repository, instance }: Place,
  windows: readonly Window[],
  good: readonly ListedSet[],
): Promise<string[]> {
  const lastMs = systemClock.now() + clockSlackMs;
  const endMs = Math.max(0, ...windows.map(({ toMs }) => toMs));
  const troubles =
    endMs > lastMs
      ? [`log is stamped in the future, up to ${formatTime(endMs)}: the clock was wrong`]
      : [];
  for (const { name, ms } of good.toReversed().slice(0, maxStampsRead)) {
    const stampMs = ms > lastMs ? ms : await readStartedMs(repository, instance, name);
    if (stampMs <= lastMs) continue;
    const stamp = formatTime(stampMs);
    troubles.push(`set ${name} is stamped in the future, ${stamp}: the clock was wrong`);
  }
  return troubles;
}

async function readStartedMs(
  repository: Place["repository"],
  instance: string,
  set: string,
): Promise<number> {
  try {
    return (await readSetManifest(repository, instance, set)).startedMs;
  } catch (error) {
    // Its state says what is wrong with it; a newer version has written what is not known here.
    if (error instanceof Failure && /^(OBJECT_MISSING|DATA_)/.test(error.code)) return 0;
    throw error;
  }
}

/** A set in the middle of nothing is a window of no length; two lines may overlap by a moment. */
export function gapsOf(windows: readonly Span[], live: InstanceStatus | null): Gap[] {
  const gaps: Gap[] = [];
  let endMs = Number.POSITIVE_INFINITY;
  for (const { fromMs, toMs } of windows) {
    if (fromMs > endMs) {
      const known = live?.gaps.find(({ to }) => to.ms >= endMs && to.ms <= fromMs + 1000);
      gaps.push({ fromMs: endMs, toMs: fromMs, reason: known?.reason ?? null });
    }
    endMs = Number.isFinite(endMs) ? Math.max(endMs, toMs) : toMs;
  }
  return gaps;
}

export function renderStatus(status: ArchivedStatus): string[] {
  const { live, windows, gaps, sets, log, repository, movedTo } = status;
  const newest = sets.newestGood;
  const pairs: [string, string][] = [
    ["repository", repository],
    ...(movedTo === null ? [] : [renderMoved(movedTo)]),
    ...(live ? renderLive(live) : [["recorder", notRunning] as [string, string]]),
    ...renderWindows(windows, gaps),
    ...renderStranded(status),
    ["sets", describeSets(sets)],
    ["newest good", newest ? `${newest.set}, ${ago(newest.ms)}` : style("red", "none")],
    ["last verified", sets.verifiedMs === null ? "never" : ago(sets.verifiedMs)],
    ["size", `${formatBytes(sets.sizeBytes)} sets, ${formatBytes(log.sizeBytes)} log`],
    ["log", `${plural(log.pieces, "piece")}, ${formatBytes(log.rawBytes)} raw`],
  ];
  return [title(status.instance), ...renderPairs(pairs)];
}

function describeSets({ count, good, kept, damaged }: ArchivedStatus["sets"]): string {
  const bad = damaged === 0 ? "" : `, ${style("red", `${damaged} damaged`)}`;
  return `${plural(count, "set")}, ${good} good, ${kept} kept${bad}`;
}

export const notRunning = "no `tidemark up` runs here";

export function renderLive(live: InstanceStatus): [string, string][] {
  const { archive } = live;
  const { set } = archive;
  const failed = set.trouble && `${set.trouble} (the set failed ${ago(set.troubleMs ?? 0)})`;
  const expiry = set.expiryTrouble && `nothing expires: ${set.expiryTrouble}`;
  const troubles = [live.trouble, archive.trouble, wantedOf(live), failed, expiry].filter(
    (each) => each !== null,
  );
  const shipped =
    archive.lastShippedMs === null
      ? ""
      : `, ${formatBytes(archive.behindBytes ?? 0)} behind, shipped ${ago(archive.lastShippedMs)}`;
  const next = set.nextMs === null ? "none planned" : formatTime(set.nextMs);
  return [
    [
      "recorder",
      `${live.state}, ${live.source || "no source yet"}, ${formatBytes(live.lagBytes)} behind`,
    ],
    ["archive", `${archive.state}${shipped}`],
    [
      "next set",
      set.running && set.sinceMs !== null ? `${set.running}, begun ${ago(set.sinceMs)}` : next,
    ],
    ...troubles.map((text) => ["trouble", style("red", printable(text))] as [string, string]),
  ];
}

function wantedOf({ instance, archive: { set } }: InstanceStatus): string | null {
  if (set.wanted === null) return null;
  const mended = set.nextMs === null ? `take one: tidemark backup ${instance}` : "one is taken";
  return `${set.wanted}: ${mended}`;
}

function renderMoved(movedTo: string): [string, string] {
  return ["older copy", `the configuration has it in ${movedTo}, and restores from there`];
}

/** What of it is no window, why, and what would make what comes next one. */
export function renderStranded({
  instance,
  live,
  movedTo,
  stranded,
  clockTroubles,
}: ArchivedStatus): [string, string][] {
  const shown = stranded.slice(-shownWindows).map((each): [string, string] => {
    const { fromMs, toMs, reason, isNewest } = each;
    const span = `${formatTime(fromMs)} to ${formatTime(toMs)} (${formatDuration(toMs - fromMs)})`;
    const way = live === null ? "start `tidemark up`" : `\`tidemark backup ${instance}\``;
    const isMended = isNewest && movedTo === null;
    const next = isMended ? `; ${way}: what follows a set can be restored` : "";
    return ["no restore", style("red", `${span}: ${printable(reason)}${next}`)];
  });
  const clock = clockTroubles.map((text): [string, string] => ["trouble", style("red", text)]);
  return [...shown, ...clock];
}

export function ago(ms: number): string {
  return `${formatDuration(Math.max(0, systemClock.now() - ms))} ago`;
}

/** In the order of time, gaps where they are. */
export function renderWindows(windows: readonly Span[], gaps: readonly Gap[]): [string, string][] {
  if (windows.length === 0) return [["restores", style("red", "nothing yet")]];
  const lines = [
    ...windows.map(({ fromMs, toMs }) => ({
      atMs: fromMs,
      name: "restores",
      fromMs,
      toMs,
      rest: "",
    })),
    ...gaps.map(({ fromMs, toMs, reason }) => {
      const rest = reason === null ? "" : `: ${printable(reason)}`;
      return { atMs: fromMs, name: "gap", fromMs, toMs, rest };
    }),
  ].sort((a, b) => a.atMs - b.atMs);
  const left = lines.length - 2 * shownWindows;
  return [
    ...(left > 0 ? [["", `… ${left} earlier`] as [string, string]] : []),
    ...lines.slice(-2 * shownWindows).map(({ name, fromMs, toMs, rest }): [string, string] => {
      const span = `${formatTime(fromMs)} to ${formatTime(toMs)}`;
      return [name, `${span} (${formatDuration(toMs - fromMs)})${rest}`];
    }),
  ];
}
