/**
 * Reads JSON lines, as `json-lines.ts` describes them, into an RDB writer.
 *
 * Every line is checked before it is written: a wrong one is refused by its number, what is wrong
 * with it, and where. A value that is a digest only cannot come back, and is refused too.
 *
 * The writer is the way to everything else: what it wrote can be read as any RDB, line by line. What
 * only that shows (a key that comes twice, consumers that contradict their group) is then told by
 * the line as well.
 */
import { copyBytesOf, Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { encodeStreamNodes, type NewEntry } from "./rdb/encode-stream-node.ts";
import type { StreamGroup, StreamId, StreamInfo } from "./rdb/model.ts";
import { parseScore } from "./rdb/score.ts";
import { compareIds } from "./rdb/stream.ts";
import { isModuleValue, moduleOf } from "./rdb/vector-set.ts";
import type { RdbWriter } from "./rdb/writer.ts";
import type { ValueWriter } from "./rdb/writer-value.ts";

/** A longer line is refused: it must fit in one string, and in memory. */
export const maxLineBytes = 512 * 2 ** 20 - 64;
const LF = 10;
const maxDatabase = 2 ** 31 - 1;
const maxFrequency = 255;
const digestHint = "Write the lines with `--whole`: it gives values of any length.";

export class JsonLineReader {
  readonly #writer: RdbWriter;
  readonly #onLine: () => void;
  #database = -1;
  #number = 0;
  #rest: Uint8Array[] = [];
  #restBytes = 0;

  /** @param onLine is called when a line has been written */
  constructor(writer: RdbWriter, onLine: () => void = () => {}) {
    this.#writer = writer;
    this.#onLine = onLine;
  }

  /** Takes a chunk, cut anywhere. @throws Failure DATA_CORRUPT, with the number of the line */
  push(chunk: Uint8Array): void {
    let from = 0;
    for (let lf = chunk.indexOf(LF); lf >= 0; lf = chunk.indexOf(LF, from)) {
      this.#keep(chunk.subarray(from, lf));
      this.#endLine();
      from = lf + 1;
    }
    // The chunk is the caller's again: what is left is copied.
    if (from < chunk.length) this.#keep(copyBytesOf(chunk, from));
  }

  /** The last line need not have a line end. */
  finish(): void {
    if (this.#restBytes > 0) this.#endLine();
  }

  #keep(part: Uint8Array): void {
    this.#restBytes += part.length;
    if (this.#restBytes > maxLineBytes) {
      const found = `line ${this.#number + 1} is longer than ${maxLineBytes} bytes`;
      throw new Failure("LIMIT_EXCEEDED", `Cannot read JSON lines: ${found}`);
    }
    this.#rest.push(part);
  }

  #endLine(): void {
    this.#number++;
    const text = Buffer.concat(this.#rest).toString("utf8");
    this.#rest = [];
    this.#restBytes = 0;
    if (text.trim() === "") return;
    const value = this.#parse(text);
    try {
      this.#line(new Json(value, ""));
      this.#onLine();
    } catch (cause) {
      if (!(cause instanceof Failure && cause.code === "DATA_CORRUPT")) throw cause;
      // An offset would be one in the RDB that nobody sees.
      throw this.#wrong(cause.message.replace(/ at byte \d+$/, ""), cause);
    }
  }

  #parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw this.#wrong((cause as Error).message, cause);
    }
  }

  #wrong(found: string, cause: unknown): Failure {
    const message = `Cannot read JSON lines: line ${this.#number}: ${found}`;
    const isDigest = cause instanceof Failure && cause.hint === digestHint;
    const hint = isDigest ? digestHint : "Correct the line, or leave it out.";
    return new Failure("DATA_CORRUPT", message, { cause, hint });
  }

  #line(line: Json): void {
    if (line.has("library")) {
      this.#writer.functionLibrary(line.at("code").bytes());
      return;
    }
    const database = line.at("db").count(maxDatabase);
    const key = line.at("key").bytes();
    if (line.has("valueDigest")) throw line.wrong("the value is a digest only", digestHint);
    if (database !== this.#database) this.#writer.database(database);
    this.#database = database;
    const value = this.#writer.key(key, {
      expireAtMs: line.at("expireAtMs").isNull ? null : line.at("expireAtMs").int64(),
      idleSeconds: line.has("idle") ? line.at("idle").count() : null,
      frequency: line.has("freq") ? line.at("freq").count(maxFrequency) : null,
    });
    writeValue(value, line.at("type").text(), line.at("value"));
  }
}

