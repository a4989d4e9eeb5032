/**
 * Trying again: the only place in which a store does.
 *
 * What is tried again is what a driver calls STORE_BUSY: throttling, an error of the server, a
 * connection that was cut or is silent. Waits double from `firstDelayMs` to `maxDelayMs`, each one a
 * random part of that, so that many clients do not come back at the same moment.
 */
import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";

export type Random = {
  /** A whole number below `bound`. */
  readonly below: (bound: number) => number;
  readonly chance: (probability: number) => boolean;
};

const systemRandom: Random = {
  below: (bound) => randomInt(bound),
  chance: (probability) => randomInt(2 ** 32) < probability * 2 ** 32,
};

export type RetryOptions = {
  /** How often something is tried in all. */
  readonly attempts: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  readonly random: Random;
};

/** With these, a storage that is gone is given up after about half a minute. */
export const defaultRetry: RetryOptions = {
  attempts: 9,
  firstDelayMs: 200,
  maxDelayMs: 10_000,
  random: systemRandom,
};

/** Counts the failures of one undertaking. */
export class Attempts {
  readonly #options: RetryOptions;
  readonly #signal: AbortSignal | undefined;
  #failures = 0;

  constructor(options: RetryOptions, signal: AbortSignal | undefined) {
    this.#options = options;
    this.#signal = signal;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Waits before the next attempt, or throws the failure where there is to be none. */
  async next(error: unknown): Promise<void> {
    const { attempts, firstDelayMs, maxDelayMs, random } = this.#options;
    this.#failures++;
    if (!isBusy(error) || this.#failures >= attempts) throw error;
    const most = Math.min(maxDelayMs, firstDelayMs * 2 ** (this.#failures - 1));
    try {
      await sleep(Math.ceil(most / 2) + random.below(Math.ceil(most / 2) + 1), undefined, {
        signal: this.#signal,
      });
    } catch {
      throw aborted("go on");
    }
  }

  /** It went on after all: count from the start. */
  reset(): void {
    this.#failures = 0;
  }
}

export async function retrying<T>(
  options: RetryOptions,
  signal: AbortSignal | undefined,
  action: (attempts: Attempts) => Promise<T>,
): Promise<T> {
  const attempts = new Attempts(options, signal);
  for (;;) {
    try {
      return await action(attempts);
    } catch (error) {
      await attempts.next(error);
    }
  }
}

export function isBusy(error: unknown): boolean {
  return error instanceof Failure && error.code === "STORE_BUSY";
}

export function failIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) throw aborted(doing);
}

export function aborted(doing: string): Failure {
  return new Failure("ABORTED", `Cannot ${doing}: it was stopped on request`);
}
