/**
 * Replies of a server, RESP2 and RESP3, found in chunks of any size.
 *
 * WHY. A client must wait for the whole of a reply, and then wants it as one value. So this parser
 * gives values, with bytes that belong to the caller; whoever takes a snapshot out of a connection
 * takes over behind a reply with `takeRest()`.
 *
 * FORMAT. The first byte tells the type; a line ends in CR LF.
 *
 *   "+" line  simple      "-" line  error        ":" [+-]digits  integer    "(" [+-]digits  big number
 *   "_"       null        "#" t/f   boolean      "," number      double
 *   "$" size  bulk        "!" size  bulk error   "=" size        verbatim: three bytes, ":", text
 *   "*" n     array       "~" n     set          ">" n           push
 *   "%" n     map of n pairs                     "|" n           attributes of the reply that follows
 *   "$-1", "*-1"  null in RESP2
 *   "$?" then ";" size parts, ";0" being the end; "*?" "~?" "%?" then items, "." being the end
 *
 * INVARIANTS
 *
 *   1. What comes out does not depend on how the bytes were cut into chunks.
 *   2. Nothing is allocated for a length that was only announced, and nothing is recursive: nesting
 *      is a list of open aggregates, with a limit.
 *   3. After an error, every call throws it again.
 *
 * REJECTED. Plain JavaScript values: a bulk string and a status, a set and an array would be the
 * same, and an integer above 2^53 would be wrong. Integers above it are `bigint`, others `number`.
 */
