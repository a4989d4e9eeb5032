/** Runs what should always run: begins it again when it fails, later each time. */
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";

export type Delays = {
  readonly firstMs: number;
  readonly longestMs: number;
  /** One that ran so long was a good one: its failure is a new one. */
  readonly goodMs: number;
};

const usualDelays: Delays = { firstMs: 500, longestMs: 60_000, goodMs: 60_000 };

export type Trouble = { readonly failure: Failure; readonly retryInMs: number };

/**
 * Runs `run` until the signal is given. What it throws is told and tried again; so is a bug, as one: it is
 * the trouble of one instance, and the others go on.
 */
export async function supervise(
  run: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
  onTrouble: (trouble: Trouble) => void,
  delays: Delays = usualDelays,
): Promise<void> {
  let retryInMs = delays.firstMs;
  while (!signal.aborted) {
    const startedMs = performance.now();
    try {
      await run(signal);
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (performance.now() - startedMs > delays.goodMs) retryInMs = delays.firstMs;
      onTrouble({ failure: toFailure(error), retryInMs });
    }
    await pause(retryInMs, signal);
    retryInMs = Math.min(retryInMs * 2, delays.longestMs);
  }
}

/** Waits, or until the signal is given. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof SuppressedError) return toFailure(error.suppressed);
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new Failure("SERVER_FAILED", `This is a bug in Tidemark: ${stack}`, {
    cause: error,
    hint: "Please report it.",
  });
}

/** Lets one at a time through, in the order in which they came. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Waits for its turn, which lasts until it is disposed of. @throws the signal's reason */
  async take(signal: AbortSignal): Promise<Disposable> {
    const before = this.#last;
    const own = Promise.withResolvers<void>();
    this.#last = before.then(() => own.promise);
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    try {
      signal.throwIfAborted();
      await Promise.race([before, aborted.promise]);
    } catch (error) {
      own.resolve();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
    return { [Symbol.dispose]: () => own.resolve() };
  }
}
