/**
 * Restores all shards of a cluster into folders that stock servers start on, as the cluster that it was.
 *
 *   DIR/shards/KEY/   of each shard, what restore-folder.ts writes, and
 *       nodes.conf    who has which slots, as a node of a cluster keeps it
 *
 * WHY nodes.conf names all of them. A server that finds keys of a slot which nobody has takes the slot; if
 * another has it, Redis marks it as being imported, and Valkey 9 removes the keys. So each knows from the
 * start who has what. The nodes have new ids: they may never be taken for those of the cluster that is restored.
 *
 * Of a slot that may have been on its way (cluster-rules.ts), some keys are with the next owner already.
 * So both sides are marked as they were while it moved, `[slot->-next]` and `[slot-<-owner]`: clients are
 * sent on from one to the other, and `redis-cli --cluster fix` brings it to an end. Keys of other slots that a
 * shard does not have are left to the server: what they are is known only when the log is replayed.
 *
 * INVARIANTS
 *
 *   1. Until all shards are written and synced, they are in `shards.incomplete`. The last step is one rename.
 *   2. Nothing that is in the folder is replaced or removed but what an interrupted restore left.
 */
import { strict as assert } from "node:assert";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { capabilities } from "../codec/rdb/target.ts";
import { type Disk, systemDisk, writeSmall } from "../log/disk.ts";
import {
  type ClusterPlan,
  formatRanges,
  type ShardPlan,
  slotsOf,
  slotsUnderWay,
} from "./cluster-plan.ts";
import { rangesOf, slotRules } from "./cluster-rules.ts";
import {
  type FolderOptions,
  mustBeFolder,
  quoteArgument,
  restoreToFolder,
} from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";
import type { RestoreProgress } from "./restore-progress.ts";
import { later, type Versions } from "./server-needs.ts";

export type ClusterFolderOptions = Omit<FolderOptions, "pipe" | "snapshot"> & {
  /** Of the first shard's server; the others' follow. */
  readonly port?: number | undefined;
};

export type RestoredShard = {
  readonly key: string;
  readonly folder: string;
  readonly port: number;
  readonly slots: readonly (readonly [number, number])[];
  readonly serverArguments: readonly string[];
};

export type RestoredClusterFolder = {
  readonly folder: string;
  readonly shards: readonly RestoredShard[];
  /** What starts the servers and joins them, for people. */
  readonly commands: readonly string[];
  readonly rawBytes: number;
  /** From which versions on servers load all shards. */
  readonly least: Versions;
  readonly dropped: ReadonlyMap<string, number>;
  readonly notes: readonly string[];
};

const defaultPort = 7001;
/** The port of a node's bus is so much above the other one. */
const busDistance = 10_000;
const name = "shards";
const incomplete = `${name}.incomplete`;

/** @throws Failure FILE_EXISTS where something is there; as `restoreToFolder()` */
export async function restoreClusterToFolders(
  view: ArchiveView,
  plan: ClusterPlan,
  folder: string,
  options: ClusterFolderOptions = {},
): Promise<RestoredClusterFolder> {
  const { disk = systemDisk, port = defaultPort, onProgress } = options;
  checkPorts(port, plan.shards.length);
  const isNew = !existsSync(folder);
  const beginning = await beginShards(disk, folder);
  await using unfinished = new AsyncDisposableStack();
  unfinished.defer(async () => {
    await rm(beginning, { recursive: true, force: true });
    if (isNew) await disk.removeFolder(folder);
  });
  const nodes = nodesOf(plan, port);
  const dropped = new Map<string, number>();
  const notes: string[] = [];
  let doneBytes = 0;
  let program = "redis-server";
  let least: Versions | undefined;
  for (const [number, { key, plan: own }] of plan.shards.entries()) {
    const path = join(beginning, key);
    const restored = await restoreToFolder(view, own, path, {
      ...options,
      onProgress: onProgress && ((progress) => onProgress(ofAll(progress, doneBytes, plan))),
    });
    await writeSmall(disk, join(path, "nodes.conf"), nodesConf(nodes, number, plan));
    await disk.syncFolder(path);
    doneBytes += own.rawBytes;
    least = later(least ?? restored.least, restored.least);
    for (const [what, count] of restored.dropped)
      dropped.set(what, (dropped.get(what) ?? 0) + count);
    notes.push(...restored.notes.map((note) => `${own.instance}: ${note}`));
    if (capabilities[restored.target].family === "valkey") program = "valkey-server";
  }
  assert(least !== undefined, "A cluster has a shard");
  await publishShards(disk, folder);
  unfinished.move();
  const shards = nodes.map(({ key, port: own, slots }): RestoredShard => {
    const path = join(folder, name, key);
    const serverArguments = ["--dir", path, "--port", String(own), ...clusterArguments];
    return { key, folder: path, port: own, slots, serverArguments };
  });
  return {
    ...{ folder, shards, least, dropped },
    commands: commandsOf(program, shards),
    rawBytes: plan.rawBytes,
    notes: [...notes, ...noteUnderWay(plan)],
  };
}

/** What a node of a cluster is started with. */
export const clusterArguments = ["--appendonly", "yes", "--cluster-enabled", "yes"] as const;