import { copyBytesOf, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { Window } from "./window.ts";

export type Reply =
  | { readonly type: "simple" | "error" | "bulk" | "bulkError"; readonly bytes: Uint8Array }
  | { readonly type: "verbatim"; readonly format: string; readonly bytes: Uint8Array }
  | { readonly type: "integer"; readonly value: number | bigint }
  | { readonly type: "bigNumber"; readonly value: bigint }
  | { readonly type: "double"; readonly value: number }
  | { readonly type: "boolean"; readonly value: boolean }
  | { readonly type: "null" }
  | { readonly type: "array" | "set" | "push"; readonly items: readonly Reply[] }
  | { readonly type: "map"; readonly pairs: readonly Pair[] }
  /** A reply with attributes, which a client may ignore. */
  | { readonly type: "attributed"; readonly attributes: readonly Pair[]; readonly reply: Reply };

export type Pair = readonly [key: Reply, value: Reply];

export type ReplyLimits = {
  /** The longest string. */
  readonly bulkBytes: number;
  /** The longest line: a status, an error, a big number. */
  readonly lineBytes: number;
  /** How many aggregates may be open at once. */
  readonly nesting: number;
  /** How many strings, numbers and aggregates one reply may have in all. */
  readonly items: number;
  /** How many bytes one reply may have in all. */
  readonly replyBytes: number;
};

export const replyLimits: ReplyLimits = {
  bulkBytes: 512 * 1024 * 1024,
  lineBytes: 64 * 1024,
  nesting: 128,
  items: 64 * 1024 * 1024,
  replyBytes: 2 ** 31 - 1,
};

type AggregateType = "array" | "set" | "push" | "map" | "attribute";

/** An aggregate that is not complete: `left` items are to come, or an end mark where infinite. */
type Open = {
  readonly type: AggregateType | "attributed";
  readonly items: Reply[];
  left: number;
  readonly attributes?: readonly Pair[];
};

const aggregates: ReadonlyMap<string, AggregateType> = new Map([
  ["*", "array"],
  ["~", "set"],
  [">", "push"],
  ["%", "map"],
  ["|", "attribute"],
]);

const LF = 10;
const CR = 13;
const COLON = 58;

export class ReplyParser {
  readonly #limits: ReplyLimits;
  readonly #window = new Window();
  readonly #open: Open[] = [];
  /** Where the reply, and the next byte that is looked at, stand in the stream. */
  #start = 0;
  #offset = 0;
  #items = 0;
  /** How far the line was searched for its end. */
  #searched = 0;
  /** A string whose size is known, and whose bytes have not all come. */
  #string: { readonly type: string; readonly size: number } | undefined;
  /** The parts of a streamed string. */
  #parts: Uint8Array[] | undefined;
  #failure: Failure | undefined;

  constructor(limits: Partial<ReplyLimits> = {}) {
    this.#limits = { ...replyLimits, ...limits };
  }

  /** Takes the next chunk after `next()` gave nothing. It is borrowed until that comes again. */
  push(chunk: Uint8Array): void {
    this.#window.push(chunk);
  }

  /** The next reply, or undefined where the next chunk is needed. */
  next(): Reply | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    for (;;) {
      const value = this.#readValue();
      if (value === undefined) {
        if (!this.#window.more()) return undefined;
        continue;
      }
      const reply = value === "opened" ? undefined : this.#place(value);
      if (reply === undefined) continue;
      this.#start = this.#offset;
      this.#items = 0;
      return reply;
    }
  }

  /** Where the next reply starts in the stream, counted from the first byte that was pushed. */
  get offset(): number {
    return this.#start;
  }

  /** Owned bytes: what came behind the last reply, for a reader of something else. */
  takeRest(): Uint8Array {
    const rest = this.#window.takeRest();
    this.#offset += rest.length;
    this.#start = this.#offset;
    return rest;
  }

  /** The next string, number or end of an aggregate; undefined where more bytes are needed. */
  #readValue(): Reply | "opened" | undefined {
    if (this.#string !== undefined) return this.#readString(this.#string);
    const { bytes, at } = this.#window;
    // A primary keeps the link alive with line feeds while it makes a snapshot.
    if (this.#open.length === 0 && at < this.#window.end && bytes[at] === LF) {
      this.#consume(1);
      this.#start = this.#offset;
      return "opened";
    }
    const lineEnd = this.#findLineEnd();
    if (lineEnd < 0) return undefined;
    const type = toLatin1(bytes, at, at + 1);
    if (this.#parts !== undefined && type !== ";") {
      throw this.#fail(`${JSON.stringify(type)} where a part of a streamed string must start`);
    }
    let value: Reply | "opened";
    if (type === "+" || type === "-") {
      const content = copyBytesOf(bytes, at + 1, lineEnd);
      value = this.#count({ type: type === "+" ? "simple" : "error", bytes: content });
    } else {
      value = this.#readLine(type, toLatin1(bytes, at + 1, lineEnd));
    }
    this.#searched = 0;
    this.#consume(lineEnd + 2 - at);
    return value;
  }

  /** Every type but the two that hold free text. */
  #readLine(type: string, text: string): Reply | "opened" {
    const isPart = type === ";" && this.#parts !== undefined;
    const aggregate = aggregates.get(type);
    if (aggregate !== undefined) return this.#openAggregate(aggregate, text);
    if (type === "$" || type === "!" || type === "=" || isPart) return this.#openString(type, text);
    if (type === ".") return this.#endAggregate(text);
    const value = readScalar(type, text);
    if (value === undefined) throw this.#fail(`Reply ${JSON.stringify(type + text.slice(0, 40))}`);
    return this.#count(value);
  }

  #openString(type: string, text: string): Reply | "opened" {
    if (type === "$" && text === "-1") return this.#count({ type: "null" });
    if (type === "$" && text === "?") {
      this.#parts = [];
      return "opened";
    }
    const size = this.#readSize(text);
    if (type === ";" && size === 0) return this.#joinParts();
    if (type === "=" && size < 4) throw this.#fail("Verbatim string without a format");
    this.#limit(size, this.#limits.bulkBytes, "bytes in a string");
    this.#limit(this.#offset - this.#start + size, this.#limits.replyBytes, "bytes in a reply");
    this.#string = { type, size };
    return "opened";
  }

  #readString({ type, size }: { type: string; size: number }): Reply | "opened" | undefined {
    const { bytes, at, end } = this.#window;
    const stop = at + size;
    if (stop + 2 > end) return undefined;
    if (bytes[stop] !== CR || bytes[stop + 1] !== LF) throw this.#fail("String without a line end");
    const isVerbatim = type === "=";
    if (isVerbatim && bytes[at + 3] !== COLON) throw this.#fail("Verbatim string without a format");
    const format = isVerbatim ? toLatin1(bytes, at, at + 3) : "";
    const content = copyBytesOf(bytes, isVerbatim ? at + 4 : at, stop);
    this.#string = undefined;
    this.#consume(size + 2);
    if (type === ";") {
      this.#parts?.push(content);
      return this.#count("opened");
    }
    if (isVerbatim) return this.#count({ type: "verbatim", format, bytes: content });
    return this.#count({ type: type === "!" ? "bulkError" : "bulk", bytes: content });
  }

  #joinParts(): Reply {
    const bytes = new Uint8Array(Buffer.concat(this.#parts ?? []));
    this.#limit(bytes.length, this.#limits.bulkBytes, "bytes in a string");
    this.#parts = undefined;
    return this.#count({ type: "bulk", bytes });
  }

  #openAggregate(type: AggregateType, text: string): Reply | "opened" {
    if (type === "array" && text === "-1") return this.#count({ type: "null" });
    const length = text === "?" ? Number.POSITIVE_INFINITY : this.#readSize(text);
    if (length !== Number.POSITIVE_INFINITY)
      this.#limit(length, this.#limits.items, "items in a reply");
    this.#limit(this.#open.length + 1, this.#limits.nesting, "aggregates within each other");
    const isPaired = type === "map" || type === "attribute";
    const open: Open = { type, items: [], left: isPaired ? 2 * length : length };
    this.#open.push(open);
    return this.#count(length === 0 ? (this.#close(open) ?? "opened") : "opened");
  }

  #endAggregate(text: string): Reply | "opened" {
    const open = this.#open.at(-1);
    if (text !== "" || open === undefined || open.left !== Number.POSITIVE_INFINITY) {
      throw this.#fail("End mark outside of a streamed aggregate");
    }
    return this.#close(open) ?? "opened";
  }

  /** Puts a value where it belongs. Returns the reply, if that is complete with it. */
  #place(value: Reply): Reply | undefined {
    let done: Reply | undefined = value;
    while (done !== undefined) {
      const open = this.#open.at(-1);
      if (open === undefined) return done;
      open.items.push(done);
      open.left--;
      if (open.left > 0) return undefined;
      done = this.#close(open);
    }
    return undefined;
  }

  /** The innermost aggregate as a value; nothing for attributes, whose reply is still to come. */
  #close(open: Open): Reply | undefined {
    this.#open.pop();
    const { type, items, attributes } = open;
    switch (type) {
      case "map":
        return { type, pairs: this.#pair(items) };
      case "attribute":
        this.#open.push({ type: "attributed", items: [], left: 1, attributes: this.#pair(items) });
        return undefined;
      case "attributed":
        return { type, attributes: attributes ?? [], reply: items[0] as Reply };
      case "array":
      case "set":
      case "push":
        return { type, items };
    }
  }

  #pair(items: readonly Reply[]): Pair[] {
    if (items.length % 2 === 1) throw this.#fail("Map with a key that has no value");
    const pairs: Pair[] = [];
    for (let i = 0; i < items.length; i += 2)
      pairs.push([items[i] as Reply, items[i + 1] as Reply]);
    return pairs;
  }

  #readSize(text: string): number {
    if (!/^\d{1,15}$/.test(text)) throw this.#fail(`Length ${JSON.stringify(text.slice(0, 40))}`);
    return Number(text);
  }

  /** Where the line ends that starts the unread bytes, or -1; each byte is looked at once. */
  #findLineEnd(): number {
    const { bytes, at, end } = this.#window;
    for (let i = at + this.#searched; i + 1 < end; i++) {
      if (bytes[i] === CR && bytes[i + 1] === LF) {
        this.#limit(i - at, this.#limits.lineBytes, "bytes in a line");
        return i;
      }
    }
    this.#searched = Math.max(end - at - 1, 0);
    this.#limit(this.#searched, this.#limits.lineBytes, "bytes in a line");
    return -1;
  }

  #consume(size: number): void {
    this.#offset += size;
    this.#window.at += size;
    this.#window.settle();
  }

  #count<T>(value: T): T {
    this.#items++;
    this.#limit(this.#items, this.#limits.items, "items in a reply");
    this.#limit(this.#offset - this.#start, this.#limits.replyBytes, "bytes in a reply");
    return value;
  }

  #limit(value: number, limit: number, what: string): void {
    if (value <= limit) return;
    throw this.#fail(`More than ${limit} ${what}`, "LIMIT_EXCEEDED");
  }

  #fail(found: string, code: "PROTOCOL_ERROR" | "LIMIT_EXCEEDED" = "PROTOCOL_ERROR"): Failure {
    const offset = this.#offset;
    const message = `Cannot read the reply: ${found} at byte ${offset}`;
    this.#failure = new Failure(code, message, { offset });
    return this.#failure;
  }
}

