/**
 * A cluster, as `tidemark up` runs it: one recorder of all its shards, and an archive beside each.
 *
 *   cluster ──► ClusterRecorder ─┬─► Spool ──► Archive ──► instance NAME.KEY   of each shard
 *                                ├─► …
 *                                └─► slots.jsonl ──► SlotsKeeper ──► clusters/NAME/slots/…
 *
 * WHY AN INSTANCE FOR EACH SHARD. A shard has one write history, which is what a log, a lease and a window are
 * about. So the archive knows nothing of clusters but who had which slots when; a restore puts them together.
 *
 * INVARIANTS
 *
 *   1. A shard's trouble, also with the storage, stops no other, and no recording.
 *   2. A shard that is gone is let go of when its log is in the repository to its end.
 *   3. Automatic sets of all shards take turns. Sets by hand of all shards are taken one after another, and
 *      one such request at a time: two would meet half-way, and neither have all.
 *   4. What all archives together gather in memory has one limit; what the recorders hold back, another.
 *   5. It ends as an instance does: within some seconds, with all on disk, and shipped if the storage is quick.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SetManifest } from "../archive/backup-set.ts";
import { shardInstance } from "../archive/cluster-slots.ts";
import { Failure } from "../base/errors.ts";
import { Topology } from "../link/topology.ts";
import { systemDisk } from "../log/disk.ts";
import {
  type ClusterEvent,
  ClusterRecorder,
  type Companion,
  type RecordedShard,
} from "../record/cluster.ts";
import { ClusterFile } from "../record/cluster-file.ts";
import {
  type ClusterStatus,
  describeCluster,
  type ShardStatus,
  StatusSocket,
} from "../record/status.ts";
import { Archive, type ArchiveEvent, type ArchiveStatus } from "./archive.ts";
import type { BackupEvent } from "./backup-loop.ts";
import { shardConfig } from "./config.ts";
import { ControlSocket, type Request } from "./control.ts";
import { expireGoneShards } from "./gone-shards.ts";
import {
  type InstanceOptions,
  lastShippingMs,
  makeSpoolFolder,
  takeAsked,
  wrongSpool,
} from "./instance.ts";
import { type SlotsEvent, SlotsKeeper, type SlotsStatus } from "./slots-keeper.ts";

/** What `record.sock` says of a cluster that is archived as well. */
export type ClusterInstanceStatus = ClusterStatus & {
  readonly instance: string;
  readonly slots: SlotsStatus;
  readonly shards: readonly ArchivedShardStatus[];
};

export type ArchivedShardStatus = ShardStatus & {
  /** What the shard is called in the repository. */
  readonly instance: string;
  /** Null while its spool is not open. */
  readonly archive: ArchiveStatus | null;
};

export type ClusterInstanceEvent =
  | ClusterEvent
  | SlotsEvent
  | (ArchiveEvent & { readonly shard: string })
  | BackupEvent;

type ClusterInstanceOptions = Omit<InstanceOptions, "onEvent"> & {
  readonly onEvent: (event: ClusterInstanceEvent) => void;
};

/** How far a set of all shards is. */
export type ShardProgress = {
  readonly shard: string;
  readonly index: number;
  readonly count: number;
  readonly progress: unknown;
};

/** Of all archives together; beyond its share, an archive takes a file. */
const maxGatheredBytes = 32 * 1024 * 1024;
const gatheredBytes = { least: 512 * 1024, most: 8 * 1024 * 1024 } as const;

/** Until the signal is given. @throws Failure where it cannot be begun: it is worth trying again */
export async function runCluster(
  options: ClusterInstanceOptions,
  signal: AbortSignal,
): Promise<void> {
  const { config, clock, onEvent } = options;
  const { address, connect, follow: prefer, fsync, segmentBytes, segmentMs } = config;
  const folder = config.spool;
  await makeSpoolFolder(config);
  if (existsSync(join(folder, "appendonlydir"))) {
    throw wrongSpool(config, "it is the spool of one server");
  }
  await using _lock = await systemDisk.lock(folder, "tidemark up");
  const file = await ClusterFile.open(systemDisk, folder);
  const known = file.known.flatMap(({ instance, isGone }) => (isGone ? [] : [instance]));
  const ended = new AbortController();
  await using topology = new Topology(address, { ...connect, signal: ended.signal, known });
  const archives = new ShardArchives(options, topology);
  const cluster: ClusterRecorder = new ClusterRecorder({
    ...{ folder, file, topology, connect, prefer, fsync, segmentBytes, segmentMs },
    ...{ clock, disk: systemDisk, onEvent },
    alongside: (shard) => archives.begin(shard, cluster.shards.length),
  });
  const slots = new SlotsKeeper({
    ...{ cluster: config.name, folder, repository: config.repository, disk: systemDisk, onEvent },
  });
  const status = (): ClusterInstanceStatus => {
    const { shards, ...rest } = describeCluster(cluster);
    const all = shards.map((shard) => archives.describe(shard));
    return { ...rest, instance: config.name, slots: slots.status, shards: all };
  };
  await using _status = await StatusSocket.open(folder, status);
  await using _control = await ControlSocket.open(folder, (request, onProgress) =>
    archives.serve(request, listedKeys(cluster), onProgress),
  );
  const isHere = (key: string) => cluster.shards.some((shard) => shard.key === key);
  const beside = [
    slots.run(ended.signal),
    expireGoneShards({ config, clock, isHere, onEvent }, ended.signal),
  ];
  try {
    await cluster.run(signal);
    await slots.putLast(lastShippingMs);
  } finally {
    ended.abort(new Failure("ABORTED", "The cluster is ended"));
    await Promise.all(beside);
  }
}

