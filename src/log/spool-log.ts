/**
 * The log that a spool has in force: what gathers in memory, and the segment that it is written to.
 *
 * WHY apart from `Spool`. When to write, sync and try again is a matter of policy and of time. What
 * has to happen on disk, in which order, and how each step can be repeated where it has failed, is a
 * matter of this file alone; it knows neither.
 *
 * HOW BYTES GO. `append()` → writer → `step()`: group → segment. A group is all that had gathered when
 * it was taken: batches that arrive while the disk is busy share one write. If the segment is to end
 * with a group, appends go on in a new writer at that moment, and its header waits to be the
 * beginning of the next file; the segment is synced, and that file comes into force.
 *
 * INVARIANTS
 *
 *   1. `written` and `synced` are position lines on disk; they only move when the bytes are there.
 *   2. A segment is synced as a whole before the next one comes into force, and gets nothing after.
 *      If the next one cannot come into force, nothing is written until it has: whether its manifest
 *      is on disk by then is not known.
 *   3. `step()` that has failed can be called again: it goes on with what it failed at.
 *   4. After a sync has failed nothing is written to that file any more: see `replaceSegment()`.
 *   5. Manifests are replaced one at a time. All name the segment that is written to, so that writing to it
 *      goes on meanwhile, and does not ask which of two is on disk.
 */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { Position, PositionLine } from "../codec/aof/annotation.ts";
import type { Manifest, ManifestEntry } from "../codec/aof/manifest.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import { type DiskFile, writeAll } from "./disk.ts";
import {
  type Header,
  nextSegment,
  type Place,
  publishWith,
  type SegmentName,
  writeHeader,
  writeSegment,
} from "./new-segment.ts";
import type { RebasePlan } from "./rebase.ts";
import { noteOf, type RebaseNote, type SegmentEnds, withEnds, withNote } from "./rebase-notes.ts";
import { checkSegment, copyPart, type LastSegment } from "./recover.ts";
import type { Base, Generation, Segment } from "./segment.ts";
import { baseName, publishManifest, rebasedName, removeHistory } from "./spool-files.ts";

/** What a batch's bytes are: all of the stream between two offsets that belongs into a log. */
export type Batch = Position & {
  /** Where the batch before ended. */
  readonly startOffset: number;
  /** When it had arrived; a time before that of the last batch is taken as that. */
  readonly ms: number;
  /** The database that its first record is for; not needed where the log has it selected. */
  readonly database?: number;
  /** It may end anywhere, and goes on with the next one: there is no position behind it. */
  readonly isPart?: boolean;
};

export type SegmentLimits = {
  readonly bytes: number;
  readonly ageMs: number;
};

/** Bytes that are to be written in one piece. */
type Group = {
  readonly bytes: Uint8Array;
  /** It gets the memory back. */
  readonly writer: LogWriter;
  /** The last position line, in them or before them, and its end in them: 0 if it is before. */
  readonly position: PositionLine;
  readonly sealedBytes: number;
};

/** The segment that is written to. */
type Current = LastSegment & {
  readonly file: DiskFile;
  /** With no more than this, there is nothing in it. */
  readonly headerBytes: number;
};

export type LogParts = {
  readonly manifest: Manifest;
  readonly base: Base | undefined;
  readonly closed: readonly Segment[];
  readonly last: LastSegment;
  readonly file: DiskFile;
  readonly nowMs: number;
  /** Where nothing was appended since its header was written: the writer that wrote it. */
  readonly writer?: LogWriter;
};

