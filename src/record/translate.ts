/**
 * Makes log records of a replication stream.
 *
 * WHY. The two are almost the same bytes, and the differences matter:
 *
 *   in the stream only          PING, REPLCONF GETACK, PUBLISH, SPUBLISH, CLUSTER SETSLOT, stray line
 *                               ends: counted by the offset, left out of the log
 *   not said in the stream      the database after a partial resynchronization: it is remembered
 *   relative (before Redis 7)   EXPIRE, PEXPIRE, EXPIREAT, SETEX, PSETEX, SET … EX|PX, RESTORE: made
 *                               absolute with the source's time at which they came
 *
 * INVARIANTS
 *
 *   1. `offset` counts every byte of the stream up to the end of the last whole unit: a command
 *      outside of transactions, or everything from MULTI to EXEC. Only whole units are given out.
 *   2. What is not known passes as it is.
 *
 * Memory: the commands of one chunk, and of a transaction that is not complete yet.
 */
import { Slice, toLatin1 } from "../base/bytes.ts";
import { ByteWriter, RespEncoder } from "../codec/resp/encode.ts";
import { RequestParser } from "../codec/resp/request.ts";

export type StreamState = {
  /** The replication offset: bytes of the stream before the next one. */
  readonly offset: number;
  /** The database that the next command is for. */
  readonly database: number;
};

export type Batch = StreamState & {
  /** Whole units, encoded; empty where there was nothing for the log. Owned by the caller. */
  readonly records: Uint8Array;
  /** The database that the first of them is for. */
  readonly databaseBefore: number;
  /** How many they are. */
  readonly commands: number;
};

export type TranslatorOptions = {
  /** Whether the source passes on relative times: it is older than Redis 7.0. */
  readonly hasRelativeTimes: boolean;
  /** The source's time now, in Unix milliseconds. */
  readonly now: () => number;
};

export class StreamTranslator {
  readonly #parser = new RequestParser();
  readonly #now: () => number;
  readonly #kinds: Kinds;
  readonly #start: number;
  readonly #out = new ByteWriter();
  readonly #encoder = new RespEncoder();
  readonly #name = new Slice();
  readonly #slice = new Slice();
  #database: number;
  #isInTransaction = false;
  /** The state behind the last whole unit, and what of `#out` is before it. */
  #whole: StreamState;
  #wholeBytes = 0;
  #wholeCommands = 0;
  #commands = 0;
  #databaseBefore: number;
  #wantsAck = false;
  /** The offset that `take()` has told last. */
  #taken: number;

  constructor(from: StreamState, options: TranslatorOptions) {
    this.#start = from.offset;
    this.#database = from.database;
    this.#databaseBefore = from.database;
    this.#whole = from;
    this.#taken = from.offset;
    this.#now = options.now;
    this.#kinds = options.hasRelativeTimes ? relativeKinds : absoluteKinds;
  }

  /** The state behind the last whole unit. */
  get state(): StreamState {
    return this.#whole;
  }

  /** Takes a chunk of the stream, cut anywhere. @throws Failure PROTOCOL_ERROR */
  push(chunk: Uint8Array): void {
    const parser = this.#parser;
    parser.push(chunk);
    while (parser.next()) {
      parser.argument(0, this.#name);
      this.#command(this.#kinds.of(this.#name));
      if (!this.#isInTransaction) this.#endUnit(parser.end);
    }
    // A stray line end between commands is counted too.
    if (!this.#isInTransaction && parser.end > this.#whole.offset - this.#start) {
      this.#endUnit(parser.end);
    }
  }

  /** Whether the source has asked for an acknowledgement since the last call. */
  takeAckRequest(): boolean {
    const wanted = this.#wantsAck;
    this.#wantsAck = false;
    return wanted;
  }

  /** What is whole since the last call; undefined where the stream has not gone on. */
  take(): Batch | undefined {
    const before = this.#databaseBefore;
    if (this.#wholeBytes === 0 && this.#taken === this.#whole.offset) return undefined;
    const all = this.#out.take();
    const records = all.subarray(0, this.#wholeBytes);
    this.#out.append(all, this.#wholeBytes);
    const commands = this.#wholeCommands;
    this.#commands -= commands;
    this.#wholeBytes = 0;
    this.#wholeCommands = 0;
    this.#taken = this.#whole.offset;
    this.#databaseBefore = this.#whole.database;
    return { ...this.#whole, records, databaseBefore: before, commands };
  }

  #endUnit(end: number): void {
    this.#whole = { offset: this.#start + end, database: this.#database };
    this.#wholeBytes = this.#out.length;
    this.#wholeCommands = this.#commands;
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
        if (this.#text(1) === "SETSLOT") return;
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
    this.#out.append(this.#slice.bytes, this.#slice.start, this.#slice.end);
    this.#commands++;
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
    this.#out.append(this.#encoder.take());
    this.#commands++;
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
const timed = ["EXPIRE", "PEXPIRE", "EXPIREAT", "SETEX", "PSETEX", "SET", "RESTORE"];
const longestName = 9;

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
