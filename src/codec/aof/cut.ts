/**
 * Where a log has to end for the data set to be as it was at a time or at a position.
 *
 * WHY. Restoring to a point in time is replaying a prefix. Which prefix is decided here, in one pass
 * and without replaying anything.
 *
 * WHAT A TIME MEANS. The cut is at the end of the longest prefix in which nothing is stamped later
 * than the target. Two kinds of lines stamp:
 *
 *   a position line   stands BEHIND the writes that it stamps: all since the line before it
 *   "#TS:" seconds    stands BEFORE the writes that it stamps, up to the next one
 *
 * Where a position line stands behind a batch, its time alone counts for that batch, to the
 * millisecond; timestamps count where there is none (a stock log, or a tail whose line is missing).
 * So a stock log is cut where `redis-check-aof --truncate-to-timestamp` cuts it: at the first
 * timestamp that is later than the target. Writes without any stamp behind the last one count as
 * that one, as they do there. A target in seconds takes the whole of its second.
 *
 * Times may run backwards in a stock log, where a clock was set or a server restarted. Order counts,
 * not the greatest value: the first later stamp ends the prefix, whatever follows it.
 *
 * WHAT A POSITION MEANS. All up to the line that tells it. Between two lines, the position behind a
 * unit is found by counting the bytes of the records back from the second one: what a log has that its
 * stream has not, or the other way round (a recorder leaves PING out), stands in front of the others.
 *
 * INVARIANTS
 *
 *   1. The cut is at the end of a unit, or of an annotation behind one: never inside a transaction,
 *      even if somebody put a timestamp there, and never inside a value, whatever that holds.
 *   2. All before the cut was verified as far as the log has checksums; damage there is thrown.
 */
import { strict as assert } from "node:assert";
import { isReplicationId, type Position, type PositionLine } from "./annotation.ts";
import { type LogOptions, LogScanner } from "./log-scanner.ts";

export type CutTarget =
  | { readonly seconds: number }
  | { readonly ms: number }
  | { readonly position: Position };

export type Cut = {
  /** The first byte that goes; the start of the log where nothing is old enough. */
  readonly offset: number;
  /** Records before it. */
  readonly records: number;
  /** "end": nothing in this log is later than the target, and only a torn tail is cut. */
  readonly reason: "time" | "position" | "end";
  /**
   * Nothing that changes data is between the cut and the target; always true for times. Else the target
   * is inside a unit, which goes as a whole.
   */
  readonly isExact: boolean;
  /** The database that is selected at the cut, if this log has said so by then. */
  readonly database: number | undefined;
  /** The last position line before the cut, of this file or the one before. */
  readonly after: PositionLine | undefined;
  /** The time of the first stamp behind the cut, where a stamp ended it. */
  readonly nextMs: number | undefined;
};

type Mark = Pick<Cut, "offset" | "records" | "after" | "database">;

/** The end of a unit in the batch that is being read: `bytes` of records are before it in the batch. */
type UnitEnd = Pick<Cut, "offset" | "records" | "database"> & { readonly bytes: number };

export class LogCutter {
  readonly #log: LogScanner;
  /** The last millisecond that is taken; undefined where the target is a position. */
  readonly #untilMs: number | undefined;
  readonly #target: Position | undefined;
  /** The end of the last position line: where the batch that is being read starts. */
  #batch: Mark;
  /** The cut at the first later timestamp in this batch. It counts if no position line follows. */
  #stamp: Cut | undefined;
  /** Bytes of this batch's records, and the units that it has: those of one chunk, mostly. */
  #bytes = 0;
  #units: UnitEnd[] = [];
  #hasMetId = false;
  #cut: Cut | undefined;

  constructor(target: CutTarget, options: LogOptions = {}) {
    this.#log = new LogScanner(options);
    this.#batch = this.#mark(this.#log.scanner.start);
    if ("position" in target) {
      const { replicationId, offset } = target.position;
      assert(isReplicationId(replicationId), "A replication id has 40 digits");
      this.#target = target.position;
      this.#hasMetId = options.after?.replicationId === replicationId;
      const before = this.#hasMetId ? (options.after?.offset ?? 0) : -1;
      if (before >= offset) this.#cutAt(this.#batch, "position", before === offset);
    } else {
      this.#untilMs = "ms" in target ? target.ms : target.seconds * 1000 + 999;
    }
  }

