/**
 * The half of an instance that has to do with its repository: ships the log, takes sets, lets old ones go, and
 * has the spool begin anew at a good one.
 *
 * WHY ONE SESSION. Repository, lease, archiver and sets stand and fall together: without the lease none of
 * them may write. So a failure ends the session, and the next one opens everything anew; the spool keeps
 * what was not shipped meanwhile.
 *
 * INVARIANT. A set that fails ends no session: the log goes on, and the set is tried again.
 */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Archiver, type ArchiverEvent } from "../archive/archiver.ts";
import { keeperOf, originOf } from "../archive/archiver-origin.ts";
import type { SpoolView } from "../archive/archiver-round.ts";
import type { SetManifest } from "../archive/backup-set.ts";
import { readCatalogue, type Window, windowsOf } from "../archive/catalogue.ts";
import { applyExpiry } from "../archive/expire.ts";
import { lineName } from "../archive/layout.ts";
import { Lease, type LeaseWaiting, leaseHint } from "../archive/lease.ts";
import { admitKey } from "../archive/repository.ts";
import { planExpiry } from "../archive/retention.ts";
import { newestRunOf } from "../archive/stranded.ts";
import { takeSet } from "../archive/take-set.ts";
import { Failure } from "../base/errors.ts";
import type { Topology } from "../link/topology.ts";
import type { Spool } from "../log/spool.ts";
import type { Recorder } from "../record/recorder.ts";
import { takeSnapshot } from "../record/snapshot.ts";
import { SourceFinder } from "../record/source-finder.ts";
import { type BackupEvent, BackupLoop, type SetRequest } from "./backup-loop.ts";
import type { InstanceOptions } from "./instance.ts";
import { type OpenRepository, openConfigured } from "./open-repository.ts";
import { lookAtSets, type SetsSeen } from "./sets-seen.ts";
import { pause, supervise } from "./supervise.ts";

export type ArchiveEvent =
  | BackupEvent
  | { readonly kind: "archiver"; readonly event: ArchiverEvent }
  | { readonly kind: "archive begins"; readonly repository: string; readonly epoch: number }
  | ({ readonly kind: "archive waits"; readonly hint: string } & LeaseWaiting)
  | { readonly kind: "archive failed"; readonly failure: Failure; readonly retryInMs: number };

/** As `tidemark status --json` prints it. Times are Unix milliseconds; what is null is not known. */
export type ArchiveStatus = {
  readonly repository: string;
  /** opening: the repository, or the lease; archiving; waiting: to try again. */
  readonly state: "opening" | "archiving" | "waiting";
  readonly trouble: string | null;
  readonly shippedOffset: number | null;
  readonly shippedToMs: number | null;
  readonly lastShippedMs: number | null;
  readonly behindBytes: number | null;
  readonly behindMs: number | null;
  readonly set: {
    readonly running: SetRequest["kind"] | null;
    readonly sinceMs: number | null;
    readonly newestGoodMs: number | null;
    readonly nextMs: number | null;
    /** Why the last one was not taken, and when that was. */
    readonly trouble: string | null;
    readonly troubleMs: number | null;
    /** Why one is wanted at once. */
    readonly wanted: string | null;
    /** Why nothing expires. */
    readonly expiryTrouble: string | null;
  };
  readonly windows: readonly Pick<Window, "fromMs" | "toMs">[];
};

export type ArchiveOptions = Omit<InstanceOptions, "onEvent"> & {
  readonly onEvent: (event: ArchiveEvent) => void;
  readonly spool: Spool;
  readonly recorder: Recorder;
  readonly topology: Topology;
  /** Of the shard, in a cluster. */
  readonly key?: string;
  /** Objects up to this size are made in memory. */
  readonly maxGatheredBytes?: number;
};

type Session = {
  readonly repository: OpenRepository;
  readonly lease: Lease;
  readonly archiver: Archiver;
  readonly backups: BackupLoop;
  readonly signal: AbortSignal;
};

const beingOpened = {
  code: "STORE_BUSY",
  message: "its repository is being opened",
  hint: "Try again in a moment; `tidemark status` says how far it is.",
} as const;

/** How long letting go of the lease may take when all ends. */
const releaseMs = 1500;
const shipAgainMs = 1000;

export class Archive {
  readonly #options: ArchiveOptions;
  #session: Session | undefined;
  #state: ArchiveStatus["state"] = "opening";
  #trouble: Failure | undefined;
  #windows: readonly Window[] = [];
  /** Once: who was taken over from in turn stays so. */
  #maySteal: boolean;

  constructor(options: ArchiveOptions) {
    this.#options = options;
    this.#maySteal = options.steal;
  }