/** What stands on one line; undefined where that is not as its type says. */
function readScalar(type: string, text: string): Reply | undefined {
  switch (type) {
    case ":":
      return readInteger(text);
    case "(":
      return /^[+-]?\d+$/.test(text) ? { type: "bigNumber", value: BigInt(text) } : undefined;
    case "_":
      return text === "" ? { type: "null" } : undefined;
    case "#":
      return text === "t" || text === "f" ? { type: "boolean", value: text === "t" } : undefined;
    case ",":
      return readDouble(text);
    default:
      return undefined;
  }
}

function readInteger(text: string): Reply | undefined {
  if (!/^[+-]?\d{1,20}$/.test(text)) return undefined;
  const value = Number(text);
  // "-0" is zero, and no server sends it.
  if (Number.isSafeInteger(value)) return { type: "integer", value: value + 0 };
  const exact = BigInt(text);
  return BigInt.asIntN(64, exact) === exact ? { type: "integer", value: exact } : undefined;
}

function readDouble(text: string): Reply | undefined {
  if (/^[+-]?nan$/i.test(text)) return { type: "double", value: Number.NaN };
  if (/^[+-]?inf$/i.test(text)) {
    const isNegative = text.startsWith("-");
    const value = isNegative ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    return { type: "double", value };
  }
  const isNumber = /^[+-]?\d+(\.\d*)?(e[+-]?\d+)?$/i.test(text);
  return isNumber ? { type: "double", value: Number(text) } : undefined;
}
