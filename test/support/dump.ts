/**
 * What a server holds, as the canonical lines of `test/fixtures/README.md`: functions first, then
 * keys by database and by the bytes of the key, names and values in base64.
 *
 * WHY. The lines are the common measure of these tests: fixtures come with the lines that the real
 * server read, and whatever Tidemark reads, writes or converts is compared as lines too. So this
 * reads over the protocol only, and shares nothing with `src`.
 */
import { createHash } from "node:crypto";
import { type Argument, type Client, type Reply, ReplyError } from "./client.ts";

/** A number where JSON keeps it exactly, else its decimal digits. */
export type Exact = number | string;
export type Digest = {
  readonly sha256: string;
  readonly jsonBytes: number;
  readonly count: number;
};

export type HashField = [field: string, value: string, expireAtMs?: Exact];
export type StreamConsumerLine = {
  name: string;
  seenMs?: Exact;
  activeMs?: Exact;
  pel: string[];
};
export type StreamGroupLine = {
  name: string;
  lastId: string;
  entriesRead?: Exact | null;
  pel: [id: string, consumer: string, deliveredAtMs: Exact, deliveries: Exact][];
  consumers: StreamConsumerLine[];
};
export type StreamLine = {
  entries?: [id: string, fieldsAndValues: string[]][];
  entriesDigest?: Digest;
  lastId: string;
  firstId?: string;
  maxDeletedId?: string;
  entriesAdded?: Exact;
  groups: StreamGroupLine[];
};
export type VectorSetLine = {
  quantization: string;
  dim: Exact;
  elements: [name: string, attributes: string | null][];
  payload?: string;
};

/** `value`, or `valueDigest` where the value's JSON is longer than 16 KiB. */
export type Value =
  | { type: "string"; value?: string; valueDigest?: Digest }
  | { type: "list" | "set"; value?: string[]; valueDigest?: Digest }
  | { type: "hash"; value?: HashField[]; valueDigest?: Digest }
  | { type: "zset"; value?: [member: string, score: string][]; valueDigest?: Digest }
  | { type: "stream"; value?: StreamLine; valueDigest?: Digest }
  | { type: "vectorset"; value?: VectorSetLine; valueDigest?: Digest };

export type LibraryLine = { library: string; engine: string; code: string };
export type KeyLine = {
  db: number;
  key: string;
  encoding: string | null;
  expireAtMs: Exact | null;
  freq?: number;
  idle?: number;
} & Value;
export type Line = LibraryLine | KeyLine;

/** What a server can be asked, by its version. */
export type Capabilities = {
  readonly functions: boolean;
  readonly pexpiretime: boolean;
  /** Entries added, highest deleted id, entries read. */
  readonly streamCounters: boolean;
  readonly activeTime: boolean;
  readonly hashFieldExpiry: boolean;
};

export function isLibrary(line: Line): line is LibraryLine {
  return "library" in line;
}

export function parseLines(jsonLines: string): Line[] {
  return jsonLines
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
}

