/**
 * A snapshot of a server at an exact position, with what it cost the server to give it.
 *
 *     await using snapshot = await takeSnapshot(endpoint, { connect, clock, signal });
 *     for await (const chunk of snapshot.chunks) …
 *     const { position, ms, cost } = snapshot;
 *
 * WHY PSYNC. It is the one way to a snapshot from elsewhere, and the server says of it at which
 * position it is: so it fits a log that somebody else has recorded.
 *
 * WHEN IT IS. `ms` is the source's clock when its answer to PSYNC came, right behind the fork: a little late,
 * never early. What is restored up to a moment behind `ms` may start from this snapshot; with
 * a time before the fork it could start from one that has later writes already.
 *
 * HARMLESS. Nothing is asked for while the server has a child already: it is waited for. There are two
 * connections, one of them for the questions; what is not read stays with the server, whose limits end
 * it. Nothing grows with the size or the duration of a snapshot.
 *
 * WHAT IT COST. A connection beside it asks for the TIME every 10 ms, before and during, and takes how
 * long each answer took: an upper bound of what clients felt, since this program's own load is in it. TIME
 * and not PING: it is granted to recorders, and says what time it is too. What INFO says of the fork and
 * of the memory copied is taken when it is over.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { copyBytesOf } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { RdbReader } from "../codec/rdb/reader.ts";
import type { Endpoint } from "../link/address.ts";
import { Connection, type ConnectOptions, errorText } from "../link/connection.ts";
import { type Info, productOf } from "../link/instance.ts";
import { ReplicaLink } from "../link/replica-link.ts";
import { itemsOf, numberOf, textOf } from "../link/reply-values.ts";
import { askInfo } from "../link/topology.ts";
import { Latencies } from "./latencies.ts";
import { SourceClock } from "./source-clock.ts";

export type SnapshotOptions = {
  readonly connect: Pick<ConnectOptions, "credentials" | "tls">;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** How long answers are timed before it begins. */
  readonly watchMs?: number | undefined;
  /** How long a server is waited for that is busy with another child, or loading. */
  readonly patienceMs?: number | undefined;
};

/** What is null, the source did not say. */
export type SnapshotCost = {
  /** From the request to the first byte, and to the last one. */
  readonly preparedMs: number;
  readonly transferredMs: number;
  readonly forkMicros: number | null;
  readonly copyOnWriteBytes: number | null;
  readonly p99BeforeMs: number | null;
  readonly p99DuringMs: number | null;
};

export type SnapshotSourceFacts = {
  readonly name: string;
  readonly role: "master" | "replica";
  readonly version: string;
};

const defaultWatchMs = 2000;
const defaultPatienceMs = 10 * 60_000;
const firstDelayMs = 250;
const longestDelayMs = 10_000;
const sampleEveryMs = 10;
const infoEveryMs = 1000;
/** What an RDB says of itself first has come by then. */
const maxHeadBytes = 64 * 1024;
/** For the child to be gone, when all of the snapshot has come. */
const childTries = 60;
const childPollMs = 50;
/** An answer that came so shortly before that to PSYNC had waited for the same fork. */
const sameForkMs = 5;

export class Snapshot implements AsyncDisposable {
  readonly position: Position;
  /** See above. */
  readonly ms: number;
  /** The database that the stream has selected there, where the source says so. */
  readonly database: number | null;
  readonly source: SnapshotSourceFacts;
  readonly #parts: Parts;
  #cost: SnapshotCost | undefined;

  constructor(parts: Parts, facts: Pick<Snapshot, "position" | "ms" | "database" | "source">) {
    this.position = facts.position;
    this.ms = facts.ms;
    this.database = facts.database;
    this.source = facts.source;
    this.#parts = parts;
  }

