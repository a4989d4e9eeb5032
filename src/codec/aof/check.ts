/**
 * Whether a log is good, and what a repair would take away.
 *
 * WHY. After a crash there are three cases, and to mix them up loses data. The log is whole. Or its
 * tail is torn: the last write did not reach the disk in full, and cutting the torn part off gives a
 * good log. Or bytes in it are wrong: then cutting would throw away good records behind the damage,
 * and only somebody who knows what else there is (a replica, a backup) can choose.
 *
 * INVARIANTS
 *
 *   1. "torn" means: the bytes behind `goodEnd` are the beginning of a record, of an annotation or
 *      of a transaction, and nothing speaks against their being the last thing that was written.
 *   2. "corrupt" names the first wrong byte, or where the bytes start that a checksum is wrong for.
 *   3. A repair is a plan. It cuts only a torn tail, and never below `goodEnd`.
 *   4. Memory is bounded by the scanner's `keepBytes`, whatever the log says.
 *
 * Zero bytes at the end are damage: servers refuse them. They are what a crash of the machine leaves
 * where the file had grown and its data had not been written, so they are counted and called that.
 *
 * Whether servers know the commands, and how many arguments those take, is not looked at.
 */
import { Failure } from "../../base/errors.ts";
import type { PositionLine } from "./annotation.ts";
import type { Tail } from "./framing.ts";
import { LateLine } from "./late-line.ts";
import { type LogOptions, LogScanner } from "./log-scanner.ts";

/** What was found up to the end, or up to the first damage. */
export type CheckFacts = {
  /** Where the log ends: the size of the file, if all of it was given. */
  readonly sizeBytes: number;
  /** The end of the last complete unit: a cut there loses nothing that was complete. */
  readonly goodEnd: number;
  /** Complete records, also those of a transaction that is not complete. */
  readonly records: number;
  readonly timestamps: number;
  /** The first and the last position line of this file. */
  readonly first: PositionLine | undefined;
  readonly last: PositionLine | undefined;
  /**
   * The offset of the last position line with records before it: nothing but what no log needs
   * stands between it and `last`. That of the first line, where there are no records.
   */
  readonly changedOffset: number | undefined;
  /** The end of the last position line; the start of the log where there is none. */
  readonly sealedEnd: number;
  /** Complete records behind `sealedEnd`: no checksum speaks for them. */
  readonly unsealedRecords: number;
  /** How often a time was less than the one before, and where that first happened. */
  readonly backwards: { readonly times: number; readonly firstOffset: number | undefined };
  /** Zero bytes that the input ends in. */
  readonly trailingZeros: number;
};

export type TornTail = {
  /** What the log ends inside of. */
  readonly kind: Exclude<Tail["kind"], "whole">;
  readonly isInTransaction: boolean;
  /** All bytes behind `goodEnd`. */
  readonly cutBytes: number;
  /** Complete records that go too, because their transaction is not complete; MULTI included. */
  readonly cutRecords: number;
};

export type CheckResult = CheckFacts &
  (
    | { readonly verdict: "ok" }
    | { readonly verdict: "torn"; readonly tail: TornTail }
    | { readonly verdict: "corrupt"; readonly offset: number; readonly reason: string }
  );

export type RepairPlan = {
  readonly truncateTo: number;
  readonly cutBytes: number;
  /** Complete records that go. */
  readonly cutRecords: number;
};

export class LogChecker {
  readonly #log: LogScanner;
  readonly #lateLine = new LateLine();
  #size: number;
  #zeros = 0;
  #timestamps = 0;
  #first: PositionLine | undefined;
  #last: PositionLine | undefined;
  #changedOffset: number | undefined;
  #sealedRecords = 0;
  #lastMs = 0;
  #backwards = 0;
  #firstBackwards: number | undefined;
  #damage: Failure | undefined;

  constructor(options: LogOptions = {}) {
    this.#log = new LogScanner(options);
    this.#size = this.#log.scanner.start;
    this.#lastMs = options.after?.ms ?? 0;
  }

  /** Takes the next chunk, which is not needed afterwards. Damage is told by `finish()`. */
  push(chunk: Uint8Array): void {
    const start = this.#size;
    this.#size += chunk.length;
    this.#countZeros(chunk);
    if (this.#damage !== undefined) return;
    try {
      this.#log.push(chunk);
      this.#scan();
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== "DATA_CORRUPT") throw error;
      this.#damage = error;
      return;
    }
    const { pending, start: pendingStart } = this.#log.scanner;
    const last = this.#log.position;
    if (pending === "record" && last !== undefined) {
      this.#lateLine.look(chunk, start, pendingStart, last);
    }
  }

