/**
 * A data set as JSON lines: one key a line, so that `diff`, `grep` and `jq` work on it.
 *
 *   {"library":"name","engine":"LUA","code":"…"}
 *   {"db":0,"key":"…","type":"hash","encoding":"listpack","expireAtMs":null,"value":[…]}
 *
 * All names and values are base64 of the bytes. `freq` and `idle` follow `expireAtMs` where the
 * file has them. What `value` is:
 *
 *   string   the bytes                     list     elements in order
 *   set      members by their bytes        hash     [field, value] or [field, value, expireAtMs]
 *   zset     [member, score] by score, then member; scores as text
 *   stream   { entries: [[id, [field, value, …]]…], lastId, firstId, maxDeletedId, entriesAdded,
 *            groups: [{ name, lastId, entriesRead, pel: [[id, consumer, deliveredAtMs, count]…],
 *            consumers: [{ name, seenMs, activeMs, pel: [ids] }] }] }, groups by name
 *   array    [index, element]
 *   vectorset  { quantization, dim, elements: [[name, attributes or null]…], payload }
 *   module   { module, version, payload }: the value as it stands in the file, type included
 *
 * A number that JSON would not keep exactly is a string of digits. Where `value` would be longer
 * than 16 KiB there is `valueDigest: { sha256, jsonBytes, count }` of it instead (for streams,
 * `entriesDigest` within the value), unless whole values are asked for. What a file's version does
 * not know of a stream (ids before 7.0, activity before 7.2) is left out.
 *
 * INVARIANT. The lines are canonical: the same data gives the same bytes, whichever server wrote
 * it, but for `encoding`, `freq` and `idle`, which are information.
 *
 * Memory is bounded by the sorter that is passed in: see `Sorter`.
 */
import { createHash, type Hash } from "node:crypto";
import { compareBytes, type Slice, toLatin1 } from "../base/bytes.ts";
import type { KeyHead } from "./rdb/key-sink.ts";
import type {
  DataType,
  StreamConsumer,
  StreamGroup,
  StreamId,
  StreamInfo,
  StreamPending,
} from "./rdb/model.ts";
import type { Parts, RdbEvent } from "./rdb/parts.ts";
import { formatScore } from "./rdb/score.ts";
import { compareIds, formatId } from "./rdb/stream.ts";
import { moduleOf, readVectorSet } from "./rdb/vector-set.ts";

/** Puts lines in the order of their keys, which are one character a byte. */
export interface Sorter {
  add(key: string, line: string): void;
  /** All lines in order; the sorter is empty afterwards. */
  drain(): Iterable<string>;
}

/** Longer canonical JSON is kept as a digest. */
const digestOver = 16 * 1024;

export class JsonLineWriter {
  readonly #members: Sorter;
  readonly #whole: boolean;
  #type = 0;
  #dataType: DataType = "string";
  #version = 0;
  #head = "";
  #attributes = "";
  #encoding = "";
  #isSorted = false;
  #text: JsonText;
  #count = 0;
  #raw: Uint8Array[] = [];
  #stream: StreamText | undefined;

  /**
   * @param members sorts the members of one set, hash or sorted set at a time
   * @param whole   gives values of any length instead of digests
   */
  constructor(members: Sorter, whole = false) {
    this.#members = members;
    this.#whole = whole;
    this.#text = new JsonText(whole);
  }

  /** Begins the line of a key: that of a reader that is at one. */
  begin(head: KeyHead): void {
    const { database, key, expireAtMs, frequency, idleSeconds, layout } = head;
    this.#type = head.type;
    this.#dataType = layout.type;
    this.#version = head.version;
    this.#text = new JsonText(this.#whole);
    this.#count = 0;
    this.#raw = [];
    this.#stream = layout.type === "stream" ? new StreamText(head.type) : undefined;
    this.#isSorted = layout.type === "set" || layout.type === "hash" || layout.type === "zset";
    this.#encoding = encodingOf(head);
    this.#head = `{"db":${database},"key":"${base64(key.view())}"`;
    this.#attributes = `,"expireAtMs":${exact(expireAtMs)}`;
    if (frequency !== null) this.#attributes += `,"freq":${frequency}`;
    if (idleSeconds !== null) this.#attributes += `,"idle":${idleSeconds}`;
  }

  /** Takes what the reader came upon. Returns the line when the key is complete. */
  take(event: RdbEvent, parts: Parts): string | undefined {
    const { first, second } = parts;
    switch (event) {
      case "string":
        this.#encoding = stringEncoding(first);
        this.#text.add(`"${base64(first.view())}"`);
        this.#count = first.length;
        return this.#line("string");
      case "begin":
        if (this.#encoding === "quicklist2") {
          this.#encoding =
            parts.nodes === 1 && this.#version >= firstWithListpacks ? "listpack" : "quicklist";
        }
        return undefined;
      case "element":
        this.#add(first, `"${base64(first.view())}"`);
        return undefined;
      case "member":
        this.#addMember(parts);
        return undefined;
      case "field": {
        const time = parts.fieldExpireAtMs < 0 ? "" : `,${exact(parts.fieldExpireAtMs)}`;
        this.#add(first, `["${base64(first.view())}","${base64(second.view())}"${time}]`);
        return undefined;
      }
      case "item":
        this.#add(first, `[${exact(parts.index)},"${base64(first.view())}"]`);
        return undefined;
      case "entry":
        this.#add(first, `["${formatId(parts.id)}",[${parts.fields.map(quoted).join(",")}]]`);
        return undefined;
      case "raw":
        this.#raw.push(first.copy());
        return undefined;
      case "end value":
        return this.#end();
      default:
        this.#stream?.take(event, parts);
        return undefined;
    }
  }