export class SpoolLog {
  readonly #place: Place;
  #base: Base | undefined;
  readonly #closed: Segment[];
  #manifest: Manifest;
  #rebased: RebaseNote | undefined;
  /** A manifest is being replaced. */
  #publishing: Promise<void> | undefined;
  /** It is being closed: another log may be in force soon. */
  #hasEnded = false;
  #current: Current;
  #sizeBytes: number;
  /** The end of the last position line in the file; and of the last one in the writer, or 0. */
  #sealedBytes: number;
  #writerSealed = 0;
  #writer: LogWriter;
  #written: PositionLine;
  #synced: PositionLine;
  #nextOffset: number;
  #database: number | undefined;
  /** The database at the last position line. */
  #sealedDatabase: number | undefined;
  /** A part was appended, and not the rest; whether a record has come since the last position line. */
  #isInPart = false;
  #hasRecords = false;
  /** The position behind the last record: what is between it and `position` was not for a log. */
  #changedOffset: number;
  #group: Group | undefined;
  #header: Header | undefined;
  /** When the segment was begun, or found. */
  #openedMs: number;
  #isUnsyncable = false;
  /** Behind `#sizeBytes` there are bytes of a write that failed. */
  #isTorn = false;
  #syncing: Promise<void> | undefined;

  constructor(place: Place, parts: LogParts) {
    const { manifest, base, closed, last, file, writer } = parts;
    this.#place = place;
    this.#base = base;
    this.#closed = [...closed];
    this.#manifest = manifest;
    this.#rebased = noteOf(manifest);
    this.#current = { ...last, file, headerBytes: writer === undefined ? 0 : last.sizeBytes };
    this.#sizeBytes = last.sizeBytes;
    this.#sealedBytes = last.sizeBytes;
    this.#writer = writer ?? new LogWriter({ after: last.last });
    this.#written = last.last;
    this.#synced = last.last;
    this.#nextOffset = last.last.offset;
    this.#database = last.database;
    this.#sealedDatabase = last.database;
    this.#changedOffset = last.changedOffset;
    this.#openedMs = parts.nowMs;
  }

  get position(): PositionLine {
    return this.#writer.position as PositionLine;
  }

  get written(): PositionLine {
    return this.#written;
  }

  get synced(): PositionLine {
    return this.#synced;
  }

  /** The database that the next record is for, if that is known. */
  get database(): number | undefined {
    return this.#writer.database ?? this.#database;
  }

  get changedOffset(): number {
    return this.#changedOffset;
  }

