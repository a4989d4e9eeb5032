/**
 * What of a spool is not in the repository yet, and putting it there: one round of it at a time.
 *
 * ORDER. The retired logs, oldest first, then the one that is written to. Of each, the base, as a set,
 * then the segments. Closed segments become one piece each; of the open one, what is synced and not shipped
 * yet becomes a piece each round. When it is closed, it is shipped once more as a whole, and then the
 * pieces that this covers are deleted.
 *
 * WHY only what is synced. After a power loss, a spool goes on from what came back, and writes other
 * position lines under the numbers of those that did not. The archive would have two stories.
 *
 * INVARIANTS
 *
 *   1. The repository alone says what was shipped. A round may end anywhere, also by `kill -9`; the
 *      next one, in whatever process, goes on there.
 *   2. What the spool has under a sequence number must be what was shipped under it: its position and
 *      time are compared wherever a piece begins or ends (archiver-fork.ts). If not, nothing is shipped into that
 *      line any more and nothing of it deleted, neither there nor here; a new base begins another line.
 *   3. What is damaged in the spool is named and left there; all else is shipped.
 *   4. A retired log is discarded when a listing has shown all of its pieces and its base was read back.
 *      What was begun of that is gone on with.
 *   5. Of a log that was rebased (archiver-rebase.ts), the line goes on under its name. Where what is before is
 *      not there any more, it is told, and a new base is taken too.
 *   6. The repository may be brought back from an older copy: lines are listed again now and then, and what is
 *      missing is shipped again.
 */
import { Failure } from "../base/errors.ts";
import type { Position, PositionLine } from "../codec/aof/annotation.ts";
import type { RebaseParts, RebasePlan } from "../log/rebase.ts";
import type { SegmentEnds } from "../log/rebase-notes.ts";
import type { Generation, Segment } from "../log/segment.ts";
import { baseSetName, readBaseState, type SourceFacts, shipBase } from "./archiver-base.ts";
import { beginDiscard, endDiscard, readDiscards } from "./archiver-discard.ts";
import { differs, findFork } from "./archiver-fork.ts";
import { ArchivedLine } from "./archiver-line.ts";
import { keeperOf, originOf, shippedEndsOf } from "./archiver-origin.ts";
import { findMark, type LogRange, type Mark, type Ship, shipPiece } from "./archiver-piece.ts";
import { PieceProofs } from "./archiver-proof.ts";
import type { Piece } from "./catalogue.ts";
import { lineName } from "./layout.ts";
import type { WaitingClock } from "./lease.ts";

/** What is shipped; `Spool` is one. */
export type SpoolView = {
  /** The log that is written to. */
  readonly generation: Generation | undefined;
  readonly written: PositionLine | undefined;
  readonly synced: PositionLine | undefined;
  /** The logs before it, oldest first. */
  retired(): Promise<Generation[]>;
  /** Deletes one of them. */
  discard(name: string): Promise<void>;
  /** Makes durable what is written, for a spool that does not do so by itself. */
  sync?(): Promise<void>;
  /** Has a new base taken: the log cannot be gone on with in the repository. */
  beginAnew?(reason: string): void;
  /** For one that can begin its log at a later set. */
  planRebase?(at: Position): Promise<RebasePlan | undefined>;
  rebase?(plan: RebasePlan, parts: RebaseParts, signal: AbortSignal): Promise<number | undefined>;
};

export type ShippingEvent =
  | { readonly kind: "piece"; readonly piece: Piece }
  | { readonly kind: "base"; readonly set: string; readonly sizeBytes: number }
  /** So many pieces were deleted that others stand for. */
  | { readonly kind: "tidied"; readonly pieces: number }
  | { readonly kind: "discarded"; readonly generation: string }
  /** The log in the spool begins at a set now. */
  | {
      readonly kind: "rebased";
      readonly set: string;
      readonly freedBytes: number;
      readonly tookMs: number;
    }
  /** Told once for each failure that is another one. It is tried again. */
  | { readonly kind: "not rebased"; readonly set: string; readonly failure: Failure }
  /** Something in the spool cannot be shipped, and stays there. */
  | { readonly kind: "stuck"; readonly failure: Failure };

