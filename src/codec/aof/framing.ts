/**
 * The records of an append-only file, found in chunks of any size.
 *
 * WHY. Everything that works on a log (check, cut, archive, replay) first has to know where each
 * record starts and ends, what is inside a transaction, and up to where the file is good. This is
 * the innermost loop of the product, so it looks at the bytes of headers only, steps over values,
 * and allocates nothing per record.
 *
 * FORMAT
 *
 *   file        [ RDB ] *( annotation / record )      this scanner starts behind the RDB part
 *   record      "*" argc CRLF 1*argc( "$" length CRLF length*OCTET CRLF )
 *   annotation  "#" *any LF                           at most 1,023 bytes in all
 *   unit        a record outside a transaction, or all from MULTI to EXEC; MULTI does not nest
 *
 * argc is at least 1. Both numbers are decimal digits without a sign; leading zeros do no harm
 * (servers and their check programs read them), and no line of theirs has more than 20 digits.
 * Servers throw away the two bytes behind an argument without looking, and read "*3\n" too; nothing
 * writes such files, so here both are damage, as they are to `redis-check-aof`.
 *
 * INVARIANTS
 *
 *   1. `goodEnd` is the end of the last complete unit, or of an annotation behind it. A file cut
 *      there loads on every server, and nothing that was complete is lost.
 *   2. What comes out does not depend on how the bytes were cut into chunks.
 *   3. Of a record, the arguments that end within its first `keepBytes` bytes can be read when it
 *      is reported. The bytes behind them are checked and forgotten: memory is bounded by
 *      `keepBytes` and the size of a chunk, whatever the file says.
 *   4. After damage was thrown, every further call throws the same.
 *
 * REJECTED. Keeping short arguments that stand behind a long one: the buffer would have gaps, and
 * who wants the arguments of such a record wants the long one too. Servers' own rule for a tail that
 * is cut inside a record inside MULTI: all but Valkey 9 keep the open MULTI, and with it throw away
 * at the next start whatever was written behind it.
 */
import { strict as assert } from "node:assert";
import { Slice, toLatin1 } from "../../base/bytes.ts";
import { corrupt, type Failure } from "../../base/errors.ts";
import { Window } from "../resp/window.ts";

/** What `next()` found; "more" asks for the next chunk. */
export type Item = "record" | "annotation" | "more";

/** How a log ends: in order, or within something that `offset` is the start of. */
export type Tail =
  | { readonly kind: "whole" }
  | { readonly kind: "record" | "annotation" | "transaction"; readonly offset: number };

export type ScannerOptions = {
  /** Where in the file the first byte stands: behind the RDB part, if there is one. */
  readonly offset?: number;
  /** How much of a record is kept for its arguments to be read; 64 KiB where it is not given. */
  readonly keepBytes?: number;
  /** The longest argument that is believed; servers' `proto-max-bulk-len`, 512 MiB by default. */
  readonly maxArgumentBytes?: number;
};

/** As servers have it: their line buffer has 1,024 bytes, one of them for the final zero. */
export const maxAnnotationBytes = 1023;
/** The count of arguments is an `int` in servers. */
const maxArguments = 2 ** 31 - 1;
const maxDigits = 20;

const LF = 10;
const CR = 13;
const HASH = 35;
const DOLLAR = 36;
const STAR = 42;

export class RecordScanner {
  readonly #window = new Window();
  readonly #keepBytes: number;
  readonly #maxArgumentBytes: number;

  // The item. Places are relative to `#window.at`, where it starts.
  #start: number;
  #argc = 0;
  /** Arguments that have been read, and how many of them are kept. */
  #read = 0;
  #kept = 0;
  /** Start and length of each argument that is kept. */
  #places = new Int32Array(32);
  #cursor = 0;
  #headerEnd = 0;
  /** Bytes of the item that were forgotten already. */
  #forgotten = 0;
  /** Of the record, arguments from here on are passed over; 0 while all are kept. */
  #keptEnd = 0;
  /** The line end behind an argument that was passed over is still to come. */
  #owesLineEnd = false;
  #isComplete = false;

