/**
 * A log with its annotations understood: records, timestamps, and position lines that are proved.
 *
 * WHY. Check and cut need the same walk: frame the records, read the comment lines, and hold the
 * bytes against the checksums. Doing it in one place means that nothing is cut or restored from
 * bytes that were not verified as far as the log allows it.
 *
 * INVARIANTS
 *
 *   1. "position" is reported only for a line that is right in itself, whose data checksum fits the
 *      bytes since the line before, and that goes on from that line: sequence plus one, and under
 *      the same replication id an offset that is not less. Anything else is thrown as damage.
 *   2. A position line stands between units: inside a transaction it is damage.
 *   3. The checksum runs over each byte once, in pieces as long as chunks and lines allow: a call
 *      costs more than the bytes of a record do.
 *
 * Times may run backwards. Here that is no damage: a clock was set, or a stock server restarted.
 */
import { crc32 } from "node:zlib";
import { Slice } from "../../base/bytes.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import { type PositionLine, parseAnnotation } from "./annotation.ts";
import { RecordScanner, type ScannerOptions } from "./framing.ts";

export type LogItem = "record" | "timestamp" | "position" | "comment" | "more";

export type LogOptions = ScannerOptions & {
  /** The last position line of the log's previous file: this file has to go on from it. */
  readonly after?: PositionLine;
};

export class LogScanner {
  /** The record, its arguments and places. Nobody else may push to it or move it on. */
  readonly scanner: RecordScanner;
  readonly #slice = new Slice();
  #chunk: Uint8Array = new Uint8Array(0);
  #chunkStart: number;
  /** The checksum of the bytes from `#sealedEnd` up to `#coveredEnd`. */
  #crc = 0;
  #coveredEnd: number;
  #sealedEnd: number;
  #position: PositionLine | undefined;
  #seconds: number | undefined;
  #failure: Failure | undefined;

  constructor(options: LogOptions = {}) {
    this.scanner = new RecordScanner(options);
    this.#chunkStart = this.scanner.start;
    this.#coveredEnd = this.#chunkStart;
    this.#sealedEnd = this.#chunkStart;
    this.#position = options.after;
  }

  /** Takes the next chunk after `next()` said "more". It is borrowed until that comes again. */
  push(chunk: Uint8Array): void {
    this.#chunkStart += this.#chunk.length;
    this.#chunk = chunk;
    this.scanner.push(chunk);
  }

  /** Finds the next item. Throws the first damage, and then again at every call. */
  next(): LogItem {
    if (this.#failure !== undefined) throw this.#failure;
    const item = this.scanner.next();
    if (item === "record") return item;
    if (item === "annotation") {
      try {
        return this.#readAnnotation();
      } catch (error) {
        if (error instanceof Failure) this.#failure = error;
        throw error;
      }
    }
    // The line that is cut by the end of the chunk may be a position line: it does not cover itself.
    const { pending, start } = this.scanner;
    this.#cover(pending === "annotation" ? start : this.#chunkStart + this.#chunk.length);
    return item;
  }

  /** The last timestamp. */
  get seconds(): number | undefined {
    return this.#seconds;
  }

  /** The last position line, of this file or of the one before. */
  get position(): PositionLine | undefined {
    return this.#position;
  }

  /** The end of the last position line, or the start of the log: all before it is proved. */
  get sealedEnd(): number {
    return this.#sealedEnd;
  }

  #readAnnotation(): LogItem {
    const { start, end } = this.scanner;
    this.#cover(start);
    this.scanner.raw(this.#slice);
    const bytes = this.#slice.view();
    const annotation = parseAnnotation(bytes, start);
    if (annotation.kind === "position") {
      this.#seal(annotation.line, start);
      this.#crc = 0;
      this.#sealedEnd = end;
    } else {
      this.#crc = crc32(bytes, this.#crc);
      if (annotation.kind === "timestamp") this.#seconds = annotation.seconds;
    }
    this.#coveredEnd = end;
    return annotation.kind;
  }

  /** Runs the checksum over the chunk's bytes up to `end`. */
  #cover(end: number): void {
    if (end <= this.#coveredEnd) return;
    const from = this.#coveredEnd - this.#chunkStart;
    const bytes = this.#chunk.subarray(from, end - this.#chunkStart);
    this.#crc = crc32(bytes, this.#crc);
    this.#coveredEnd = end;
  }

  #seal(line: PositionLine, start: number): void {
    const before = this.#position;
    if (this.scanner.unitStart !== undefined) {
      throw corrupt(start, "Position line inside a transaction");
    }
    if (line.dataCrc !== this.#crc) {
      const bytes = `The ${start - this.#sealedEnd} bytes before position line ${line.sequence}`;
      throw corrupt(this.#sealedEnd, `${bytes} are not those that were written; they start`);
    }
    if (before !== undefined && line.sequence !== before.sequence + 1) {
      throw corrupt(start, `Position line ${line.sequence} after ${before.sequence}`);
    }
    const isSameHistory = line.replicationId === before?.replicationId;
    if (isSameHistory && line.offset < before.offset) {
      throw corrupt(start, `Position ${line.offset} after ${before.offset}`);
    }
    this.#position = line;
  }
}
