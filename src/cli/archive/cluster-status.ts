/**
 * What `tidemark status` says of a cluster: its shards with their slots, and what can be restored of all.
 *
 * WHY NOT THE SUM. A cluster can be restored to a moment that every shard with slots has in a window; where one
 * shard has a gap, the cluster has one. Which shards had slots then, the repository says.
 *
 * INVARIANT. At most `maxChanges` changes of slots are read, the last ones: what was before is not shown.
 */
import {
  listSlots,
  readSlots,
  type SlotsChange,
  seenMs,
  shardInstance,
} from "../../archive/cluster-slots.ts";
import { commonWindows, type Span } from "../../archive/cluster-windows.ts";
import { Failure } from "../../base/errors.ts";
import type { ClusterInstanceStatus } from "../../daemon/cluster.ts";
import { shardConfig } from "../../daemon/config.ts";
import type { InstanceStatus } from "../../daemon/instance.ts";
import { formatSlots } from "../../record/cluster.ts";
import { askAnyStatus } from "../../record/status.ts";
import type { Store } from "../../store/store.ts";
import { renderPairs, style, title } from "../render/table.ts";
import { formatBytes, plural, printable } from "../render/text.ts";
import {
  type ArchivedStatus,
  ago,
  type Gap,
  gapsOf,
  notRunning,
  readStatus,
  renderLive,
  renderStranded,
  renderWindows,
} from "./instance-status.ts";
import type { ClusterPlace } from "./place.ts";

/** What is known of a cluster. Version 1 of what `tidemark status --json` prints; there, without `status`. */
export type ArchivedCluster = {
  readonly cluster: string;
  readonly repository: string;
  /** Whether a `tidemark up` runs it here. */
  readonly isRunning: boolean;
  readonly slots: {
    /** How many changes of them are in the repository, and of when the last one is. */
    readonly changes: number;
    readonly lastMs: number | null;
    readonly trouble: string | null;
  };
  /** What all shards that had slots have. */
  readonly windows: readonly Span[];
  readonly gaps: readonly Gap[];
  readonly shards: readonly ArchivedShard[];
};

type ArchivedShard = {
  readonly key: string;
  /** As in `0-5460, 9000`; "" where it has none. */
  readonly slots: string;
  /** Whether the cluster has it no more; as far as that is known here. */
  readonly isGone: boolean;
  readonly trouble: string | null;
  readonly status: ArchivedStatus;
};

const maxChanges = 1000;
/** They are small, and the storage may be far away. */
const changesAtOnce = 8;
const shownSlotsChars = 100;

/** What runs on a spool says. */
type Answer = {
  readonly cluster: ClusterInstanceStatus | undefined;
  /** By their names in the repository. */
  readonly instances: ReadonlyMap<string, InstanceStatus>;
};

export async function askProcess(spool: string): Promise<Answer> {
  const instances = new Map<string, InstanceStatus>();
  try {
    const answer = await askAnyStatus(spool);
    if (!("shards" in answer)) {
      if ("archive" in answer) {
        const status = answer as InstanceStatus;
        instances.set(status.instance, status);
      }
      return { cluster: undefined, instances };
    }
    if (!("instance" in answer)) return { cluster: undefined, instances };
    const cluster = answer as ClusterInstanceStatus;
    for (const { instance, status, archive } of cluster.shards) {
      if (status && archive) instances.set(instance, { ...status, instance, archive });
    }
    return { cluster, instances };
  } catch (error) {
    if (!(error instanceof Failure && error.code === "SERVER_UNREACHABLE")) throw error;
    return { cluster: undefined, instances };
  }
}

export async function readCluster(place: ClusterPlace): Promise<ArchivedCluster> {
  const { repository, cluster, config } = place;
  const answer = config && (await askProcess(config.spool));
  const live = answer?.cluster;
  const found = await readChanges(repository.store, cluster);
  const last = found.changes.at(-1);
  const keys = new Set([
    ...(live?.shards.map(({ shard }) => shard) ?? []),
    ...(last?.shards.map(({ key }) => key) ?? []),
    ...place.shards.map(({ shard }) => shard?.key ?? ""),
  ]);
  const shards: ArchivedShard[] = [];
  for (const key of keys) {
    const instance = shardInstance(cluster, key);
    const moved = place.movedTo === undefined ? {} : { movedTo: place.movedTo };
    const own = { repository, instance, config: config && shardConfig(config, key), ...moved };
    const running = live?.shards.find(({ shard }) => shard === key);
    const noted = last?.shards.find((shard) => shard.key === key);
    // What runs here knows it first.
    const isGone = live === undefined ? noted === undefined : running?.isGone !== false;
    const slots = noted === undefined ? "" : formatSlots({ ...noted, members: [] });
    const status = await readStatus(
      { ...own, shard: { cluster, key } },
      answer?.instances.get(instance) ?? null,
    );
    shards.push({
      ...{ key, isGone, status, trouble: running?.trouble ?? null },
      slots: isGone ? "" : (running?.slots ?? slots),
    });
  }
  const byKey = new Map(shards.map(({ key, status }) => [key, status.windows]));
  const windows = since(found.fromMs, commonWindows(found.changes, byKey));
  return {
    ...{ cluster, repository: repository.store.name, isRunning: live !== undefined },
    slots: {
      changes: found.count,
      lastMs: last === undefined ? null : seenMs(last),
      trouble: found.trouble ?? live?.slots.trouble ?? null,
    },
    ...{ windows, gaps: gapsOf(windows, null), shards },
  };
}

