/**
 * Follows one source and keeps its log: what the command `record` does.
 *
 *   connect ─► PSYNC from the spool's position ─┬─► continue ─────────────────────┐
 *      ▲                                        └─► full: a new base, and a gap ──┤
 *      │                                                                          ▼
 *      └── wait, longer each time ◄── link lost, source gone, disk failing ◄── stream
 *
 * WHY A LOOP. Everything that goes wrong ends the session; the next one starts from what the spool has
 * on disk, which is the only thing that is known for certain. So there is one way to go on, whatever
 * happened, and it is the one that is walked every day.
 *
 * INVARIANTS
 *
 *   1. What is acknowledged is durable as the fsync policy says, and comes from the spool alone.
 *   2. A stream is asked for from the end of the spool, never from what was received beyond it.
 *   3. Once it has followed its source, it ends only when it is told to: what refuses it then may
 *      allow it again. Before that, a refusal is for whoever started it to see.
 *   4. Memory: a chunk, a batch, and what the spool could not write yet. A disk that is too slow or
 *      full slows the link, and the source's own limits end that; then there is a gap, not a heap.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { copyBytesOf, empty, toLatin1 } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import type { Endpoint } from "../link/address.ts";
import { Connection, type ConnectOptions } from "../link/connection.ts";
import { productOf, resumePosition } from "../link/instance.ts";
import { ReplicaLink } from "../link/replica-link.ts";
import { askInfo } from "../link/topology.ts";
import type { BaseWriter, Spool } from "../log/spool.ts";
import { SnapshotWatch } from "./snapshot-watch.ts";
import { SourceClock } from "./source-clock.ts";
import { type Batch, StreamTranslator } from "./translate.ts";

export type Source = {
  readonly endpoint: Endpoint;
  /** Why this one, for people. */
  readonly why: string;
};

export type RecorderState =
  | { readonly kind: "connecting" }
  | {
      readonly kind: "syncing";
      readonly receivedBytes: number;
      readonly totalBytes: number | undefined;
    }
  | { readonly kind: "streaming" }
  | { readonly kind: "waiting"; readonly failure: Failure; readonly untilMs: number }
  | { readonly kind: "stopped" };

/** What happens, for a log line each. */
export type RecorderEvent =
  | {
      readonly kind: "connected";
      readonly source: string;
      readonly why: string;
      readonly version: string;
    }
  | { readonly kind: "base"; readonly position: Position; readonly reason: string }
  | { readonly kind: "unchecked snapshot"; readonly failure: Failure }
  | { readonly kind: "continued"; readonly position: Position }
  | { readonly kind: "lost"; readonly failure: Failure; readonly retryInMs: number }
  | { readonly kind: "disk failing"; readonly failure: Failure }
  | { readonly kind: "disk works again" }
  | { readonly kind: "clock jumped"; readonly byMs: number };

export type RecorderOptions = {
  /** Finds the server to follow now, before each session. @throws Failure; it is tried again */
  readonly findSource: (signal: AbortSignal) => Promise<Source>;
  /** Resolves when another server should be followed than this one, while it is; else never. */
  readonly watchSource?: (source: Source, signal: AbortSignal) => Promise<Failure | undefined>;
  readonly connect: Pick<ConnectOptions, "credentials" | "tls">;
  readonly spool: Spool;
  readonly clock: Clock;
  readonly onEvent: (event: RecorderEvent) => void;
};

type BatchStart = {
  readonly replicationId: string;
  readonly startOffset: number;
  readonly ms: number;
};

const tickMs = 100;
const ackEveryMs = 1000;
const clockEveryMs = 10_000;
const firstDelayMs = 100;
const longestDelayMs = 30_000;
/** A server that waits to be shut down sends nothing: one that is quiet is asked whether it does. */
const quietMs = 500;
const askShutdownEveryMs = 1000;
/** A session that lasted so long was a good one: the next failure is a new one. */
const goodSessionMs = 10_000;

