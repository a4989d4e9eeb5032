/**
 * Writes commands and replies, RESP2 or RESP3, into a buffer that grows.
 *
 * WHY. A reply or a command is a few short pieces. They are written straight into one buffer, and
 * what has been written is taken from it without copying: the next piece goes behind it, into the
 * same block of memory, and a block is never written twice.
 *
 * FORMAT of RESP3, and what a client of RESP2 gets in its place:
 *
 *   simple "+"  error "-"  integer ":"  bulk "$"  array "*"        the same
 *   null "_"                  $-1, or *-1 where an array was asked for
 *   double ","                a bulk string with the number
 *   boolean "#t" "#f"         :1 and :0
 *   big number "("            a bulk string with the digits
 *   bulk error "!"            an error; verbatim "=" a bulk string
 *   map "%n"                  an array of 2n; set "~" and push ">": an array
 *
 * Attributes have no form in RESP2 and are refused there.
 */
import { strict as assert } from "node:assert";

/** An argument of a command. Texts are sent as UTF-8, numbers as their digits. */
export type Argument = Uint8Array | string | number | bigint;

const blockBytes = 64 * 1024;
/** A call of set() costs as much as copying some fifty bytes one by one. */
const byHandBytes = 48;
const CR = 13;
const LF = 10;

const mark = {
  simple: 43,
  error: 45,
  integer: 58,
  bulk: 36,
  array: 42,
  map: 37,
  set: 126,
  push: 62,
  attribute: 124,
} as const;

/** Bytes that are appended and taken. */
const none = new Uint8Array(0);

export class ByteWriter {
  #bytes: Uint8Array = none;
  /** Memory that is free to be written to next. */
  #spare: Uint8Array = none;
  #start = 0;
  #end = 0;

  /** How many bytes are there to be taken. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Owned bytes: nothing writes to them any more. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(this.#start, this.#end);
    this.#start = this.#end;
    return taken;
  }

  /**
   * As `take()`. What is written from now on goes into other memory: when the bytes are not needed
   * any more, `reuse()` saves the next ones from being allocated.
   */
  takeAll(): Uint8Array {
    const taken = this.take();
    this.#bytes = this.#spare;
    this.#spare = none;
    this.#start = 0;
    this.#end = 0;
    return taken;
  }

  /** Takes back what `takeAll()` gave. */
  reuse(bytes: Uint8Array): void {
    if (bytes.byteLength > 0) this.#spare = new Uint8Array(bytes.buffer);
  }

  /** What take() would give, left in place. Borrowed until the next call. */
  peek(from = 0): Uint8Array {
    return this.#bytes.subarray(this.#start + from, this.#end);
  }

  /** Takes back all but the first `length` bytes that are there to be taken. */
  truncate(length: number): void {
    assert(length <= this.length, "Only what is there can be taken back");
    this.#end = this.#start + length;
  }

  append(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.#reserve(end - start);
    this.#copy(bytes, start, end);
  }

  /** A bulk string: the size, the bytes, and the line end. */
  appendBulk(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.appendHeader(mark.bulk, end - start);
    this.#reserve(end - start + 2);
    this.#copy(bytes, start, end);
    this.#bytes[this.#end++] = CR;
    this.#bytes[this.#end++] = LF;
  }

  /** Characters below 256, one byte each. */
  appendLatin1(text: string): void {
    this.#reserve(text.length);
    const target = this.#bytes;
    let at = this.#end;
    for (let i = 0; i < text.length; i++) target[at++] = text.charCodeAt(i);
    this.#end = at;
  }