export function formatLines(lines: readonly Line[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

/**
 * Reads everything. `usage` asks for the counters that an eviction policy keeps; they are read
 * before anything touches the keys. Keys that expire meanwhile are left out.
 */
export async function dumpServer(
  client: Client,
  can: Capabilities,
  usage: "freq" | "idle" | "none" = "none",
): Promise<Line[]> {
  const lines: Line[] = can.functions ? await readLibraries(client) : [];
  const keyspace = bytesOf(await client.call("INFO", "keyspace")).toString();
  const databases = [...keyspace.matchAll(/^db(\d+):/gm)].map((match) => Number(match[1]));
  for (const db of databases.sort((a, b) => a - b)) {
    await client.call("SELECT", db);
    lines.push(...(await readDatabase(client, can, db, usage)));
  }
  await client.call("SELECT", 0);
  return lines;
}

/** A double as text: JavaScript's shortest form, `inf`, `-inf`, `-0`. */
function scoreText(score: number): string {
  if (score === Infinity) return "inf";
  if (score === -Infinity) return "-inf";
  return Object.is(score, -0) ? "-0" : String(score);
}

export function parseScore(text: string): number {
  return text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text);
}

async function readLibraries(client: Client): Promise<LibraryLine[]> {
  const libraries = listOf(await client.call("FUNCTION", "LIST", "WITHCODE")).map(fieldsOf);
  return libraries
    .map((fields) => ({
      library: textOf(fields["library_name"]),
      engine: textOf(fields["engine"]),
      code: base64(fields["library_code"]),
    }))
    .sort((a, b) => Buffer.compare(Buffer.from(a.library), Buffer.from(b.library)));
}

async function readDatabase(
  client: Client,
  can: Capabilities,
  db: number,
  usage: "freq" | "idle" | "none",
): Promise<KeyLine[]> {
  const keys = listOf(await client.call("KEYS", "*"))
    .map(bytesOf)
    .sort(byBytes);
  const each = (...command: Argument[]) =>
    client.pipeline(keys.map((key) => [...command, key] as const));
  const counters =
    usage === "none" ? [] : await each("OBJECT", usage === "freq" ? "FREQ" : "IDLETIME");
  const types = await each("TYPE");
  const lines: KeyLine[] = [];
  for (const [i, key] of keys.entries()) {
    const type = textOf(types[i]);
    if (type === "none") continue;
    const encoding = await client.ask("OBJECT", "ENCODING", key);
    const expireAtMs = await readExpiry(client, key, can);
    lines.push({
      db,
      key: base64(key),
      type,
      encoding: encoding instanceof ReplyError || encoding === null ? null : textOf(encoding),
      expireAtMs,
      ...(usage === "none" ? {} : { [usage]: counters[i] }),
      ...shorten(type, await readValue(client, key, type, can)),
    } as KeyLine);
  }
  return lines;
}

type Read = { readonly value: unknown; readonly count: number };

/** Replaces what is long by its digest: of a stream its entries alone. */
function shorten(type: string, { value, count }: Read): object {
  const json = JSON.stringify(value);
  if (json.length <= 16 * 1024) return { value };
  if (type !== "stream") return { valueDigest: digest(json, count) };
  const { entries, ...rest } = value as StreamLine;
  return { value: { entriesDigest: digest(JSON.stringify(entries), count), ...rest } };
}

function digest(json: string, count: number): Digest {
  const sha256 = createHash("sha256").update(json).digest("hex");
  return { sha256, jsonBytes: json.length, count };
}

async function readValue(
  client: Client,
  key: Buffer,
  type: string,
  can: Capabilities,
): Promise<Read> {
  switch (type) {
    case "string": {
      const value = bytesOf(await client.call("GET", key));
      return { value: base64(value), count: value.length };
    }
    case "list":
      return counted(listOf(await client.call("LRANGE", key, 0, -1)).map(base64));
    case "set": {
      const members = listOf(await client.call("SMEMBERS", key)).map(bytesOf);
      return counted(members.sort(byBytes).map(base64));
    }
    case "zset":
      return counted(await readSortedSet(client, key));
    case "hash":
      return counted(await readHash(client, key, can));
    case "stream": {
      const stream = await readStream(client, key, can);
      return { value: stream, count: stream.entries?.length ?? 0 };
    }
    case "vectorset":
      return await readVectorSet(client, key);
    default:
      throw new Error(`Cannot read a key of type "${type}"`);
  }
}

function counted(value: unknown[]): Read {
  return { value, count: value.length };
}

async function readSortedSet(client: Client, key: Buffer): Promise<[string, string][]> {
  const members = pairsOf(await client.call("ZRANGE", key, 0, -1, "WITHSCORES")).map(
    ([member, score]) => ({ member: bytesOf(member), score: parseScore(textOf(score)) }),
  );
  members.sort((a, b) =>
    a.score === b.score ? Buffer.compare(a.member, b.member) : a.score < b.score ? -1 : 1,
  );
  return members.map(({ member, score }) => [base64(member), scoreText(score)]);
}

async function readHash(client: Client, key: Buffer, can: Capabilities): Promise<HashField[]> {
  const pairs = pairsOf(await client.call("HGETALL", key)).map(
    ([field, value]) => [bytesOf(field), base64(value)] as const,
  );
  pairs.sort((a, b) => Buffer.compare(a[0], b[0]));
  const times: Reply[] = [];
  for (let at = 0; can.hashFieldExpiry && at < pairs.length; at += 5000) {
    const fields = pairs.slice(at, at + 5000).map(([field]) => field);
    const part = await client.call("HPEXPIRETIME", key, "FIELDS", fields.length, ...fields);
    times.push(...listOf(part));
  }
  return pairs.map(([field, value], i): HashField => {
    const at = times[i];
    const expires = (typeof at === "number" || typeof at === "bigint") && at > 0;
    return expires ? [base64(field), value, exact(at)] : [base64(field), value];
  });
}

async function readStream(client: Client, key: Buffer, can: Capabilities): Promise<StreamLine> {
  const info = fieldsOf(await client.call("XINFO", "STREAM", key, "FULL", "COUNT", 0));
  const groups = listOf(info["groups"]).map((group) => readGroup(fieldsOf(group), can));
  return {
    entries: listOf(info["entries"]).map((entry) => {
      const [id, pairs] = listOf(entry);
      return [textOf(id), listOf(pairs).map(base64)];
    }),
    lastId: textOf(info["last-generated-id"]),
    ...(can.streamCounters
      ? {
          firstId: textOf(info["recorded-first-entry-id"]),
          maxDeletedId: textOf(info["max-deleted-entry-id"]),
          entriesAdded: exact(info["entries-added"]),
        }
      : {}),
    groups: groups.sort(byName),
  };
}

function readGroup(fields: Fields, can: Capabilities): StreamGroupLine {
  const read = fields["entries-read"];
  const pending = listOf(fields["pel"] ?? fields["pending"]).map(
    (row): StreamGroupLine["pel"][number] => {
      const [id, consumer, at, deliveries] = listOf(row);
      return [textOf(id), base64(consumer), exact(at), exact(deliveries)];
    },
  );
  const consumers = listOf(fields["consumers"]).map((consumer) =>
    readConsumer(fieldsOf(consumer), can),
  );
  return {
    name: base64(fields["name"]),
    lastId: textOf(fields["last-delivered-id"]),
    ...(can.streamCounters ? { entriesRead: read === null ? null : exact(read) } : {}),
    pel: pending.sort((a, b) => compareIds(a[0], b[0])),
    consumers: consumers.sort(byName),
  };
}

function readConsumer(fields: Fields, can: Capabilities): StreamConsumerLine {
  const pending = listOf(fields["pel"] ?? fields["pending"]).map((row) => textOf(listOf(row)[0]));
  return {
    name: base64(fields["name"]),
    seenMs: exact(fields["seen-time"]),
    ...(can.activeTime ? { activeMs: exact(fields["active-time"]) } : {}),
    pel: pending.sort(compareIds),
  };
}

async function readVectorSet(client: Client, key: Buffer): Promise<Read> {
  const info = fieldsOf(await client.call("VINFO", key));
  const count = Number(await client.call("VCARD", key));
  const names = count === 0 ? [] : listOf(await client.call("VRANDMEMBER", key, count));
  const elements: VectorSetLine["elements"] = [];
  for (const name of names.map(bytesOf).sort(byBytes)) {
    const attributes = await client.call("VGETATTR", key, name);
    elements.push([base64(name), attributes === null ? null : base64(attributes)]);
  }
  const dump = bytesOf(await client.call("DUMP", key));
  const value: VectorSetLine = {
    quantization: textOf(info["quant-type"]),
    dim: exact(info["vector-dim"]),
    elements,
    // The last ten bytes are version and checksum of the payload.
    payload: base64(dump.subarray(0, -10)),
  };
  return { value, count };
}

/** When the key expires, in Unix milliseconds; exact on servers without PEXPIRETIME too. */
async function readExpiry(client: Client, key: Buffer, can: Capabilities): Promise<Exact | null> {
  if (can.pexpiretime) {
    const at = await client.call("PEXPIRETIME", key);
    return Number(at) < 0 ? null : exact(at);
  }
  for (let attempt = 0; attempt < 1000; attempt++) {
    const replies = await client.pipeline([["MULTI"], ["TIME"], ["PTTL", key], ["TIME"], ["EXEC"]]);
    const [before, left, after] = listOf(replies[4]);
    if (Number(left) < 0) return null;
    if (clockOf(before) === clockOf(after)) return exact(clockOf(before) + BigInt(Number(left)));
  }
  throw new Error("PTTL never fell within one millisecond");
}

function clockOf(time: Reply | undefined): bigint {
  const [seconds, micros] = listOf(time).map(textOf);
  return BigInt(seconds ?? 0) * 1000n + BigInt(micros ?? 0) / 1000n;
}

/** The names, then the values, of a reply that lists them in turns. */
type Fields = Record<string, Reply>;

function fieldsOf(reply: Reply | undefined): Fields {
  return Object.fromEntries(pairsOf(reply).map(([name, value]) => [textOf(name), value]));
}

function pairsOf(reply: Reply | undefined): [Reply, Reply][] {
  const list = listOf(reply);
  const pairs: [Reply, Reply][] = [];
  for (let i = 0; i + 1 < list.length; i += 2) pairs.push([list[i] as Reply, list[i + 1] as Reply]);
  return pairs;
}

function listOf(reply: Reply | undefined): Reply[] {
  if (Array.isArray(reply)) return reply;
  throw new TypeError(`The server sent ${String(reply)} where a list was expected`);
}

function bytesOf(reply: Reply | undefined): Buffer {
  if (Buffer.isBuffer(reply)) return reply;
  throw new TypeError(`The server sent ${String(reply)} where a bulk string was expected`);
}

function base64(reply: Reply | undefined): string {
  return bytesOf(reply).toString("base64");
}

function textOf(reply: Reply | undefined): string {
  return Buffer.isBuffer(reply) ? reply.toString("latin1") : String(reply);
}

function exact(reply: Reply | undefined): Exact {
  const number = Number(reply);
  return Number.isSafeInteger(number) ? number : String(reply);
}

function byBytes(a: Buffer, b: Buffer): number {
  return Buffer.compare(a, b);
}

function byName(a: { name: string }, b: { name: string }): number {
  return Buffer.compare(Buffer.from(a.name, "base64"), Buffer.from(b.name, "base64"));
}

function compareIds(a: string, b: string): number {
  const [aMs, aSeq] = a.split("-").map(BigInt) as [bigint, bigint];
  const [bMs, bSeq] = b.split("-").map(BigInt) as [bigint, bigint];
  if (aMs !== bMs) return aMs < bMs ? -1 : 1;
  return aSeq < bSeq ? -1 : aSeq > bSeq ? 1 : 0;
}
