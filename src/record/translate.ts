/**
 * Makes log records of a replication stream.
 *
 * WHY. The two are almost the same bytes, and the differences matter:
 *
 *   in the stream only          PING, REPLCONF GETACK, PUBLISH, SPUBLISH, CLUSTER SETSLOT, CLUSTER
 *                               SYNCSLOTS, stray line ends: counted by the offset, left out of the log
 *   not said in the stream      the database after a partial resynchronization: it is remembered
 *   relative (before Redis 7)   EXPIRE, PEXPIRE, EXPIREAT, SETEX, PSETEX, SET … EX|PX, RESTORE,
 *                               RESTORE-ASKING: made absolute with the source's time at which they came
 *
 * INVARIANTS
 *
 *   1. A batch ends with a unit: a command outside of transactions, or everything from MULTI to EXEC.
 *      `offset` counts every byte of the stream up to there.
 *   2. Whatever differs from the stream stands at the beginning of a batch: what was left out, and one
 *      unit that was changed. So whoever reads the log counts back from the end of a batch, and knows
 *      the position behind each unit to the byte.
 *   3. What is not known passes as it is.
 *   4. Memory: a chunk and what it became, and `partBytes` of a unit that is not whole. One that has
 *      more is given out in parts. An old source's command with a time that may be relative is held
 *      as a whole: its end says what becomes of its beginning.
 */
import assert from "node:assert/strict";
import { copyBytesOf, empty, Slice, toLatin1 } from "../base/bytes.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import { type CommandRest, RequestParser } from "../codec/resp/request.ts";

export type StreamState = {
  /** The replication offset: bytes of the stream before the next one. */
  readonly offset: number;
  /** The database that the next command is for. */
  readonly database: number;
};

/** Records, and the state behind the last whole unit. */
export type Batch = StreamState & {
  /**
   * Encoded records in pieces that are cut anywhere; none where there was nothing for the log.
   * Borrowed until the next `push()`: most of them are the chunk itself.
   */
  readonly pieces: readonly Uint8Array[];
  /** The database that the first of them is for. */
  readonly databaseBefore: number;
  /** How many commands end in it. */
  readonly commands: number;
  /** They are of a unit that goes on with the next batch; `offset` is where it began. */
  readonly isPart: boolean;
};

export type TranslatorOptions = {
  /** Whether the source passes on relative times: it is older than Redis 7.0. */
  readonly hasRelativeTimes: boolean;
  /** The source's time now, in Unix milliseconds. */
  readonly now: () => number;
};

/** A unit that is not whole is given out in parts when it has more. */
const partBytes = 1024 * 1024;

export class StreamTranslator {
  readonly #parser = new RequestParser();
  readonly #now: () => number;
  readonly #kinds: Kinds;
  /** What has not been given out: of the batch that is being filled, and of the unit. */
  readonly #pieces = new Pieces();
  readonly #encoder = new RespEncoder();
  readonly #name = new Slice();
  readonly #slice = new Slice();
  /** The offset of the parser's first byte, moved on by what was passed without it. */
  #base: number;
  /** What is passed without the parser: the rest of a command that is given out in parts. */
  #rest: CommandRest | undefined;
  #database: number;
  #isInTransaction = false;
  /** Of the unit that is being read: its bytes for the log, and its commands. */
  #unitBytes = 0;
  #unitCommands = 0;
  /** The state behind the last whole unit. */
  #offset: number;
  #wholeDatabase: number;
  /** Of the batch that is being filled. */
  #wholeBytes = 0;
  #commands = 0;
  #databaseBefore: number;
  /** The offset that the last batch has told. */
  #told: number;
  readonly #ready: Batch[] = [];
  #wantsAck = false;

  constructor(from: StreamState, options: TranslatorOptions) {
    this.#base = from.offset;
    this.#database = from.database;
    this.#databaseBefore = from.database;
    this.#offset = from.offset;
    this.#wholeDatabase = from.database;
    this.#told = from.offset;
    this.#now = options.now;
    this.#kinds = options.hasRelativeTimes ? relativeKinds : absoluteKinds;
  }

