/**
 * The spool: what a recorder writes first. A log on disk, with the base that it goes on from.
 *
 * WHY. Whatever a source sends has to be on a disk before anything else is done with it, in a form
 * that any server starts on, so that it is of use even if nothing of ours ever runs again. And it
 * has to be known, from that disk alone, where to go on after any crash.
 *
 * WHEN BYTES ARE DURABLE. `append()` takes a batch into memory and returns; one loop writes what has
 * gathered. What is not written is kept here and nowhere else, up to `maxPendingBytes`: then
 * `append()` says that it wants no more, and refuses more.
 *
 *   always     synced after each write; durable is what is synced
 *   everysec   synced in the background when a second has passed since the last one began, one at a
 *              time; durable is what is written, as a server's replies are with this setting
 *   no         synced at the end of a segment; durable is what is written
 *
 * INVARIANTS
 *
 *   1. The log has all batches from its base on, in order, each once: a batch has to start where the
 *      one before ended, and what is on disk ends with a position line, or is cut to one (`recover`).
 *   2. `durable` never says more than a crash leaves: of the process with `everysec` and `no`,
 *      of the machine with `always`.
 *   3. After an error nothing is given up: what was appended is kept, and written by `retry()`. If
 *      it was a sync that failed, what was written may be gone from memory too. Then the segment is
 *      read back, and the log goes on from where its checksums prove it: `retry()` says "rewound",
 *      and nothing can be appended that does not start there.
 *   4. A log that ends without going on is a gap, and recorded as one, before the next base counts.
 *   5. Nothing that was in force is deleted but by `discard()`, and by `rebase()`: its caller says who has it.
 *
 * REJECTED. Postponing writes while a sync runs, as servers do for up to two seconds: they write in
 * the thread that serves clients. Here a thread of the pool waits for as long as the kernel makes it
 * wait, and no longer. Keeping all unsynced bytes in memory, to have them after a failed sync: that
 * is a second of a fast source, and checksums tell whether what is read back is right. Timers of
 * its own: `tick()` is told that time has passed, so that tests say what time it is.
 */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position, PositionLine } from "../codec/aof/annotation.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { BaseFile } from "./base-file.ts";
import { type Disk, systemDisk } from "./disk.ts";
import { type Gap, GapList, type Moment } from "./gap-list.ts";
import { nextSegment, type Place, publishWith, writeHeader, writeSegment } from "./new-segment.ts";
import { endLog } from "./old-log.ts";
import { planRebase, type RebaseParts, type RebasePlan } from "./rebase.ts";
import { type Recovered, recover } from "./recover.ts";
import { discardRetired, readRetired } from "./retired-logs.ts";
import type { Generation } from "./segment.ts";
import {
  baseName,
  beginRetiring,
  finishRetiring,
  lastBaseInForce,
  lastSequences,
  readManifest,
  spoolPaths,
} from "./spool-files.ts";
import { type Batch, SpoolLog } from "./spool-log.ts";
import { Rebasing } from "./spool-rebase.ts";

export type FsyncPolicy = "always" | "everysec" | "no";

export type SpoolOptions = {
  readonly fsync?: FsyncPolicy;
  /** A segment is closed when it has so many bytes. */
  readonly segmentBytes?: number;
  /** And when it was begun so long ago and has something in it. */
  readonly segmentMs?: number;
  /** Bytes that are kept while they cannot be written; one batch more at most. */
  readonly maxPendingBytes?: number;
  /** Told to whoever finds the folder in use. */
  readonly ownerName?: string;
  /** Something has been written or synced, or the state is another one. Must not throw. */
  readonly onChange?: () => void;
  readonly clock?: Clock;
  readonly disk?: Disk;
};

const defaults = {
  fsync: "everysec",
  segmentBytes: 128 * 1024 * 1024,
  segmentMs: 60 * 60 * 1000,
  maxPendingBytes: 4 * 1024 * 1024,
  ownerName: "tidemark record",
  onChange: () => {},
  clock: systemClock,
  disk: systemDisk,
} as const satisfies SpoolOptions;

const syncEveryMs = 1000;

