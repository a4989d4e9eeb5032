/** Finding the plan of a restore, and printing it. */
import { type Catalogue, readCatalogue } from "../../archive/catalogue.ts";
import { listSlots, readSlots } from "../../archive/cluster-slots.ts";
import { openObject } from "../../archive/repository.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import {
  type ClusterPlan,
  type ClusterView,
  formatRanges,
  planCluster,
  slotsOf,
} from "../../recovery/cluster-plan.ts";
import type { KeyPipeOptions } from "../../recovery/key-pipe.ts";
import { type PlanOptions, planRestore } from "../../recovery/plan.ts";
import { type Outside, outsideFailure, type Plan } from "../../recovery/plan-result.ts";
import type { RestoredFolder } from "../../recovery/restore-folder.ts";
import type { ArchiveView } from "../../recovery/restore-locate.ts";
import type { RestoreProgress } from "../../recovery/restore-progress.ts";
import { changesNothing } from "../../recovery/restore-snapshot.ts";
import { describeTarget, formatTarget, notesOfTarget, parseTarget } from "../../recovery/target.ts";
import { readAll } from "../../store/store.ts";
import { renderPairs, title } from "../render/table.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  plural,
  printable,
} from "../render/text.ts";
import type { ClusterPlace, Place } from "./place.ts";

const shownWindows = 6;
const shownSlots = 60;

export function viewOf({ repository }: Pick<Place, "repository">): ArchiveView {
  return {
    openObject: (object, sizeBytes) => openObject(repository, object, sizeBytes),
    readSmall: (object, maxBytes) => readAll(repository.store, object, maxBytes),
  };
}

export function clusterViewOf(place: ClusterPlace): ClusterView {
  const { store } = place.repository;
  return {
    ...viewOf(place),
    listSlots: (cluster) => listSlots(store, cluster),
    readSlots: (object) => readSlots(store, object),
    readCatalogue: (instance) => readCatalogue(store, instance),
  };
}

/** @throws Failure as `findPlan()`, and USAGE for what is no moment of a cluster */
export async function findClusterPlan(
  place: ClusterPlace,
  at: string,
  options: PlanFlags = {},
): Promise<ClusterPlan> {
  const nowMs = systemClock.now();
  const target = parseTarget(at, nowMs);
  const view = clusterViewOf(place);
  const result = await planCluster(view, place.cluster, target, planOptions(options, nowMs));
  if (result.kind === "plan") return result.plan;
  throw outsideWith(result);
}

/** What restoring and downloading take of their flags. */
export type PlanFlags = {
  /** `--without-set NAME`, as often as it was given. */
  readonly withoutSet?: readonly string[];
};

function planOptions({ withoutSet = [] }: PlanFlags, nowMs: number): PlanOptions {
  return { nowMs, without: withoutSet };
}

/** A name that was mistyped would have the damaged set taken again. */
function mustBeSet({ sets }: Catalogue, name: string): void {
  if (sets.some((set) => set.name.startsWith(name))) return;
  throw new Failure("OBJECT_MISSING", `Cannot go without set "${name}": there is no such set`, {
    hint: "`tidemark backups` lists the sets.",
  });
}

function outsideWith(result: Outside): Failure {
  const { code } = outsideFailure(result);
  const { target, found } = result;
  const message = `Cannot restore to ${describeTarget(target)}: ${found}`;
  return new Failure(code, message, {
    hint: [...notesOfTarget(target).map(asSentence), describeWindows(result)].join(" "),
  });
}

/** @throws Failure USAGE; OUTSIDE_WINDOWS with the windows, where it cannot be restored */
export async function findPlan(place: Place, at: string, options: PlanFlags = {}): Promise<Plan> {
  const nowMs = systemClock.now();
  const target = parseTarget(at, nowMs);
  const catalogue = await readCatalogue(place.repository.store, place.instance);
  const { withoutSet = [] } = options;
  for (const name of withoutSet) mustBeSet(catalogue, name);
  const result = await planRestore(
    ...([viewOf(place), catalogue, target, planOptions(options, nowMs)] as const),
  );
  if (result.kind === "plan") return result.plan;
  throw outsideWith(result);
}

function asSentence(note: string): string {
  return `Note: ${note}.`;
}

/** In one line: what can be restored, the nearest moments first. */
function describeWindows({ windows, before, after }: Outside): string {
  const nearest = [before, after].flatMap((moment) => (moment ? [`--at ${moment.target}`] : []));
  // What comes after the last moment is not archived yet, or not at all.
  if (before !== undefined && after === undefined) nearest.push("--at latest");
  const near = nearest.length > 0 ? `The nearest: ${nearest.join(" or ")}. ` : "";
  if (windows.length === 0) {
    const none = nearest.length > 0 ? "No log can be replayed yet" : "Nothing can be restored yet";
    return `${near}${none}: \`tidemark status\` says why.`;
  }
  const shown = windows.slice(-shownWindows).map(({ fromMs, toMs }) => {
    return `${formatTime(fromMs)} to ${formatTime(toMs)}`;
  });
  const more = windows.length > shownWindows ? `${windows.length - shownWindows} earlier, ` : "";
  return `${near}What can be restored: ${more}${shown.join(", ")}.`;
}

