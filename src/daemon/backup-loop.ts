/**
 * Takes the sets of one instance when its policy says so, and lets old ones go behind each good one.
 *
 * INVARIANTS
 *
 *   1. One set of an instance is taken at a time; who asks for a second one is told which runs.
 *   2. Automatic sets of all instances take turns: a machine with many sources does not make them fork
 *      at once, and has its own bandwidth for one. Who asks for a set by hand does not wait for that.
 *   3. What failed is tried again, later each time, until a set is there: a moment is not skipped.
 *   4. Nothing expires before this session has seen a good set. It is looked every `expireEveryMs`, and
 *      behind each set; what a set makes superfluous often goes later, when the log behind it is there.
 */
import type { SetManifest } from "../archive/backup-set.ts";
import type { Expired } from "../archive/expire.ts";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { type BackupPolicy, dueAt, isDue } from "./schedule.ts";
import { pause, type Turns, toFailure } from "./supervise.ts";

export type SetRequest = {
  readonly kind: "automatic" | "manual" | "safety";
  readonly note?: string;
  readonly keep?: boolean;
};

/** What happened, and for what; for a log line each. */
export type BackupEvent =
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
  /** When the newest good set was begun, by our clock; undefined where there is none. @throws Failure */
  readonly newestGoodMs: (signal: AbortSignal) => Promise<number | undefined>;
  /** Lets go of what the policy does not keep. @throws Failure */
  readonly expire: (signal: AbortSignal) => Promise<Expired>;
  /** How often it is looked whether a set is due. */
  readonly lookEveryMs?: number;
};

const defaultLookEveryMs = 15_000;
const expireEveryMs = 60 * 60_000;
const firstRetryMs = 60_000;
const longestRetryMs = 30 * 60_000;

export type RunningSet = { readonly request: SetRequest; readonly sinceMs: number };

export class BackupLoop {
  readonly #options: BackupLoopOptions;
  #running: RunningSet | undefined;
  #retryAtMs = 0;
  #retryMs = firstRetryMs;
  #expiredAtMs: number | undefined;
  #newestGoodMs: number | undefined;
  #failure: Failure | undefined;

  constructor(options: BackupLoopOptions) {
    this.#options = options;
  }

  get running(): RunningSet | undefined {
    return this.#running;
  }

  get newestGoodMs(): number | undefined {
    return this.#newestGoodMs;
  }

  /** Why the last attempt failed. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** When the policy wants the next one. */
  get nextMs(): number | undefined {
    const { policy, instance, clock } = this.#options;
    if (policy === undefined) return undefined;
    const due = dueAt(policy, instance, clock.now());
    return isDue(due, this.#newestGoodMs) ? due.lastMs : due.nextMs;
  }

  /** Until the signal is given. @throws Failure where it cannot be told which sets there are */
  async run(signal: AbortSignal): Promise<void> {
    const { policy, instance, clock, lookEveryMs = defaultLookEveryMs } = this.#options;
    let mustLook = true;
    while (!signal.aborted) {
      const nowMs = clock.now();
      if (mustLook) this.#newestGoodMs = await this.#options.newestGoodMs(signal);
      mustLook = this.#newestGoodMs === undefined;
      const due = policy && dueAt(policy, instance, nowMs);
      const isTime = due !== undefined && isDue(due, this.#newestGoodMs);
      if (isTime && nowMs >= this.#retryAtMs && this.#running === undefined) {
        // Somebody else's may have come meanwhile.
        this.#newestGoodMs = await this.#options.newestGoodMs(signal);
        if (isDue(due, this.#newestGoodMs)) await this.#takeInTurn(signal);
      }
      await this.#expireIfDue(signal);
      await pause(lookEveryMs, signal);
    }
  }

  async #takeInTurn(signal: AbortSignal): Promise<void> {
    const { turns, clock } = this.#options;
    try {
      using _turn = await turns.take(signal);
      await this.take({ kind: "automatic" }, signal);
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
      this.#failure = undefined;
      this.#newestGoodMs = Math.max(this.#newestGoodMs ?? 0, manifest.startedMs);
      const { set, startedMs, endedMs, snapshot } = manifest;
      const tookMs = endedMs - startedMs;
      onEvent({ kind: "set taken", set, rawBytes: snapshot.rawBytes, tookMs });
      this.#expiredAtMs = undefined;
      return manifest;
    } catch (error) {
      this.#failure = toFailure(error);
      throw error;
    } finally {
      this.#running = undefined;
    }
  }

  async #expireIfDue(signal: AbortSignal): Promise<void> {
    const { clock, onEvent } = this.#options;
    const since = this.#expiredAtMs;
    if (signal.aborted || this.#newestGoodMs === undefined) return;
    if (since !== undefined && Math.abs(clock.now() - since) < expireEveryMs) return;
    this.#expiredAtMs = clock.now();
    try {
      const expired = await this.#options.expire(signal);
      if (expired.sets > 0 || expired.pieces > 0) onEvent({ kind: "expired", ...expired });
    } catch (error) {
      if (signal.aborted) return;
      onEvent({ kind: "expiry failed", failure: toFailure(error) });
    }
  }
}

function busy(instance: string, { request, sinceMs }: RunningSet): Failure {
  const since = new Date(sinceMs).toISOString();
  const found = `${request.kind === "automatic" ? "an automatic" : `a ${request.kind}`} one runs since ${since}`;
  return new Failure("SERVER_BUSY", `Cannot take a set of ${instance}: ${found}`, {
    hint: "Wait for it: `tidemark status` shows when it has ended.",
  });
}
