/**
 * Takes the sets of one instance when its policy says so, and lets old ones go behind each good one.
 *
 * INVARIANTS
 *
 *   1. One set of an instance is taken at a time; who asks for a second one is told which runs.
 *   2. Automatic sets of all instances take turns: a machine with many sources does not make them fork
 *      at once, and has its own bandwidth for one. Who asks for a set by hand does not wait for that.
 *   3. What failed is tried again, later each time, until a set is there: a moment is not skipped.
 *   4. Nothing expires before this session has seen a good set, nor while one is wanted at once. It is looked
 *      every `expireEveryMs`, and behind each set; what a set makes superfluous often goes later, when the log behind it is there.
 *   5. A set that is wanted at once (sets-seen.ts) is taken at once, where the policy has sets taken at all; and another
 *      one for the same reason after `wantedEveryMs`: where a set does not help, a source does not pay for it.
 *   6. No time that a clock told which was set back since holds anything up.
 */
import type { SetManifest } from "../archive/backup-set.ts";
import type { Expired } from "../archive/expire.ts";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { type BackupPolicy, dueAt, isDue } from "./schedule.ts";
import { clockSlackMs, type SetsSeen } from "./sets-seen.ts";
import { pause, type Turns, toFailure } from "./supervise.ts";

export type SetRequest = {
  readonly kind: "automatic" | "manual" | "safety";
  readonly note?: string;
  readonly keep?: boolean;
};

/** What happened, and for what; for a log line each. */
export type BackupEvent =
  | { readonly kind: "set wanted"; readonly why: string }
  | { readonly kind: "set begins"; readonly set: SetRequest["kind"] }
  | {
      readonly kind: "set taken";
      readonly set: string;
      readonly rawBytes: number;
      readonly tookMs: number;
    }
  | { readonly kind: "set failed"; readonly failure: Failure; readonly retryInMs: number | null }
  | ({ readonly kind: "expired" } & Expired)
  | { readonly kind: "expiry failed"; readonly failure: Failure };

export type BackupLoopOptions = {
  readonly instance: string;
  readonly policy: BackupPolicy | undefined;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly onEvent: (event: BackupEvent) => void;
  /** Takes a set, and verifies it. @throws Failure */
  readonly take: (
    request: SetRequest,
    signal: AbortSignal,
    onProgress: (progress: unknown) => void,
  ) => Promise<SetManifest>;
  /** @throws Failure where it cannot be told which sets there are */
  readonly look: (signal: AbortSignal) => Promise<SetsSeen>;
  /** Lets go of what the policy does not keep. @throws Failure */
  readonly expire: (signal: AbortSignal) => Promise<Expired>;
  /** How often it is looked whether a set is due. */
  readonly lookEveryMs?: number;
};

const defaultLookEveryMs = 15_000;
/** Sets that were seen may be lost behind our back. */
const lookAgainMs = 15 * 60_000;
const expireEveryMs = 60 * 60_000;
const wantedEveryMs = 60 * 60_000;
/** Whoever asked for a set was told that it failed: `status` says so for a while. */
const failureShownMs = 60 * 60_000;
const firstRetryMs = 60_000;
const longestRetryMs = 30 * 60_000;

export type RunningSet = { readonly request: SetRequest; readonly sinceMs: number };

/** Why the last set was not taken, and when that was. */
export type SetTrouble = {
  readonly failure: Failure;
  readonly set: SetRequest["kind"];
  readonly ms: number;
};

export class BackupLoop {
  readonly #options: BackupLoopOptions;
  #running: RunningSet | undefined;
  #retryAtMs = 0;
  #retryMs = firstRetryMs;
  #expiredAtMs: number | undefined;
  #seen: SetsSeen = { newestGoodMs: undefined, wanted: undefined, isSure: false };
  #lookedMs: number | undefined;
  #wantedTakenMs: number | undefined;
  #trouble: SetTrouble | undefined;
  #expiryFailure: Failure | undefined;

  constructor(options: BackupLoopOptions) {
    this.#options = options;
  }

  get running(): RunningSet | undefined {
    return this.#running;
  }

  get newestGoodMs(): number | undefined {
    return this.#seen.newestGoodMs;
  }

  /** Why a set is wanted at once. */
  get wanted(): string | undefined {
    return this.#seen.wanted;
  }

