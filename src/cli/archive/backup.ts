/**
 * The command `backup`: asks the daemon that runs here, or takes the set itself.
 *
 * The name of a cluster means a set of each of its shards. They are not of one moment: what makes one of them is
 * the log; and without a log each shard goes back to its own set.
 */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { type SetManifest, setManifest } from "../../archive/backup-set.ts";
import { parseShardInstance } from "../../archive/cluster-slots.ts";
import { Lease } from "../../archive/lease.ts";
import { admitKey } from "../../archive/repository.ts";
import { type TakeProgress, takeSet } from "../../archive/take-set.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { holderOf } from "../../daemon/archive.ts";
import type { ShardProgress } from "../../daemon/cluster.ts";
import {
  type Config,
  findConfig,
  type InstanceConfig,
  instanceOf,
  isCluster,
  shardConfig,
} from "../../daemon/config.ts";
import { askDaemon } from "../../daemon/control.ts";
import { type OpenRepository, openConfigured } from "../../daemon/open-repository.ts";
import { Topology } from "../../link/topology.ts";
import { systemDisk } from "../../log/disk.ts";
import { takeSnapshot } from "../../record/snapshot.ts";
import { SourceFinder } from "../../record/source-finder.ts";
import { LiveLine } from "../render/live-line.ts";
import { formatBytes, formatDuration, plural } from "../render/text.ts";
import { stoppable } from "../stop.ts";
import { findShards } from "./cluster-shards.ts";
import { tellOfWaiting } from "./lease-notice.ts";
import { nowhere } from "./place.ts";

export type BackupFlags = {
  readonly config?: string;
  readonly note?: string;
  readonly keep?: true;
  readonly json?: true;
};

export async function backup(name: string, flags: BackupFlags): Promise<void> {
  const config = findConfig(flags.config);
  if (config === undefined) throw nowhere();
  const { instance, key } = findInstance(config, name);
  const { note, keep } = flags;
  const wishes = { ...(note !== undefined && { note }), ...(keep && { keep }) };
  using line = new LiveLine();
  const startedMs = performance.now();
  const tell = (progress: unknown) =>
    line.show(describe(progress as Progress, performance.now() - startedMs));
  const request = { do: "backup", ...wishes, ...(key !== undefined && { shard: key }) } as const;
  const asked = await stoppable(waiting, (signal) =>
    askDaemon(instance.spool, request, tell, signal),
  );
  const manifests =
    asked === undefined
      ? await stoppable(taking, (signal) => takeHere(instance, key, { wishes, tell, signal }))
      : [asked.done].flat().map((each) => setManifest.parse(each));
  line.clear();
  const [first] = manifests;
  const isAll = isCluster(instance) && key === undefined;
  const text = flags.json
    ? JSON.stringify(isAll ? manifests : first, null, 2)
    : manifests.map(summarize).join("\n");
  process.stdout.write(`${text}\n`);
}

const waiting = {
  doing: "wait for the set",
  left: "`tidemark up` goes on with it; `tidemark backups` lists it when it is there.",
};
const taking = {
  doing: "take the set",
  left: "What was stored of it is no set, and goes when old ones do. The same command begins anew.",
};

/** What is configured under a name; or the shard of a cluster that is. @throws Failure USAGE */
function findInstance(
  config: Config,
  name: string,
): { readonly instance: InstanceConfig; readonly key: string | undefined } {
  const shard = config.instances.has(name) ? undefined : parseShardInstance(name);
  const cluster = config.instances.get(shard?.cluster ?? "");
  if (shard === undefined || cluster === undefined || !isCluster(cluster)) {
    return { instance: instanceOf(config, name), key: undefined };
  }
  return { instance: cluster, key: shard.key };
}

type Wishes = { readonly note?: string; readonly keep?: boolean };
type Manner = {
  readonly wishes: Wishes;
  readonly tell: (progress: Progress) => void;
  readonly signal: AbortSignal;
};

