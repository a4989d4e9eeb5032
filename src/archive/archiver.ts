/**
 * Ships a spool into a repository, for as long as it runs.
 *
 * WHY. What is in a spool is lost with its machine. So what is synced there is sent away every
 * `intervalMs`, and a spool is let go of what the repository has for good.
 *
 * What is shipped, in which order, is in archiver-round.ts. This is when, and what happens if the storage
 * is away: nothing is given up, as the spool keeps all of it; rounds are tried again after a time that
 * doubles, and `status` says since when and why.
 *
 * INVARIANTS
 *
 *   1. One round at a time. Base sets are read back beside it, one at a time, and the spool is rebased on a
 *      set beside it: that may take long.
 *   2. Nothing is written after the lease was lost: `run()` ends with that failure.
 *   3. When `run()` has ended, nothing of it is under way.
 */
import { strict as assert } from "node:assert";
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { type Disk, systemDisk } from "../log/disk.ts";
import { aborted } from "../store/retry.ts";
import type { SourceFacts } from "./archiver-base.ts";
import { cleanTemporaryFolder } from "./archiver-piece.ts";
import { type RebaseOptions, Rebases } from "./archiver-rebase.ts";
import { Rounds, type ShippingEvent, type SpoolView, type Trouble } from "./archiver-round.ts";
import { isInstanceName } from "./layout.ts";
import { systemWaitingClock, type WaitingClock } from "./lease.ts";
import type { Repository } from "./repository.ts";
import { verifySet } from "./verify.ts";

export type ArchiverEvent =
  | ShippingEvent
  | { readonly kind: "verified"; readonly set: string }
  /** A round has failed; it is tried again. Told once for each failure that is another one. */
  | { readonly kind: "trouble"; readonly failure: Failure }
  /** It works again. */
  | { readonly kind: "well" };

export type ArchiverOptions = {
  readonly repository: Repository;
  readonly instance: string;
  readonly spool: SpoolView;
  /** `Lease` is one. */
  readonly lease: {
    readonly check: (signal?: AbortSignal) => Promise<void>;
    /** Is aborted with a Failure when the lease is lost. */
    readonly signal: AbortSignal;
  };
  /** Beside the spool, for this archiver alone; made if it is not there. */
  readonly temporaryFolder: string;
  /** Where the bases come from. */
  readonly sourceFacts: () => SourceFacts;
  readonly intervalMs?: number;
  readonly clock?: WaitingClock;
  readonly disk?: Disk;
  /** Must not throw. */
  readonly onEvent?: (event: ArchiverEvent) => void;
  /** Program and version, for manifests. */
  readonly writer?: string;
  /** Objects up to this size are made in memory. */
  readonly maxGatheredBytes?: number;
  /** Has the spool begin its log at good sets, if it can (`Spool` can). Not given: it keeps all of it. */
  readonly rebase?: RebaseOptions;
};

export type ArchiverStatus = {
  /** What of the log that is written to is in the repository. */
  readonly shippedTo: PositionLine | undefined;
  /** What of the spool is not. */
  readonly behindBytes: number;
  /** The time, by the source's clock, from there to the end of the spool. */
  readonly behindMs: number;
  /** When all that was synced then was shipped; by our clock. */
  readonly lastShippedMs: number | undefined;
  readonly trouble: Trouble | undefined;
};

const defaultIntervalMs = 10_000;
const firstDelayMs = 1000;
const maxDelayMs = 60_000;

export class Archiver {
  readonly #options: ArchiverOptions;
  readonly #clock: WaitingClock;
  readonly #rounds: Rounds;
  readonly #rebases: Rebases | undefined;
  #shipping: Promise<void> | undefined;
  #verifying: Promise<void> | undefined;
  #rebasing: Promise<void> | undefined;
  #isPrepared = false;
  #isRunning = false;
  #lastShippedMs: number | undefined;
  #trouble: Trouble | undefined;
  #damagedSet: Trouble | undefined;

