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
import { moduleOf } from "./rdb/vector-set.ts";
import type { RdbWriter } from "./rdb/writer.ts";
import type { ValueWriter } from "./rdb/writer-value.ts";

/** A longer line is refused: it must fit in one string, and in memory. */
export const maxLineBytes = 512 * 2 ** 20 - 64;
const LF = 10;

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
      throw this.#wrong(cause.message, cause);
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
    const hint = cause instanceof DigestOnly ? cause.hint : "Correct the line, or leave it out.";
    return new Failure("DATA_CORRUPT", message, { cause, hint });
  }

  #line(line: Json): void {
    if (line.has("library")) {
      this.#writer.functionLibrary(line.at("code").bytes());
      return;
    }
    const database = line.at("db").count();
    const key = line.at("key").bytes();
    if (line.has("valueDigest")) {
      throw line.wrong("the value is a digest only: write the lines with `--whole` to have it");
    }
    if (database !== this.#database) this.#writer.database(database);
    this.#database = database;
    const value = this.#writer.key(key, {
      expireAtMs: line.at("expireAtMs").isNull ? null : line.at("expireAtMs").integer(),
      idleSeconds: line.has("idle") ? line.at("idle").count() : null,
      frequency: line.has("freq") ? line.at("freq").count() : null,
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
      writer.beginSet(value.items().length);
      for (const item of value.items()) writer.element(point(first, item.bytes()));
      break;
    case "zset":
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

function writeHash(writer: ValueWriter, value: Json): void {
  const items = value.items();
  const mayExpire = items.some((item) => item.items().length > 2);
  writer.beginHash(items.length, mayExpire);
  for (const item of items) {
    const expireAtMs = item.items().length > 2 ? item.at(2).integer() : -1;
    writer.field(point(first, item.at(0).bytes()), point(second, item.at(1).bytes()), expireAtMs);
  }
}

function writeModule(writer: ValueWriter, value: Json): void {
  const raw = value.at("payload").bytes().subarray(1);
  writer.beginModule(moduleOf(raw).name);
  writer.moduleBytes(point(first, raw));
}

function writeStream(writer: ValueWriter, value: Json): void {
  if (value.has("entriesDigest")) throw value.wrong("the entries are a digest only");
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
    entriesAdded: isComplete ? BigInt(value.at("entriesAdded").integer()) : BigInt(entries.length),
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
    entriesRead: read && !read.isNull ? BigInt(read.integer()) : null,
    pending: pel.length,
  };
  writer.streamGroup(head);
  for (const entry of pel) {
    const deliveredAtMs = BigInt(entry.at(2).integer());
    writer.streamPending({ id: entry.at(0).id(), deliveredAtMs, deliveries: entry.at(3).count() });
  }
  const consumers = group.at("consumers").items();
  writer.streamConsumers(consumers.length);
  for (const consumer of consumers) {
    const ids = consumer
      .at("pel")
      .items()
      .map((id) => id.id());
    const activeMs = consumer.has("activeMs")
      ? BigInt(consumer.at("activeMs").integer())
      : undefined;
    const seenMs = BigInt(consumer.at("seenMs").integer());
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

  wrong(found: string): Failure {
    return new Failure("DATA_CORRUPT", `${this.#path === "" ? "" : `at ${this.#path}, `}${found}`);
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

  count(): number {
    const value = this.#value;
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.wrong("no count");
  }

  integer(): number | bigint {
    const value = this.#value;
    if (typeof value === "number" && Number.isSafeInteger(value)) return value;
    if (typeof value === "string" && /^-?\d{1,20}$/.test(value)) return BigInt(value);
    throw this.wrong("no integer");
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