/** Takes a set where no daemon runs: of an instance, of a shard, or of all shards one after another. */
async function takeHere(
  config: InstanceConfig,
  key: string | undefined,
  { wishes, tell, signal }: Manner,
): Promise<SetManifest[]> {
  await using repository = await openConfigured(config.repository, { signal });
  if (!isCluster(config)) {
    await using topology = new Topology(config.address, { ...config.connect, signal });
    return [await take({ repository, topology, config, signal }, wishes, tell)];
  }
  const { topology, shards } = await findShards(repository, config, signal);
  await using _topology = topology;
  const chosen = shards.filter((shard) => key === undefined || shard.key === key);
  if (chosen.length === 0) {
    throw new Failure("USAGE", `Cannot take a set of shard ${key}: ${config.name} has it no more`);
  }
  const manifests: SetManifest[] = [];
  for (const [index, { key: shard }] of chosen.entries()) {
    const own = { repository, topology, config: shardConfig(config, shard), key: shard, signal };
    manifests.push(
      await take(own, wishes, (progress) => {
        tell({ shard, index, count: chosen.length, progress });
      }),
    );
  }
  return manifests;
}

type Taking = {
  readonly repository: OpenRepository;
  readonly topology: Topology;
  /** Of the instance, or of the shard. */
  readonly config: InstanceConfig;
  readonly key?: string;
  readonly signal: AbortSignal;
};

async function take(
  taking: Taking,
  wishes: Wishes,
  onProgress: (progress: TakeProgress) => void,
): Promise<SetManifest> {
  const { repository, topology, config, key, signal } = taking;
  const { name, connect, follow: prefer } = config;
  await using spool = await lockSpool(config.spool);
  const owner = `tidemark backup on ${hostname()}`;
  const holder = spool === undefined ? undefined : holderOf(config.spool);
  await using lease = await Lease.acquire(repository, name, {
    ...{ owner, holder, signal },
    onWait: tellOfWaiting,
  });
  await admitKey(repository, { signal });
  const finder = new SourceFinder({ topology, key, prefer, connect });
  return await takeSet(
    repository,
    name,
    async (until) => {
      const { endpoint } = await finder.find(until);
      return await takeSnapshot(endpoint, { connect, clock: systemClock, signal: until });
    },
    { ...wishes, kind: "manual", clock: systemClock, lease, signal, onProgress },
  );
}

/**
 * Where there is a spool that nobody has open, its writer has ended, however: this command is then the
 * holder, and need not wait until the lease has run out.
 */
async function lockSpool(spool: string): Promise<AsyncDisposable | undefined> {
  if (!existsSync(spool)) return undefined;
  try {
    return await systemDisk.lock(spool, "tidemark backup");
  } catch (error) {
    if (error instanceof Failure && error.code === "FILE_EXISTS") return undefined;
    throw error;
  }
}

type Progress = TakeProgress | (ShardProgress & { readonly progress: TakeProgress });

function describe(progress: Progress, elapsedMs: number): string {
  if ("shard" in progress) {
    const { index, count } = progress;
    return `shard ${index + 1} of ${count}: ${describe(progress.progress, elapsedMs)}`;
  }
  switch (progress.phase) {
    case "preparing":
      return "waiting for the source's snapshot";
    case "uploading":
      return `storing  ${formatBytes(progress.rawBytes)}, for ${formatDuration(elapsedMs)}`;
    case "verifying": {
      const { bytes, totalBytes } = progress.progress;
      return `reading back  ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`;
    }
  }
}

function summarize(manifest: SetManifest): string {
  const { set, instance, snapshot, startedMs, endedMs, source } = manifest;
  const keys = snapshot.keys === null ? "" : `${plural(snapshot.keys, "key")}, `;
  const took = formatDuration(Math.max(endedMs - startedMs, 0));
  return [
    `${instance} ${set}`,
    `  ${keys}${formatBytes(snapshot.rawBytes)} raw, ${formatBytes(snapshot.sizeBytes)} stored, in ${took}`,
    `  from ${source.name} (${source.role}); all of it was read back and is good`,
  ].join("\n");
}