  constructor(options: ArchiverOptions) {
    const { repository, instance, lease, temporaryFolder, maxGatheredBytes, spool } = options;
    assert(isInstanceName(instance), "An instance has a proper name");
    this.#options = options;
    this.#clock = options.clock ?? systemWaitingClock;
    const limit = maxGatheredBytes === undefined ? {} : { maxGatheredBytes };
    const disk = options.disk ?? systemDisk;
    const ship = { repository, instance, lease, disk, temporaryFolder, ...limit };
    const common = { ship, spool, clock: this.#clock };
    const onEvent = (event: ShippingEvent) => this.#tell(event);
    this.#rounds = new Rounds({
      ...{ ...common, onEvent, sourceFacts: options.sourceFacts },
      writer: options.writer ?? "tidemark",
    });
    const { rebase } = options;
    this.#rebases = rebase && new Rebases({ ...rebase, ...common, onEvent, rounds: this.#rounds });
  }

  get status(): ArchiverStatus {
    const { shippedTo, behindBytes, stuck } = this.#rounds;
    const { written, generation } = this.#options.spool;
    const from = shippedTo ?? generation?.segments[0]?.first;
    return {
      ...{ shippedTo, behindBytes, lastShippedMs: this.#lastShippedMs },
      behindMs: written === undefined || from === undefined ? 0 : Math.max(0, written.ms - from.ms),
      trouble: this.#trouble ?? this.#damagedSet ?? stuck,
    };
  }

  /** Base sets that were sent and are still to be read back. */
  get toVerify(): readonly string[] {
    return this.#rounds.unverified;
  }

  /**
   * Ships until it is stopped.
   *
   * @throws Failure when the lease is lost
   */
  async run(signal: AbortSignal): Promise<void> {
    assert(!this.#isRunning, "It runs once at a time");
    this.#isRunning = true;
    const { lease, intervalMs = defaultIntervalMs } = this.#options;
    const ended = AbortSignal.any([signal, lease.signal]);
    try {
      for (let failures = 0; !ended.aborted; ) {
        const hasWorked = await this.#tryRound(ended);
        failures = hasWorked ? 0 : failures + 1;
        this.#verifying ??= this.#verifyInBackground(ended);
        this.#rebasing ??= this.#rebaseInBackground(ended);
        const delayMs = Math.min(maxDelayMs, firstDelayMs * 2 ** (failures - 1));
        await this.#clock.wait(hasWorked ? intervalMs : delayMs, ended);
      }
    } finally {
      await this.#verifying;
      await this.#rebasing;
      this.#isRunning = false;
    }
    lease.signal.throwIfAborted();
  }

  /** False: it failed, and the status says why. */
  async #tryRound(signal: AbortSignal): Promise<boolean> {
    try {
      await this.shipNow(signal);
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return false;
    }
  }

  /** Ships all that is synced now. @throws Failure */
  async shipNow(signal: AbortSignal = new AbortController().signal): Promise<void> {
    while (this.#shipping !== undefined) await Promise.allSettled([this.#shipping]);
    this.#shipping = this.#round(AbortSignal.any([signal, this.#options.lease.signal]));
    try {
      await this.#shipping;
    } finally {
      this.#shipping = undefined;
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { lease, temporaryFolder } = this.#options;
    lease.signal.throwIfAborted();
    try {
      if (!this.#isPrepared) await cleanTemporaryFolder(temporaryFolder);
      this.#isPrepared = true;
      await this.#sync();
      await this.#rounds.run(signal);
    } catch (error) {
      lease.signal.throwIfAborted();
      if (signal.aborted) throw aborted("archive the log");
      if (error instanceof Failure) this.#setTrouble(error);
      throw error;
    }
    this.#lastShippedMs = this.#clock.now();
    if (this.#trouble !== undefined) this.#tell({ kind: "well" });
    this.#trouble = undefined;
  }

  async #sync(): Promise<void> {
    const { spool } = this.#options;
    if (spool.sync === undefined || spool.written?.sequence === spool.synced?.sequence) return;
    try {
      await spool.sync();
    } catch (error) {
      // The spool says so itself. What was synced before can be shipped all the same.
      if (!(error instanceof Failure)) throw error;
    }
  }

  #setTrouble(failure: Failure): void {
    const isKnown = this.#trouble?.failure.message === failure.message;
    const sinceMs = this.#trouble?.sinceMs ?? this.#clock.now();
    this.#trouble = { failure, sinceMs };
    if (!isKnown) this.#tell({ kind: "trouble", failure });
  }

  /**
   * Reads base sets back that were not yet: without that, none counts as good, and no log is discarded.
   *
   * @throws Failure of the store
   */
  async verifyBases(signal: AbortSignal): Promise<void> {
    const { repository, instance, lease } = this.#options;
    for (const set of this.#rounds.unverified) {
      await lease.check(signal);
      const options = { clock: this.#clock, signal };
      const { isGood, findings } = await verifySet(repository, instance, set, options);
      this.#rounds.endVerification(set, isGood);
      if (isGood) this.#tell({ kind: "verified", set });
      else this.#refuseSet(set, findings[0]?.found ?? "it is not what was sent");
    }
  }

  #refuseSet(set: string, found: string): void {
    const message = `Base set "${set}" was sent, and does not come back: ${found}`;
    const failure = new Failure("DATA_CORRUPT", message, {
      hint: "The spool keeps what it was made of. Look into the storage.",
    });
    this.#damagedSet = { failure, sinceMs: this.#clock.now() };
    this.#tell({ kind: "trouble", failure });
  }

  async #verifyInBackground(signal: AbortSignal): Promise<void> {
    try {
      await this.verifyBases(signal);
    } catch (error) {
      // The storage is away: after the next round it is tried again.
      if (!(error instanceof Failure)) throw error;
    } finally {
      this.#verifying = undefined;
    }
  }

  /**
   * Has the spool begin its log at the newest good set, if that was asked for and is due.
   *
   * @throws Failure of the store, of the disk; the spool has all that it had then
   */
  async rebase(signal: AbortSignal): Promise<void> {
    await this.#rebases?.run(signal);
  }

  async #rebaseInBackground(signal: AbortSignal): Promise<void> {
    try {
      await this.rebase(signal);
    } catch (error) {
      // It was told of, and is tried again.
      if (!(error instanceof Failure)) throw error;
    } finally {
      this.#rebasing = undefined;
    }
  }

  #tell(event: ArchiverEvent): void {
    this.#options.onEvent?.(event);
  }
}