  /** A mark, a number and a line end: `*3`, `$64`, `:-1`. */
  appendHeader(mark: number, value: number): void {
    if (value >= 0 && value <= 999_999_999) {
      this.#reserve(16);
      const target = this.#bytes;
      target[this.#end++] = mark;
      let size = 1;
      for (let bound = 10; value >= bound; bound *= 10) size++;
      let rest = value | 0;
      for (let at = this.#end + size - 1; at >= this.#end; at--) {
        const tenth = (rest / 10) | 0;
        target[at] = 48 + rest - tenth * 10;
        rest = tenth;
      }
      this.#end += size;
      target[this.#end++] = CR;
      target[this.#end++] = LF;
    } else {
      this.appendLatin1(`${String.fromCharCode(mark)}${value}\r\n`);
    }
  }

  #copy(bytes: Uint8Array, start: number, end: number): void {
    const target = this.#bytes;
    let at = this.#end;
    if (end - start <= byHandBytes) {
      for (let i = start; i < end; i++) target[at++] = bytes[i] as number;
    } else if (start === 0 && end === bytes.length) {
      target.set(bytes, at);
    } else {
      target.set(bytes.subarray(start, end), at);
    }
    this.#end += end - start;
  }

  #reserve(size: number): void {
    if (this.#bytes.length - this.#end >= size) return;
    const unread = this.#end - this.#start;
    const grown = new Uint8Array(Math.max(2 * (unread + size), blockBytes));
    grown.set(this.#bytes.subarray(this.#start, this.#end));
    this.#bytes = grown;
    this.#start = 0;
    this.#end = unread;
  }
}

export class RespEncoder {
  /** What the peer has chosen with HELLO; it may change between two replies. */
  protocol: 2 | 3;
  readonly #out = new ByteWriter();

  constructor(protocol: 2 | 3 = 2) {
    this.protocol = protocol;
  }

  get length(): number {
    return this.#out.length;
  }

  /** All that was written since the last call. Owned bytes. */
  take(): Uint8Array {
    return this.#out.take();
  }

  /** A whole command. */
  command(...args: readonly Argument[]): void {
    this.array(args.length);
    for (const arg of args) this.argument(arg);
  }

  /** A bulk string from whatever a command's argument may be. */
  argument(value: Argument): void {
    if (typeof value === "string") this.bulkText(value);
    else if (value instanceof Uint8Array) this.bulk(value);
    else this.bulkText(String(value));
  }

  /** What is encoded already. */
  raw(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.#out.append(bytes, start, end);
  }

  /** A status line, such as OK; without line ends. */
  simple(text: string): void {
    this.#line("+", text);
  }

  /** An error: its code, a space and the rest. Line ends become spaces, as servers do it. */
  error(text: string): void {
    this.#line("-", text.replace(/[\r\n]/g, " "));
  }

  integer(value: number | bigint): void {
    if (typeof value === "number") {
      assert(Number.isSafeInteger(value), "An integer reply is a whole number");
      this.#out.appendHeader(mark.integer, value);
    } else {
      this.#out.appendLatin1(`:${value}\r\n`);
    }
  }

  bulk(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.#out.appendBulk(bytes, start, end);
  }

  bulkText(text: string): void {
    if (isAscii(text)) {
      this.#out.appendHeader(mark.bulk, text.length);
      this.#out.appendLatin1(text);
      this.#out.appendLatin1("\r\n");
    } else {
      this.bulk(Buffer.from(text, "utf8"));
    }
  }

  /** The header of an array; its items follow. */
  array(length: number): void {
    this.#out.appendHeader(mark.array, length);
  }

  /** The header of a map; twice as many items follow. */
  map(pairs: number): void {
    if (this.protocol === 3) this.#out.appendHeader(mark.map, pairs);
    else this.array(2 * pairs);
  }

  set(length: number): void {
    this.#out.appendHeader(this.protocol === 3 ? mark.set : mark.array, length);
  }

  push(length: number): void {
    this.#out.appendHeader(this.protocol === 3 ? mark.push : mark.array, length);
  }

  /** The header of attributes; twice as many items follow, then the reply that they are about. */
  attribute(pairs: number): void {
    assert(this.protocol === 3, "RESP2 has no attributes");
    this.#out.appendHeader(mark.attribute, pairs);
  }

  null(): void {
    this.#out.appendLatin1(this.protocol === 3 ? "_\r\n" : "$-1\r\n");
  }

  nullArray(): void {
    this.#out.appendLatin1(this.protocol === 3 ? "_\r\n" : "*-1\r\n");
  }

  boolean(value: boolean): void {
    if (this.protocol === 3) this.#line("#", value ? "t" : "f");
    else this.integer(value ? 1 : 0);
  }

  /** The shortest digits that give the number again; `inf`, `-inf` and `nan` as servers have them. */
  double(value: number): void {
    const text = doubleText(value);
    if (this.protocol === 3) this.#line(",", text);
    else this.bulkText(text);
  }

  bigNumber(value: bigint): void {
    if (this.protocol === 3) this.#line("(", String(value));
    else this.bulkText(String(value));
  }

  /** A text with three letters for its format: `txt` or `mkd`. */
  verbatim(format: string, text: Uint8Array): void {
    assert(/^[\x20-\x39\x3b-\x7e]{3}$/.test(format), "The format of a text is three letters");
    if (this.protocol === 3) {
      this.#out.appendLatin1(`=${text.length + 4}\r\n${format}:`);
      this.#out.append(text);
      this.#out.appendLatin1("\r\n");
    } else {
      this.bulk(text);
    }
  }

  /** An error that may hold any bytes. */
  bulkError(text: Uint8Array): void {
    if (this.protocol === 3) {
      this.#out.appendLatin1(`!${text.length}\r\n`);
      this.#out.append(text);
      this.#out.appendLatin1("\r\n");
    } else {
      this.error(Buffer.from(text).toString("utf8"));
    }
  }

  #line(type: string, text: string): void {
    assert(!/[\r\n]/.test(text), "A line holds no line end");
    if (isAscii(text)) this.#out.appendLatin1(`${type}${text}\r\n`);
    else this.#out.append(Buffer.from(`${type}${text}\r\n`, "utf8"));
  }
}

/** A double as RESP3 writes it. */
function doubleText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  return Object.is(value, -0) ? "-0" : String(value);
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}
