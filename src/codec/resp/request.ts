/**
 * Commands as clients and primaries send them, found in chunks of any size.
 *
 * WHY. It stands between the socket and every command of a server. So it copies nothing that lies
 * within one chunk, and allocates nothing per command: the parser itself is the view on the command
 * it has found, and the next one takes its place.
 *
 * FORMAT
 *
 *   multibulk   "*" argc CRLF argc*( "$" length CRLF length*OCTET CRLF )
 *   inline      words LF, split as in words.ts; a line that starts with anything but "*"
 *   nothing     an inline line without words, "*0" or a negative count: no command, no reply
 *
 * What is accepted is what servers accept, to the byte: numbers without a plus sign or leading
 * zeros, header lines up to a CR, and the byte behind the CR and the two behind an argument unseen
 * (Valkey 9 alone looks at those). What is refused is refused in servers' words.
 *
 * LIMITS (names as in `RequestLimits`). Servers look for the end of a header or inline line in at
 * most 64 KiB. Until a client has authenticated itself it gets 10 arguments of 16 KiB. Nothing is
 * allocated for what has only been announced.
 *
 * INVARIANTS. What comes out does not depend on how the bytes were cut into chunks. `end` counts
 * every byte of the stream, as replication offsets do. After an error, every call throws it again.
 *
 * REJECTED. One parser for this and for log files: a log is held to more (line ends, comments,
 * transactions) and a client to less, and each rule would be a flag in the innermost loop.
 */