const first = new Slice();
const second = new Slice();

function point(slice: Slice, bytes: Uint8Array): Slice {
  slice.set(bytes, 0, bytes.length);
  return slice;
}

function writeValue(writer: ValueWriter, type: string, value: Json): void {
  switch (type) {
    case "string":
      writer.string(point(first, value.bytes()));
      return;
    case "list":
      writer.beginList({ elements: value.items().length });
      for (const item of value.items()) writer.element(point(first, item.bytes()));
      break;
    case "set":
      expectDistinct(value.items());
      writer.beginSet(value.items().length);
      for (const item of value.items()) writer.element(point(first, item.bytes()));
      break;
    case "zset":
      expectDistinct(value.items().map((pair) => pair.at(0)));
      writer.beginZset(value.items().length);
      for (const pair of value.items()) {
        writer.member(point(first, pair.at(0).bytes()), pair.at(1).score());
      }
      break;
    case "hash":
      writeHash(writer, value);
      break;
    case "stream":
      writeStream(writer, value);
      break;
    case "vectorset":
    case "module":
      writeModule(writer, value);
      break;
    default:
      throw value.wrong(`a value of type "${type}"`);
  }
  writer.endValue();
}

/** Two texts of base64 are the same when their bytes are. */
function expectDistinct(members: readonly Json[]): void {
  const seen = new Set<string>();
  for (const member of members) {
    if (seen.size === seen.add(member.text()).size) throw member.wrong("for the second time");
  }
}

function writeHash(writer: ValueWriter, value: Json): void {
  const items = value.items();
  expectDistinct(items.map((item) => item.at(0)));
  const mayExpire = items.some((item) => item.items().length > 2);
  writer.beginHash(items.length, mayExpire);
  for (const item of items) {
    const expireAtMs = item.items().length > 2 ? item.at(2).time() : -1;
    writer.field(point(first, item.at(0).bytes()), point(second, item.at(1).bytes()), expireAtMs);
  }
}

function writeModule(writer: ValueWriter, value: Json): void {
  const payload = value.at("payload");
  const raw = payload.bytes().subarray(1);
  if (!isModuleValue(raw)) throw payload.wrong("no value of a module");
  writer.beginModule(moduleOf(raw).name);
  writer.moduleBytes(point(first, raw));
}

function writeStream(writer: ValueWriter, value: Json): void {
  if (value.has("entriesDigest")) throw value.wrong("the entries are a digest only", digestHint);
  const entries = value.at("entries").items().map(readEntry);
  for (const [i, entry] of entries.entries()) {
    const before = entries[i - 1];
    if (before && compareIds(entry.id, before.id) <= 0) throw value.wrong("entries out of order");
  }
  const nodes = encodeStreamNodes(entries, "old");
  writer.beginStream(nodes.length);
  for (const { masterId, listpack } of nodes) {
    writer.streamNode(point(first, masterId), point(second, listpack));
  }
  const groups = value.at("groups").items();
  writer.streamInfo(readInfo(value, entries, groups.length));
  for (const group of groups) writeGroup(writer, group);
}

function readEntry(item: Json): NewEntry {
  const fields = item
    .at(1)
    .items()
    .map((field) => field.bytes());
  if (fields.length === 0 || fields.length % 2 !== 0) throw item.wrong("fields without values");
  return { id: item.at(0).id(), fields };
}

/** What lines of old versions lack is what a server computes when it reads their files. */
function readInfo(value: Json, entries: readonly NewEntry[], groups: number): StreamInfo {
  const isComplete = value.has("firstId");
  const none = { ms: 0n, seq: 0n };
  return {
    length: entries.length,
    statedLength: entries.length,
    lastId: value.at("lastId").id(),
    firstId: isComplete ? value.at("firstId").id() : (entries[0]?.id ?? none),
    maxDeletedId: isComplete ? value.at("maxDeletedId").id() : none,
    entriesAdded: isComplete ? value.at("entriesAdded").uint64() : BigInt(entries.length),
    isComplete,
    groups,
  };
}