  get status(): ArchiveStatus {
    const { archiver, backups } = this.#session ?? {};
    const shipped = archiver?.status;
    return {
      repository: this.#options.config.repository.address,
      state: this.#state,
      trouble: this.#trouble?.message ?? shipped?.trouble?.failure.message ?? null,
      shippedOffset: shipped?.shippedTo?.offset ?? null,
      shippedToMs: shipped?.shippedTo?.ms ?? null,
      lastShippedMs: shipped?.lastShippedMs ?? null,
      behindBytes: shipped?.behindBytes ?? null,
      behindMs: shipped?.behindMs ?? null,
      set: {
        running: backups?.running?.request.kind ?? null,
        sinceMs: backups?.running?.sinceMs ?? null,
        newestGoodMs: backups?.newestGoodMs ?? null,
        nextMs: backups?.nextMs ?? null,
        trouble: backups?.trouble?.failure.message ?? null,
        troubleMs: backups?.trouble?.ms ?? null,
        wanted: backups?.wanted ?? null,
        expiryTrouble: backups?.expiryFailure?.message ?? null,
      },
      windows: this.#windows.map(({ fromMs, toMs }) => ({ fromMs, toMs })),
    };
  }

  /** Until the signal is given. Never throws: what fails is told and tried again. */
  async run(signal: AbortSignal): Promise<void> {
    await supervise(
      (until) => this.#runSession(until),
      signal,
      ({ failure, retryInMs }) => {
        this.#state = "waiting";
        this.#trouble = failure;
        this.#options.onEvent({ kind: "archive failed", failure, retryInMs });
      },
    );
  }

  /** Takes a set now. @throws Failure STORE_BUSY where the repository is not open yet, or why it is not */
  async take(request: SetRequest, onProgress: (progress: unknown) => void): Promise<SetManifest> {
    const session = this.#session;
    if (session !== undefined) {
      return await session.backups.take(request, session.signal, onProgress);
    }
    const { name } = this.#options.config;
    const { code, message, hint } = this.#trouble ?? beingOpened;
    throw new Failure(code, `Cannot take a set of ${name} now: ${message}`, { hint });
  }

  /** Ships what the spool has, as far as that can be done in the time. */
  async shipLast(withinMs: number): Promise<void> {
    try {
      await this.#session?.archiver.shipNow(AbortSignal.timeout(withinMs));
    } catch (error) {
      // The spool keeps it, and the next start ships it.
      if (!(error instanceof Failure)) throw error;
    }
  }