export class Recorder {
  readonly #options: RecorderOptions;
  readonly #sourceClock: SourceClock;
  #state: RecorderState = { kind: "connecting" };
  #hasFollowed = false;
  /** This session went on without a snapshot: to try so again costs the source nothing. */
  #hasContinued = false;
  #received = 0;
  #link: ReplicaLink | undefined;
  #version = "";
  #source = "";
  /** Why the log is not to be gone on with; the next session takes a base. */
  #newBaseReason: string | undefined;
  #endSession: (failure: Failure) => void = () => {};

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#sourceClock = new SourceClock(options.clock);
  }

  get state(): RecorderState {
    return this.#state;
  }

  /** The replication offset behind the last byte received. */
  get receivedOffset(): number {
    return this.#received;
  }

  get sourceClock(): SourceClock {
    return this.#sourceClock;
  }

  /** The server that is followed; "" before there was one. */
  get source(): string {
    return this.#source;
  }

  /** What the source says it is, "valkey 9.1.2"; "" before it was asked. */
  get sourceVersion(): string {
    return this.#version;
  }

  /** Ends the log in the spool: a new base is taken as soon as the source can be reached. */
  takeNewBase(reason: string): void {
    this.#newBaseReason = reason;
    this.#endSession(new Failure("SERVER_LOST", `Cannot go on with this stream: ${reason}`));
  }

  /** To be called when the spool has written or synced: who waits for that is answered at once. */
  spoolChanged(): void {
    if (this.#link && this.#askedAt > 0) this.#ack(this.#link);
  }

  /** Follows until the signal is given. @throws Failure where the source refuses it from the start */
  async run(signal: AbortSignal): Promise<void> {
    let delayMs = firstDelayMs;
    while (!signal.aborted) {
      const startedAtMs = performance.now();
      this.#hasContinued = false;
      try {
        await this.#session(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof Failure)) throw error;
        if (isFinal(error) && !this.#hasFollowed) throw error;
        const isLong = performance.now() - startedAtMs > goodSessionMs;
        if (isLong || this.#hasContinued) delayMs = firstDelayMs;
        await this.#wait(error, delayMs, signal);
        delayMs = Math.min(delayMs * 2, longestDelayMs);
      }
    }
    this.#state = { kind: "stopped" };
  }

  async #wait(failure: Failure, delayMs: number, signal: AbortSignal): Promise<void> {
    this.#options.onEvent({ kind: "lost", failure, retryInMs: delayMs });
    this.#state = { kind: "waiting", failure, untilMs: this.#options.clock.now() + delayMs };
    const end = performance.now() + delayMs;
    while (!signal.aborted && performance.now() < end) {
      await sleep(Math.min(tickMs, delayMs), undefined, { signal }).catch(() => {});
      this.#options.spool.tick();
    }
  }

  async #session(outer: AbortSignal): Promise<void> {
    const ended = new AbortController();
    const signal = AbortSignal.any([outer, ended.signal]);
    const { findSource, connect, spool, onEvent } = this.#options;
    this.#state = { kind: "connecting" };
    const source = await findSource(signal);
    const { endpoint, why } = source;
    await using control = await Connection.open(endpoint, { ...connect, signal });
    const info = await askInfo(control, "server");
    this.#version = productOf(info);
    this.#source = control.name;
    onEvent({ kind: "connected", source: control.name, why, version: this.#version });
    await this.#askTime(control);
    await using link = await ReplicaLink.open(endpoint, { ...connect, signal });

    const end = (failure: Failure) => ended.abort(failure);
    this.#endSession = end;
    const beside = [this.#tend(link, control, signal, end)];
    try {
      const asked = this.#newBaseReason;
      const from = asked === undefined ? await this.#findStart(control) : undefined;
      const start = await link.start(from);
      let database = spool.database ?? 0;
      if (start.kind === "full") {
        const usual = from ? "the source cannot go on from where the log ends" : "the first base";
        database = await this.#takeBase(link, start.position, asked ?? usual);
        this.#newBaseReason = undefined;
      } else {
        await this.#goOn(start.position);
        this.#hasContinued = true;
        onEvent({ kind: "continued", position: start.position });
      }
      this.#hasFollowed = true;
      // Not before: a first synchronization that is under way is not given up for a better server.
      beside.push(this.#watch(source, signal, end));
      await this.#stream(link, { ...start.position, database }, signal);
    } catch (error) {
      throw ended.signal.aborted ? ended.signal.reason : error;
    } finally {
      this.#link = undefined;
      ended.abort(new Failure("ABORTED", "The session is over"));
      await Promise.all(beside);
    }
  }

  async #watch(
    source: Source,
    signal: AbortSignal,
    end: (failure: Failure) => void,
  ): Promise<void> {
    const failure = await this.#options.watchSource?.(source, signal);
    if (failure) end(failure);
  }

  /** From where to ask for the stream; undefined where all is needed. @throws Failure of the disk */
  async #findStart(control: Connection): Promise<Position | undefined> {
    const { spool } = this.#options;
    if (spool.state.kind === "failing") await spool.retry();
    if (spool.state.kind === "failing") throw spool.state.failure;
    const { position, changedOffset } = spool;
    if (spool.state.kind !== "ready" || position === undefined) return undefined;
    const info = await askInfo(control, "replication");
    return resumePosition(info, position, changedOffset ?? position.offset);
  }

  async #goOn(at: Position): Promise<void> {
    const { spool } = this.#options;
    if (await spool.goOn(at, this.#sourceClock.now())) return;
    const { state } = spool;
    throw state.kind === "failing" ? state.failure : new Failure("SERVER_LOST", "The spool failed");
  }

  /** Receives a snapshot as the new base. Returns the database that the stream has selected. */
  async #takeBase(link: ReplicaLink, position: Position, reason: string): Promise<number> {
    const { onEvent } = this.#options;
    const watch = new SnapshotWatch();
    const held: Uint8Array[] = [];
    let base: BaseWriter | undefined;
    let receivedBytes = 0;
    try {
      for await (const chunk of link.snapshot()) {
        receivedBytes += chunk.length;
        this.#state = { kind: "syncing", receivedBytes, totalBytes: link.snapshotBytes };
        watch.push(chunk);
        if (!base) held.push(copyBytesOf(chunk));
        if (!base && watch.hasHead) base = await this.#beginBase(watch, position, reason, held);
        else await base?.write(chunk);
      }
      watch.finish();
      base ??= await this.#beginBase(watch, position, reason, held);
      await base.commit();
    } catch (error) {
      await base?.abort();
      throw error;
    }
    if (watch.unknown) onEvent({ kind: "unchecked snapshot", failure: watch.unknown });
    onEvent({ kind: "base", position, reason });
    this.#acknowledge(link, position.replicationId);
    return watch.database;
  }

  async #beginBase(
    watch: SnapshotWatch,
    position: Position,
    reason: string,
    held: readonly Uint8Array[],
  ): Promise<BaseWriter> {
    const at = { ...position, ms: this.#sourceClock.now(), database: watch.database };
    const base = await this.#options.spool.beginBase(at, reason);
    for (const chunk of held) await base.write(chunk);
    return base;
  }

  async #stream(
    link: ReplicaLink,
    from: Position & { readonly database: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { replicationId } = from;
    const translator = new StreamTranslator(
      { offset: from.offset, database: from.database },
      { hasRelativeTimes: isBefore7(this.#version), now: () => this.#sourceClock.now() },
    );
    let startOffset = from.offset;
    this.#state = { kind: "streaming" };
    this.#link = link;
    this.#replicationId = replicationId;
    this.#askedAt = 0;
    this.#received = from.offset;
    for await (const chunk of link.stream()) {
      this.#received = link.offset;
      this.#receivedAtMs = performance.now();
      translator.push(chunk);
      const ms = this.#sourceClock.now();
      for (let batch = translator.take(); batch; batch = translator.take()) {
        await this.#append(batch, { replicationId, startOffset, ms }, signal);
        startOffset = batch.offset;
      }
      if (translator.takeAckRequest()) this.#askedAt = startOffset;
      this.#ack(link);
    }
  }

  async #append(batch: Batch, at: BatchStart, signal: AbortSignal): Promise<void> {
    const { spool } = this.#options;
    const { offset, databaseBefore: database, isPart, pieces } = batch;
    const last = pieces.at(-1) ?? empty;
    for (const piece of pieces.slice(0, -1)) {
      const place = { ...at, offset: at.startOffset, database, isPart: true };
      if (!spool.append(piece, place)) await spool.room(signal);
    }
    if (!spool.append(last, { ...at, offset, database, isPart })) await spool.room(signal);
  }

  /** The history that is followed. */
  #replicationId = "";
  #receivedAtMs = 0;
  /** Up to where the source has asked for an acknowledgement that it does not have yet. */
  #askedAt = 0;
  #ackedAtMs = 0;

  /** Answers the source when it has asked, as soon as there is something to say; else now and then. */
  #ack(link: ReplicaLink): void {
    if (this.#state.kind !== "streaming") return;
    const isAsked = this.#askedAt > 0;
    if (!isAsked && performance.now() - this.#ackedAtMs < ackEveryMs) return;
    const acknowledged = this.#acknowledge(link, this.#replicationId);
    if (acknowledged !== undefined && acknowledged >= this.#askedAt) this.#askedAt = 0;
  }

  /** What is durable of this history; of another one, the offsets say nothing here. */
  #acknowledge(link: ReplicaLink, replicationId: string): number | undefined {
    const { durable, synced } = this.#options.spool;
    if (durable?.replicationId !== replicationId) return undefined;
    const isSame = synced?.replicationId === replicationId;
    link.ack(durable.offset, isSame ? synced.offset : undefined);
    this.#ackedAtMs = performance.now();
    return durable.offset;
  }

  /** What goes on beside the stream: syncs, acknowledgements, the clock, and a disk that fails. */
  async #tend(
    link: ReplicaLink,
    control: Connection,
    signal: AbortSignal,
    end: (failure: Failure) => void,
  ): Promise<void> {
    const { spool, onEvent } = this.#options;
    let askedTimeAtMs = performance.now();
    let askedShutdownAtMs = askedTimeAtMs;
    let wasFailing = false;
    while (!signal.aborted) {
      await sleep(tickMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      spool.tick();
      this.#ack(link);
      const { state } = spool;
      if (state.kind === "failing") {
        if (!wasFailing) onEvent({ kind: "disk failing", failure: state.failure });
        wasFailing = true;
        await this.#retryDisk(signal, end);
      }
      if (wasFailing && spool.state.kind === "ready") {
        wasFailing = false;
        onEvent({ kind: "disk works again" });
      }
      const nowMs = performance.now();
      try {
        if (nowMs - askedTimeAtMs >= clockEveryMs) {
          askedTimeAtMs = nowMs;
          await this.#askTime(control);
        }
        const isQuiet = nowMs - this.#receivedAtMs >= quietMs;
        if (isQuiet && nowMs - askedShutdownAtMs >= askShutdownEveryMs) {
          askedShutdownAtMs = nowMs;
          const info = await askInfo(control, "server");
          link.acknowledgesAll = info.has("shutdown_in_milliseconds");
          if (link.acknowledgesAll) this.#acknowledge(link, this.#replicationId);
        }
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        end(error);
      }
    }
  }

  async #retryDisk(signal: AbortSignal, end: (failure: Failure) => void): Promise<void> {
    const outcome = await this.#options.spool.retry();
    if (outcome === "failing") await sleep(ackEveryMs, undefined, { signal }).catch(() => {});
    if (outcome !== "rewound" && outcome !== "damaged") return;
    end(new Failure("SERVER_LOST", "Cannot go on with this stream: the spool has gone back"));
  }

  /** A user who may not ask for the time is followed all the same, by our clock. */
  async #askTime(control: Connection): Promise<void> {
    const { clock, onEvent } = this.#options;
    const before = this.#sourceClock.jump;
    const askedAtMs = clock.now();
    const reply = await control.call("TIME");
    if (reply.type !== "array") return;
    const [seconds = 0, micros = 0] = reply.items.map((item) =>
      item.type === "bulk" ? Number(toLatin1(item.bytes)) : 0,
    );
    const sourceMs = seconds * 1000 + micros / 1000;
    this.#sourceClock.add({ askedAtMs, answeredAtMs: clock.now(), sourceMs });
    const { jump } = this.#sourceClock;
    if (jump && jump !== before) onEvent({ kind: "clock jumped", byMs: jump.byMs });
  }
}

/** What trying again does not mend. */
function isFinal({ code }: Failure): boolean {
  return code === "REPLICATION_REFUSED" || code === "SERVER_DENIED" || code === "TLS_FAILED";
}

function isBefore7(version: string): boolean {
  const major = Number(/^\w+ (\d+)/.exec(version)?.[1]);
  return major < 7;
}