  get pendingBytes(): number {
    return (this.#group?.bytes.length ?? 0) + this.#writer.length;
  }

  /** A sync has failed: nothing can be written before `replaceSegment()`. */
  get isUnsyncable(): boolean {
    return this.#isUnsyncable;
  }

  get generation(): Generation {
    const { name, path, sequence, first } = this.#current;
    const last = { name, path, sequence, first, sizeBytes: this.#sizeBytes, last: this.#written };
    const segments = [...this.#closed, last];
    const { log: folder } = this.#place.paths;
    const rebased = this.#rebased;
    return { name: "current", folder, base: this.#base, segments, rebased, damaged: [] };
  }

  hasClosed({ name }: Segment): boolean {
    return this.#closed.some((each) => each.name === name);
  }

  append(records: Uint8Array, batch: Batch): void {
    assert.equal(batch.startOffset, this.#nextOffset, "A batch starts where the last one ended");
    const writer = this.#writer;
    const ms = Math.max(batch.ms, writer.position?.ms ?? 0);
    if (records.length > 0) {
      if (!this.#isInPart) this.#beginBatch(batch.database, ms);
      if (batch.isPart) writer.rawPart(records);
      else writer.raw(records);
      this.#hasRecords = true;
    }
    this.#isInPart = batch.isPart === true || writer.isInUnit;
    if (!this.#isInPart) {
      this.#seal(batch, ms);
      if (this.#hasRecords) this.#changedOffset = batch.offset;
      this.#hasRecords = false;
    }
    this.#nextOffset = batch.offset;
  }

  #beginBatch(given: number | undefined, ms: number): void {
    const writer = this.#writer;
    writer.stamp(ms);
    const database = given ?? (writer.database === undefined ? this.#database : undefined);
    if (database !== undefined) writer.select(database);
  }

  #seal(at: Position, ms: number): void {
    this.#writer.seal(at, ms);
    this.#writerSealed = this.#writer.length;
    this.#sealedDatabase = this.database;
  }

  /**
   * Goes on from a place of another history, or of this one under another id. It may be before the
   * last position, if what is between them was nothing that a log needs.
   */
  adopt(at: Position, ms: number): void {
    const { replicationId, offset } = this.position;
    if (replicationId === at.replicationId && offset === at.offset) return;
    assert(!this.#isInPart, "A batch ends in the history that it began in");
    assert(at.offset >= this.#changedOffset, "No record is behind the place to go on from");
    this.#seal(at, Math.max(ms, this.position.ms));
    this.#nextOffset = at.offset;
  }

  /** Whether a part was appended, and not the rest. */
  get isInPart(): boolean {
    return this.#isInPart;
  }

  /** Takes back what was appended of a batch that is not whole: the stream will bring it once more. */
  async takeBackPart(): Promise<void> {
    assert(this.#group === undefined && this.#header === undefined, "All is written");
    const { position } = this;
    if (this.#sealedBytes < this.#sizeBytes || this.#isTorn) await this.#cutTo(this.#sealedBytes);
    this.#sizeBytes = this.#sealedBytes;
    this.#rewind(position, this.#sealedDatabase);
  }

  hasWork(limits: SegmentLimits, nowMs: number): boolean {
    if (this.#group !== undefined || this.#header !== undefined) return true;
    return this.#writer.length > 0 || this.#isDue(limits, nowMs, 0);
  }

  /**
   * Writes one group; and where the segment ends with it, or `mustSync` says so, syncs it. Calls
   * `onWritten` in between.
   */
  async step(limits: SegmentLimits, step: Step): Promise<void> {
    if (this.#group === undefined && this.#header === undefined) this.#take(limits, step.nowMs);
    if (this.#group !== undefined) {
      await this.#write(this.#group);
      step.onWritten();
    }
    if (step.mustSync || this.#header !== undefined) await this.sync();
    if (this.#header === undefined) return;
    await this.#openNext(this.#header);
    this.#openedMs = step.nowMs;
  }

  /** Makes durable what is written. One at a time: of two, the kernel tells an error to one only. */
  async sync(): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing;
    this.#mustBeSyncable();
    if (this.#written === this.#synced) return;
    this.#syncing = this.#syncFile();
    try {
      await this.#syncing;
    } finally {
      this.#syncing = undefined;
    }
  }

  async #syncFile(): Promise<void> {
    const upTo = this.#written;
    try {
      await this.#current.file.sync();
    } catch (error) {
      this.#isUnsyncable = true;
      throw error;
    }
    this.#synced = upTo;
  }

  #mustBeSyncable(): void {
    if (!this.#isUnsyncable) return;
    throw new Failure(
      "FILE_FAILED",
      `Cannot go on with "${this.#current.path}": a sync has failed`,
    );
  }

  /** Ends the file on a position line, for whoever reads it next, and lets go of it. */
  async close(): Promise<void> {
    this.#hasEnded = true;
    while (this.#publishing !== undefined) await this.#publishing;
    const { file } = this.#current;
    try {
      if (this.#sealedBytes === this.#sizeBytes && !this.#isTorn) return;
      await this.#cutTo(this.#sealedBytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #cutTo(size: number): Promise<void> {
    await this.#current.file.truncate(size);
    this.#isTorn = false;
  }

  #take(limits: SegmentLimits, nowMs: number): void {
    const { position } = this;
    const writer = this.#writer;
    const bytes = writer.takeAll();
    if (bytes.length > 0)
      this.#group = { bytes, writer, position, sealedBytes: this.#writerSealed };
    this.#writerSealed = 0;
    if (!this.#isDue(limits, nowMs, bytes.length)) return;
    this.#database = this.database;
    this.#writer = new LogWriter({ after: position });
    this.#header = writeHeader(this.#writer, position, this.#database);
  }

  #isDue(limits: SegmentLimits, nowMs: number, moreBytes: number): boolean {
    if (this.#isInPart) return false;
    const size = this.#sizeBytes + moreBytes;
    if (size <= this.#current.headerBytes) return false;
    // The clock may have been set back.
    return size >= limits.bytes || Math.abs(nowMs - this.#openedMs) >= limits.ageMs;
  }

  async #write({ bytes, writer, position, sealedBytes }: Group): Promise<void> {
    this.#mustBeSyncable();
    const { file } = this.#current;
    try {
      await writeAll(file, bytes, this.#sizeBytes);
    } catch (error) {
      // So that there are whole records only for whoever copies the folder now. If this fails too,
      // the next try writes over what is there; after a crash it is cut.
      this.#isTorn = true;
      await this.#cutTo(this.#sizeBytes).catch(() => {});
      throw error;
    }
    this.#isTorn = false;
    if (sealedBytes > 0) this.#sealedBytes = this.#sizeBytes + sealedBytes;
    this.#sizeBytes += bytes.length;
    this.#written = position;
    this.#group = undefined;
    writer.reuse(bytes);
  }

  /** One at a time. */
  async #alone<T>(action: () => Promise<T>): Promise<T> {
    while (this.#publishing !== undefined) await this.#publishing;
    const done = Promise.withResolvers<void>();
    this.#publishing = done.promise;
    try {
      return await action();
    } finally {
      this.#publishing = undefined;
      done.resolve();
    }
  }

  #openNext(header: Header): Promise<void> {
    return this.#alone(() => this.#publishNext(header));
  }

  async #publishNext(header: Header): Promise<void> {
    const { disk, paths } = this.#place;
    const { name, path, sequence } = nextSegment(this.#place);
    const { increments } = this.#manifest;
    const manifest = { ...this.#manifest, increments: [...increments, { file: name, sequence }] };
    const file = await publishWith(disk, paths, manifest, () => writeSegment(disk, path, header));
    const old = this.#current;
    this.#closed.push({ ...old, sizeBytes: this.#sizeBytes, last: this.#written });
    this.#manifest = manifest;
    this.#use({ name, path, sequence, file, header });
    await old.file.close();
  }

  #use({ name, path, sequence, file, header }: NewSegment): void {
    const { first, position: last, bytes } = header;
    const sizeBytes = bytes.length;
    const database = this.#database;
    const changedOffset = this.#changedOffset;
    const at = { name, path, sequence, first, last, sizeBytes, database, changedOffset };
    this.#current = { ...at, file, headerBytes: sizeBytes };
    this.#sizeBytes = sizeBytes;
    this.#sealedBytes = sizeBytes;
    this.#written = last;
    this.#synced = last;
    this.#header = undefined;
  }

  /**
   * After a failed sync: copies what can be proved of the segment into a new file, which takes its
   * place. The kernel may have thrown away what it could not write, and says so only once; so the
   * old file is not written, synced or believed any more. It is kept beside.
   *
   * "rewound": less came back than was written. "damaged": less than was synced.
   */
  replaceSegment(): Promise<"ready" | "rewound" | "damaged"> {
    return this.#alone(() => this.#publishCopy());
  }

  async #publishCopy(): Promise<"ready" | "rewound" | "damaged"> {
    const { disk, paths } = this.#place;
    const old = this.#current;
    const { result, database } = await checkSegment(disk, old.path, this.#closed.at(-1)?.last);
    const { last, sealedEnd, changedOffset } = result;
    if (last === undefined || last.sequence < this.#synced.sequence) return "damaged";
    const { name, path, sequence } = nextSegment(this.#place);
    const entry = { file: name, sequence };
    const increments = [...this.#manifest.increments.slice(0, -1), entry];
    const manifest = { ...this.#manifest, increments };
    const file = await publishWith(disk, paths, manifest, () =>
      copyPart(disk, { from: old.path, to: path, end: sealedEnd }),
    );
    // Of a transaction that is not complete there may be bytes behind the last position line.
    const isWhole = sealedEnd === this.#sizeBytes;
    this.#manifest = manifest;
    this.#current = { ...old, name, path, sequence, file };
    this.#sizeBytes = sealedEnd;
    this.#sealedBytes = sealedEnd;
    this.#written = last;
    this.#synced = last;
    this.#isUnsyncable = false;
    this.#isTorn = false;
    if (!isWhole) this.#rewind(last, database);
    if (!isWhole && changedOffset !== undefined) this.#changedOffset = changedOffset;
    await this.#putAside(old);
    return isWhole ? "ready" : "rewound";
  }

  #rewind(last: PositionLine, database: number | undefined): void {
    this.#writer = new LogWriter({ after: last });
    this.#nextOffset = last.offset;
    this.#database = database;
    this.#sealedDatabase = database;
    this.#group = undefined;
    this.#header = undefined;
    this.#writerSealed = 0;
    this.#isInPart = false;
    this.#hasRecords = false;
  }

  /**
   * Puts a later base and what it leaves of a segment in force, in the place of the base and of all
   * segments up to that one; then removes these. Both were written under the names for that.
   */
  async rebase(next: NextStart): Promise<void> {
    const { disk, paths } = this.#place;
    await this.#alone(() => this.#publishStart(next));
    try {
      const { history } = await removeHistory(disk, paths, this.#manifest);
      this.#manifest = { ...this.#manifest, history };
    } catch (error) {
      // They are named in every manifest that follows, and removed when the spool is opened.
      if (!(error instanceof Failure)) throw error;
    }
  }

  async #publishStart({ plan, note, was, last, baseBytes, restBytes }: NextStart): Promise<void> {
    const { disk, paths, sequences } = this.#place;
    if (this.#hasEnded) {
      throw new Failure("ABORTED", `Cannot begin the log in "${paths.log}" anew: it has ended`);
    }
    const at = this.#closed.findIndex(({ name }) => name === plan.segment.name);
    assert(at >= 0, "A log is rebased on one of its own segments");
    const old = this.#manifest;
    const base = ++sequences.base;
    const { sequence } = plan.segment;
    const [baseFile, restFile] = [baseName(base), rebasedName(sequence, base)];
    const baseEntry = { file: baseFile, sequence: base };
    const restEntry = { file: restFile, sequence };
    const gone = [
      ...(old.base === undefined ? [] : [old.base]),
      ...old.increments.slice(0, at + 1),
    ];
    const manifest = {
      base: withNote(baseEntry, note),
      increments: [withEnds(restEntry, was), ...old.increments.slice(at + 1)],
      history: [...old.history, ...gone.map(plainEntry)],
    };
    const [basePath, restPath] = [join(paths.log, baseFile), join(paths.log, restFile)];
    try {
      await publishManifest(disk, paths, manifest, async () => {
        await disk.rename(paths.rebasedBase, basePath);
        await disk.rename(paths.rebasedRest, restPath);
      });
    } catch (error) {
      // Which manifest is on disk is not known. Both say the same of what is appended, and all of their files
      // stay, until another manifest says which of them go.
      this.#manifest = { ...old, history: [...old.history, baseEntry, restEntry] };
      throw error;
    }
    this.#manifest = manifest;
    this.#rebased = note;
    this.#base = { name: baseFile, path: basePath, sequence: base, sizeBytes: baseBytes };
    const facts = { name: restFile, path: restPath, sequence, sizeBytes: restBytes };
    this.#closed.splice(0, at + 1, {
      ...facts,
      first: plan.first,
      last,
      was: { first: was.first, last: was.last },
    });
  }

  /** What fails here harms nothing: the file is in no manifest any more. */
  async #putAside({ file, path, name }: Current): Promise<void> {
    const { disk, paths } = this.#place;
    try {
      await file.close();
      await disk.makeFolder(paths.damaged);
      await disk.rename(path, join(paths.damaged, name));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
    }
  }
}

/** Where the log is to begin, and how large the files are that were written for it. */
export type NextStart = {
  readonly plan: RebasePlan;
  readonly note: RebaseNote;
  /** How the segment was, for whoever keeps it; and the position line that it ends with now. */
  readonly was: SegmentEnds;
  readonly last: PositionLine;
  readonly baseBytes: number;
  readonly restBytes: number;
};

function plainEntry({ file, sequence }: ManifestEntry): ManifestEntry {
  return { file, sequence };
}

type Step = {
  readonly nowMs: number;
  readonly mustSync: boolean;
  readonly onWritten: () => void;
};

type NewSegment = SegmentName & { readonly file: DiskFile; readonly header: Header };