/** Those that the cluster has, in the order of their slots. */
function listedKeys(cluster: ClusterRecorder): string[] {
  return cluster.shards.flatMap(({ key, goneSinceMs }) => (goneSinceMs === undefined ? [key] : []));
}

/** The archives of the shards whose spools are open. */
class ShardArchives {
  readonly #options: ClusterInstanceOptions;
  readonly #topology: Topology;
  readonly #archives = new Map<string, Archive>();
  /** Shards that have taken over from another writer, if they were to: once. */
  readonly #begun = new Set<string>();
  /** Since when sets of all shards are being taken. */
  #takingSinceMs: number | undefined;

  constructor(options: ClusterInstanceOptions, topology: Topology) {
    this.#options = options;
    this.#topology = topology;
  }

  /** @throws Failure PROTOCOL_ERROR where the shard's key cannot be part of a name */
  begin({ key, spool, recorder }: RecordedShard, count: number): Companion {
    const { config, clock, turns, steal, onEvent } = this.#options;
    const { least, most } = gatheredBytes;
    const share = Math.floor(maxGatheredBytes / Math.max(count, 1));
    const archive = new Archive({
      ...{ key, spool, recorder, clock, turns, topology: this.#topology },
      config: shardConfig(config, key),
      steal: steal && !this.#begun.has(key),
      maxGatheredBytes: Math.min(Math.max(share, least), most),
      onEvent: (event) => onEvent({ ...event, shard: key }),
    });
    this.#begun.add(key);
    this.#archives.set(key, archive);
    return {
      run: async (signal) => {
        await archive.run(signal);
        this.#archives.delete(key);
      },
      finish: () => archive.shipLast(lastShippingMs),
      letGo: (signal) => archive.shipAll(signal),
    };
  }

  describe(shard: ShardStatus): ArchivedShardStatus {
    const instance = shardInstance(this.#options.config.name, shard.shard);
    return { ...shard, instance, archive: this.#archives.get(shard.shard)?.status ?? null };
  }

  /** Takes sets by hand: of one shard, or of all of `keys`. @throws Failure */
  async serve(
    request: Request,
    keys: readonly string[],
    onProgress: (progress: unknown) => void,
  ): Promise<SetManifest | readonly SetManifest[]> {
    if (request.shard !== undefined) {
      return await takeAsked(this.#archiveOf(request.shard), request, onProgress);
    }
    const { config, clock } = this.#options;
    if (this.#takingSinceMs !== undefined) {
      const since = new Date(this.#takingSinceMs).toISOString();
      const found = `they are being taken since ${since}`;
      throw new Failure("SERVER_BUSY", `Cannot take sets of ${config.name}: ${found}`, {
        hint: "Wait for them: `tidemark status` shows when they have ended.",
      });
    }
    this.#takingSinceMs = clock.now();
    try {
      return await this.#takeAll(request, keys, onProgress);
    } finally {
      this.#takingSinceMs = undefined;
    }
  }

  /** What fails for one shard is told when the others have theirs. */
  async #takeAll(
    request: Request,
    keys: readonly string[],
    onProgress: (progress: ShardProgress) => void,
  ): Promise<readonly SetManifest[]> {
    const manifests: SetManifest[] = [];
    const failures: Failure[] = [];
    const count = keys.length;
    for (const [index, shard] of keys.entries()) {
      try {
        const tell = (progress: unknown) => onProgress({ shard, index, count, progress });
        manifests.push(await takeAsked(this.#archiveOf(shard), request, tell));
      } catch (cause) {
        if (!(cause instanceof Failure)) throw cause;
        failures.push(cause);
      }
    }
    const [first] = failures;
    if (first === undefined && count > 0) return manifests;
    const { name } = this.#options.config;
    if (first === undefined) {
      throw new Failure("SERVER_BUSY", `Cannot take sets of ${name}: no shard is known yet`);
    }
    const message = `Cannot take sets of ${failures.length} of ${count} shards: ${first.message}`;
    throw new Failure(first.code, message, { cause: first, hint: first.hint });
  }

  #archiveOf(key: string): Archive {
    const archive = this.#archives.get(key);
    if (archive !== undefined) return archive;
    const { name } = this.#options.config;
    const message = `Cannot take a set of shard ${key} of ${name}: it is not recorded here now`;
    throw new Failure("SERVER_BUSY", message, { hint: "`tidemark status` says why." });
  }
}
