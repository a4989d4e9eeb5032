/**
 * Writes a data set as the commands that make it again, as a server does when it rewrites its AOF
 * without a preamble.
 *
 *   string   SET                  list   RPUSH, up to 64 elements each
 *   set      SADD, up to 64       zset   ZADD, up to 64
 *   hash     HSET, up to 64 pairs; HPEXPIREAT for each field that expires
 *   stream   XADD for each entry, XSETID, XGROUP CREATE, XGROUP CREATECONSUMER, XCLAIM … JUSTID
 *   module   RESTORE              all: PEXPIREAT where the key expires
 *
 * INVARIANTS
 *
 *   1. A SELECT precedes the first command of each database.
 *   2. What the target has no command for is refused by key and feature, or counted: see
 *      `target.ts`. What no command can make is always counted: LRU and LFU counters, when a
 *      consumer was last seen, pending entries that were deleted from their stream, and on
 *      redis:6.0 consumers without pending entries.
 *   3. Memory: one batch of elements, the pending entries of one consumer group, and 16 bytes for
 *      each entry of one stream, up to `maxComparedIds`.
 *
 * The commands of a key make it from nothing: they are meant for an empty server.
 */
import { Slice } from "../../base/bytes.ts";
import { Distinct } from "../../base/distinct.ts";
import { type Argument, RespEncoder } from "../resp/encode.ts";
import { createDumpPayload } from "./dump.ts";
import type { KeyHead, KeySink } from "./key-sink.ts";
import type { StreamGroup, StreamInfo, StreamPending, Target } from "./model.ts";
import type { Parts, RdbEvent } from "./parts.ts";
import { formatScore } from "./score.ts";
import { formatId } from "./stream.ts";
import { type Capabilities, capabilities, type Feature, Losses, quote } from "./target.ts";
import { moduleOf } from "./vector-set.ts";
import { hasHistory } from "./writer-stream.ts";
import type { ValueOptions } from "./writer-value.ts";

const batchElements = 64;
const batchBytes = 64 * 1024;
/** HPEXPIREAT of Redis refuses times from here on, though a file may have later ones. */
const endOfRedisFieldExpiry = 2 ** 46;
/** In a longer stream, pending entries are not looked for: all are taken to be there. */
const maxComparedIds = 4_000_000;

export type CommandOptions = {
  /** Drop and count what the target cannot hold, instead of failing. Default: false. */
  readonly lossy?: boolean;
  /** Module types that the target has besides its own. */
  readonly modules?: ValueOptions["modules"];
};

export class CommandWriter implements KeySink {
  readonly #out = new RespEncoder();
  readonly #can: Capabilities;
  readonly #modules: ReadonlySet<string> | "any";
  readonly #losses: Losses;
  #database = -1;
  #head: KeyHead | undefined;
  #key: Uint8Array = new Uint8Array(0);
  /** Elements that wait to be sent by one command, and its name. */
  #batch: Argument[] = [];
  #batchCount = 0;
  #batchSize = 0;
  #verb = "";
  #raw: Uint8Array[] = [];
  #isDropped = false;
  #entries = 0;
  /** Of the entries of a stream; `unchecked` counts over all streams. */
  readonly #ids = new Distinct(maxComparedIds);
  #uncheckedBefore = 0;
  readonly #id = new Slice();
  /** Ids of pending entries that the stream does not have. */
  readonly #deleted = new Set<string>();
  #group: StreamGroup | undefined;
  #consumer: Uint8Array | undefined;
  readonly #pending = new Map<string, StreamPending>();

  constructor(target: Target, { lossy = false, modules = [] }: CommandOptions = {}) {
    this.#can = capabilities[target];
    this.#modules = modules === "any" ? modules : new Set([...this.#can.modules, ...modules]);
    this.#losses = new Losses(target, lossy);
  }

  get pendingBytes(): number {
    return this.#out.length;
  }

  /** What is ready, owned by the caller. */
  take(): Uint8Array {
    return this.#out.take();
  }