  #add(member: Slice, json: string): void {
    this.#count++;
    if (this.#isSorted) this.#members.add(member.latin1(), json);
    else this.#text.item(json);
  }

  #addMember({ first, score }: Parts): void {
    this.#count++;
    const json = `["${base64(first.view())}","${formatScore(score)}"]`;
    this.#members.add(scoreKey(score) + first.latin1(), json);
  }

  #end(): string {
    if (this.#dataType === "module") return this.#module();
    if (this.#isSorted) for (const json of this.#members.drain()) this.#text.item(json);
    this.#text.close();
    if (this.#stream) return this.#streamLine(this.#stream.end());
    return this.#line(this.#dataType);
  }

  #line(type: string): string {
    const value = this.#text.isLong
      ? `"valueDigest":${this.#text.digest(this.#count)}`
      : `"value":${this.#text.text}`;
    return this.#finish(type, value);
  }

  #finish(type: string, value: string): string {
    const encoding = this.#encoding;
    return `${this.#head},"type":"${type}","encoding":"${encoding}"${this.#attributes},${value}}\n`;
  }

  #streamLine(rest: string): string {
    const entries = this.#text;
    const length = '{"entries":'.length + entries.length + 1 + rest.length;
    const isLong = !this.#whole && length > digestOver;
    const first = isLong
      ? `"entriesDigest":${entries.digest(this.#count)}`
      : `"entries":${entries.text}`;
    return this.#finish("stream", `"value":{${first},${rest}`);
  }

  #module(): string {
    const raw = Buffer.concat(this.#raw);
    const payload = Buffer.concat([Uint8Array.of(this.#type), raw]).toString("base64");
    const set = readVectorSet(raw);
    this.#encoding = "raw";
    if (!set) {
      const { name, version } = moduleOf(raw);
      this.#text.add(JSON.stringify({ module: name, version, payload }));
      return this.#line("module");
    }
    const elements = set.elements
      .toSorted((a, b) => compareBytes(a.name, b.name))
      .map(({ name, attributes }) => [base64(name), attributes && base64(attributes)]);
    const { quantization, dimensions } = set;
    this.#count = elements.length;
    this.#text.add(JSON.stringify({ quantization, dim: dimensions, elements, payload }));
    return this.#line("vectorset");
  }
}

/** The line of a function library, from its code. */
export function libraryLine(code: Slice): string {
  const { name, engine } = libraryOf(code);
  return `${JSON.stringify({ library: name, engine, code: base64(code.view()) })}\n`;
}

/** What a library's first line says of it: `#!lua name=mylib`. */
export function libraryOf(code: Slice): { name: string; engine: string } {
  // In two steps: one pattern for both would try each split of a long first word.
  const [line = ""] = code.latin1().split("\n", 1);
  const engine = /^#!(\S+)/.exec(line)?.[1] ?? "";
  const name = /\sname=(?:"([^"]*)"|(\S+))/.exec(line);
  return { name: name?.[1] ?? name?.[2] ?? "", engine: engine.toUpperCase() };
}

/** JSON that is kept while it is short, and only summed up when it gets long. */
class JsonText {
  readonly #whole: boolean;
  readonly #pieces: string[] = [];
  /** Made when it is needed: it costs more than most values. */
  #hash: Hash | undefined;
  #items = 0;
  length = 0;

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  get isLong(): boolean {
    return !this.#whole && this.length > digestOver;
  }

  get text(): string {
    return this.#pieces.join("");
  }

  add(json: string): void {
    this.length += json.length;
    if (this.isLong) {
      this.#sum().update(json);
    } else {
      this.#pieces.push(json);
    }
  }

  /** Adds an item of an array. */
  item(json: string): void {
    this.add(this.#items++ === 0 ? "[" : ",");
    this.add(json);
  }

  close(): void {
    this.add(this.#items === 0 ? "[]" : "]");
  }

  /** The sum of all that was added before. */
  #sum(): Hash {
    this.#hash ??= createHash("sha256");
    if (this.#pieces.length > 0) this.#hash.update(this.#pieces.splice(0).join(""));
    return this.#hash;
  }

  digest(count: number): string {
    const sha256 = this.#sum().digest("hex");
    return JSON.stringify({ sha256, jsonBytes: this.length, count });
  }
}

/** What of a stream stands behind its entries. */
class StreamText {
  readonly #hasActivity: boolean;
  #info: StreamInfo | undefined;
  readonly #groups: { readonly name: Uint8Array; readonly text: string }[] = [];
  #group: StreamGroup | undefined;
  #pending: StreamPending[] = [];
  #owners = new Map<string, string>();
  #consumers: { readonly consumer: StreamConsumer; readonly ids: StreamId[] }[] = [];

  constructor(type: number) {
    this.#hasActivity = type >= 21;
  }

  take(event: RdbEvent, parts: Parts): void {
    if (event === "stream") this.#info = parts.stream;
    else if (event === "group") {
      this.#endGroup();
      this.#group = parts.group;
    } else if (event === "pending" && parts.pending) this.#pending.push(parts.pending);
    else if (event === "consumer" && parts.consumer) {
      this.#consumers.push({ consumer: parts.consumer, ids: [] });
    } else if (event === "consumer pending") {
      const { consumer, ids } = this.#consumers.at(-1) ?? {};
      ids?.push(parts.id);
      if (consumer) this.#owners.set(formatId(parts.id), quoted(consumer.name));
    }
  }

  /** The rest of the value's JSON, from `lastId` on. */
  end(): string {
    this.#endGroup();
    const info = this.#info;
    if (!info) return "}";
    const added = info.isComplete
      ? `"firstId":"${formatId(info.firstId)}","maxDeletedId":"${formatId(info.maxDeletedId)}","entriesAdded":${exact(info.entriesAdded)},`
      : "";
    const groups = this.#groups.toSorted((a, b) => compareBytes(a.name, b.name));
    const texts = groups.map((group) => group.text).join(",");
    return `"lastId":"${formatId(info.lastId)}",${added}"groups":[${texts}]}`;
  }

  #endGroup(): void {
    const group = this.#group;
    if (!group) return;
    const read = this.#info?.isComplete ? `"entriesRead":${exact(group.entriesRead)},` : "";
    const pel = this.#pending
      .toSorted((a, b) => compareIds(a.id, b.id))
      .map((entry) => {
        const id = formatId(entry.id);
        const owner = this.#owners.get(id) ?? null;
        return `["${id}",${owner},${exact(entry.deliveredAtMs)},${entry.deliveries}]`;
      });
    const consumers = this.#consumers
      .toSorted((a, b) => compareBytes(a.consumer.name, b.consumer.name))
      .map(({ consumer, ids }) => this.#consumerText(consumer, ids));
    const text = `{"name":${quoted(group.name)},"lastId":"${formatId(group.lastId)}",${read}"pel":[${pel.join(",")}],"consumers":[${consumers.join(",")}]}`;
    this.#groups.push({ name: group.name, text });
    this.#pending = [];
    this.#owners = new Map();
    this.#consumers = [];
  }

  #consumerText(consumer: StreamConsumer, ids: StreamId[]): string {
    const { name, seenMs, activeMs } = consumer;
    const active =
      this.#hasActivity && activeMs !== undefined ? `"activeMs":${exact(activeMs)},` : "";
    const pel = ids.toSorted(compareIds).map((id) => `"${formatId(id)}"`);
    return `{"name":${quoted(name)},"seenMs":${exact(seenMs)},${active}"pel":[${pel.join(",")}]}`;
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

function quoted(bytes: Uint8Array): string {
  return `"${base64(bytes)}"`;
}

/** A number where JSON keeps it exactly, else a string of digits. */
function exact(value: number | bigint | null): string {
  if (value === null) return "null";
  return Number.isSafeInteger(Number(value)) ? `${value}` : `"${value}"`;
}

/** Eight characters that sort as the scores do; both zeros are the same. */
function scoreKey(score: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(score === 0 ? 0 : score);
  const isNegative = ((bytes[0] as number) & 0x80) !== 0;
  for (let i = 0; i < 8; i++)
    bytes[i] = (bytes[i] as number) ^ (isNegative ? 0xff : i === 0 ? 0x80 : 0);
  return toLatin1(bytes);
}

const encodingNames: Readonly<Record<string, string>> = {
  "zset plain": "skiplist",
  "set plain": "hashtable",
  "hash plain": "hashtable",
  "list plain": "quicklist",
};

/** OBJECT ENCODING on the server that wrote the file, as far as the file tells. */
function encodingOf({ layout, type }: KeyHead): string {
  if (type === 25) return "listpackex";
  return encodingNames[`${layout.type} ${layout.encoding}`] ?? layout.encoding;
}

/** The version of files whose servers hold a short list as one listpack: 7.2. */
const firstWithListpacks = 11;
/** Longer strings are not held together with their object. */
const longestEmbedded = 44;

function stringEncoding(value: Slice): string {
  if (value.length <= 20 && isInt64(value.latin1())) return "int";
  return value.length <= longestEmbedded ? "embstr" : "raw";
}

function isInt64(text: string): boolean {
  if (!/^(?:0|-?[1-9]\d*)$/.test(text)) return false;
  return BigInt.asIntN(64, BigInt(text)).toString() === text;
}