/** @throws Failure USAGE where a node's bus would have no port */
export function checkPorts(port: number, count: number): void {
  const last = port + count - 1;
  if (last + busDistance < 65_536) return;
  const found = `nodes of a cluster also listen ${busDistance} higher, and ${last} leaves no room`;
  throw new Failure("USAGE", `Cannot start on port ${port}: ${found}`, {
    hint: `Give a port below ${65_536 - busDistance - count}.`,
  });
}

/** Makes the folder for shards that are not whole yet. @throws Failure FILE_EXISTS */
export async function beginShards(disk: Disk, folder: string): Promise<string> {
  mustBeFolder(folder);
  await disk.makeFolder(folder);
  const strange = (await disk.list(folder)).find((each) => each !== incomplete);
  if (strange !== undefined) {
    const found = `it is not empty: it has "${strange}"`;
    throw new Failure("FILE_EXISTS", `Cannot restore into "${folder}": ${found}`, {
      hint: "Name one that is empty, or that is not there yet.",
    });
  }
  const path = join(folder, incomplete);
  await rm(path, { recursive: true, force: true });
  await disk.makeFolder(path);
  return path;
}

/** They are whole. */
export async function publishShards(disk: Disk, folder: string): Promise<void> {
  await disk.syncFolder(join(folder, incomplete));
  await disk.rename(join(folder, incomplete), join(folder, name));
  await disk.syncFolder(folder);
}

export type ClusterNode = {
  readonly key: string;
  readonly id: string;
  readonly port: number;
  readonly slots: readonly (readonly [number, number])[];
};

/** A node for each shard of a plan. */
export function nodesOf({ shards, owners }: ClusterPlan, port: number): ClusterNode[] {
  return shards.map(({ key }, i) => {
    const id = randomBytes(20).toString("hex");
    return { key, id, port: port + i, slots: slotsOf(owners, key) };
  });
}

/**
 * What a node keeps of its cluster, in its own form. No two have the same epoch: they would settle that
 * between them. Without a plan, no slot is marked as being on its way.
 */
export function nodesConf(
  nodes: readonly ClusterNode[],
  self: number,
  plan?: ClusterPlan,
): Uint8Array {
  const lines = nodes.map(({ id, port, slots }, i) => {
    const flags = i === self ? "myself,master" : "master";
    const ranges = slots.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`));
    const marks = i === self && plan ? marksOf(nodes, plan.shards[i] as ShardPlan, plan) : [];
    const address = `127.0.0.1:${port}@${port + busDistance}`;
    return [id, address, flags, "-", "0", "0", i + 1, "connected", ...ranges, ...marks].join(" ");
  });
  return Buffer.from(`${lines.join("\n")}\nvars currentEpoch ${nodes.length} lastVoteEpoch 0\n`);
}

/** The slots of a node that are on their way to it or from it. */
function marksOf(nodes: readonly ClusterNode[], shard: ShardPlan, plan: ClusterPlan): string[] {
  const idOf = (key: string | undefined) => nodes.find((node) => node.key === key)?.id;
  const { owners, next } = plan.owners;
  const underWay = slotsUnderWay(plan);
  const marks: string[] = [];
  for (const [slot, rule] of shard.rules.entries()) {
    const from = idOf(owners[slot]);
    const to = idOf(next[slot]?.key);
    if (from === undefined || to === undefined) continue;
    if (rule === slotRules.next) marks.push(`[${slot}-<-${from}]`);
    if (rule === slotRules.own && underWay.has(slot)) marks.push(`[${slot}->-${to}]`);
  }
  return marks;
}

function noteUnderWay(plan: ClusterPlan): string[] {
  const slots = slotsUnderWay(plan);
  if (slots.size === 0) return [];
  const ranges = formatRanges(rangesOf([...slots.keys()].sort((a, b) => a - b)));
  return [
    `slots ${ranges} moved at that time or later, and are marked as on their way: redis-cli --cluster fix ends that`,
  ];
}

function commandsOf(program: string, shards: readonly RestoredShard[]): string[] {
  const client = program === "valkey-server" ? "valkey-cli" : "redis-cli";
  const starts = shards.map(({ serverArguments }) =>
    [program, ...serverArguments.map(quoteArgument)].join(" "),
  );
  const [first, ...others] = shards;
  const meets = others.map(
    ({ port }) => `${client} -p ${first?.port} cluster meet 127.0.0.1 ${port}`,
  );
  return [...starts, ...meets];
}

/** The progress of one shard as that of all. */
function ofAll(progress: RestoreProgress, before: number, plan: ClusterPlan): RestoreProgress {
  const doneBytes = before + progress.doneBytes;
  const left = Math.max(plan.rawBytes - doneBytes, 0);
  const { bytesPerSecond } = progress;
  const leftMs = bytesPerSecond === 0 ? undefined : Math.round((1000 * left) / bytesPerSecond);
  const isEnd = progress.phase === "done" && left > 0;
  const phase = isEnd ? "log" : progress.phase;
  return { ...progress, phase, doneBytes, totalBytes: plan.rawBytes, leftMs };
}