import { strict as assert } from "node:assert";
import { type Slice, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { Window } from "./window.ts";
import { splitWords } from "./words.ts";

export type RequestLimits = {
  /** The longest argument: servers' `proto-max-bulk-len`. */
  readonly bulkBytes: number;
  /** The most arguments: an `int` since 7.0, 1,048,576 before. */
  readonly multibulkLength: number;
  /** The longest line. */
  readonly inlineBytes: number;
  readonly unauthenticatedBulkBytes: number;
  readonly unauthenticatedMultibulkLength: number;
};

export const requestLimits: RequestLimits = {
  bulkBytes: 512 * 1024 * 1024,
  multibulkLength: 2 ** 31 - 1,
  inlineBytes: 64 * 1024,
  unauthenticatedBulkBytes: 16 * 1024,
  unauthenticatedMultibulkLength: 10,
};

/** "$", ten digits, and the line end. */
const maxBulkHeaderBytes = 13;

const LF = 10;
const CR = 13;
const DOLLAR = 36;
const STAR = 42;
const ZERO = 48;

export class RequestParser {
  /** Set it to false while the client still has to authenticate itself. */
  isAuthenticated = true;
  readonly #limits: RequestLimits;
  readonly #window = new Window();

  #start = 0;
  #argc = 0;
  #read = 0;
  /** Start and length of each argument: relative to the command, or within `#words`. */
  #places = new Int32Array(32);
  #cursor = 0;
  /** How far the line at `#cursor` was searched for its end. */
  #searched = 0;
  #words: Uint8Array | undefined;
  #isComplete = false;
  #failure: Failure | undefined;

  constructor(limits: Partial<RequestLimits> = {}) {
    this.#limits = { ...requestLimits, ...limits };
  }

  /** Takes the next chunk after `next()` said false. It is borrowed until that comes again. */
  push(chunk: Uint8Array): void {
    this.#window.push(chunk);
  }

  /** Finds the next command. It is valid until the next call. False: the next chunk is needed. */
  next(): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#isComplete) this.#leave();
    const window = this.#window;
    do {
      while (window.at < window.end) {
        const isMultibulk = window.bytes[window.at] === STAR;
        if (!(isMultibulk ? this.#scanMultibulk() : this.#scanInline())) break;
        this.#isComplete = true;
        if (this.#argc > 0) return true;
        this.#leave();
      }
    } while (window.more());
    return false;
  }

  /** How many arguments the command has, its name included; at least 1. */
  get argc(): number {
    return this.#argc;
  }

  /** Points at an argument, 0 being the name. */
  argument(index: number, slice: Slice): void {
    const base = this.#words === undefined ? this.#window.at : 0;
    const start = base + (this.#places[2 * index] as number);
    const bytes = this.#words ?? this.#window.bytes;
    slice.set(bytes, start, start + (this.#places[2 * index + 1] as number));
  }

  /** Points at the bytes of the command as they came. */
  raw(slice: Slice): void {
    slice.set(this.#window.bytes, this.#window.at, this.#window.at + this.#cursor);
  }

  /** Where the command starts in the stream, counted from the first byte that was pushed. */
  get start(): number {
    return this.#start;
  }

  /** The first byte behind the command. */
  get end(): number {
    return this.#isComplete ? this.#start + this.#cursor : this.#start;
  }

  /** How much has come of the command that is not whole yet. */
  get pendingBytes(): number {
    return this.#isComplete ? 0 : this.#window.end - this.#window.at;
  }

  /** Of that command: how many arguments have come, and can be pointed at. */
  get pendingArguments(): number {
    return this.#isComplete ? 0 : this.#read;
  }

  /**
   * Gives away what has come of the command that is not whole yet, for a reader who needs no more of
   * it than its end, and who finds that with `rest`. Parsing goes on behind the command.
   */
  takePending(): { readonly bytes: Uint8Array; readonly rest: CommandRest } {
    assert(this.#read > 0 && !this.#isComplete, "A command has begun to come");
    const { at, bytes } = this.#window;
    const rest = new CommandRest(this.#argc - this.#read, this.#limits.bulkBytes);
    rest.skip(bytes.subarray(at + this.#cursor, this.#window.end));
    return { bytes: this.takeRest(), rest };
  }

  /** Owned bytes: what came behind the last command, for a reader of something else. */
  takeRest(): Uint8Array {
    if (this.#isComplete) this.#leave();
    const rest = this.#window.takeRest();
    this.#start += rest.length;
    this.#leave();
    return rest;
  }

  #leave(): void {
    this.#window.at += this.#isComplete ? this.#cursor : 0;
    this.#window.settle();
    this.#start = this.end;
    this.#argc = 0;
    this.#read = 0;
    this.#cursor = 0;
    this.#searched = 0;
    this.#words = undefined;
    this.#isComplete = false;
  }

  /**
   * Reads on from `#cursor`. Every variable of the loop is a local one; headers that are not as
   * usual, or not whole yet, go to `#checkHeader()`.
   */
  #scanMultibulk(): boolean {
    if (this.#cursor === 0 && !this.#scanCount()) return false;
    const { bytes, at: base, end } = this.#window;
    const argc = this.#argc;
    const maxLength = this.#maxBulkBytes();
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
        at + 2 > end ||
        bytes[cursor] !== DOLLAR ||
        bytes[at] !== CR ||
        length > maxLength ||
        at === cursor + 1 ||
        (bytes[cursor + 1] === ZERO && at > cursor + 2)
      ) {
        if (index > this.#read) this.#searched = 0;
        this.#checkHeader(cursor);
        break;
      }
      const stop = at + 2 + length;
      if (stop + 2 > end) break;
      if (2 * index === places.length) places = this.#growPlaces();
      places[2 * index] = at + 2 - base;
      places[2 * index + 1] = length;
      cursor = stop + 2;
      index++;
    }
    this.#read = index;
    this.#cursor = cursor - base;
    return index === argc;
  }

  #scanCount(): boolean {
    const { bytes, at: base, end } = this.#window;
    const lineEnd = this.#findLineEnd(base, CR, "too big mbulk count string");
    if (lineEnd < 0 || lineEnd + 2 > end) return false;
    const count = readLong(bytes, base + 1, lineEnd);
    if (count === undefined || count > this.#limits.multibulkLength) {
      throw this.#fail("invalid multibulk length");
    }
    if (!this.isAuthenticated && count > this.#limits.unauthenticatedMultibulkLength) {
      throw this.#fail("unauthenticated multibulk length");
    }
    this.#argc = Math.max(count, 0);
    this.#cursor = lineEnd + 2 - base;
    this.#searched = 0;
    return true;
  }

  #maxBulkBytes(): number {
    const { bulkBytes, unauthenticatedBulkBytes } = this.#limits;
    return this.isAuthenticated ? bulkBytes : Math.min(bulkBytes, unauthenticatedBulkBytes);
  }

  /** Throws what is wrong with an argument's header, or returns: it is not whole yet. */
  #checkHeader(start: number): void {
    const { bytes, end } = this.#window;
    if (start >= end) return;
    const lineEnd = this.#findLineEnd(start, CR, "too big bulk count string");
    if (lineEnd < 0 || lineEnd + 2 > end) return;
    if (bytes[start] !== DOLLAR) {
      throw this.#fail(`expected '$', got '${toLatin1(bytes, start, start + 1)}'`);
    }
    const length = readLong(bytes, start + 1, lineEnd);
    if (length === undefined || length < 0 || length > this.#limits.bulkBytes) {
      throw this.#fail("invalid bulk length");
    }
    throw this.#fail("unauthenticated bulk length");
  }

  #scanInline(): boolean {
    const { bytes, at: base } = this.#window;
    const lineEnd = this.#findLineEnd(base, LF, "too big inline request");
    if (lineEnd < 0) return false;
    const hasCr = lineEnd > base && bytes[lineEnd - 1] === CR;
    const words = splitWords(bytes.subarray(base, hasCr ? lineEnd - 1 : lineEnd));
    if (words === undefined) throw this.#fail("unbalanced quotes in request");
    this.#words = new Uint8Array(Buffer.concat(words));
    this.#argc = words.length;
    this.#cursor = lineEnd + 1 - base;
    let start = 0;
    for (const [index, { length }] of words.entries()) {
      if (2 * index === this.#places.length) this.#growPlaces();
      this.#places[2 * index] = start;
      this.#places[2 * index + 1] = length;
      start += length;
    }
    return true;
  }

  /** Where the line that starts at `start` ends, or -1; each byte is looked at once. */
  #findLineEnd(start: number, mark: number, complaint: string): number {
    const { bytes, end } = this.#window;
    const limit = Math.min(end, start + this.#limits.inlineBytes + 1);
    for (let at = start + this.#searched; at < limit; at++) {
      if (bytes[at] === mark) {
        this.#searched = at - start;
        return at;
      }
    }
    this.#searched = limit - start;
    if (end - start > this.#limits.inlineBytes) throw this.#fail(complaint);
    return -1;
  }

  #growPlaces(): Int32Array<ArrayBuffer> {
    const grown = new Int32Array(2 * this.#places.length);
    grown.set(this.#places);
    this.#places = grown;
    return grown;
  }

  #fail(complaint: string): Failure {
    const message = `Protocol error: ${complaint}`;
    this.#failure = new Failure("PROTOCOL_ERROR", message, { offset: this.#start });
    return this.#failure;
  }
}

/** What is still to come of a command: arguments that nobody keeps. */
export class CommandRest {
  #arguments: number;
  readonly #maxBytes: number;
  /** The header of an argument as far as it has come. */
  #header = "";
  /** Bytes to come of an argument and of the line end behind it. */
  #bytes = 0;

  constructor(argumentsLeft: number, maxBytes: number) {
    this.#arguments = argumentsLeft;
    this.#maxBytes = maxBytes;
  }

  get isDone(): boolean {
    return this.#arguments === 0 && this.#bytes === 0;
  }

  /** How many of these bytes belong to the command. @throws Failure PROTOCOL_ERROR */
  skip(chunk: Uint8Array): number {
    let at = 0;
    while (at < chunk.length && !this.isDone) {
      const skipped = Math.min(this.#bytes, chunk.length - at);
      this.#bytes -= skipped;
      at += skipped;
      if (this.#bytes === 0 && this.#arguments > 0 && at < chunk.length) {
        this.#readHeader(chunk[at++] as number);
      }
    }
    return at;
  }

  #readHeader(byte: number): void {
    this.#header += String.fromCharCode(byte);
    const isWhole = byte === LF;
    if (!isWhole && this.#header.length <= maxBulkHeaderBytes) return;
    const length = Number(/^\$(\d{1,10})\r\n$/.exec(this.#header)?.[1] ?? Number.NaN);
    if (!(length <= this.#maxBytes)) {
      throw new Failure("PROTOCOL_ERROR", "Protocol error: invalid bulk length");
    }
    this.#header = "";
    this.#arguments--;
    this.#bytes = length + 2;
  }
}

/** A number as servers' `string2ll()` takes it: no plus sign, no leading zero, within 64 bits. */
function readLong(bytes: Uint8Array, start: number, end: number): number | undefined {
  // Nearly every count has one digit.
  if (end === start + 1) {
    const digit = (bytes[start] as number) - ZERO;
    return digit >= 0 && digit <= 9 ? digit : undefined;
  }
  if (end - start > 20) return undefined;
  const text = toLatin1(bytes, start, end);
  if (!/^-?[1-9]\d*$/.test(text)) return undefined;
  const value = BigInt(text);
  return BigInt.asIntN(64, value) === value ? Number(value) : undefined;
}