  /** The RDB. A chunk is borrowed until the next one is asked for. Once only. */
  get chunks(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  /** When all chunks were taken. */
  get cost(): SnapshotCost {
    assert(this.#cost !== undefined, "The snapshot was taken to its end");
    return this.#cost;
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    const { head, rest, watch, askedAtMs, firstByteAtMs } = this.#parts;
    yield* head;
    yield* rest;
    const transferredMs = Math.round(performance.now() - askedAtMs);
    this.#cost = {
      preparedMs: Math.round(firstByteAtMs - askedAtMs),
      transferredMs,
      ...(await watch.finish()),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { link, watch } = this.#parts;
    await link[Symbol.asyncDispose]();
    await watch[Symbol.asyncDispose]();
  }
}

type Parts = {
  readonly link: ReplicaLink;
  readonly watch: Watch;
  readonly head: readonly Uint8Array[];
  readonly rest: AsyncGenerator<Uint8Array, void, void>;
  readonly askedAtMs: number;
  readonly firstByteAtMs: number;
};

/**
 * Asks for a snapshot, and returns when it begins to come.
 *
 * @throws Failure SERVER_BUSY where the server has been busy for too long; as `ReplicaLink` otherwise
 */
export async function takeSnapshot(
  endpoint: Endpoint,
  options: SnapshotOptions,
): Promise<Snapshot> {
  const { connect, clock, signal, watchMs = defaultWatchMs } = options;
  const control = await Connection.open(endpoint, { ...connect, signal });
  const watch = new Watch(control, clock);
  try {
    const source = await readFacts(control);
    await waitUntilIdle(watch, options);
    await watch.begin(watchMs, signal);
    const { link, position, askedAtMs } = await begin(endpoint, watch, options);
    try {
      const ms = watch.markStart();
      const rest = link.snapshot();
      const { head, database } = await readHead(rest);
      const firstByteAtMs = performance.now();
      const parts = { link, watch, head, rest, askedAtMs, firstByteAtMs };
      return new Snapshot(parts, { position, ms, database, source });
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    await watch[Symbol.asyncDispose]();
    throw error;
  }
}

type Begun = {
  readonly link: ReplicaLink;
  readonly position: Position;
  readonly askedAtMs: number;
};

/** A server that cannot now is asked again. */
async function begin(endpoint: Endpoint, watch: Watch, options: SnapshotOptions): Promise<Begun> {
  const { connect, signal, patienceMs = defaultPatienceMs } = options;
  const until = performance.now() + patienceMs;
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, longestDelayMs)) {
    let link: ReplicaLink | undefined;
    try {
      link = await ReplicaLink.open(endpoint, { ...connect, signal, snapshotOnly: true });
      const askedAtMs = performance.now();
      const { position } = await link.start();
      return { link, position, askedAtMs };
    } catch (error) {
      await link?.[Symbol.asyncDispose]();
      const isBusy = error instanceof Failure && error.code === "SERVER_BUSY";
      if (!isBusy || performance.now() + delayMs > until) throw error;
    }
    await pause(delayMs, signal);
    await waitUntilIdle(watch, options);
  }
}

const children: readonly (readonly [field: string, what: string])[] = [
  ["loading", "it is loading its data"],
  ["rdb_bgsave_in_progress", "it is writing another snapshot"],
  ["aof_rewrite_in_progress", "it is rewriting its log"],
];

/** Waits while the server has a child: it would wait for that itself, or give one that is older. */
async function waitUntilIdle(watch: Watch, options: SnapshotOptions): Promise<void> {
  const { signal, patienceMs = defaultPatienceMs } = options;
  const until = performance.now() + patienceMs;
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, longestDelayMs)) {
    const info = await watch.askInfo("persistence");
    const [, busy] = children.find(([field]) => info.get(field) === "1") ?? [];
    if (busy === undefined) return;
    if (performance.now() + delayMs > until) {
      throw new Failure("SERVER_BUSY", `Cannot take a snapshot of ${watch.name}: ${busy}`);
    }
    await pause(delayMs, signal);
  }
}

async function readFacts(control: Connection): Promise<SnapshotSourceFacts> {
  const info = new Map([
    ...(await askInfo(control, "server")),
    ...(await askInfo(control, "replication")),
  ]);
  return {
    name: control.name,
    role: info.get("role") === "slave" ? "replica" : "master",
    version: productOf(info),
  };
}

/**
 * Reads until it is known which database is selected. An RDB that cannot be read is taken as it is: what
 * is to be thought of it, whoever stores it finds out.
 */
async function readHead(
  chunks: AsyncIterator<Uint8Array>,
): Promise<{ readonly head: Uint8Array[]; readonly database: number | null }> {
  const reader = new RdbReader();
  const head: Uint8Array[] = [];
  for (let size = 0; size < maxHeadBytes; ) {
    const { value, done } = await chunks.next();
    if (done === true) break;
    const chunk = copyBytesOf(value);
    head.push(chunk);
    size += chunk.length;
    const database = findDatabase(reader, chunk);
    if (database !== undefined) return { head, database };
  }
  return { head, database: null };
}

/** Undefined: it may come in the next chunk. Null: it does not come. */
function findDatabase(reader: RdbReader, chunk: Uint8Array): number | null | undefined {
  const { first, second } = reader.parts;
  try {
    reader.push(chunk);
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      if (event !== "aux") return null;
      if (first.latin1() === "repl-stream-db") return numberOf(second.latin1()) ?? null;
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return null;
  }
}