export type RoundOptions = {
  readonly ship: Ship;
  readonly spool: SpoolView;
  readonly clock: WaitingClock;
  readonly sourceFacts: () => SourceFacts;
  readonly writer: string;
  readonly onEvent: (event: ShippingEvent) => void;
};

/** "gone": there was a set, and it has expired. "bad": it was read back, and is not what was sent. */
type BaseProgress = "missing" | "stored" | "verified" | "bad" | "gone";

export class Rounds {
  readonly #options: RoundOptions;
  readonly #proofs: PieceProofs;
  readonly #lines = new Map<string, ListedLine>();
  /** Lines that are not the log of the spool that has their names. */
  readonly #forked = new Map<string, Trouble>();
  /** Lines in whose listing something was missing that the spool does not have any more. */
  readonly #missing = new Map<string, ArchivedLine>();
  /** By the names of their sets. */
  readonly #bases = new Map<string, BaseProgress>();
  /** By their paths. */
  readonly #stuck = new Map<string, Trouble>();
  /** Since when a log is not whole, by its folder. */
  readonly #incomplete = new Map<string, number>();
  /** Up to where the log that is written to was shipped without a break; and which one that is. */
  #place: Mark | undefined;
  #placeLine = "";
  /** The end of the last piece of a segment that was written to then. */
  #openEnd: Mark | undefined;
  #retiredBytes = 0;
  /** What was begun to be discarded, by a process before or here, is gone. */
  #hasDiscarded = false;

  constructor(options: RoundOptions) {
    this.#options = options;
    this.#proofs = new PieceProofs(options.ship.repository);
  }

  get proofs(): PieceProofs {
    return this.#proofs;
  }

  get shippedTo(): PositionLine | undefined {
    return this.#currentPlace?.line;
  }