/** A folder has the log as it was recorded, so keys can be chosen of a set only. @throws Failure */
export function mustNotChoose(plan: Plan, pipe: KeyPipeOptions): void {
  if (plan.log === undefined || changesNothing(pipe)) return;
  const found = "a folder has the log as it was recorded, with every key";
  throw new Failure("USAGE", `Cannot choose keys or expiries at that moment: ${found}`, {
    hint: "`tidemark download NAME --at T FILE.rdb --server PATH` and `restore --to` can; or --at set:NAME.",
  });
}

/** What was chosen otherwise than whoever restores may expect: of the target, and of the plan. */
export function notesOf({ target, notes }: Pick<Plan, "target" | "notes">): string[] {
  return [...notesOfTarget(target), ...notes];
}

export function renderPlan(plan: Plan): string[] {
  const { target, set, log, moment, readBytes, rawBytes, rawLogBytes, estimatedMs } = plan;
  const { replicationId, offset } = moment.position ?? {};
  return [
    title(`${plan.instance} to ${describeTarget(target)}`),
    ...renderPairs([
      ["set", `${set.name} (${set.manifest.kind}), ${formatBytes(set.manifest.snapshot.rawBytes)}`],
      [
        "log",
        log === undefined ? "none: the set as it is" : describeLog(log.pieces.length, rawLogBytes),
      ],
      ["ends at", formatTime(moment.ms)],
      ["position", replicationId === undefined ? "not known" : `${replicationId}:${offset}`],
      ["reads", `${formatBytes(readBytes)}, ${formatBytes(rawBytes)} raw`],
      ["takes about", formatDuration(estimatedMs)],
      ...notesOf(plan).map((note) => ["note", printable(note)] as const),
    ]),
  ];
}

export function renderClusterPlan(plan: ClusterPlan): string[] {
  const { cluster, target, shards, ms, owners, readBytes, rawBytes, estimatedMs } = plan;
  const rows = shards.map(({ key, plan: { set, log, rawLogBytes } }) => {
    const slots = formatRanges(slotsOf(owners, key)) || "no slots yet";
    const shown = slots.length > shownSlots ? `${slots.slice(0, shownSlots)}…` : slots;
    const replayed = log === undefined ? "no log" : describeLog(log.pieces.length, rawLogBytes);
    return [`shard ${key.slice(0, 12)}`, `${shown}: set ${set.name}, ${replayed}`] as const;
  });
  return [
    title(`${cluster} to ${describeTarget(target)}`),
    ...renderPairs([
      ...rows,
      ["ends at", formatTime(ms)],
      ["reads", `${formatBytes(readBytes)}, ${formatBytes(rawBytes)} raw`],
      ["takes about", formatDuration(estimatedMs)],
      ...notesOf(plan).map((note) => ["note", printable(note)] as const),
    ]),
  ];
}

export function clusterPlanToJson(plan: ClusterPlan) {
  const { id, cluster, target, ms, shards, owners } = plan;
  return {
    ...{ id, cluster, target: formatTarget(target), ms },
    shards: shards.map((shard) => {
      return { key: shard.key, slots: slotsOf(owners, shard.key), ...planToJson(shard.plan) };
    }),
    readBytes: plan.readBytes,
    rawBytes: plan.rawBytes,
    estimatedMs: plan.estimatedMs,
    notes: notesOf(plan),
  };
}

function describeLog(pieces: number, rawBytes: number): string {
  return `${formatBytes(rawBytes)} in ${plural(pieces, "piece")}`;
}

export function planToJson(plan: Plan) {
  const { id, instance, target, set, line, log, moment } = plan;
  return {
    ...{ id, instance, set: set.name, line: line ?? null },
    target: formatTarget(target),
    pieces: log?.pieces.map(({ object }) => object) ?? [],
    ms: moment.ms,
    position: moment.position ?? null,
    readBytes: plan.readBytes,
    rawBytes: plan.rawBytes,
    estimatedMs: plan.estimatedMs,
    notes: notesOf(plan),
  };
}

export function describeLosses({
  dropped,
  notes,
}: Pick<RestoredFolder, "dropped" | "notes">): string[] {
  return [
    ...[...dropped].map(([what, count]) => `  dropped: ${formatCount(count)} ${what}`),
    ...notes.map((note) => `  note: ${printable(note)}`),
  ];
}

/** From which servers on a folder or a file is loaded. */
export function describeServers(servers: readonly string[]): string {
  if (servers.length === 0) return "for no server that is known here";
  return `for ${servers.join(" and ")} and later`;
}

export function describeProgress(progress: RestoreProgress): string {
  const { phase, doneBytes, totalBytes, keys, commands, bytesPerSecond, leftMs } = progress;
  const parts = [
    `${phase}  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`,
    ...(keys > 0 ? [plural(keys, "key")] : []),
    ...(commands > 0 ? [plural(commands, "command")] : []),
    `${formatBytes(bytesPerSecond)}/s`,
    ...(leftMs === undefined ? [] : [`${formatDuration(leftMs)} left`]),
  ];
  return parts.join("  ");
}