  /** The result, after the last chunk. */
  finish(): CheckResult {
    const { scanner, sealedEnd } = this.#log;
    const facts: CheckFacts = {
      sizeBytes: this.#size,
      goodEnd: scanner.goodEnd,
      records: scanner.records,
      timestamps: this.#timestamps,
      first: this.#first,
      last: this.#last,
      changedOffset: this.#changedOffset,
      sealedEnd,
      unsealedRecords: scanner.goodRecords - this.#sealedRecords,
      backwards: { times: this.#backwards, firstOffset: this.#firstBackwards },
      trailingZeros: this.#zeros,
    };
    if (this.#damage !== undefined) return { ...facts, ...this.#describe(this.#damage) };
    const tail = scanner.tail();
    if (tail.kind === "whole") return { ...facts, verdict: "ok" };
    const late = tail.kind === "record" ? this.#lateLine.find(tail.offset) : undefined;
    if (late !== undefined) {
      const reason = `Record with a wrong length: a later position line (byte ${late}) is inside it`;
      return { ...facts, verdict: "corrupt", offset: tail.offset, reason };
    }
    return {
      ...facts,
      verdict: "torn",
      tail: {
        kind: tail.kind,
        isInTransaction: scanner.unitStart !== undefined,
        cutBytes: this.#size - scanner.goodEnd,
        cutRecords: scanner.records - scanner.goodRecords,
      },
    };
  }

  #scan(): void {
    const log = this.#log;
    for (;;) {
      switch (log.next()) {
        case "more":
          return;
        case "timestamp":
          this.#timestamps++;
          this.#noteSeconds((log.seconds ?? 0) * 1000);
          break;
        case "position":
          this.#last = log.position;
          this.#first ??= this.#last;
          if (this.#last === this.#first || log.scanner.goodRecords > this.#sealedRecords) {
            this.#changedOffset = this.#last?.offset;
          }
          this.#sealedRecords = log.scanner.goodRecords;
          this.#noteMs(this.#last?.ms ?? 0);
          break;
        case "record":
        case "comment":
          break;
      }
    }
  }

  /** A timestamp tells the second only: it is not before what was in that same second. */
  #noteSeconds(ms: number): void {
    const isBackwards = ms + 999 < this.#lastMs;
    if (isBackwards) this.#noteBackwards();
    this.#lastMs = isBackwards ? ms : Math.max(ms, this.#lastMs);
  }

  #noteMs(ms: number): void {
    if (ms < this.#lastMs) this.#noteBackwards();
    this.#lastMs = ms;
  }

  #noteBackwards(): void {
    this.#backwards++;
    this.#firstBackwards ??= this.#log.scanner.start;
  }

  #countZeros(chunk: Uint8Array): void {
    let at = chunk.length;
    while (at > 0 && chunk[at - 1] === 0) at--;
    this.#zeros = chunk.length - at + (at === 0 ? this.#zeros : 0);
  }

  #describe(damage: Failure): { verdict: "corrupt"; offset: number; reason: string } {
    const offset = damage.offset ?? 0;
    const zerosStart = this.#size - this.#zeros;
    const isInZeros = offset >= zerosStart && this.#zeros > 0;
    const zeros = `${this.#zeros} zero bytes at the end, from byte ${zerosStart} on`;
    const reason = isInZeros ? `${zeros}, as a crash of the machine leaves them` : damage.message;
    return { verdict: "corrupt", offset, reason };
  }
}

/**
 * What has to be cut for the log to be good; undefined where nothing has to be.
 *
 * `to: "position"` also cuts whole records that no position line stands behind. Whoever goes on
 * with a stream from the last position wants that: those records will come again.
 */
export function planRepair(
  result: CheckResult,
  { to = "unit" }: { to?: "unit" | "position" } = {},
): RepairPlan | undefined {
  if (result.verdict === "corrupt") {
    const message = `Cannot repair the log: ${result.reason}`;
    throw new Failure("DATA_CORRUPT", message, { offset: result.offset });
  }
  if (to === "position" && result.last === undefined && result.records > 0) {
    throw new Failure("USAGE", "Cannot cut the log to a position: it has no position lines");
  }
  const truncateTo = to === "unit" ? result.goodEnd : result.sealedEnd;
  if (truncateTo === result.sizeBytes) return undefined;
  const inTail = result.verdict === "torn" ? result.tail.cutRecords : 0;
  return {
    truncateTo,
    cutBytes: result.sizeBytes - truncateTo,
    cutRecords: inTail + (to === "position" ? result.unsealedRecords : 0),
  };
}
