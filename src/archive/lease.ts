/**
 * The lease: of all that could write into an instance's part of a repository, one does.
 *
 * WHY. Two recorders of one instance, each with a spool of its own, would write two logs, and expire each
 * other's. A storage knows no locks, and who holds one may be dead, or asleep for an hour and wake up
 * in the middle of a write. So a holder gives signs of life, and looks before each write whether
 * somebody has taken over.
 *
 * HOW. The holder is who has claimed the highest epoch. Its name is an object (lease-book.ts), and so is
 * each sign of life; none is ever changed. To take over is to claim the next epoch, and may be done
 *
 *   1. where there is no claim, or its writer has let go of it
 *   2. where it has given no sign of life for its `ttlMs`, on the monotonic clock of who watches
 *   3. where both have the same `holder`, and the claim is of a process of this machine, since it was booted,
 *      that does not run any more: the writer was started again
 *   4. where somebody says so (`steal`)
 *
 * Which of several claims of an epoch counts, the storage says, if it creates objects conditionally:
 * they all have one name. Where it does not, each has its own name, and the one that the storage has
 * dated first counts; of the same date, the first by name. After `settleMs` all of them are listed, and
 * who is not the first takes its claim back.
 *
 * INVARIANTS
 *
 *   1. Clocks of different machines are never compared. Dates of the storage are, with each other.
 *   2. `check()` asks the storage, each time. After it has failed once because the lease was lost, it
 *      always fails.
 *   3. An epoch is used once, and a later holder has a higher one.
 *
 * LIMITS. Between `check()` and the write behind it, the process may stop for as long as the machine
 * likes. What it then writes is harmless: a piece that others have too, or that stands beside theirs,
 * as its name has its content's sum; and what it deletes was covered by another. Without conditional
 * creation, two claims that take more than `settleMs` to be listed, or a storage whose clock goes back
 * by more than that, can make two holders.
 *
 * REJECTED. To believe `holder` alone: a clone of a machine has it too, and both would take the lease from
 * each other for ever. A lease that runs out at a time: clocks differ. One object that is replaced: storages
 * without conditions replace whatever is there. Deleting a claim to let go: its epoch would come again.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Clock, systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { aborted } from "../store/retry.ts";
import { type Claim, LeaseBook, type LeaseState, type Mark } from "./lease-book.ts";
import { type Here, systemHere } from "./lease-process.ts";
import type { Repository } from "./repository.ts";

/** A clock that can be waited for. */
export type WaitingClock = Clock & {
  /** Milliseconds since some moment; nobody sets it. */
  readonly monotonicMs: () => number;
  /** Resolves when they have passed, or earlier where the signal is aborted. */
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
};

export const systemWaitingClock: WaitingClock = {
  now: () => systemClock.now(),
  monotonicMs: () => performance.now(),
  wait: async (ms, signal) => {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
  },
};