  #goodEnd: number;
  #unitStart: number | undefined;
  #database: number | undefined;
  #records = 0;
  #goodRecords = 0;
  #failure: Failure | undefined;

  constructor(options: ScannerOptions = {}) {
    this.#start = options.offset ?? 0;
    this.#goodEnd = this.#start;
    this.#keepBytes = options.keepBytes ?? 64 * 1024;
    this.#maxArgumentBytes = options.maxArgumentBytes ?? 512 * 1024 * 1024;
    assert(this.#keepBytes >= 1024 && this.#keepBytes < 2 ** 31, "1 KiB to 2 GiB are kept");
    assert(this.#maxArgumentBytes < 2 ** 31, "An argument has less than 2 GiB");
  }

  /** Takes the next chunk after `next()` said "more". It is borrowed until that comes again. */
  push(chunk: Uint8Array): void {
    this.#window.push(chunk);
  }

  /** Finds the next item. What it says and points at is valid until the next call. */
  next(): Item {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#isComplete) this.#leave();
    const window = this.#window;
    do {
      if (window.at === window.end) continue;
      const first = window.bytes[window.at] as number;
      if (first === STAR) {
        if (this.#keptEnd === 0 ? this.#scanRecord() : this.#passArguments()) {
          this.#isComplete = true;
          this.#endRecord();
          return "record";
        }
      } else if (first === HASH) {
        if (this.#scanAnnotation()) {
          this.#isComplete = true;
          if (this.#unitStart === undefined) this.#goodEnd = this.end;
          return "annotation";
        }
      } else {
        throw this.#fail(0, `${hex(first)} where a record or an annotation must start`);
      }
    } while (window.more());
    return "more";
  }

  /** Where the item starts in the file; after "more", the one that is not complete yet. */
  get start(): number {
    return this.#start;
  }

  /** The first byte behind the item. */
  get end(): number {
    return this.#start + this.#cursor + this.#forgotten;
  }

  /** What is being read after "more": nothing, or the beginning of an item. */
  get pending(): "nothing" | "record" | "annotation" {
    if (this.#isComplete || this.#window.at === this.#window.end) return "nothing";
    return this.#window.bytes[this.#window.at] === HASH ? "annotation" : "record";
  }

  /** How many arguments the record has, its name included. */
  get argc(): number {
    return this.#argc;
  }

  /** Points at an argument, 0 being the name. False: it was not kept. */
  argument(index: number, slice: Slice): boolean {
    if (index >= this.#kept) return false;
    const start = this.#window.at + (this.#places[2 * index] as number);
    slice.set(this.#window.bytes, start, start + (this.#places[2 * index + 1] as number));
    return true;
  }

  /** How many arguments can be read: the first ones. */
  get keptArguments(): number {
    return this.#kept;
  }

  /** Points at all bytes of the item. False: not all of them were kept. */
  raw(slice: Slice): boolean {
    if (this.#keptEnd !== 0) return false;
    slice.set(this.#window.bytes, this.#window.at, this.#window.at + this.#cursor);
    return true;
  }

  /** Where the open transaction's MULTI starts, or undefined outside of transactions. */
  get unitStart(): number | undefined {
    return this.#unitStart;
  }

  /** The database selected for the records that follow; undefined until a SELECT has been seen. */
  get database(): number | undefined {
    return this.#database;
  }

  get goodEnd(): number {
    return this.#goodEnd;
  }

  /** Records so far, and those of them before `goodEnd`. */
  get records(): number {
    return this.#records;
  }

  get goodRecords(): number {
    return this.#goodRecords;
  }

  /** How the log ends if nothing comes after the last chunk. Call it after "more". */
  tail(): Tail {
    if (this.#failure !== undefined) throw this.#failure;
    const pending = this.pending;
    if (pending !== "nothing") return { kind: pending, offset: this.#start };
    if (this.#unitStart !== undefined) return { kind: "transaction", offset: this.#unitStart };
    return { kind: "whole" };
  }

  /** Goes to the byte behind the item. */
  #leave(): void {
    this.#start = this.end;
    this.#window.at += this.#cursor;
    this.#window.settle();
    this.#argc = 0;
    this.#read = 0;
    this.#kept = 0;
    this.#cursor = 0;
    this.#forgotten = 0;
    this.#keptEnd = 0;
    this.#isComplete = false;
  }

  /**
   * The fast path: reads on from `#cursor` as long as all arguments are kept. Every variable of the
   * loop is a local one, and digits are summed in place: that is what makes it fast. Whatever is
   * not as usual goes to `#readHeader()` and `#passArguments()`.
   */
  #scanRecord(): boolean {
    if (this.#argc === 0 && !this.#scanCount()) return false;
    const { bytes, at: base, end } = this.#window;
    const argc = this.#argc;
    const keepEnd = base + this.#keepBytes;
    const maxLength = this.#maxArgumentBytes;
    let places = this.#places;
    let index = this.#read;
    let cursor = base + this.#cursor;
    while (index < argc) {
      let at = cursor + 1;
      let length = 0;
      for (; at < end; at++) {
        const digit = (bytes[at] as number) - 48;
        if (digit < 0 || digit > 9 || length > maxLength) break;
        length = length * 10 + digit;
      }
      if (
        at + 1 >= end ||
        bytes[cursor] !== DOLLAR ||
        bytes[at] !== CR ||
        bytes[at + 1] !== LF ||
        length > maxLength ||
        at === cursor + 1 ||
        at > cursor + 1 + maxDigits
      ) {
        this.#readHeader(cursor, DOLLAR, maxLength, index);
        break;
      }
      const stop = at + 2 + length;
      if (stop + 2 > keepEnd) {
        this.#stay(index, cursor - base);
        this.#keptEnd = this.#cursor;
        return this.#passArguments();
      }
      if (stop + 2 > end || bytes[stop] !== CR || bytes[stop + 1] !== LF) {
        this.#checkLineEnd(stop, index);
        break;
      }
      if (2 * index === places.length) places = this.#growPlaces();
      places[2 * index] = at + 2 - base;
      places[2 * index + 1] = length;
      cursor = stop + 2;
      index++;
    }
    this.#stay(index, cursor - base);
    return index === argc;
  }

  #stay(index: number, cursor: number): void {
    this.#read = index;
    this.#kept = index;
    this.#cursor = cursor;
  }

  #growPlaces(): Int32Array<ArrayBuffer> {
    const grown = new Int32Array(2 * this.#places.length);
    grown.set(this.#places);
    this.#places = grown;
    return grown;
  }

  #scanCount(): boolean {
    const { bytes, at, end } = this.#window;
    const digit = at + 4 <= end ? (bytes[at + 1] as number) - 48 : 0;
    // Nearly every count is one digit.
    if (digit > 0 && digit <= 9 && bytes[at + 2] === CR && bytes[at + 3] === LF) {
      this.#argc = digit;
      this.#cursor = 4;
      return true;
    }
    const count = this.#readHeader(this.#window.at, STAR, maxArguments, -1);
    if (count < 0) return false;
    this.#argc = count;
    this.#cursor = this.#headerEnd - this.#window.at;
    return true;
  }

  /** The slow path: checks the rest of a record and forgets it. */
  #passArguments(): boolean {
    for (;;) {
      const at = this.#window.at + this.#cursor;
      if (this.#owesLineEnd) {
        if (!this.#checkLineEnd(at, this.#read)) break;
        this.#owesLineEnd = false;
        this.#cursor += 2;
        this.#read++;
        if (this.#read === this.#argc) return true;
      } else {
        const length = this.#readHeader(at, DOLLAR, this.#maxArgumentBytes, this.#read);
        if (length < 0) break;
        const stop = this.#headerEnd + length;
        if (stop > this.#window.end) this.#forget(stop - this.#window.at);
        else this.#cursor = stop - this.#window.at;
        this.#owesLineEnd = true;
      }
    }
    this.#forget(this.#cursor);
    return false;
  }

  /** Forgets the record's bytes from the last one that is kept up to `until`, come or to come. */
  #forget(until: number): void {
    const size = until - this.#keptEnd;
    if (size > 0) this.#window.pass(this.#window.at + this.#keptEnd, size);
    this.#forgotten += size;
    this.#cursor = this.#keptEnd;
  }

  /**
   * Reads the line of a count (`index` -1) or of an argument's length, whose mark is at
   * `bytes[start]`, and sets `#headerEnd`. -1: the line is not whole, and right as far as it goes.
   */
  #readHeader(start: number, mark: number, max: number, index: number): number {
    const { bytes, at: base, end } = this.#window;
    const what = () => (index < 0 ? "Argument count" : `Length of argument ${index}`);
    if (start >= end) return -1;
    if (bytes[start] !== mark) {
      throw this.#fail(start - base, `${hex(bytes[start])} where argument ${index} must start`);
    }
    let at = start + 1;
    let value = 0;
    let isTooGreat = false;
    for (; at < end && !isTooGreat; at++) {
      const digit = (bytes[at] as number) - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      isTooGreat = value > max || at - start > maxDigits;
    }
    const isNone = at < end && (at === start + 1 || (index < 0 && value === 0));
    if (isTooGreat || isNone || (at < end && bytes[at] !== CR)) {
      const text = toLatin1(bytes, start + 1, isTooGreat ? at : at + 1);
      throw this.#fail(start - base, `${what()} starts ${JSON.stringify(text)}`);
    }
    if (at + 1 >= end) return -1;
    if (bytes[at + 1] !== LF) throw this.#fail(start - base, `${what()} does not end in CR LF`);
    this.#headerEnd = at + 2;
    return value;
  }

  /** Whether the line end behind an argument is there. */
  #checkLineEnd(at: number, index: number): boolean {
    const { bytes, at: base, end } = this.#window;
    if ((at < end && bytes[at] !== CR) || (at + 1 < end && bytes[at + 1] !== LF)) {
      throw this.#fail(at - base, `Argument ${index} does not end in CR LF`);
    }
    return at + 1 < end;
  }

  #scanAnnotation(): boolean {
    const { bytes, at: base, end } = this.#window;
    const limit = Math.min(end, base + maxAnnotationBytes);
    for (let at = base + this.#cursor; at < limit; at++) {
      if (bytes[at] === LF) {
        this.#cursor = at + 1 - base;
        return true;
      }
    }
    this.#cursor = limit - base;
    if (this.#cursor === maxAnnotationBytes) {
      throw this.#fail(0, `Annotation of more than ${maxAnnotationBytes} bytes`);
    }
    return false;
  }

  /** Keeps account of the transaction and the database. */
  #endRecord(): void {
    this.#records++;
    const name = this.#window.at + (this.#places[0] as number);
    // A name that was passed over is longer than any of these.
    const length = this.#kept === 0 ? 0 : (this.#places[1] as number);
    if (length === 4 && this.#isWord(name, "exec")) this.#endTransaction();
    else if (length === 5 && this.#isWord(name, "multi")) this.#beginTransaction();
    else if (length === 6 && this.#isWord(name, "select")) this.#select();
    if (this.#unitStart !== undefined) return;
    this.#goodEnd = this.end;
    this.#goodRecords = this.#records;
  }

  #isWord(start: number, word: string): boolean {
    const { bytes } = this.#window;
    for (let i = 0; i < word.length; i++) {
      if (((bytes[start + i] as number) | 32) !== word.charCodeAt(i)) return false;
    }
    return true;
  }

  #beginTransaction(): void {
    if (this.#unitStart !== undefined) throw this.#fail(0, "MULTI inside a transaction");
    this.#unitStart = this.#start;
  }

  #endTransaction(): void {
    if (this.#unitStart === undefined) throw this.#fail(0, "EXEC without MULTI");
    this.#unitStart = undefined;
  }

  /** What is no number selects nothing: servers go on with the database that they had. */
  #select(): void {
    const slice = new Slice();
    if (this.#argc !== 2 || !this.argument(1, slice)) return;
    const text = slice.latin1();
    if (/^\d{1,9}$/.test(text)) this.#database = Number(text);
  }

  #fail(at: number, found: string): Failure {
    this.#failure = corrupt(this.#start + this.#forgotten + at, found);
    return this.#failure;
  }
}

function hex(byte: number | undefined): string {
  return `Byte 0x${(byte ?? 0).toString(16).padStart(2, "0")}`;
}
