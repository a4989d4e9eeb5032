/**
 * Follows all shards of a cluster: a recorder and a spool for each, in one process.
 *
 *   FOLDER/
 *     shards/<key>/     the spool of a shard: any server from 7.0 on starts on it
 *     cluster.json      the shards and their nodes, so that they keep their keys    (cluster-file.ts)
 *     slots.jsonl       which shard had which slots when
 *     record.sock       status, of all
 *
 * WHY ONE LOOP LOOKS. Who is who is asked in one place, every few seconds, and what to do follows from
 * the answer and what runs alone: begin with a shard that is new, end with one that is long gone. A
 * shard's recorder looks after itself; when its server is lost or demoted it finds another one.
 *
 * INVARIANTS
 *
 *   1. A shard is recorded from the moment it is seen; what is remembered of it comes second, and is
 *      tried again until it is on disk.
 *   2. A shard that is not listed any more is followed for `goneMs` more: the last keys leave a master
 *      after its slots. Then its log is flushed, and what runs alongside ends its work; its spool stays.
 *   3. A shard that fails stops no other, and is tried again. Only where nothing at all could be
 *      followed from the start, and trying again does not mend it, all of it ends.
 *   4. What all shards together hold back in memory has one limit.
 *   5. A shard that is let go stays among the shards, also in `cluster.json`, until what runs alongside has
 *      let it go: after a restart it is begun again, and let go again.
 *
 * When slots move, both shards' logs are whole by themselves; which of them is right for a slot at a
 * time is what `slots.jsonl` says. It is seen by looking, so a change has a window in which it was made.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { ConnectOptions } from "../link/connection.ts";
import { compareInstances, type Instance } from "../link/instance.ts";
import type { Topology } from "../link/topology.ts";
import type { Disk } from "../log/disk.ts";
import { type FsyncPolicy, Spool } from "../log/spool.ts";
import {
  type ClusterFile,
  checkInstances,
  type KnownShard,
  maxShards,
  type Ownership,
  type OwnershipChange,
  shardFolder,
} from "./cluster-file.ts";
import { Recorder, type RecorderEvent } from "./recorder.ts";
import { SourceFinder } from "./source-finder.ts";

export type ClusterOptions = {
  readonly folder: string;
  readonly file: ClusterFile;
  readonly topology: Pick<Topology, "kind" | "intervalMs" | "read">;
  readonly connect: Pick<ConnectOptions, "credentials" | "tls">;
  readonly prefer?: "replica" | "master" | undefined;
  readonly fsync: FsyncPolicy;
  readonly segmentBytes: number;
  readonly segmentMs?: number;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly onEvent: (event: ClusterEvent) => void;
  /** How long a shard that is not listed any more is followed. */
  readonly goneMs?: number;
  /** What runs on the spool of each shard, beside its recorder. @throws Failure; it is tried again */
  readonly alongside?: (shard: RecordedShard) => Companion;
};

/** A shard while its spool is open. */
export type RecordedShard = {
  readonly key: string;
  readonly recorder: Recorder;
  readonly spool: Spool;
};

/** What runs on the spool of a shard beside its recorder. */
export type Companion = {
  /** Until the signal is given. What fails is its own affair. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** The recorder has been stopped, and its log is flushed: does what is left, in a short time. */
  readonly finish: () => Promise<void>;
  /** Before that, where the shard is gone: takes as long as it needs, or until the signal is given. */
  readonly letGo: (signal: AbortSignal) => Promise<void>;
};

/** What happens; `shard` is the key of the one to which it does. */
export type ClusterEvent =
  | (RecorderEvent & { readonly shard: string })
  | { readonly kind: "shard begins"; readonly shard: string; readonly slots: string }
  | { readonly kind: "shard gone"; readonly shard: string }
  | { readonly kind: "shard failed"; readonly shard: string; readonly failure: Failure }
  | { readonly kind: "topology"; readonly changes: readonly string[] }
  | { readonly kind: "topology unknown"; readonly failure: Failure }
  | { readonly kind: "cluster file failing"; readonly failure: Failure };

/** A shard as it is recorded; `running` while its spool is open. */
export type Shard = {
  readonly key: string;
  instance: Instance;
  running: { readonly recorder: Recorder; readonly spool: Spool } | undefined;
  /** Why it does not run. */
  failure: Failure | undefined;
  /** Since when it is not listed. */
  goneSinceMs: number | undefined;
  /** Is aborted when it is let go; and when it is listed again meanwhile. */
  readonly stop: AbortController;
  readonly isBack: AbortController;
  /** Its spool was opened, or could not be. */
  readonly opened: PromiseWithResolvers<void>;
};