  /** Ships all that the spool has and reads its bases back: until that is done, or the signal is given. */
  async shipAll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const archiver = this.#session?.archiver;
      try {
        await archiver?.shipNow(signal);
        await archiver?.verifyBases(signal);
        if (archiver !== undefined) return;
      } catch (error) {
        // The status says why; the session goes on, or another one comes.
        if (!(error instanceof Failure)) throw error;
      }
      await pause(shipAgainMs, signal);
    }
  }

  async #runSession(signal: AbortSignal): Promise<void> {
    const { config, onEvent } = this.#options;
    this.#state = "opening";
    await using repository = await openConfigured(config.repository, { signal });
    await using lease = await Lease.acquire(repository, config.name, {
      owner: "tidemark up",
      holder: holderOf(config.spool),
      steal: this.#maySteal,
      onWait: (waiting) => this.#tellOfWaiting(waiting),
      signal,
    });
    this.#maySteal = false;
    await admitKey(repository, { signal });
    const ended = new AbortController();
    const both = AbortSignal.any([signal, lease.signal, ended.signal]);
    const session = this.#begin(repository, lease, both);
    this.#session = session;
    this.#state = "archiving";
    this.#trouble = undefined;
    onEvent({ kind: "archive begins", repository: repository.store.name, epoch: lease.epoch });
    const jobs = [session.archiver.run(both), session.backups.run(both)];
    try {
      await Promise.race(jobs);
    } finally {
      this.#session = undefined;
      ended.abort(new Failure("ABORTED", "The session with the repository ends"));
      await Promise.allSettled(jobs);
      await release(lease);
    }
    if (!signal.aborted) await Promise.all(jobs);
    if (!signal.aborted) await lease.check(signal);
  }

  #tellOfWaiting(waiting: LeaseWaiting): void {
    const { config, onEvent } = this.#options;
    const until = new Date(waiting.untilMs).toISOString();
    const message = `${waiting.holder} writes "${config.name}"; unless it gives a sign of life until ${until}, it is taken over`;
    this.#trouble = new Failure("LEASE_HELD", message, { hint: leaseHint });
    onEvent({ kind: "archive waits", ...waiting, hint: leaseHint });
  }

  #begin(repository: OpenRepository, lease: Lease, signal: AbortSignal): Session {
    const { config, clock, spool, recorder, turns, onEvent, maxGatheredBytes } = this.#options;
    const archiver = new Archiver({
      ...{ repository, lease, instance: config.name },
      spool: viewOf(spool, recorder),
      temporaryFolder: join(config.spool, "shipping"),
      onEvent: (event) => {
        // Pieces come every few seconds; the status tells of them.
        if (event.kind === "piece") backups.storageHasWorked();
        else onEvent({ kind: "archiver", event });
      },
      intervalMs: config.archiveIntervalMs,
      sourceFacts: () => ({ name: recorder.source, version: recorder.sourceVersion }),
      ...(maxGatheredBytes !== undefined && { maxGatheredBytes }),
      rebase: {},
    });
    const backups: BackupLoop = new BackupLoop({
      ...{ clock, turns, onEvent, instance: config.name, policy: config.backup },
      take: (request, until, onProgress) =>
        this.#takeSet({ repository, lease }, request, until, onProgress),
      look: (until) => this.#lookAtSets(repository, archiver, until),
      expire: async (until) => {
        const catalogue = await readCatalogue(repository.store, config.name, { signal: until });
        const plan = planExpiry(catalogue, config.retention, clock.now());
        return await applyExpiry(repository, plan, lease, { signal: until });
      },
    });
    return { repository, lease, archiver, backups, signal };
  }

  async #lookAtSets(
    repository: OpenRepository,
    archiver: Archiver,
    signal: AbortSignal,
  ): Promise<SetsSeen> {
    const { config, clock, spool } = this.#options;
    const { generation } = spool;
    // Before a round has ended, a base that a process before has sent is not known to be one.
    const isKnown = archiver.status.lastShippedMs !== undefined;
    const keeper = keeperOf({ repository, instance: config.name });
    const origin = isKnown && generation ? originOf(generation, keeper) : undefined;
    const before = archiver.toVerify;
    const catalogue = await readCatalogue(repository.store, config.name, { signal });
    this.#windows = windowsOf(catalogue);
    const line = origin && lineName(origin);
    // Where nothing of a log is there yet, its base is on its way.
    const hasBegun =
      archiver.status.shippedTo !== undefined || newestRunOf(catalogue, line ?? "") !== undefined;
    return await lookAtSets(repository, catalogue, {
      line: hasBegun ? line : undefined,
      toVerify: [...before, ...archiver.toVerify],
      nowMs: clock.now(),
      signal,
    });
  }

  async #takeSet(
    { repository, lease }: Pick<Session, "repository" | "lease">,
    request: SetRequest,
    signal: AbortSignal,
    onProgress: (progress: unknown) => void,
  ): Promise<SetManifest> {
    const { config, clock, topology, key } = this.#options;
    // Another finder than the recorder's: looking for a source for a set is no verdict on that one.
    const { connect, follow: prefer } = config;
    const finder = new SourceFinder({ topology, key, prefer, connect });
    return await takeSet(
      repository,
      config.name,
      async (until) => {
        const { endpoint } = await finder.find(until);
        return await takeSnapshot(endpoint, { connect, clock, signal: until });
      },
      { ...request, clock, lease, signal, onProgress },
    );
  }
}

/** With `sync()`, for a spool whose policy is never to sync. */
function viewOf(spool: Spool, recorder: Recorder): SpoolView {
  return {
    get generation() {
      return spool.generation;
    },
    get written() {
      return spool.written;
    },
    get synced() {
      return spool.synced;
    },
    retired: () => spool.retired(),
    discard: (name) => spool.discard(name),
    sync: () => spool.flush(),
    beginAnew: (reason) => recorder.takeNewBase(reason),
    planRebase: (at) => spool.planRebase(at),
    rebase: (plan, parts, until) => spool.rebase(plan, parts, until),
  };
}

async function release(lease: Lease): Promise<void> {
  try {
    await lease.release(AbortSignal.timeout(releaseMs));
  } catch (error) {
    // Whoever comes next waits until this one has been silent for long enough.
    if (!(error instanceof Failure)) throw error;
  }
}

const holderName = "holder";

/**
 * What tells this spool from others: whoever has it open is alone, so a writer that held the lease with
 * the same is dead, and need not be waited for.
 */
export function holderOf(spool: string): string {
  const path = join(spool, holderName);
  if (existsSync(path)) {
    const text = readFileSync(path, "latin1").trim();
    if (/^[0-9a-f]{32}$/.test(text)) return text;
  }
  const holder = randomBytes(16).toString("hex");
  writeFileSync(path, `${holder}\n`, { mode: 0o600 });
  return holder;
}