  /** Until a set is there; of one that somebody has asked for, at most `failureShownMs`. */
  get trouble(): SetTrouble | undefined {
    const trouble = this.#trouble;
    if (trouble === undefined || trouble.set === "automatic") return trouble;
    const isOld = Math.abs(this.#options.clock.now() - trouble.ms) >= failureShownMs;
    return isOld ? undefined : trouble;
  }

  /** Why nothing expires. */
  get expiryFailure(): Failure | undefined {
    return this.#expiryFailure;
  }

  /** When the policy wants the next one. */
  get nextMs(): number | undefined {
    const { policy, instance, clock } = this.#options;
    if (policy === undefined) return undefined;
    const nowMs = clock.now();
    if (this.#isWantedNow(nowMs)) return nowMs;
    const due = dueAt(policy, instance, nowMs);
    return isDue(due, this.newestGoodMs) ? due.lastMs : due.nextMs;
  }

  /** Says that the storage has taken something. What failed there by hand before is of no concern now. */
  storageHasWorked(): void {
    const { failure, set } = this.#trouble ?? {};
    if (set !== "automatic" && failure?.code.startsWith("STORE_")) this.#trouble = undefined;
  }

  /** Until the signal is given. @throws Failure where it cannot be told at first which sets there are */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, lookEveryMs = defaultLookEveryMs } = this.#options;
    while (!signal.aborted) {
      const nowMs = clock.now();
      if (this.#mustLook(nowMs)) await this.#look(signal);
      if (this.#isTime(nowMs) && this.#running === undefined) {
        // Somebody else's may have come meanwhile.
        const isSure = await this.#look(signal);
        if (isSure && this.#isTime(nowMs)) await this.#takeInTurn(signal);
      }
      await this.#expireIfDue(signal);
      await pause(lookEveryMs, signal);
    }
  }

  #mustLook(nowMs: number): boolean {
    const { newestGoodMs, wanted, isSure } = this.#seen;
    if (newestGoodMs === undefined || wanted !== undefined || !isSure) return true;
    return newestGoodMs > nowMs + clockSlackMs || isPast(this.#lookedMs, lookAgainMs, nowMs);
  }

  /** False: it cannot be told now, and what was seen before counts. @throws Failure the first time */
  async #look(signal: AbortSignal): Promise<boolean> {
    const { clock, onEvent } = this.#options;
    const { wanted } = this.#seen;
    try {
      this.#seen = await this.#options.look(signal);
    } catch (error) {
      if (this.#lookedMs === undefined || !(error instanceof Failure)) throw error;
      return false;
    }
    this.#lookedMs = clock.now();
    const why = this.#seen.wanted;
    if (why !== undefined && why !== wanted) onEvent({ kind: "set wanted", why });
    return true;
  }

  #isTime(nowMs: number): boolean {
    const { policy, instance } = this.#options;
    const waitMs = this.#retryAtMs - nowMs;
    if (policy === undefined || (waitMs > 0 && waitMs <= longestRetryMs)) return false;
    return this.#isWantedNow(nowMs) || isDue(dueAt(policy, instance, nowMs), this.newestGoodMs);
  }

  #isWantedNow(nowMs: number): boolean {
    return this.wanted !== undefined && isPast(this.#wantedTakenMs, wantedEveryMs, nowMs);
  }

  async #takeInTurn(signal: AbortSignal): Promise<void> {
    const { turns, clock } = this.#options;
    try {
      using _turn = await turns.take(signal);
      const { wanted } = this;
      await this.take({ kind: "automatic" }, signal);
      if (wanted !== undefined) this.#wantedTakenMs = clock.now();
      this.#retryMs = firstRetryMs;
      this.#retryAtMs = 0;
    } catch (error) {
      if (signal.aborted) return;
      const failure = toFailure(error);
      this.#options.onEvent({ kind: "set failed", failure, retryInMs: this.#retryMs });
      this.#retryAtMs = clock.now() + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, longestRetryMs);
    }
  }

  /** Takes a set now. @throws Failure SERVER_BUSY where one is being taken, which it names */
  async take(
    request: SetRequest,
    signal: AbortSignal,
    onProgress: (progress: unknown) => void = () => {},
  ): Promise<SetManifest> {
    const { instance, clock, onEvent } = this.#options;
    if (this.#running !== undefined) throw busy(instance, this.#running);
    this.#running = { request, sinceMs: clock.now() };
    onEvent({ kind: "set begins", set: request.kind });
    try {
      const manifest = await this.#options.take(request, signal, onProgress);
      this.#trouble = undefined;
      this.#seen = { ...this.#seen, newestGoodMs: manifest.startedMs };
      const { set, startedMs, endedMs, snapshot } = manifest;
      const tookMs = endedMs - startedMs;
      onEvent({ kind: "set taken", set, rawBytes: snapshot.rawBytes, tookMs });
      this.#expiredAtMs = undefined;
      return manifest;
    } catch (error) {
      this.#trouble = { failure: toFailure(error), set: request.kind, ms: clock.now() };
      throw error;
    } finally {
      this.#running = undefined;
    }
  }

  async #expireIfDue(signal: AbortSignal): Promise<void> {
    const { clock, onEvent } = this.#options;
    const { newestGoodMs, wanted } = this.#seen;
    if (signal.aborted || newestGoodMs === undefined || wanted !== undefined) return;
    if (!isPast(this.#expiredAtMs, expireEveryMs, clock.now())) return;
    this.#expiredAtMs = clock.now();
    try {
      const expired = await this.#options.expire(signal);
      this.#expiryFailure = undefined;
      if (expired.sets > 0 || expired.pieces > 0) onEvent({ kind: "expired", ...expired });
    } catch (error) {
      if (signal.aborted) return;
      this.#expiryFailure = toFailure(error);
      onEvent({ kind: "expiry failed", failure: this.#expiryFailure });
    }
  }
}

/** A clock that was set back makes it past as well. */
function isPast(sinceMs: number | undefined, spanMs: number, nowMs: number): boolean {
  return sinceMs === undefined || Math.abs(nowMs - sinceMs) >= spanMs;
}

function busy(instance: string, { request, sinceMs }: RunningSet): Failure {
  const since = new Date(sinceMs).toISOString();
  const found = `${request.kind === "automatic" ? "an automatic" : `a ${request.kind}`} one runs since ${since}`;
  return new Failure("SERVER_BUSY", `Cannot take a set of ${instance}: ${found}`, {
    hint: "Wait for it: `tidemark status` shows when it has ended.",
  });
}