  /** Takes the next chunk, which is not needed afterwards. False: the cut is known. */
  push(chunk: Uint8Array): boolean {
    if (this.#cut !== undefined) return false;
    this.#log.push(chunk);
    while (this.#cut === undefined) {
      switch (this.#log.next()) {
        case "more":
          return true;
        case "record":
          if (this.#target !== undefined) this.#countRecord();
          break;
        case "timestamp":
          this.#readTimestamp();
          break;
        case "position":
          this.#readPosition();
          break;
        case "comment":
          break;
      }
    }
    return false;
  }

  /** The cut, after `push()` said false or after the last chunk. */
  finish(): Cut {
    const known = this.#cut ?? this.#stamp;
    if (known !== undefined) return known;
    const isTime = this.#target === undefined;
    const { goodEnd } = this.#log.scanner;
    return this.#cutAt(isTime ? this.#mark(goodEnd) : this.#batch, "end", isTime);
  }

  #readTimestamp(): void {
    const ms = (this.#log.seconds ?? 0) * 1000;
    if (this.#untilMs === undefined || ms <= this.#untilMs || this.#stamp !== undefined) return;
    const { start, unitStart } = this.#log.scanner;
    this.#stamp = { ...this.#mark(unitStart ?? start), reason: "time", isExact: true, nextMs: ms };
    // In a log without position lines, none will say that the batch was earlier after all.
    if (this.#log.position === undefined) this.#cut = this.#stamp;
  }

  #readPosition(): void {
    const line = this.#log.position;
    assert(line !== undefined, "A position line was read");
    const cut = this.#target === undefined ? this.#cutByTime(line) : this.#cutByPosition(line);
    if (cut !== undefined) return;
    this.#batch = this.#mark(this.#log.scanner.end);
    this.#stamp = undefined;
    this.#bytes = 0;
    this.#units = [];
  }

  #cutByTime(line: PositionLine): Cut | undefined {
    if (this.#untilMs === undefined || line.ms <= this.#untilMs) return undefined;
    return this.#cutAt(this.#batch, "time", true, line.ms);
  }

  #cutByPosition(line: PositionLine): Cut | undefined {
    const target = this.#target as Position;
    const { after } = this.#batch;
    if (line.replicationId !== target.replicationId) {
      // The history went on under another id before it came to the target.
      return this.#hasMetId ? this.#cutAt(this.#batch, "end", false) : undefined;
    }
    this.#hasMetId = true;
    if (line.offset < target.offset) return undefined;
    if (line.offset === target.offset) {
      return this.#cutAt(this.#mark(this.#log.scanner.end), "position", true);
    }
    if (after === undefined) return this.#cutAt(this.#batch, "position", false);
    const total = this.#bytes;
    const positionOf = (unit: UnitEnd) => line.offset - (total - unit.bytes);
    const unit = this.#units.findLast((each) => positionOf(each) <= target.offset);
    const next = unit === undefined ? this.#units[0] : undefined;
    // Before the first unit there is only what no log needs, unless that unit itself was changed.
    const isBefore = next !== undefined && target.offset <= positionOf(next) - next.bytes;
    const isAt = (unit === undefined ? after.offset : positionOf(unit)) === target.offset;
    const mark = unit === undefined ? this.#batch : { ...this.#batch, ...unit };
    return this.#cutAt(mark, "position", isAt || isBefore);
  }

  #countRecord(): void {
    const { start, end, unitStart, goodEnd, goodRecords, database } = this.#log.scanner;
    this.#bytes += end - start;
    if (unitStart !== undefined) return;
    this.#units.push({ offset: goodEnd, records: goodRecords, database, bytes: this.#bytes });
  }

  #mark(offset: number): Mark {
    const { goodRecords: records, database } = this.#log.scanner;
    return { offset, records, after: this.#log.position, database };
  }

  #cutAt(mark: Mark, reason: Cut["reason"], isExact: boolean, nextMs?: number): Cut {
    const { offset, records, after, database } = mark;
    this.#cut = { offset, records, after, database, reason, isExact, nextMs };
    return this.#cut;
  }
}