function writeGroup(writer: ValueWriter, group: Json): void {
  const pel = group.at("pel").items();
  const read = group.has("entriesRead") ? group.at("entriesRead") : undefined;
  const head: StreamGroup = {
    name: group.at("name").bytes(),
    lastId: group.at("lastId").id(),
    entriesRead: read && !read.isNull ? read.uint64() : null,
    pending: pel.length,
  };
  writer.streamGroup(head);
  for (const entry of pel) {
    const deliveredAtMs = BigInt(entry.at(2).int64());
    writer.streamPending({ id: entry.at(0).id(), deliveredAtMs, deliveries: entry.at(3).count() });
  }
  const consumers = group.at("consumers").items();
  writer.streamConsumers(consumers.length);
  for (const consumer of consumers) {
    const ids = consumer
      .at("pel")
      .items()
      .map((id) => id.id());
    const activeMs = consumer.has("activeMs") ? BigInt(consumer.at("activeMs").int64()) : undefined;
    const seenMs = BigInt(consumer.at("seenMs").int64());
    const name = consumer.at("name").bytes();
    writer.streamConsumer({ name, seenMs, activeMs, pending: ids.length });
    for (const id of ids) writer.streamConsumerPending(id);
  }
}

/** A parsed JSON value that is checked as it is read, and says where in the line it stands. */
class Json {
  readonly #value: unknown;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    this.#value = value;
    this.#path = path;
  }

  wrong(found: string, hint?: string): Failure {
    const place = this.#path === "" ? "" : `at ${this.#path}, `;
    return new Failure("DATA_CORRUPT", `${place}${found}`, hint === undefined ? {} : { hint });
  }

  get isNull(): boolean {
    return this.#value === null;
  }

  has(name: string): boolean {
    return (
      typeof this.#value === "object" && this.#value !== null && Object.hasOwn(this.#value, name)
    );
  }

  at(name: string | number): Json {
    if (!this.has(String(name))) throw this.wrong(`"${name}" is missing`);
    return new Json(Reflect.get(this.#value as object, name), `${this.#path}.${name}`);
  }

  items(): Json[] {
    if (!Array.isArray(this.#value)) throw this.wrong("no array");
    return this.#value.map((item, i) => new Json(item, `${this.#path}.${i}`));
  }

  text(): string {
    if (typeof this.#value !== "string") throw this.wrong("no text");
    return this.#value;
  }

  /** Base64, and nothing that only looks like it. */
  bytes(): Uint8Array {
    const text = this.text();
    const bytes = Buffer.from(text, "base64");
    if (bytes.toString("base64") !== text) throw this.wrong("no base64");
    return bytes;
  }

  count(max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#value;
    if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max) {
      return value as number;
    }
    throw this.wrong("no count");
  }

  int64(): number | bigint {
    return this.#integer(-(2n ** 63n), 2n ** 63n - 1n);
  }

  uint64(): bigint {
    return BigInt(this.#integer(0n, 2n ** 64n - 1n));
  }

  /** Milliseconds since 1970. */
  time(): number | bigint {
    return this.#integer(0n, 2n ** 63n - 1n);
  }

  /** A number where JSON keeps it exactly, else a string of digits. */
  #integer(min: bigint, max: bigint): number | bigint {
    const value = this.#value;
    const isDigits = typeof value === "string" && /^-?\d{1,20}$/.test(value);
    if (!isDigits && !Number.isSafeInteger(value)) throw this.wrong("no integer");
    const integer = BigInt(value as string | number);
    if (integer < min || integer > max) throw this.wrong("an integer out of range");
    return Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
  }

  score(): number {
    const text = Buffer.from(this.text(), "latin1");
    const score = parseScore(text, 0, text.length);
    if (Number.isNaN(score)) throw this.wrong("no score");
    return score;
  }

  id(): StreamId {
    const match = /^(\d{1,20})-(\d{1,20})$/.exec(this.text());
    const [, ms = "", seq = ""] = match ?? [];
    const id = { ms: BigInt(ms || -1), seq: BigInt(seq || -1) };
    if (!match || id.ms >= 2n ** 64n || id.seq >= 2n ** 64n) throw this.wrong("no stream id");
    return id;
  }
}