type Changes = {
  readonly count: number;
  /** The last ones, oldest first. */
  readonly changes: readonly SlotsChange[];
  /** From when on they are known. */
  readonly fromMs: number;
  readonly trouble: string | undefined;
};

async function readChanges(store: Store, cluster: string): Promise<Changes> {
  const names = await listSlots(store, cluster);
  const changes: SlotsChange[] = [];
  let trouble: string | undefined;
  const wanted = names.slice(-maxChanges);
  for (let at = 0; at < wanted.length; at += changesAtOnce) {
    const jobs = wanted.slice(at, at + changesAtOnce).map(async (name) => {
      try {
        return await readSlots(store, name);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        trouble = error.message;
        return [];
      }
    });
    changes.push(...(await Promise.all(jobs)).flat());
  }
  const [first] = changes;
  const isCut = names.length > maxChanges && first !== undefined;
  const fromMs = isCut ? seenMs(first) : Number.NEGATIVE_INFINITY;
  return { count: names.length, changes, fromMs, trouble };
}

function since(fromMs: number, spans: readonly Span[]): Span[] {
  const later = spans.filter(({ toMs }) => toMs >= fromMs);
  return later.map((span) => ({ ...span, fromMs: Math.max(span.fromMs, fromMs) }));
}

export function renderCluster(status: ArchivedCluster): string[] {
  const { cluster, repository, slots, windows, gaps, shards } = status;
  const trouble = slots.trouble === null ? [] : [slots.trouble];
  const changed = slots.lastMs === null ? "" : `, the last one seen ${ago(slots.lastMs)}`;
  const sets = sum(shards, ({ status: { sets: own } }) => own.count);
  const good = sum(shards, ({ status: { sets: own } }) => own.good);
  const pairs: [string, string][] = [
    ["repository", repository],
    ["shards", `${plural(shards.length, "shard")}, ${describeRunning(status)}`],
    ["slots", `${plural(slots.changes, "change")}${changed}`],
    ...trouble.map((text): [string, string] => ["trouble", style("red", printable(text))]),
    ...renderWindows(windows, gaps),
    ["sets", `${plural(sets, "set")}, ${good} good`],
    ["size", describeSize(shards)],
  ];
  return [
    `${title(cluster)}, a cluster`,
    ...renderPairs(pairs),
    ...shards.flatMap((shard) => ["", ...renderShard(shard)]),
  ];
}

function describeRunning({ isRunning, shards }: ArchivedCluster): string {
  if (!isRunning) return notRunning;
  const live = shards.flatMap(({ status }) => status.live ?? []);
  const recorded = live.filter(({ state }) => state === "streaming").length;
  const archived = live.filter(({ archive }) => archive.state === "archiving").length;
  return `${recorded} recorded and ${archived} archived now`;
}

function describeSize(shards: ArchivedCluster["shards"]): string {
  const ofSets = sum(shards, ({ status }) => status.sets.sizeBytes);
  const ofLog = sum(shards, ({ status }) => status.log.sizeBytes);
  return `${formatBytes(ofSets)} sets, ${formatBytes(ofLog)} log`;
}

function renderShard({ slots, isGone, trouble, status }: ArchivedShard): string[] {
  const { instance, live, windows, gaps, sets } = status;
  const newest = sets.newestGood;
  const shown =
    slots.length > shownSlotsChars ? `${slots.slice(0, shownSlotsChars)}…` : slots || "none";
  const pairs: [string, string][] = [
    ["slots", isGone ? "none: the shard is gone" : shown],
    ...(live ? renderLive(live) : []),
    ...(trouble === null
      ? []
      : [["trouble", style("red", printable(trouble))] as [string, string]]),
    ...renderWindows(windows, gaps),
    ...renderStranded(status),
    ["newest good", newest ? `${newest.set}, ${ago(newest.ms)}` : style("red", "none")],
  ];
  return [`  ${title(instance)}`, ...renderPairs(pairs).map((line) => `  ${line}`)];
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