/** Of all shards together; a spool's own default. */
const maxPendingBytes = 4 * 1024 * 1024;
const leastPendingBytes = 256 * 1024;
const defaultGoneMs = 60_000;
const retryMs = 10_000;
/** Changes that could not be written yet. Each is all there is to know, so that the last ones count. */
const maxUnwritten = 100;

export class ClusterRecorder {
  readonly #options: ClusterOptions;
  readonly #shards = new Map<string, Shard>();
  readonly #tasks: Promise<void>[] = [];
  /** Those that were recorded before and are not any more. */
  readonly #gone = new Map<string, Instance>();
  #slots: string;
  #lookedAtMs: number | undefined;
  #unwritten: OwnershipChange[] = [];
  #hasFollowed = false;
  readonly #failed = Promise.withResolvers<never>();

  constructor(options: ClusterOptions) {
    this.#options = options;
    for (const { instance, isGone } of options.file.known) {
      if (isGone) this.#gone.set(instance.key, instance);
    }
    this.#slots = describeSlots(listed(options.file.known));
    // Whoever runs it awaits it; until then it must not end the process.
    this.#failed.promise.catch(() => {});
  }

  /** In the order of their slots. */
  get shards(): readonly Shard[] {
    return [...this.#shards.values()].sort((a, b) => firstSlot(a) - firstSlot(b));
  }

  /** Follows all until the signal is given. @throws Failure where nothing can be followed from the start */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    try {
      await Promise.race([this.#look(both), this.#failed.promise]);
    } finally {
      stop.abort(new Failure("ABORTED", "The recorder of the cluster ends"));
      await Promise.all(this.#tasks);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { topology, file, onEvent } = this.#options;
    let before: readonly Instance[] = listed(file.known);
    // Whoever has recorded it before goes on, also while nobody says how it is.
    for (const instance of before) this.#begin(instance, before.length, signal);
    // A change since then is noted with where their logs are.
    await Promise.all(this.shards.map(({ opened }) => opened.promise));
    while (!signal.aborted) {
      try {
        const instances = await topology.read();
        checkInstances(instances);
        const changes = compareInstances(before, instances);
        if (changes.length > 0) onEvent({ kind: "topology", changes });
        before = instances;
        this.#apply(instances, signal);
      } catch (cause) {
        if (!(cause instanceof Failure) || this.#shards.size === 0) {
          if (signal.aborted) return;
          throw cause;
        }
        if (!signal.aborted) onEvent({ kind: "topology unknown", failure: cause });
      }
      await this.#remember();
      await sleep(topology.intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  #apply(instances: readonly Instance[], signal: AbortSignal): void {
    const nowMs = performance.now();
    const { goneMs = defaultGoneMs } = this.#options;
    const keys = new Set(instances.map(({ key }) => key));
    for (const instance of instances) {
      const shard = this.#shards.get(instance.key);
      if (shard) {
        shard.instance = instance;
        shard.goneSinceMs = undefined;
        if (shard.stop.signal.aborted) shard.isBack.abort(new Failure("ABORTED", "It is back"));
      } else if (this.#shards.size < maxShards) {
        // Else at a later look, when some that are gone were let go.
        this.#begin(instance, instances.length, signal);
      }
    }
    for (const shard of this.#shards.values()) {
      if (keys.has(shard.key) || shard.stop.signal.aborted) continue;
      shard.goneSinceMs ??= nowMs;
      if (nowMs - shard.goneSinceMs < goneMs) continue;
      shard.stop.abort(new Failure("ABORTED", "The shard is gone"));
    }
    this.#noteSlots(instances, nowMs);
  }

  /** Keeps a change of slots for the history. */
  #noteSlots(instances: readonly Instance[], nowMs: number): void {
    const slots = describeSlots(instances);
    const windowMs = this.#lookedAtMs === undefined ? null : Math.ceil(nowMs - this.#lookedAtMs);
    this.#lookedAtMs = nowMs;
    if (slots === this.#slots) return;
    this.#slots = slots;
    const shards = instances.map((instance) => this.#ownership(instance));
    this.#unwritten = [...this.#unwritten, { windowMs, shards }].slice(-maxUnwritten);
  }

  #ownership({ key, slots = [] }: Instance): Ownership {
    const running = this.#shards.get(key)?.running;
    const ms = running?.recorder.sourceClock.now() ?? this.#options.clock.now();
    const at = running?.spool.position;
    const position = at && { replicationId: at.replicationId, offset: at.offset, ms: at.ms };
    return { key, slots, ms, position: position ?? null };
  }

  /** Writes what is not written; what fails is tried again at the next look. */
  async #remember(): Promise<void> {
    const { file, onEvent } = this.#options;
    try {
      // The history first: were only the state there, the change would not be seen again.
      for (const change of [...this.#unwritten]) {
        await file.append(change);
        this.#unwritten.shift();
      }
      const here = this.shards.map(({ instance }) => ({ instance, isGone: false }));
      const gone = [...this.#gone.values()].map((instance) => ({ instance, isGone: true }));
      if (here.length > 0) await file.save([...here, ...gone]);
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause;
      onEvent({ kind: "cluster file failing", failure: cause });
    }
  }

  #begin(instance: Instance, count: number, signal: AbortSignal): void {
    const { key } = instance;
    const [stop, isBack] = [new AbortController(), new AbortController()];
    const shard: Shard = {
      ...{ key, instance, stop, isBack, opened: Promise.withResolvers<void>() },
      ...{ running: undefined, failure: undefined, goneSinceMs: undefined },
    };
    this.#shards.set(key, shard);
    this.#gone.delete(key);
    this.#options.onEvent({ kind: "shard begins", shard: key, slots: formatSlots(instance) });
    this.#tasks.push(this.#record(shard, count, signal));
  }

  /** Until the signal is given, or the shard has been let go. */
  async #record(shard: Shard, count: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, shard.stop.signal]);
    while (!signal.aborted) {
      try {
        await this.#follow(shard, count, signal);
        if (signal.aborted) break;
        if (shard.isBack.signal.aborted) this.#begin(shard.instance, count, signal);
        else this.#letGo(shard);
        break;
      } catch (cause) {
        if (!(cause instanceof Failure)) return this.#failed.reject(cause);
        shard.failure = cause;
        shard.opened.resolve();
        this.#options.onEvent({ kind: "shard failed", shard: shard.key, failure: cause });
        const others = [...this.#shards.values()];
        if (!this.#hasFollowed && others.every(({ failure }) => failure))
          this.#failed.reject(cause);
        const until = either.aborted ? signal : either;
        await sleep(retryMs, undefined, { signal: until }).catch(() => {});
      }
    }
    shard.opened.resolve();
  }

  #letGo({ key, instance }: Shard): void {
    this.#shards.delete(key);
    this.#gone.set(key, instance);
    this.#options.onEvent({ kind: "shard gone", shard: key });
  }

  async #follow(shard: Shard, count: number, signal: AbortSignal): Promise<void> {
    const { topology, connect, prefer, fsync, segmentBytes, clock, disk } = this.#options;
    const { segmentMs, alongside } = this.#options;
    let recorder: Recorder | undefined;
    await using spool = await Spool.open(shardFolder(this.#options.folder, shard.key), {
      ...{ fsync, segmentBytes, clock, disk },
      ...(segmentMs !== undefined && { segmentMs }),
      maxPendingBytes: Math.max(Math.floor(maxPendingBytes / count), leastPendingBytes),
      onChange: () => recorder?.spoolChanged(),
    });
    const position = () => (spool.state.kind === "ready" ? spool.position : undefined);
    const finder = new SourceFinder({ topology, key: shard.key, prefer, connect, position });
    recorder = new Recorder({
      findSource: (until) => finder.find(until),
      watchSource: (source, until) => finder.watch(source, until),
      ...{ connect, spool, clock },
      onEvent: (event) => this.#tell(shard, event),
    });
    const companion = alongside?.({ key: shard.key, recorder, spool });
    const ended = new AbortController();
    const beside = companion?.run(ended.signal);
    shard.running = { recorder, spool };
    shard.opened.resolve();
    try {
      await recorder.run(AbortSignal.any([signal, shard.stop.signal]));
      await spool.flush();
      const until = AbortSignal.any([signal, shard.isBack.signal]);
      if (!until.aborted) await companion?.letGo(until);
      await companion?.finish();
    } finally {
      shard.running = undefined;
      ended.abort(new Failure("ABORTED", "The recorder of the shard ends"));
      await beside;
    }
  }

  #tell(shard: Shard, event: RecorderEvent): void {
    if (event.kind === "base" || event.kind === "continued") {
      this.#hasFollowed = true;
      shard.failure = undefined;
    }
    this.#options.onEvent({ ...event, shard: shard.key });
  }
}

function listed(known: readonly KnownShard[]): Instance[] {
  return known.filter(({ isGone }) => !isGone).map(({ instance }) => instance);
}

function firstSlot({ instance }: Shard): number {
  return instance.slots?.[0]?.[0] ?? Number.MAX_SAFE_INTEGER;
}

/** The same text for the same slots in the same hands. */
function describeSlots(instances: readonly Instance[]): string {
  return instances
    .map((instance) => `${instance.key} ${formatSlots(instance)}`)
    .toSorted()
    .join("\n");
}

/** As in `0-5460, 9000`. */
export function formatSlots({ slots = [] }: Instance): string {
  return slots
    .toSorted(([a], [b]) => a - b)
    .map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`))
    .join(", ");
}