  get dropped(): ReadonlyMap<Feature, number> {
    return this.#losses.counts;
  }

  library(code: Slice): void {
    if (this.#can.hasFunctions) this.#out.command("FUNCTION", "LOAD", code.view());
    else this.#losses.take("function", "a function library");
  }

  moduleAux(raw: Uint8Array): void {
    this.#losses.take("module aux", `the record of module type ${moduleOf(raw).name}`);
  }

  finish(): void {}

  begin(head: KeyHead): void {
    if (head.database !== this.#database) this.#out.command("SELECT", head.database);
    this.#database = head.database;
    this.#head = head;
    this.#key = head.key.view();
    this.#isDropped = false;
    this.#entries = 0;
    this.#ids.clear();
    this.#uncheckedBefore = this.#ids.unchecked;
    this.#deleted.clear();
    this.#group = undefined;
    this.#consumer = undefined;
    this.#raw = [];
    if (head.idleSeconds !== null || head.frequency !== null) this.#losses.note("access counter");
    if (head.metadata) this.#losses.take("key metadata", this.#object);
  }

  accept(event: RdbEvent, parts: Parts): void {
    const { first, second } = parts;
    switch (event) {
      case "string":
        this.#out.command("SET", this.#key, first.view());
        this.#endKey();
        break;
      case "begin":
        this.#beginValue();
        break;
      case "element":
        this.#add(this.#head?.layout.type === "list" ? "RPUSH" : "SADD", first.copy());
        break;
      case "member":
        this.#add("ZADD", formatScore(parts.score), first.copy());
        break;
      case "field":
        this.#add("HSET", first.copy(), second.copy());
        if (parts.fieldExpireAtMs !== -1) this.#expireField(first, parts.fieldExpireAtMs);
        break;
      case "entry":
        this.#entry(formatId(parts.id), parts.fields);
        break;
      case "raw":
        this.#raw.push(first.copy());
        break;
      case "end value":
        this.#endValue();
        break;
      default:
        this.#ofStream(event, parts);
    }
  }

  #entry(id: string, fields: readonly Uint8Array[]): void {
    // Not by `command()`: an entry may have more fields than a call can have arguments.
    this.#out.array(3 + fields.length);
    for (const argument of ["XADD", this.#key, id]) this.#out.argument(argument);
    for (const field of fields) this.#out.bulk(field);
    this.#entries++;
    this.#id.setLatin1(id);
    this.#ids.add(this.#id);
  }

  #isDeleted(id: string): boolean {
    if (this.#ids.unchecked > this.#uncheckedBefore) return false;
    this.#id.setLatin1(id);
    if (this.#ids.add(this.#id)) this.#deleted.add(id);
    return this.#deleted.has(id);
  }

  #beginValue(): void {
    if (this.#head?.layout.type !== "array") return;
    this.#losses.take("array", this.#object);
    this.#isDropped = true;
  }

  #endValue(): void {
    if (this.#head?.layout.type === "module") this.#restore();
    if (this.#head?.layout.type === "stream") this.#endGroup();
    this.#endKey();
  }

  #restore(): void {
    const raw = Buffer.concat([Uint8Array.of(this.#head?.type ?? 0), ...this.#raw]);
    const { name } = moduleOf(raw.subarray(1));
    if (this.#modules !== "any" && !this.#modules.has(name)) {
      const found = `it is a value of module type ${name}`;
      this.#losses.take("module value", this.#object, found);
      this.#isDropped = true;
      return;
    }
    const version = Number(this.#can.header.slice(-2));
    this.#out.command("RESTORE", this.#key, 0, createDumpPayload(raw, version));
  }

  #expireField(field: Slice, expireAtMs: number | bigint): void {
    if (this.#can.fieldExpiry === "none") {
      this.#losses.take("field expiry", this.#object);
      return;
    }
    if (this.#can.fieldExpiry === "redis" && expireAtMs >= endOfRedisFieldExpiry) {
      const found = "a field's expiry is too far in the future";
      this.#losses.take("field expiry", this.#object, found);
      return;
    }
    this.#flush();
    this.#out.command("HPEXPIREAT", this.#key, expireAtMs, "FIELDS", 1, field.view());
  }

  #ofStream(event: RdbEvent, parts: Parts): void {
    if (event === "stream" && parts.stream) this.#endEntries(parts.stream);
    else if (event === "group" && parts.group) this.#beginGroup(parts.group);
    else if (event === "pending" && parts.pending) {
      this.#pending.set(formatId(parts.pending.id), parts.pending);
    } else if (event === "consumer" && parts.consumer) this.#beginConsumer(parts.consumer);
    else if (event === "consumer pending") this.#claim(formatId(parts.id));
    else if (event === "released") this.#losses.take("stream nacks", this.#object);
    else if (event === "idempotency" && parts.idempotency?.producers.length) {
      this.#losses.take("stream producers", this.#object);
    }
  }

  #endEntries(info: StreamInfo): void {
    const last = formatId(info.lastId);
    // Without entries, one is added and trimmed away: that leaves the empty stream.
    if (this.#entries === 0) this.#out.command("XADD", this.#key, "MAXLEN", 0, "0-1", "x", "y");
    const isOld = this.#can.streamType < 19;
    const deleted = formatId(info.maxDeletedId);
    if (isOld) this.#out.command("XSETID", this.#key, last);
    else {
      const { entriesAdded } = info;
      this.#out.command(
        ...["XSETID", this.#key, last, "ENTRIESADDED", entriesAdded, "MAXDELETEDID", deleted],
      );
    }
    if (isOld && hasHistory(info)) this.#losses.note("stream history");
  }

  #beginGroup(group: StreamGroup): void {
    this.#endGroup();
    this.#group = group;
    const read = this.#can.streamType < 19 ? [] : ["ENTRIESREAD", group.entriesRead ?? -1];
    const last = formatId(group.lastId);
    this.#out.command("XGROUP", "CREATE", this.#key, group.name, last, ...read);
  }

  #endGroup(): void {
    this.#pending.clear();
    this.#group = undefined;
  }

  #beginConsumer({ name, pending }: { name: Uint8Array; pending: number }): void {
    this.#consumer = name;
    this.#losses.note("consumer activity");
    if (!this.#group) return;
    // Before Redis 6.2 a consumer is made by its first pending entry only.
    if (this.#can.streamType >= 19) {
      this.#out.command("XGROUP", "CREATECONSUMER", this.#key, this.#group.name, name);
    } else if (pending === 0) {
      this.#losses.note("idle consumer");
    }
  }

  #claim(id: string): void {
    const entry = this.#pending.get(id);
    if (!entry || !this.#group || !this.#consumer) return;
    // A server lets nobody claim what is not there.
    if (this.#isDeleted(id)) this.#losses.note("deleted pending");
    this.#out.command(
      ...["XCLAIM", this.#key, this.#group.name, this.#consumer, 0, id],
      ...["TIME", entry.deliveredAtMs, "RETRYCOUNT", entry.deliveries, "JUSTID", "FORCE"],
    );
  }

  #endKey(): void {
    this.#flush();
    const expireAtMs = this.#head?.expireAtMs ?? null;
    if (expireAtMs !== null && !this.#isDropped) {
      this.#out.command("PEXPIREAT", this.#key, expireAtMs);
    }
  }

  #add(verb: string, ...elements: Argument[]): void {
    this.#verb = verb;
    this.#batchCount++;
    for (const element of elements) {
      this.#batch.push(element);
      if (typeof element === "object") this.#batchSize += element.length;
    }
    if (this.#batchCount === batchElements || this.#batchSize >= batchBytes) this.#flush();
  }

  #flush(): void {
    if (this.#batch.length === 0) return;
    this.#out.command(this.#verb, this.#key, ...this.#batch);
    this.#batch = [];
    this.#batchCount = 0;
    this.#batchSize = 0;
  }

  get #object(): string {
    return `key ${quote(this.#key)}`;
  }
}