export type SpoolState =
  /** Waits for its first base. */
  | { readonly kind: "empty" }
  | { readonly kind: "ready" }
  /** The disk failed: nothing is written until `retry()`. What is appended is kept. */
  | { readonly kind: "failing"; readonly failure: Failure; readonly sinceMs: number }
  /** The log cannot be gone on with: a new base is needed. */
  | { readonly kind: "damaged"; readonly failure: Failure }
  | { readonly kind: "closed" };

/** Where a base stands, with the database that is selected there if the source said so. */
export type BasePosition = Moment & { readonly database?: number };

/** A base that is being received. Wait for each call before the next. */
export type BaseWriter = {
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** Puts it in force, with an empty log behind it. @throws Failure; then take another base */
  readonly commit: () => Promise<void>;
  /** Throws away what was received. */
  readonly abort: () => Promise<void>;
};

export class Spool implements AsyncDisposable {
  readonly #place: Place;
  readonly #options: Required<SpoolOptions>;
  readonly #lock: AsyncDisposable;
  readonly #gaps: GapList;
  readonly #recovered: Recovered;
  readonly #rebasing: Rebasing;
  #state: SpoolState = { kind: "empty" };
  #log: SpoolLog | undefined;
  #pumping: Promise<void> | undefined;
  #syncing: Promise<boolean> | undefined;
  #syncStartedMs = 0;
  #waiting: PromiseWithResolvers<void> | undefined;

  private constructor(parts: Parts, options: Required<SpoolOptions>) {
    this.#place = parts.place;
    this.#lock = parts.lock;
    this.#gaps = parts.gaps;
    this.#recovered = parts.recovered;
    this.#options = options;
    const { disk, paths } = parts.place;
    this.#rebasing = new Rebasing({ disk, paths, spareBytes: options.segmentBytes });
  }