  get #currentPlace(): Mark | undefined {
    const { generation } = this.#options.spool;
    const origin = generation && this.#originOf(generation);
    const isCurrent = origin !== undefined && lineName(origin) === this.#placeLine;
    return isCurrent ? this.#place : undefined;
  }

  #originOf(generation: Generation): PositionLine | undefined {
    return originOf(generation, keeperOf(this.#options.ship));
  }

  /** Bytes of the spool that are not in the repository. */
  get behindBytes(): number {
    const place = this.#currentPlace;
    let bytes = this.#retiredBytes;
    for (const { path, sizeBytes, last } of this.#options.spool.generation?.segments ?? []) {
      if (path === place?.path) bytes += sizeBytes - place.at;
      else if (last.sequence > (place?.line?.sequence ?? -1)) bytes += sizeBytes;
    }
    return bytes;
  }

  /** The first thing in the spool that cannot be shipped. */
  get stuck(): Trouble | undefined {
    return this.#forked.values().next().value ?? this.#stuck.values().next().value;
  }

  /** Base sets that were not read back yet. */
  get unverified(): string[] {
    return [...this.#bases].flatMap(([set, state]) => (state === "stored" ? [set] : []));
  }

  endVerification(set: string, isGood: boolean): void {
    this.#bases.set(set, isGood ? "verified" : "bad");
  }

  /**
   * Whether all of the first `count` segments of a log is in its line for good, as it was just listed, and
   * what the line begins with too; or has been, and has expired. What is listed is proved.
   *
   * @throws Failure of the store; KEY_NEEDED
   */
  async isArchived(
    line: ArchivedLine,
    generation: Generation,
    count: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const origin = this.#originOf(generation);
    const [start] = generation.segments;
    if (origin === undefined || start === undefined || this.#forked.has(line.name)) return false;
    const state = this.#bases.get(baseSetName(origin));
    if (state !== "verified" && state !== "gone") return false;
    // That there is no set is believed to be its expiry where the log behind it has begun to go too. Of a log
    // that was rebased, it was read back before that.
    const isRebased = this.#shippedEnds(start, generation) !== undefined;
    if (state === "gone" && !isRebased && !line.hasExpired(origin.sequence)) return false;
    for (const segment of generation.segments.slice(0, count)) {
      const { first, last, sizeBytes } = segment;
      if (line.hasExpired(last.sequence)) continue;
      const was = this.#shippedEnds(segment, generation);
      const piece = line.at((was?.first ?? first).sequence);
      if (piece === undefined || !isEnd(piece, last)) return false;
      if (was === undefined && piece.rawBytes !== sizeBytes) return false;
      if (!(await this.#proofs.isWhole(piece, signal))) return false;
    }
    return true;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { spool } = this.#options;
    const retired = await this.#goOnDiscarding(await spool.retired(), signal);
    this.#retiredBytes = retired.reduce((sum, each) => sum + sizeOf(each), 0);
    for (const generation of retired) {
      const isShipped = await this.#shipLog(generation, undefined, signal);
      if (isShipped) this.#retiredBytes -= sizeOf(generation);
    }
    // Both at the same moment: what is synced is in this generation then.
    const { generation, synced } = spool;
    if (generation !== undefined && synced !== undefined) {
      await this.#shipLog(generation, synced, signal);
    }
    const left: Generation[] = generation === undefined ? [] : [generation];
    for (const each of retired) {
      if (!(await this.#discard(each, signal))) left.push(each);
    }
    this.#forget(left);
  }

  /** What a process before has begun to discard goes; gives what is left. */
  async #goOnDiscarding(
    retired: readonly Generation[],
    signal: AbortSignal,
  ): Promise<readonly Generation[]> {
    if (this.#hasDiscarded) return retired;
    const { ship, spool } = this.#options;
    const begun = await readDiscards(ship.temporaryFolder);
    const left = retired.filter(({ name }) => !begun.includes(name));
    for (const name of begun) {
      await ship.lease.check(signal);
      if (retired.some((each) => each.name === name)) await spool.discard(name);
      await endDiscard(ship.temporaryFolder, name);
    }
    this.#hasDiscarded = true;
    return left;
  }

  /** `synced` is that of the log that is written to. False: not all of the log can be shipped. */
  async #shipLog(
    generation: Generation,
    synced: PositionLine | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { segments } = generation;
    const origin = this.#originOf(generation);
    if (this.#mayBeMoving(generation) || origin === undefined) return false;
    const line = await this.#line({ generation, origin, synced }, signal);
    if (synced !== undefined && (line.name !== this.#placeLine || this.#forked.has(line.name))) {
      this.#place = undefined;
      this.#placeLine = line.name;
    }
    if (this.#forked.has(line.name)) return false;
    await this.#shipBase(generation, origin, line, signal);
    let isUnbroken = true;
    let before: PositionLine | undefined;
    for (const [i, segment] of segments.entries()) {
      const after = before;
      const isOpen = synced !== undefined && i === segments.length - 1;
      const end = isOpen ? synced : segment.last;
      const was = this.#shippedEnds(segment, generation);
      before = (was ?? segment).last;
      const mark = await this.#shipSegment(line, { segment, was, after, end, isOpen }, signal);
      if (this.#forked.has(line.name)) return false;
      isUnbroken &&= mark !== undefined;
      if (isUnbroken && synced !== undefined) this.#place = mark;
    }
    const pieces = await line.tidy(signal);
    if (pieces > 0) this.#options.onEvent({ kind: "tidied", pieces });
    return isUnbroken;
  }

  /** A log that has just been retired may not have all of its files in its folder yet. */
  #mayBeMoving(generation: Generation): boolean {
    const { folder, damaged, base } = generation;
    if (damaged.length === 0 && base !== undefined && this.#originOf(generation) !== undefined) {
      this.#incomplete.delete(folder);
      this.#stuck.delete(folder);
      return false;
    }
    const nowMs = this.#options.clock.monotonicMs();
    const sinceMs = this.#incomplete.get(folder) ?? nowMs;
    this.#incomplete.set(folder, sinceMs);
    if (nowMs - sinceMs < movingMs) return true;
    const found = damaged[0] === undefined ? "its start" : `"${damaged[0]}"`;
    const message = `Cannot archive all of the log in "${folder}": ${found} is missing or not whole`;
    this.#setStuck(folder, new Failure("DATA_CORRUPT", message, { hint: stuckHint }));
    return false;
  }

  /** As it was listed last, and compared with the log then. */
  async #line(log: Log, signal: AbortSignal): Promise<ArchivedLine> {
    const { ship, clock } = this.#options;
    const { generation, origin } = log;
    const name = lineName(origin);
    const known = this.#lines.get(name);
    const segment = generation.segments.at(-1)?.name;
    const nowMs = clock.monotonicMs();
    const leastMs = known?.segment === segment ? listAgainMs : listAfterSegmentMs;
    if (known !== undefined && !known.line.isUnsure && nowMs - known.listedMs < leastMs) {
      return known.line;
    }
    const line = await ArchivedLine.open(ship, name, this.#proofs, signal);
    await this.#compare(log, line);
    // The base may be gone with it, where an older copy of the repository was brought back.
    if (line.isEmpty) this.#bases.delete(baseSetName(origin));
    this.#lines.set(name, { line, listedMs: nowMs, segment });
    return line;
  }

  async #compare({ generation, synced }: Log, line: ArchivedLine): Promise<void> {
    const segments = generation.segments.map((segment) => {
      return { segment, was: this.#shippedEnds(segment, generation) };
    });
    const end = synced ?? segments.at(-1)?.segment.last;
    if (end === undefined) return;
    const { disk } = this.#options.ship;
    const found = await findFork({ disk, segments, end, pieces: line.listed });
    line.isUnsure = found.isUnsure;
    if (found.failure !== undefined) this.#setForked(line.name, found.failure);
    if (synced !== undefined && found.mark !== undefined) this.#openEnd = found.mark;
  }

  #setForked(name: string, failure: Failure): void {
    if (this.#forked.has(name)) return;
    this.#forked.set(name, { failure, sinceMs: this.#options.clock.now() });
    this.#options.onEvent({ kind: "stuck", failure });
    this.#beginAnew(name, "the archive has another log than the spool");
  }

  /** Where it is the log that is written to. */
  #beginAnew(name: string, reason: string): void {
    const { spool } = this.#options;
    const origin = spool.generation && this.#originOf(spool.generation);
    if (origin !== undefined && lineName(origin) === name) spool.beginAnew?.(reason);
  }

  /** What a rebased log goes on from is not listed. A listing may be late: it is asked once more. */
  #setMissing(line: ArchivedLine, path: string): void {
    const before = this.#missing.get(line.name);
    if (before === line) return;
    this.#missing.set(line.name, line);
    line.isUnsure = true;
    if (before === undefined || this.#stuck.has(path)) return;
    const found = "the repository does not have the log before it any more";
    const message = `Cannot archive all of the log in "${path}": ${found}`;
    const hint =
      "`up` takes a new base. What was before it is lost, unless a copy of the repository has it.";
    this.#setStuck(path, new Failure("OBJECT_MISSING", message, { hint }));
    this.#beginAnew(line.name, found);
  }

  #shippedEnds(segment: Segment, generation: Generation): SegmentEnds | undefined {
    return shippedEndsOf(segment, generation, keeperOf(this.#options.ship));
  }

  async #shipBase(
    generation: Generation,
    origin: PositionLine,
    line: ArchivedLine,
    signal: AbortSignal,
  ): Promise<void> {
    const { ship, clock, writer, sourceFacts, onEvent } = this.#options;
    const { base } = generation;
    const [segment] = generation.segments;
    if (base === undefined || segment === undefined || this.#stuck.has(base.path)) return;
    const set = baseSetName(origin);
    const isItsBase = this.#shippedEnds(segment, generation) === undefined;
    let state = this.#bases.get(set) ?? (await readBaseState(ship, set, signal));
    if (state === "missing" && line.isEmpty && isItsBase) {
      const options = { base, segment, source: sourceFacts(), clock, writer };
      try {
        const { snapshot } = await shipBase(ship, options, signal);
        onEvent({ kind: "base", set, sizeBytes: snapshot.sizeBytes });
        state = "stored";
      } catch (error) {
        this.#passOver(base.path, error);
      }
    }
    // Pieces come after the base. Where they are and it is not, it was there.
    const wasThere = state === "missing" && !(line.isEmpty && isItsBase);
    this.#bases.set(set, wasThere ? "gone" : state);
  }

  /** Where it is shipped up to; undefined where it cannot be. */
  async #shipSegment(
    line: ArchivedLine,
    part: Part,
    signal: AbortSignal,
  ): Promise<Mark | undefined> {
    const { path } = part.segment;
    if (this.#stuck.has(path)) return undefined;
    try {
      const range = await this.#rangeOf(line, part, signal);
      if (range.to.at > range.from.at) {
        const piece = await shipPiece(this.#options.ship, line.name, range, signal);
        line.add(piece);
        this.#options.onEvent({ kind: "piece", piece });
      }
      if (part.isOpen) this.#openEnd = range.to;
      return range.to;
    } catch (error) {
      // Whether what failed was done all the same, a listing will tell.
      line.isUnsure = true;
      if (error instanceof ForkFound) this.#setForked(line.name, error.failure);
      else this.#passOver(path, error);
      return undefined;
    }
  }

  /** What is to be shipped of a segment: nothing, all of it, or what has come to it since. */
  async #rangeOf(line: ArchivedLine, part: Part, signal: AbortSignal): Promise<LogRange> {
    const { segment, was, after, end, isOpen } = part;
    const { path, sizeBytes, first, last } = segment;
    const start = { path, at: 0, line: after };
    const all = { path, at: sizeBytes, line: last };
    if (was !== undefined) {
      const piece = line.at(was.first.sequence);
      if (piece !== undefined && !isEnd(piece, last)) throw new ForkFound(differs(path, piece));
      if (piece === undefined && !line.hasExpired(last.sequence)) this.#setMissing(line, path);
      else this.#missing.delete(line.name);
      return { from: all, to: all };
    }
    const whole = line.at(first.sequence);
    if (!isOpen && whole?.rawBytes === sizeBytes && isEnd(whole, last)) {
      if (await this.#isBelieved(whole, signal)) return { from: all, to: all };
      line.isUnsure = true;
      return { from: start, to: all };
    }
    if (!isOpen && whole === undefined && line.hasExpired(last.sequence)) {
      return { from: all, to: all };
    }
    const shipped = await this.#shippedEnd(line, part);
    if (!isOpen) return { from: start, to: all };
    const from = shipped ?? start;
    const isDone = end.sequence < first.sequence || end.sequence === from.line?.sequence;
    return {
      from,
      to: isDone ? from : await findMark(this.#options.ship.disk, from, end.sequence),
    };
  }

  /** Without its key nobody can tell; it is not shipped again for that. */
  async #isBelieved(piece: Piece, signal: AbortSignal): Promise<boolean> {
    try {
      return await this.#proofs.isWhole(piece, signal);
    } catch (error) {
      if (error instanceof Failure && error.code === "KEY_NEEDED") return true;
      if (error instanceof Failure && error.code === "OBJECT_MISSING") return false;
      throw error;
    }
  }

  /** Where in a segment the last of its pieces ends. @throws Failure where the file says otherwise */
  async #shippedEnd(line: ArchivedLine, part: Part): Promise<Mark | undefined> {
    const { segment, after, end, isOpen } = part;
    const { path, first, last } = segment;
    const shipped = line.reach(first.sequence, isOpen ? Number.POSITIVE_INFINITY : last.sequence);
    if (shipped === undefined) return undefined;
    if (shipped.lastSequence > end.sequence) throw new ForkFound(differs(path, shipped));
    const known = this.#openEnd;
    if (known?.path === path && isEnd(shipped, known.line)) return known;
    const start = { path, at: 0, line: after };
    const found = await findMark(this.#options.ship.disk, start, shipped.lastSequence);
    if (!isEnd(shipped, found.line)) throw new ForkFound(differs(path, shipped));
    return found;
  }

  /** Damage stays where it is, and is told of; what was moved is met again. All else ends the round. */
  #passOver(path: string, error: unknown): void {
    if (!(error instanceof Failure)) throw error;
    if (error.code.startsWith("DATA_")) {
      this.#setStuck(path, error);
      return;
    }
    const { generation } = this.#options.spool;
    const isInForce = generation !== undefined && pathsOf(generation).includes(path);
    if (error.code !== "FILE_MISSING" || isInForce) throw error;
  }

  #setStuck(path: string, failure: Failure): void {
    if (this.#stuck.has(path)) return;
    this.#stuck.set(path, { failure, sinceMs: this.#options.clock.now() });
    this.#options.onEvent({ kind: "stuck", failure });
  }

  /** Discards a retired log, if everything of it is in the repository. */
  async #discard(generation: Generation, signal: AbortSignal): Promise<boolean> {
    const { ship, spool, onEvent } = this.#options;
    const { name, segments } = generation;
    const origin = this.#originOf(generation);
    const isKept = (path: string) => this.#stuck.has(path) || this.#incomplete.has(path);
    if (origin === undefined || pathsOf(generation).some(isKept)) return false;
    const state = this.#bases.get(baseSetName(origin));
    if (state !== "verified" && state !== "gone") return false;
    if (this.#forked.has(lineName(origin))) return false;
    const line = await ArchivedLine.open(ship, lineName(origin), this.#proofs, signal);
    await this.#compare({ generation, origin, synced: undefined }, line);
    if (!(await this.isArchived(line, generation, segments.length, signal))) {
      const known = this.#lines.get(line.name);
      if (known !== undefined) known.line.isUnsure = true;
      return false;
    }
    // The last time that anybody looks for what merged pieces stand for.
    await line.tidy(signal);
    await ship.lease.check(signal);
    this.#hasDiscarded = false;
    await beginDiscard(ship.temporaryFolder, name);
    await spool.discard(name);
    await endDiscard(ship.temporaryFolder, name);
    this.#hasDiscarded = true;
    onEvent({ kind: "discarded", generation: name });
    return true;
  }

  /** Keeps in memory what the spool still has. */
  #forget(kept: readonly Generation[]): void {
    const origins = kept.flatMap((each) => this.#originOf(each) ?? []);
    const lines = new Set(origins.map(lineName));
    const sets = new Set(origins.map(baseSetName));
    const paths = new Set(kept.flatMap(pathsOf));
    for (const each of [this.#lines, this.#forked, this.#missing]) {
      for (const name of each.keys()) if (!lines.has(name)) each.delete(name);
    }
    this.#proofs.keepOnly(this.#options.ship.instance, lines);
    for (const name of this.#bases.keys()) if (!sets.has(name)) this.#bases.delete(name);
    for (const path of this.#stuck.keys()) if (!paths.has(path)) this.#stuck.delete(path);
    for (const path of this.#incomplete.keys()) if (!paths.has(path)) this.#incomplete.delete(path);
  }
}

export type Trouble = { readonly failure: Failure; readonly sinceMs: number };

/** How long it takes, at most, to move the files of a log. */
const movingMs = 5000;
/** A line is listed again so long after it was; and earlier where a segment was closed since. */
const listAgainMs = 60 * 60 * 1000;
const listAfterSegmentMs = 60 * 1000;
const stuckHint = "What is left of it stays in the spool; look at it with `tidemark check`.";

type Log = {
  readonly generation: Generation;
  readonly origin: PositionLine;
  /** Of the log that is written to: up to where it may be shipped. */
  readonly synced: PositionLine | undefined;
};

type ListedLine = {
  readonly line: ArchivedLine;
  readonly listedMs: number;
  /** The last segment of the log then. */
  readonly segment: string | undefined;
};

/** Thrown and caught here: the line is not to be gone on with. */
class ForkFound extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

type Part = {
  readonly segment: Segment;
  /** What its piece begins and ends with, where it was begun anew since it was shipped. */
  readonly was: SegmentEnds | undefined;
  /** Where the segment before ends. */
  readonly after: PositionLine | undefined;
  /** Up to where it may be shipped. */
  readonly end: PositionLine;
  readonly isOpen: boolean;
};

/** What of a log may be stuck. */
function pathsOf({ folder, base, segments }: Generation): string[] {
  return [folder, ...(base === undefined ? [] : [base.path]), ...segments.map(({ path }) => path)];
}

function isEnd(piece: Piece | undefined, line: PositionLine | undefined): boolean {
  return (
    piece !== undefined &&
    piece.lastSequence === line?.sequence &&
    piece.toOffset === line.offset &&
    piece.toMs === line.ms
  );
}

function sizeOf({ base, segments }: Generation): number {
  return segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, base?.sizeBytes ?? 0);
}
