/** A clock that stands still until it is told how much time has passed. */
import type { WaitingClock } from "../../src/archive/lease.ts";

type Waiter = { readonly atMs: number; readonly wake: () => void };

export class ManualClock implements WaitingClock {
  #ms = 0;
  readonly #startMs: number;
  readonly #waiters = new Set<Waiter>();
  readonly now = () => this.#startMs + this.#ms;
  readonly monotonicMs = () => this.#ms;

  constructor(startMs = 1_795_328_990_000) {
    this.#startMs = startMs;
  }

  readonly wait = async (ms: number, signal?: AbortSignal): Promise<void> => {
    if (signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const waiter = {
        atMs: this.#ms + ms,
        wake: () => {
          this.#waiters.delete(waiter);
          signal?.removeEventListener("abort", waiter.wake);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      signal?.addEventListener("abort", waiter.wake);
    });
  };

  /** How long each of those who wait has to wait still. */
  get waits(): number[] {
    return [...this.#waiters].map(({ atMs }) => atMs - this.#ms);
  }

  /** Lets time pass, and all that it wakes come to rest. */
  async pass(ms: number): Promise<void> {
    await rest();
    const endMs = this.#ms + ms;
    for (;;) {
      const next = [...this.#waiters].sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#ms = next.atMs;
      next.wake();
      await rest();
    }
    this.#ms = endMs;
  }
}

/** Turns of the event loop, more than anything in memory takes to come to rest. */
async function rest(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
}