export type LeaseOptions = {
  /** Told to whoever finds the lease held. */
  readonly owner: string;
  /**
   * Random, and kept with what only one process at a time can have, as a spool's folder. Who has the
   * same need not wait for the silence of the one before, if that one was a process of this machine and
   * does not run any more.
   */
  readonly holder?: string | undefined;
  readonly here?: Here;
  readonly clock?: WaitingClock;
  readonly ttlMs?: number;
  /** Where the storage does not create conditionally: after so long, all claims are listed. */
  readonly settleMs?: number;
  /** Takes over from a living holder, who then stops. */
  readonly steal?: boolean;
  /** Is told once where it takes waiting to know whether the holder is alive. */
  readonly onWait?: ((waiting: LeaseWaiting) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type LeaseWaiting = {
  /** Who it is, in words. */
  readonly holder: string;
  /** By the clock of the holder. */
  readonly sinceMs: number | null;
  /** Without a sign of life until then, it is taken over. */
  readonly untilMs: number;
};

/** What an operator can do about a holder; where `up` runs, who does not want to wait says so to it. */
export const leaseHint =
  "Stop that writer. If it is gone for good, `tidemark up --steal` takes over at once.";

const defaultTtlMs = 60_000;
/** Storages date objects in whole seconds, and some list them a little late. */
const defaultSettleMs = 3000;
/** Signs of life, and looks at them, in the time that a holder may be silent. */
const beatsPerTtl = 3;
const looksPerTtl = 12;
/** Letting go of a storage that does not answer is given up. */
const releaseMs = 5000;
/** Tokens of the leases that this process holds. */
const living = new Set<string>();

type Held = {
  readonly book: LeaseBook;
  readonly mark: Mark;
  /** The claim. */
  readonly object: string;
  readonly clock: WaitingClock;
  readonly ttlMs: number;
};

export class Lease implements AsyncDisposable {
  readonly #held: Held;
  readonly #lost = new AbortController();
  readonly #ended = new AbortController();
  readonly #beating: Promise<void>;
  #failure: Failure | undefined;
  #hasLetGo = false;
  /** Since when the claim is not listed. */
  #missingSinceMs: number | undefined;

  private constructor(held: Held, old: readonly string[]) {
    this.#held = held;
    living.add(held.mark.token);
    this.#beating = this.#beat(old);
  }

  /**
   * Waits until it can be told whether another writer is alive: at most about `ttlMs`.
   *
   * @throws Failure LEASE_HELD, naming the other one
   */
  static async acquire(
    repository: Repository,
    instance: string,
    options: LeaseOptions,
  ): Promise<Lease> {
    const { clock = systemWaitingClock, ttlMs = defaultTtlMs, here = systemHere, signal } = options;
    const book = new LeaseBook(repository, instance);
    const before = await new Watch(book, { ...options, clock, ttlMs, here }).untilFree();
    const token = randomBytes(8).toString("hex");
    const claim: Claim = {
      format: 1,
      token,
      owner: options.owner.slice(0, 200),
      host: here.host,
      machine: here.machine,
      process: here.process,
      holder: options.holder ?? null,
      sinceMs: clock.now(),
      ttlMs,
    };
    const mark = { epoch: (before?.epoch ?? 0) + 1, token };
    const object = await book.claim(mark.epoch, claim, signal);
    if (object === undefined) throw await refusal(book, signal);
    const held = { book, mark, object, clock, ttlMs };
    if (!book.isConditional) await settle(held, options);
    return new Lease(held, [...(before?.old ?? []), ...(before?.objects ?? [])]);
  }

  /** It grows with each holder. */
  get epoch(): number {
    return this.#held.mark.epoch;
  }

  get isLost(): boolean {
    return this.#failure !== undefined;
  }

  /** Is aborted when the lease is lost. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * To be called before each write and each deletion.
   *
   * @throws Failure LEASE_LOST where another writer has taken over; STORE_BUSY where that cannot be
   *   told
   */
  async check(signal?: AbortSignal): Promise<void> {
    this.#mustNotBeLost();
    const { book, mark, object } = this.#held;
    if (this.#hasLetGo) throw this.#lose("its lease was let go of");
    const state = await book.read(signal);
    this.#mustNotBeLost();
    const { epoch = 0, holder } = state ?? {};
    if (epoch > mark.epoch || (epoch === mark.epoch && holder && holder.object !== object)) {
      const claim = holder && (await book.readClaim(holder.object, signal));
      throw this.#lose(`${describe(claim)} has taken over`);
    }
    if (holder?.object !== object) throw this.#missing();
    this.#missingSinceMs = undefined;
  }

  #mustNotBeLost(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** A listing may be late; one that never has the claim tells that somebody has taken it away. */
  #missing(): Failure {
    const { book, clock, ttlMs } = this.#held;
    const nowMs = clock.monotonicMs();
    this.#missingSinceMs ??= nowMs;
    if (nowMs - this.#missingSinceMs >= ttlMs) return this.#lose("its lease was removed");
    const message = `Cannot write "${book.instance}" in ${book.storeName}: its lease is not listed`;
    return new Failure("STORE_BUSY", message);
  }

  #lose(found: string): Failure {
    const { book } = this.#held;
    const message = `Cannot write "${book.instance}" in ${book.storeName}: ${found}`;
    this.#failure ??= new Failure("LEASE_LOST", message, {
      hint: "One writer an instance: stop one of both, and start the other again.",
    });
    this.#lost.abort(this.#failure);
    return this.#failure;
  }

  async #beat(old: readonly string[]): Promise<void> {
    const { book, mark, clock, ttlMs } = this.#held;
    const { signal } = this.#ended;
    for (let number = 1; ; number++) {
      await clock.wait(ttlMs / beatsPerTtl, signal);
      if (signal.aborted || this.#failure !== undefined) return;
      try {
        await this.check(signal);
        await book.beat(mark, number, clock.now(), signal);
        // Nobody looks at what is before the newest epoch.
        if (number === 1) await book.delete(old, signal);
      } catch (error) {
        // The storage may be back at the next one; `check()` tells the writer if it is not.
        if (!(error instanceof Failure)) throw error;
      }
    }
  }

  /** Lets go: whoever comes next need not wait. @throws Failure where the storage fails */
  async release(signal?: AbortSignal): Promise<void> {
    if (this.#hasLetGo) return;
    this.#hasLetGo = true;
    this.#ended.abort();
    await this.#beating;
    const { book, mark, clock } = this.#held;
    living.delete(mark.token);
    if (this.#failure === undefined) await book.release(mark, clock.now(), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const late = new AbortController();
    const ended = new AbortController();
    const limit = this.#held.clock.wait(releaseMs, ended.signal).then(() => late.abort());
    try {
      await this.release(late.signal);
    } catch (error) {
      // Silence does the same, later.
      if (!(error instanceof Failure)) throw error;
    } finally {
      ended.abort();
      await limit;
    }
  }
}

type WatchOptions = LeaseOptions & {
  readonly clock: WaitingClock;
  readonly ttlMs: number;
  readonly here: Here;
};

/** Looks whether a holder is alive. */
class Watch {
  readonly #book: LeaseBook;
  readonly #options: WatchOptions;

  constructor(book: LeaseBook, options: WatchOptions) {
    this.#book = book;
    this.#options = options;
  }

  /** What is there when the next epoch may be claimed. @throws Failure LEASE_HELD */
  async untilFree(): Promise<LeaseState | undefined> {
    const { clock, signal, steal } = this.#options;
    const book = this.#book;
    const first = await book.read(signal);
    book.mustHaveNext(first);
    if (first?.holder === undefined || steal === true) return first;
    const claim = await book.readClaim(first.holder.object, signal);
    if (claim !== undefined && this.#wasOurs(claim)) return first;
    const ttlMs = Math.max(this.#options.ttlMs, claim?.ttlMs ?? 0);
    const sinceMs = clock.monotonicMs();
    this.#options.onWait?.({
      holder: describe(claim),
      sinceMs: claim?.sinceMs ?? null,
      untilMs: clock.now() + ttlMs,
    });
    for (;;) {
      await clock.wait(ttlMs / looksPerTtl, signal);
      if (signal?.aborted) throw aborted(`take the lease of "${book.instance}"`);
      const now = await book.read(signal);
      if (now?.holder === undefined) return now;
      if (now.objects.join() !== first.objects.join()) throw held(book, now, claim);
      if (clock.monotonicMs() - sinceMs >= ttlMs) return now;
    }
  }

  /** Whether its writer was this one, before it was started again: it is gone for sure. */
  #wasOurs(claim: Claim): boolean {
    const { holder, here } = this.#options;
    if (holder === undefined || claim.holder !== holder) return false;
    if (here.machine === null || claim.machine !== here.machine) return false;
    if (claim.host !== here.host) return false;
    return claim.process === here.process
      ? !living.has(claim.token)
      : !here.isRunning(claim.process);
  }
}

/** Waits until all claims of the epoch are listed. @throws Failure LEASE_HELD where another is first */
async function settle(own: Held, { signal, settleMs = defaultSettleMs }: LeaseOptions) {
  const { book, mark, object, clock } = own;
  let isFirst = false;
  try {
    await clock.wait(settleMs, signal);
    const state = await book.read(signal);
    isFirst = state?.epoch === mark.epoch && state.holder?.object === object;
  } finally {
    if (!isFirst) await book.withdraw(mark, object, clock.now());
  }
  if (!isFirst) throw await refusal(book, signal);
}

async function refusal(book: LeaseBook, signal: AbortSignal | undefined): Promise<Failure> {
  const state = await book.read(signal);
  const claim = state?.holder && (await book.readClaim(state.holder.object, signal));
  return held(book, state, claim);
}

function held(book: LeaseBook, state: LeaseState | undefined, claim: Claim | undefined): Failure {
  const since = claim === undefined ? "" : `, since ${toDate(claim.sinceMs)}`;
  const beat =
    state === undefined ? "" : `; its last sign of life was at ${toDate(state.lastBeatMs)}`;
  const message = `Cannot write "${book.instance}" in ${book.storeName}: ${describe(claim)} does${since}${beat}`;
  return new Failure("LEASE_HELD", message, { hint: leaseHint });
}

function describe(claim: Claim | undefined): string {
  if (claim === undefined) return "another writer";
  return `${claim.owner}, process ${claim.process} on ${claim.host}`;
}

function toDate(ms: number): string {
  return new Date(ms).toISOString();
}
