/**
 * Writes a log: records, timestamps and position lines, into a buffer that the caller takes.
 *
 * WHY. There is one writer for everything that Tidemark keeps, whether it comes from its own engine
 * or from a foreign server. What it lets through loads on every server of 7.0 and later, can be cut
 * by the stock tools, and can be proved whole by ours.
 *
 * INVARIANTS
 *
 *   1. What was written is framed as a log. Records that come encoded are scanned on their way in:
 *      one that is not right is refused, no byte of that call is in the buffer, and nothing can
 *      follow. Only `rawPart()` leaves one that is not whole: what follows has to be the rest of it. Records that are encoded here are right, and scanned only if they change the state.
 *   2. A SELECT stands before the first record and wherever the database changes.
 *   3. A timestamp is written only where its second is greater than the last one, before a record
 *      and outside of transactions; a position line only outside of transactions.
 *   4. The times of position lines do not run backwards: a clock that steps back is held.
 *
 * A log begins with `seal()` of the position that it starts at. It is gone on with only behind a
 * position line (`planRepair(…, { to: "position" })`), given here as `after`.
 *
 * It does no I/O: the bytes of `take()` are to be written in one piece, so that a crash leaves at
 * most one batch without its position line.
 */
import { strict as assert } from "node:assert";
import { crc32 } from "node:zlib";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import { ByteWriter } from "../resp/encode.ts";
import {
  formatPositionLine,
  formatTimestamp,
  isReplicationId,
  type Position,
  type PositionLine,
} from "./annotation.ts";
import { RecordScanner } from "./framing.ts";

export type WriterOptions = {
  /** The last position line that the log has: of this file, or of the one before. */
  readonly after?: PositionLine;
};

const multi = fromLatin1("MULTI");
const exec = fromLatin1("EXEC");
const selectName = fromLatin1("SELECT");
const STAR = 42;

export class LogWriter {
  readonly #out = new ByteWriter();
  /** Follows what is written: it knows the database and whether a transaction is open. */
  readonly #scanner = new RecordScanner();
  #position: PositionLine | undefined;
  #seconds = 0;
  /** The checksum of the bytes since the last position line that have been taken. */
  #takenCrc = 0;
  /** Where in the buffer the bytes start that it does not cover. */
  #uncovered = 0;
  #refusal: Failure | undefined;

  constructor({ after }: WriterOptions = {}) {
    this.#position = after;
  }

  /** The database that the next record will be for; undefined before the first SELECT. */
  get database(): number | undefined {
    return this.#scanner.database;
  }

  /** Whether a transaction, or a record that comes in parts, has begun and not ended. */
  get isInUnit(): boolean {
    return this.#scanner.unitStart !== undefined || this.#scanner.pending !== "nothing";
  }

  /** The last position line. */
  get position(): PositionLine | undefined {
    return this.#position;
  }

  /** How many bytes are there to be taken. */
  get length(): number {
    return this.#out.length;
  }

  /** All that was written since the last call. Owned bytes. */
  take(): Uint8Array {
    return this.#cover(this.#out.take());
  }

  /** As `take()`; `reuse()` gives the memory back when the bytes are not needed any more. */
  takeAll(): Uint8Array {
    return this.#cover(this.#out.takeAll());
  }

  reuse(bytes: Uint8Array): void {
    this.#out.reuse(bytes);
  }

  #cover(bytes: Uint8Array): Uint8Array {
    this.#takenCrc = crc32(bytes.subarray(this.#uncovered), this.#takenCrc);
    this.#uncovered = 0;
    return bytes;
  }

  /** Says when the records that follow are written, if that is a later second than was said. */
  stamp(ms: number): void {
    if (this.#refusal !== undefined) throw this.#refusal;
    assert(!this.isInUnit, "A timestamp stands outside of transactions");
    const seconds = Math.floor(ms / 1000);
    if (seconds <= this.#seconds) return;
    this.#seconds = seconds;
    this.#out.append(formatTimestamp(seconds));
  }

  /** Writes a SELECT, if the database is another one. */
  select(database: number): void {
    if (database !== this.#scanner.database) this.record([selectName, fromLatin1(`${database}`)]);
  }

  begin(): void {
    this.record([multi]);
  }

  end(): void {
    this.record([exec]);
  }

  /** Writes a record, its name being the first argument. */
  record(args: readonly Uint8Array[]): void {
    if (this.#refusal !== undefined) throw this.#refusal;
    const [name] = args;
    assert(name !== undefined, "A record has a name");
    const out = this.#out;
    const start = out.length;
    out.appendHeader(STAR, args.length);
    for (const arg of args) out.appendBulk(arg);
    if (!isControl(name)) return;
    try {
      this.#follow(out.peek(start), false);
    } catch (error) {
      out.truncate(start);
      throw error;
    }
  }

  /** Writes records that are encoded already: one or more, whole. */
  raw(records: Uint8Array): void {
    this.#follow(records, false);
    this.#out.append(records);
  }

  /** Writes records of which the last one may go on with what is written next. */
  rawPart(records: Uint8Array): void {
    this.#follow(records, true);
    this.#out.append(records);
  }

  /** Ends a batch: the log stands at this position after all that was written so far. */
  seal({ replicationId, offset }: Position, ms: number): void {
    assert(!this.isInUnit, "A position line stands outside of transactions");
    assert(isReplicationId(replicationId), "A replication id has 40 digits");
    assert(Number.isSafeInteger(offset) && offset >= 0, "An offset is a whole number");
    assert(Number.isSafeInteger(ms) && ms >= 0, "A time is a whole number of milliseconds");
    const before = this.#position;
    const isSameHistory = replicationId === before?.replicationId;
    assert(!isSameHistory || offset >= before.offset, "Positions do not go back");
    this.#position = {
      replicationId,
      offset,
      ms: Math.max(ms, this.#position?.ms ?? 0),
      sequence: this.#position === undefined ? 0 : this.#position.sequence + 1,
      dataCrc: crc32(this.#out.peek(this.#uncovered), this.#takenCrc),
    };
    this.#out.append(formatPositionLine(this.#position));
    this.#takenCrc = 0;
    this.#uncovered = this.#out.length;
  }

  /** Keeps account of what is written. After a refusal, nothing is written any more. */
  #follow(records: Uint8Array, mayEndInside: boolean): void {
    if (this.#refusal !== undefined) throw this.#refusal;
    const scanner = this.#scanner;
    try {
      scanner.push(records);
      for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
        if (item === "annotation") throw corrupt(scanner.start, "Annotation among records");
      }
      if (!mayEndInside && scanner.pending !== "nothing")
        throw corrupt(scanner.start, "Record that is not whole");
    } catch (error) {
      if (error instanceof Failure) this.#refusal = error;
      throw error;
    }
  }
}

/** Whether a record of this name opens or ends a transaction, or selects a database. */
function isControl(name: Uint8Array): boolean {
  if (name.length < 4 || name.length > 6) return false;
  return /^(multi|exec|select)$/i.test(toLatin1(name));
}