  /** Takes a chunk of the stream, cut anywhere, and fills batches. @throws Failure PROTOCOL_ERROR */
  push(chunk: Uint8Array): void {
    assert(this.#ready.length === 0, "All batches have been taken");
    this.#pieces.begin(chunk);
    const rest = this.#rest === undefined ? chunk : this.#pass(chunk, this.#rest);
    if (rest.length > 0) this.#parse(rest);
    this.#passLong();
    if (this.#offset > this.#told) this.#closeBatch();
    if (this.#unitBytes > 0 && this.#pieces.length > partBytes) this.#closePart();
    this.#pieces.keep();
  }

  /** The next batch, in order; undefined where the next chunk is needed. */
  take(): Batch | undefined {
    return this.#ready.shift();
  }

  /** Whether the source has asked for an acknowledgement since the last call. */
  takeAckRequest(): boolean {
    const wanted = this.#wantsAck;
    this.#wantsAck = false;
    return wanted;
  }

  #parse(chunk: Uint8Array): void {
    const parser = this.#parser;
    parser.push(chunk);
    while (parser.next()) {
      parser.argument(0, this.#name);
      this.#command(this.#kinds.of(this.#name));
      if (!this.#isInTransaction) this.#endUnit();
    }
    // A stray line end between commands is counted too.
    if (!this.#isInTransaction && this.#base + parser.end > this.#offset) this.#endUnit();
  }

  /** Gives the beginning of a long command away, and passes what is to come of it. */
  #passLong(): void {
    const parser = this.#parser;
    if (parser.pendingBytes <= partBytes || parser.pendingArguments === 0) return;
    parser.argument(0, this.#name);
    const kind = this.#kinds.of(this.#name);
    const hasNoOptions = kind === "timed" && parser.argc === 3 && this.#text(0) === "SET";
    if (kind !== "other" && !hasNoOptions) return;
    const { bytes, rest } = parser.takePending();
    this.#write(bytes, 0, bytes.length);
    this.#rest = rest;
  }

  /** Passes what of a chunk belongs to a long command. Returns what is behind it. */
  #pass(chunk: Uint8Array, rest: CommandRest): Uint8Array {
    const size = rest.skip(chunk);
    this.#write(chunk, 0, size);
    this.#base += size;
    if (rest.isDone) {
      this.#rest = undefined;
      this.#unitCommands++;
      if (!this.#isInTransaction) this.#endUnit();
    }
    return chunk.subarray(size);
  }

  #write(bytes: Uint8Array, start: number, end: number): void {
    this.#pieces.add(bytes, start, end);
    this.#unitBytes += end - start;
  }

  #endUnit(): void {
    const offset = this.#base + this.#parser.end;
    const isDifferent = offset - this.#offset !== this.#unitBytes;
    if (isDifferent && this.#wholeBytes > 0) this.#closeBatch();
    this.#offset = offset;
    this.#wholeDatabase = this.#database;
    this.#wholeBytes = this.#pieces.length;
    this.#commands += this.#unitCommands;
    this.#unitBytes = 0;
    this.#unitCommands = 0;
  }

  #closeBatch(): void {
    this.#give(this.#wholeBytes, this.#commands, false);
    this.#told = this.#offset;
    this.#databaseBefore = this.#wholeDatabase;
    this.#wholeBytes = 0;
    this.#commands = 0;
  }

  /** Gives out a unit that is not whole, and has grown too long to be kept. */
  #closePart(): void {
    this.#give(this.#pieces.length, 0, true);
  }

  #give(size: number, commands: number, isPart: boolean): void {
    const { offset, database } = { offset: this.#offset, database: this.#wholeDatabase };
    const databaseBefore = this.#databaseBefore;
    const pieces = this.#pieces.take(size);
    this.#ready.push({ offset, database, databaseBefore, commands, pieces, isPart });
  }

  #command(kind: Kind): void {
    switch (kind) {
      case "ping":
      case "message":
        return;
      case "replconf":
        this.#wantsAck = true;
        return;
      case "cluster":
        // Of who owns slots, not of keys; a server that is no part of a cluster may refuse to load them.
        if (/^(SETSLOT|SYNCSLOTS)$/.test(this.#text(1))) return;
        break;
      case "select":
        this.#database = Number(this.#text(1));
        break;
      case "multi":
        this.#isInTransaction = true;
        break;
      case "exec":
        this.#isInTransaction = false;
        break;
      case "timed":
        if (this.#makeAbsolute()) return;
        break;
      case "other":
    }
    this.#parser.raw(this.#slice);
    this.#write(this.#slice.bytes, this.#slice.start, this.#slice.end);
    this.#unitCommands++;
  }

  /** An argument in upper case; "" where there is none. */
  #text(index: number): string {
    if (index >= this.#parser.argc) return "";
    this.#parser.argument(index, this.#slice);
    return this.#slice.length > 32 ? "" : this.#slice.latin1().toUpperCase();
  }

  #bytes(index: number): Uint8Array {
    this.#parser.argument(index, this.#slice);
    return this.#slice.copy();
  }

  /** Writes the absolute form of a command with a relative time; false where it has none. */
  #makeAbsolute(): boolean {
    const name = toLatin1(this.#name.view()).toUpperCase();
    const args = rewrite(name, this.#parser.argc, (i) => this.#text(i), this.#now());
    if (!args) return false;
    this.#encoder.command(...args.map((arg) => (typeof arg === "number" ? this.#bytes(arg) : arg)));
    const record = this.#encoder.take();
    this.#write(record, 0, record.length);
    this.#unitCommands++;
    return true;
  }
}

/**
 * The arguments of the absolute form: texts, and numbers of arguments that are taken over. What the
 * source has passed on has happened, so conditions (NX, XX) are of no consequence any more.
 */
function rewrite(
  name: string,
  argc: number,
  text: (index: number) => string,
  now: number,
): (string | number)[] | undefined {
  const after = (index: number, unit: number) => absolute(text(index), unit, now);
  switch (name) {
    case "EXPIRE":
    case "PEXPIRE": {
      const time = after(2, name === "EXPIRE" ? 1000 : 1);
      return time === undefined ? undefined : ["PEXPIREAT", 1, time];
    }
    case "EXPIREAT": {
      const time = absolute(text(2), 1000, 0);
      return time === undefined ? undefined : ["PEXPIREAT", 1, time];
    }
    case "SETEX":
    case "PSETEX": {
      const time = after(2, name === "SETEX" ? 1000 : 1);
      return time === undefined ? undefined : ["SET", 1, 3, "PXAT", time];
    }
    case "SET":
      for (let i = 3; i + 1 < argc; i++) {
        const option = text(i);
        if (option !== "EX" && option !== "PX") continue;
        const time = after(i + 1, option === "EX" ? 1000 : 1);
        return time === undefined ? undefined : ["SET", 1, 2, "PXAT", time];
      }
      return undefined;
    case "RESTORE":
    case "RESTORE-ASKING":
      return rewriteRestore(argc, text, after(2, 1));
    default:
      return undefined;
  }
}

function rewriteRestore(
  argc: number,
  text: (index: number) => string,
  time: string | undefined,
): (string | number)[] | undefined {
  const options = Array.from({ length: argc - 4 }, (_, i) => text(i + 4));
  if (time === undefined || text(2) === "0" || options.includes("ABSTTL")) return undefined;
  return ["RESTORE", 1, time, 3, ...options.map((_, i) => i + 4), "ABSTTL"];
}

function absolute(text: string, unit: number, now: number): string | undefined {
  if (!/^-?\d{1,19}$/.test(text)) return undefined;
  return (BigInt(text) * BigInt(unit) + BigInt(Math.floor(now))).toString();
}

type Kind =
  | "ping"
  | "replconf"
  | "message"
  | "cluster"
  | "select"
  | "multi"
  | "exec"
  | "timed"
  | "other";

const always: readonly (readonly [string, Kind])[] = [
  ["PING", "ping"],
  ["REPLCONF", "replconf"],
  ["PUBLISH", "message"],
  ["SPUBLISH", "message"],
  ["CLUSTER", "cluster"],
  ["SELECT", "select"],
  ["MULTI", "multi"],
  ["EXEC", "exec"],
];
const timed = [
  "EXPIRE",
  "PEXPIRE",
  "EXPIREAT",
  "SETEX",
  "PSETEX",
  "SET",
  "RESTORE",
  "RESTORE-ASKING",
];
const longestName = 14;

/**
 * Bytes in the order in which they were added. What lies in the chunk one behind the other is one
 * piece and is not copied, unless it is still here when the chunk ends.
 */
class Pieces {
  #pieces: Uint8Array[] = [];
  /** The last piece, which may grow: a part of the chunk. */
  #runStart = 0;
  #runEnd = 0;
  #chunk: Uint8Array = empty;
  length = 0;

  begin(chunk: Uint8Array): void {
    this.#chunk = chunk;
    this.#runStart = 0;
    this.#runEnd = 0;
  }

  add(bytes: Uint8Array, start: number, end: number): void {
    this.length += end - start;
    if (bytes.buffer !== this.#chunk.buffer) {
      this.#endRun();
      if (end > start) this.#pieces.push(copyBytesOf(bytes, start, end));
      return;
    }
    const shift = bytes.byteOffset - this.#chunk.byteOffset;
    if (start + shift !== this.#runEnd) {
      this.#endRun();
      this.#runStart = start + shift;
    }
    this.#runEnd = end + shift;
  }

  #endRun(): void {
    if (this.#runEnd > this.#runStart) {
      this.#pieces.push(this.#chunk.subarray(this.#runStart, this.#runEnd));
    }
    this.#runStart = this.#runEnd;
  }

  /** Takes the first `size` bytes away. */
  take(size: number): Uint8Array[] {
    this.#endRun();
    const taken: Uint8Array[] = [];
    this.length -= size;
    for (let left = size; left > 0; ) {
      const piece = this.#pieces.shift() as Uint8Array;
      taken.push(piece.subarray(0, left));
      if (piece.length > left) this.#pieces.unshift(piece.subarray(left));
      left -= Math.min(piece.length, left);
    }
    return taken;
  }

  /** Makes what is left independent of the chunk. */
  keep(): void {
    this.#endRun();
    const { buffer } = this.#chunk;
    this.#pieces = this.#pieces.map((piece) =>
      piece.buffer === buffer ? copyBytesOf(piece) : piece,
    );
  }
}

/** Tells commands that need a look from those that pass, which are nearly all. */
class Kinds {
  readonly #byName: ReadonlyMap<string, Kind>;
  /** By first letter and length, so that no string is made for a name that is none of these. */
  readonly #mayMatter = new Uint8Array(256 * (longestName + 1));

  constructor(names: readonly (readonly [string, Kind])[]) {
    this.#byName = new Map(names);
    for (const [name] of names) {
      for (const letter of [name.charCodeAt(0), name.toLowerCase().charCodeAt(0)]) {
        this.#mayMatter[letter * (longestName + 1) + name.length] = 1;
      }
    }
  }

  of({ bytes, start, end }: Slice): Kind {
    const length = end - start;
    if (length > longestName || length === 0) return "other";
    const letter = bytes[start] as number;
    if (this.#mayMatter[letter * (longestName + 1) + length] === 0) return "other";
    return this.#byName.get(toLatin1(bytes, start, end).toUpperCase()) ?? "other";
  }
}

const absoluteKinds = new Kinds(always);
const relativeKinds = new Kinds([...always, ...timed.map((name) => [name, "timed"] as const)]);