/** Times the answers of a server, and sees what INFO says meanwhile. */
class Watch implements AsyncDisposable {
  readonly #control: Connection;
  readonly #clock: Clock;
  readonly #sourceClock: SourceClock;
  readonly #before = new Latencies();
  readonly #during = new Latencies();
  readonly #ended = new AbortController();
  #hasStarted = false;
  /** The last answer: it is not known yet to which of both it belongs. */
  #held: { readonly tookMs: number; readonly atMs: number } | undefined;
  #copyOnWriteBytes: number | null = null;
  #running: Promise<void> | undefined;

  constructor(control: Connection, clock: Clock) {
    this.#control = control;
    this.#clock = clock;
    this.#sourceClock = new SourceClock(clock);
  }

  get name(): string {
    return this.#control.name;
  }

  async askInfo(section: string): Promise<Info> {
    return await askInfo(this.#control, section);
  }

  /** Begins, and returns when there is something to compare with. */
  async begin(watchMs: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#sample();
    this.#running = this.#run();
    await pause(watchMs, signal);
  }

  /** The snapshot begins: what is timed from here on is during it. Tells the source's time. */
  markStart(): number {
    const held = this.#held;
    this.#held = undefined;
    const isOfFork = held !== undefined && performance.now() - held.atMs < sameForkMs;
    if (held !== undefined) (isOfFork ? this.#during : this.#before).add(held.tookMs);
    this.#hasStarted = true;
    return this.#sourceClock.now();
  }

  /** Ends, when the child is gone. */
  async finish(): Promise<Omit<SnapshotCost, "preparedMs" | "transferredMs">> {
    await this.#stop();
    let forkMicros: number | null = null;
    try {
      await this.#waitForChild();
      forkMicros = numberOf((await this.askInfo("stats")).get("latest_fork_usec")) ?? null;
    } catch (error) {
      // All of the snapshot is here: that it cannot be said what it cost is no reason to lose it.
      if (!(error instanceof Failure)) throw error;
    }
    return {
      forkMicros,
      copyOnWriteBytes: this.#copyOnWriteBytes,
      p99BeforeMs: this.#before.percentile(0.99),
      p99DuringMs: this.#during.percentile(0.99),
    };
  }

  async #waitForChild(): Promise<void> {
    for (let tries = 0; tries < childTries; tries++) {
      const info = await this.askInfo("persistence");
      if (info.get("rdb_bgsave_in_progress") !== "1") {
        this.#noteCopied(numberOf(info.get("rdb_last_cow_size")));
        return;
      }
      this.#noteCopied(numberOf(info.get("current_cow_size")));
      await sleep(childPollMs);
    }
  }

  #noteCopied(bytes: number | undefined): void {
    if (bytes !== undefined) this.#copyOnWriteBytes = Math.max(this.#copyOnWriteBytes ?? 0, bytes);
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    let askedInfoAtMs = performance.now();
    try {
      while (!signal.aborted) {
        await sleep(sampleEveryMs, undefined, { signal }).catch(() => {});
        if (signal.aborted) return;
        await this.#sample();
        if (!this.#hasStarted || performance.now() - askedInfoAtMs < infoEveryMs) continue;
        askedInfoAtMs = performance.now();
        const info = await this.askInfo("persistence");
        this.#noteCopied(numberOf(info.get("current_cow_size")));
      }
    } catch (error) {
      // The connection is lost. If the source is, its snapshot says so.
      if (!(error instanceof Failure)) throw error;
    }
  }

  async #sample(): Promise<void> {
    const askedAtMs = this.#clock.now();
    const beganMs = performance.now();
    const reply = await this.#control.call("TIME");
    const atMs = performance.now();
    if (this.#held !== undefined) {
      (this.#hasStarted ? this.#during : this.#before).add(this.#held.tookMs);
    }
    this.#held = { tookMs: atMs - beganMs, atMs };
    if (errorText(reply) !== undefined) return;
    const [seconds, micros] = itemsOf(reply).map((item) => Number(textOf(item)));
    const sourceMs = (seconds ?? Number.NaN) * 1000 + (micros ?? Number.NaN) / 1000;
    if (!Number.isFinite(sourceMs)) return;
    // The answer's own way is in the difference of the steady clock.
    const answeredAtMs = askedAtMs + (atMs - beganMs);
    this.#sourceClock.add({ askedAtMs, answeredAtMs, sourceMs });
  }

  async #stop(): Promise<void> {
    this.#ended.abort();
    await this.#running;
    if (this.#held !== undefined) {
      (this.#hasStarted ? this.#during : this.#before).add(this.#held.tookMs);
    }
    this.#held = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#control[Symbol.asyncDispose]();
    await this.#running;
  }
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (cause) {
    throw new Failure("ABORTED", "Cannot take a snapshot: it was stopped on request", { cause });
  }
}