  /**
   * Opens a folder for writing, and recovers what is there: `state` and `position` tell where to go
   * on.
   *
   * @throws Failure FILE_EXISTS where another process writes to it, or the log in it is not ours;
   *   FILE_FAILED
   */
  static async open(folder: string, given: SpoolOptions = {}): Promise<Spool> {
    const options = { ...defaults, ...given };
    const { disk } = options;
    const paths = spoolPaths(folder);
    const lock = await disk.lock(folder, options.ownerName);
    try {
      const recovered = await recover(disk, paths);
      const place = { disk, paths, sequences: await lastSequences(disk, paths) };
      const gaps = await GapList.open(disk, { path: paths.gaps, folder: paths.root });
      const spool = new Spool({ place, lock, gaps, recovered }, options);
      await spool.#begin(recovered);
      return spool;
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #begin(recovered: Recovered): Promise<void> {
    if (recovered.kind === "damaged") {
      this.#state = { kind: "damaged", failure: recovered.failure };
    }
    if (recovered.kind !== "ready") return;
    const { manifest, last } = recovered;
    const { base, segments: closed } = recovered.closed;
    const { disk, paths } = this.#place;
    await this.#gaps.dropFrom((await lastBaseInForce(disk, paths, manifest)) + 1);
    const file = await disk.open(last.path, "write");
    this.#log = new SpoolLog(this.#place, {
      ...{ manifest, base, closed, last, file },
      nowMs: this.#now,
    });
    this.#state = { kind: "ready" };
  }

  /** What was found when the spool was opened, and what was done about it. */
  get recovered(): Recovered {
    return this.#recovered;
  }

  get state(): SpoolState {
    return this.#state;
  }

  /** Where the log stands with all that was appended: from here on the source is asked. */
  get position(): PositionLine | undefined {
    return this.#log?.position;
  }

  /** The database that is selected there, if that is known. */
  get database(): number | undefined {
    return this.#log?.database;
  }

  /** The position behind the last record: what is between it and `position` was not for a log. */
  get changedOffset(): number | undefined {
    return this.#log?.changedOffset;
  }

  get written(): PositionLine | undefined {
    return this.#log?.written;
  }

  get synced(): PositionLine | undefined {
    return this.#log?.synced;
  }

  /** What may be acknowledged under the policy. `synced` is what a source's WAITAOF asks for. */
  get durable(): PositionLine | undefined {
    return this.#options.fsync === "always" ? this.synced : this.written;
  }

  /** Bytes that are appended and not written. */
  get pendingBytes(): number {
    return this.#log?.pendingBytes ?? 0;
  }

  get gaps(): readonly Gap[] {
    return this.#gaps.gaps;
  }

  /** The log in force: its base, and its segments up to the one that is written to. */
  get generation(): Generation | undefined {
    return this.#log?.generation;
  }

  /** The logs before, oldest first. They are kept until `discard()`. */
  async retired(): Promise<Generation[]> {
    return await readRetired(this.#place);
  }

  /** Deletes a retired log, all of it. */
  async discard(name: string): Promise<void> {
    await discardRetired(this.#place, name);
  }

  /**
   * What it would take to begin the log at a position; undefined where no closed segment has it.
   *
   * @throws Failure DATA_CORRUPT, FILE_FAILED; FILE_MISSING where the log is being replaced
   */
  async planRebase(at: Position): Promise<RebasePlan | undefined> {
    const { generation } = this;
    return generation && (await planRebase(this.#place.disk, generation, at));
  }

  /**
   * Begins the log at a position, with a snapshot that was taken there for its base, and removes what is
   * before: it is for the caller to know that it is kept elsewhere. Goes on beside all else that the spool
   * does. One at a time. Says how many bytes there are fewer; undefined: there is another log by now.
   *
   * @throws Failure ABORTED where the spool is closed meanwhile; others of the disk and of `content`.
   *   The log is as it was, then, or begins there.
   */
  async rebase(
    plan: RebasePlan,
    parts: RebaseParts,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const log = this.#log;
    if (log === undefined || !this.#isRecording()) return undefined;
    const isReady = () => this.#log === log && this.#state.kind === "ready";
    const freedBytes = await this.#rebasing.run({ plan, parts, log, isReady }, signal);
    if (freedBytes !== undefined) this.#changed();
    return freedBytes;
  }

  /**
   * Takes a batch: records as they are encoded, whole ones; none at all where the stream had only
   * what no log needs. False: wait for `room()` before the next one.
   *
   * A batch may come in parts that end anywhere, or end inside a transaction. It then gets no
   * position line; the one that ends it does, for all of them.
   *
   * @throws Failure LIMIT_EXCEEDED where `room()` was not waited for, and nothing is taken;
   *   DATA_CORRUPT for bytes that are no records. Close the spool then: opening it cuts to the batch
   *   before.
   */
  append(records: Uint8Array, batch: Batch): boolean {
    const log = this.#log;
    assert(log !== undefined && this.#isRecording(), "There is a log to append to");
    const { maxPendingBytes } = this.#options;
    if (log.pendingBytes >= maxPendingBytes) {
      throw new Failure("LIMIT_EXCEEDED", "Cannot append a batch: too much is not written yet");
    }
    log.append(records, batch);
    this.#kick();
    return log.pendingBytes < maxPendingBytes;
  }

  /**
   * Says where the stream goes on, before the first batch of it: at `position`, or there under another
   * id, or before it where no record stands in between (`changedOffset`). What has come of a batch that
   * is not whole is taken back: the stream brings it again. False: the disk fails.
   */
  async goOn(at: Position, ms: number): Promise<boolean> {
    const log = this.#log;
    assert(log !== undefined && this.#isRecording(), "There is a log to go on with");
    if (!(await this.takeBackPart())) return false;
    log.adopt(at, ms);
    this.#kick();
    return true;
  }

  /** Takes back what has come of a batch that is not whole. False: the disk fails. */
  async takeBackPart(): Promise<boolean> {
    const log = this.#log;
    if (log === undefined || !this.#isRecording() || !log.isInPart) return true;
    await this.#settle();
    if (this.#state.kind !== "ready") return false;
    return await this.#attempt(() => log.takeBackPart());
  }

  #isRecording(): boolean {
    return this.#state.kind === "ready" || this.#state.kind === "failing";
  }

  /** Resolves when there is room for batches again. @throws Failure when the spool is closed */
  async room(signal?: AbortSignal): Promise<void> {
    const wake = () => this.#wake();
    signal?.addEventListener("abort", wake);
    try {
      while (this.pendingBytes > this.#options.maxPendingBytes / 2) {
        if (this.#state.kind === "closed") throw this.#closedFailure();
        signal?.throwIfAborted();
        this.#waiting ??= Promise.withResolvers();
        await this.#waiting.promise;
      }
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  /** To be called every 100 ms or so: starts syncs, and ends segments, that are due. */
  tick(): void {
    this.#syncIfDue();
    this.#kick();
  }

  /** Makes durable what is written by now. A failure is told by `state`. */
  async sync(): Promise<void> {
    const log = this.#log;
    if (this.#state.kind !== "ready" || log === undefined) return;
    await this.#attempt(() => log.sync());
    this.#changed();
  }

  /** Resolves when all that was appended is on disk for good. @throws Failure if it is not */
  async flush(): Promise<void> {
    this.#kick();
    await this.#pumping;
    await this.#syncing;
    const log = this.#log;
    if (this.#state.kind === "ready" && log !== undefined) await this.#attempt(() => log.sync());
    if (this.#state.kind === "failing") throw this.#state.failure;
    this.#changed();
  }

  /**
   * After a failure, tries again what failed. "rewound": `position` has gone back, and the stream has
   * to be asked for from there.
   */
  async retry(): Promise<"ready" | "rewound" | "failing" | "damaged"> {
    await this.#settle();
    const log = this.#log;
    assert(log !== undefined && this.#isRecording(), "There is a log to write");
    let outcome = "ready" as "ready" | "rewound" | "damaged";
    const hasWorked = await this.#attempt(async () => {
      if (log.isUnsyncable) outcome = await log.replaceSegment();
      if (outcome === "ready") await this.#step(log);
    });
    if (!hasWorked) return "failing";
    this.#become(outcome === "damaged" ? this.#lost() : { kind: "ready" });
    this.#kick();
    return outcome;
  }

  #lost(): SpoolState {
    const { log } = this.#place.paths;
    const message = `Cannot go on with the log in "${log}": what was synced does not come back`;
    return { kind: "damaged", failure: new Failure("DATA_CORRUPT", message) };
  }

  /** Starts the loop that writes, unless it runs. */
  #kick(): void {
    if (this.#pumping === undefined && this.#canWrite()) this.#pumping = this.#pump();
  }

  #canWrite(): boolean {
    const log = this.#log;
    return this.#state.kind === "ready" && log?.hasWork(this.#limits, this.#now) === true;
  }

  async #pump(): Promise<void> {
    while (this.#canWrite()) await this.#attempt(() => this.#step(this.#log as SpoolLog));
    this.#pumping = undefined;
  }

  async #step(log: SpoolLog): Promise<void> {
    await log.step(this.#limits, {
      nowMs: this.#now,
      mustSync: this.#options.fsync === "always",
      onWritten: () => this.#changed(),
    });
    this.#changed();
    this.#syncIfDue();
  }

  #syncIfDue(): void {
    if (this.#options.fsync !== "everysec" || this.#state.kind !== "ready") return;
    const log = this.#log;
    if (log === undefined || this.#syncing !== undefined || log.written === log.synced) return;
    // The clock may have been set back.
    if (Math.abs(this.#now - this.#syncStartedMs) < syncEveryMs) return;
    this.#syncStartedMs = this.#now;
    this.#syncing = this.#attempt(async () => {
      try {
        await log.sync();
      } finally {
        this.#syncing = undefined;
      }
      this.#changed();
    });
  }

  /** False: it failed, and the state says so. */
  async #attempt(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (this.#isRecording()) {
        const sinceMs = this.#state.kind === "failing" ? this.#state.sinceMs : this.#now;
        this.#become({ kind: "failing", failure: error, sinceMs });
      }
      return false;
    }
  }

  #become(state: SpoolState): void {
    this.#state = state;
    this.#changed();
  }

  #changed(): void {
    this.#wake();
    this.#options.onChange();
  }

  /** Waits for what is under way. */
  async #settle(): Promise<void> {
    await this.#pumping;
    await this.#syncing;
  }

  get #now(): number {
    return this.#options.clock.now();
  }

  get #limits() {
    return { bytes: this.#options.segmentBytes, ageMs: this.#options.segmentMs };
  }

  /**
   * Begins to receive a base. The log in force stays in force until `commit()`; `reason` says why it
   * is not gone on with, for the gap that comes of it.
   */
  async beginBase(at: BasePosition, reason: string): Promise<BaseWriter> {
    if (this.#state.kind === "closed") throw this.#closedFailure();
    const { disk, paths } = this.#place;
    const base = await BaseFile.create(disk, paths.incomingBase);
    return {
      write: (bytes) => base.write(bytes),
      commit: async () => {
        await base.finish();
        await this.#commit(at, reason, base.sizeBytes);
      },
      abort: () => base.remove(),
    };
  }

  async #commit(at: BasePosition, reason: string, sizeBytes: number): Promise<void> {
    await this.#stop();
    const { disk, paths, sequences } = this.#place;
    try {
      const old = await endLog(this.#place);
      const lastBase = await lastBaseInForce(disk, paths, old?.manifest);
      await this.#gaps.dropFrom(lastBase + 1);
      const sequence = ++sequences.base;
      const position = { ...at, ms: Math.max(at.ms, old?.last?.ms ?? 0) };
      if (lastBase > 0) await this.#recordGap(old?.last, position, { reason, base: sequence });
      if (old !== undefined) await beginRetiring(disk, paths, old.manifest, old.retiredName);
      await this.#putInForce(position, sequence, sizeBytes);
    } catch (error) {
      if (error instanceof Failure) this.#become({ kind: "damaged", failure: error });
      throw error;
    }
    try {
      await finishRetiring(disk, paths, await readManifest(disk, paths.log));
    } catch (error) {
      // The new log is in force all the same, and the next time the rest is moved.
      if (!(error instanceof Failure)) throw error;
    }
  }

  /** Ends the log in force: nothing is appended to it any more. What cannot be written is lost. */
  async #stop(): Promise<void> {
    const log = this.#log;
    if (log === undefined) return;
    this.#rebasing.stop();
    await this.#settle();
    while (this.#canWrite()) await this.#attempt(() => this.#step(log));
    this.#log = undefined;
    await this.#attempt(() => log.close());
  }

  async #recordGap(from: Moment | undefined, to: Moment, gap: GapFacts): Promise<void> {
    if (from?.replicationId === to.replicationId && from.offset === to.offset) return;
    await this.#gaps.add({ ...gap, from: from && toMoment(from), to: toMoment(to) });
  }

  async #putInForce(at: BasePosition, sequence: number, sizeBytes: number): Promise<void> {
    const { disk, paths } = this.#place;
    const writer = new LogWriter();
    const header = writeHeader(writer, at, at.database);
    const name = baseName(sequence);
    const base = { name, path: join(paths.log, name), sequence, sizeBytes };
    const segment = nextSegment(this.#place);
    const manifest = {
      base: { file: name, sequence },
      increments: [{ file: segment.name, sequence: segment.sequence }],
      history: [],
    };
    const file = await publishWith(disk, paths, manifest, async () => {
      await disk.rename(paths.incomingBase, base.path);
      return writeSegment(disk, segment.path, header);
    });
    const { first, position, bytes } = header;
    const ends = { first, last: position, sizeBytes: bytes.length };
    const last = { ...segment, ...ends, database: at.database, changedOffset: at.offset };
    this.#log = new SpoolLog(this.#place, {
      ...{ manifest, base, closed: [], last, file, writer },
      nowMs: this.#now,
    });
    this.#become({ kind: "ready" });
  }

  #closedFailure(): Failure {
    const { root } = this.#place.paths;
    return new Failure("FILE_FAILED", `Cannot write to "${root}": it is closed`);
  }

  /** Writes and syncs what was appended, and lets go of the folder. @throws Failure if it cannot */
  async close(): Promise<void> {
    if (this.#state.kind === "closed") return;
    this.#rebasing.stop();
    try {
      if (this.#isRecording()) await this.flush();
    } finally {
      await this.#rebasing.ended();
      await this.#settle();
      this.#become({ kind: "closed" });
      await this.#log?.close();
      await this.#lock[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

type Parts = {
  readonly place: Place;
  readonly lock: AsyncDisposable;
  readonly gaps: GapList;
  readonly recovered: Recovered;
};

type GapFacts = { readonly reason: string; readonly base: number };

function toMoment({ replicationId, offset, ms }: Moment): Moment {
  return { replicationId, offset, ms };
}
