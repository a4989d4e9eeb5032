/**
 * Writes the value of one key after another into an `Output`, in the forms of one target.
 *
 * HOW IT IS USED. The owner begins an entry and writes what stands before the type byte, leaves room
 * for it with `output.type()`, and may write the key. Then the value: `string()`, or one `begin…()`,
 * its elements, and `endValue()`.
 *
 * INVARIANTS
 *
 *   1. Between `begin…()` and `endValue()` come exactly as many elements as promised.
 *   2. A collection is never empty, a score never NaN, and an intset never has a member twice.
 *   3. Memory is bounded by the largest element and the limits of the writers of lists and hashes.
 *
 * That no member or field comes twice is the caller's to know: remembering all of them would take
 * memory without bound.
 */
import assert from "node:assert/strict";
import { Slice } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { ListpackEncoder } from "./encode-listpack.ts";
import { ZiplistEncoder } from "./encode-ziplist.ts";
import type {
  StreamConsumer,
  StreamGroup,
  StreamId,
  StreamIdempotency,
  StreamInfo,
  StreamPending,
  Target,
} from "./model.ts";
import {
  type Capabilities,
  capabilities,
  endOfFieldExpiry,
  type Feature,
  Losses,
  losesKey,
  quote,
} from "./target.ts";
import { HashWriter, longestHashWait, noExpiry } from "./writer-hash.ts";
import { type ListSize, ListWriter, longestWait } from "./writer-list.ts";
import { Output } from "./writer-output.ts";
import { SetWriter } from "./writer-set.ts";
import { StreamWriter } from "./writer-stream.ts";
import { ZsetWriter } from "./writer-zset.ts";

export type ValueOptions = {
  /** Compress strings with LZF where that saves something. Default: true. */
  readonly compress?: boolean;
  /** Drop and count what the target cannot hold, instead of failing. Default: false. */
  readonly lossy?: boolean;
  /** Module types that the target has besides its own; "any" takes all that there may be. */
  readonly modules?: readonly string[] | "any";
  /** Bytes of a list, and of a hash with expiries, that may wait in memory. */
  readonly listWaitBytes?: number;
  readonly hashWaitBytes?: number;
};

const stringType = 0;
const moduleType = 7;

type Open = "list" | "set" | "hash" | "zset" | "stream" | "module" | "dropped";

export class ValueWriter {
  readonly output: Output;
  readonly losses: Losses;
  /** The key whose value comes, for messages. */
  key: () => Uint8Array = () => new Uint8Array(0);
  readonly #can: Capabilities;
  readonly #modules: ReadonlySet<string> | "any";
  readonly #list: ListWriter;
  readonly #set: SetWriter;
  readonly #hash: HashWriter;
  readonly #zset: ZsetWriter;
  readonly #stream: StreamWriter;
  #open: Open | undefined;

  constructor(target: Target, options: ValueOptions = {}) {
    const can = capabilities[target];
    const output = new Output(options.compress ?? true);
    const packed =
      can.packed === "ziplist" ? new ZiplistEncoder() : new ListpackEncoder(can.backLengths);
    this.#can = can;
    const { modules = [] } = options;
    this.#modules = modules === "any" ? modules : new Set([...can.modules, ...modules]);
    this.output = output;
    this.losses = new Losses(target, options.lossy ?? false);
    this.#list = new ListWriter(output, can, packed, options.listWaitBytes ?? longestWait);
    this.#set = new SetWriter(output, can, packed);
    this.#hash = new HashWriter(output, can, packed, options.hashWaitBytes ?? longestHashWait);
    this.#zset = new ZsetWriter(output, can, packed);
    this.#stream = new StreamWriter(output, can, this.losses);
  }

  string(value: Slice): void {
    assert(this.#open === undefined, "A value in a value");
    this.output.decide(stringType);
    this.output.string(value.bytes, value.start, value.end);
  }

  /** How many elements there are, or else how many nodes the source has, each told by `node()`. */
  beginList(size: ListSize): void {
    this.#begin("list", size.elements ?? size.nodes);
    this.#list.begin(size);
  }

  node(): void {
    assert(this.#open === "list");
    this.#list.node();
  }

  /** Of a list or a set. */
  element(value: Slice): void {
    if (this.#open === "list") this.#list.element(value);
    else if (this.#open === "set") this.#set.element(value);
    else assert.fail("An element outside of lists and sets");
  }

  beginSet(elements: number): void {
    this.#begin("set", elements);
    this.#set.begin(elements);
  }

  beginZset(members: number): void {
    this.#begin("zset", members);
    this.#zset.begin(members);
  }

  member(value: Slice, score: number): void {
    assert(this.#open === "zset");
    if (Number.isNaN(score)) throw this.#corrupt("a score that is no number");
    this.#zset.member(value, score);
  }

  /** `mayExpire` says whether any field has an expiry. */
  beginHash(fields: number, mayExpire = false): void {
    this.#begin("hash", fields);
    this.#hash.begin(fields, mayExpire);
  }

  /** The expiry is absolute, in Unix milliseconds. */
  field(field: Slice, value: Slice, expireAtMs: number | bigint = noExpiry): void {
    assert(this.#open === "hash");
    this.#hash.field(field, value, expireAtMs === noExpiry ? noExpiry : this.#expiry(expireAtMs));
  }

  beginStream(nodes: number): void {
    this.#begin("stream");
    this.#stream.begin(nodes);
  }

  /** The id is 16 bytes, the listpack as the source has it. */
  streamNode(firstId: Slice, listpack: Slice): void {
    assert(this.#open === "stream");
    this.#stream.node(firstId, listpack);
  }

  /** After all nodes. */
  streamInfo(info: StreamInfo): void {
    assert(this.#open === "stream");
    this.#stream.info(info);
  }

  streamGroup(group: StreamGroup): void {
    assert(this.#open === "stream");
    this.#stream.group(group);
  }

  streamPending(entry: StreamPending): void {
    assert(this.#open === "stream");
    this.#stream.pending(entry);
  }

  /** After the pending entries of each group, also when there are none. */
  streamConsumers(count: number): void {
    assert(this.#open === "stream");
    this.#stream.consumers(count);
  }

  streamConsumer(consumer: StreamConsumer): void {
    assert(this.#open === "stream");
    this.#stream.consumer(consumer);
  }

  streamConsumerPending(id: StreamId): void {
    assert(this.#open === "stream");
    this.#stream.consumerPending(id);
  }

  streamIdempotency(idempotency: StreamIdempotency): void {
    assert(this.#open === "stream");
    this.#stream.idempotency(idempotency, () => this.#object);
  }

  /** A value of the module type of that name: `moduleBytes()` takes what stands after the key. */
  beginModule(name: string): void {
    this.#begin("module");
    if (this.hasModule(name)) this.output.decide(moduleType);
    else this.#loseKey("module value", `it is a value of module type ${name}`);
  }

  moduleBytes(bytes: Slice): void {
    if (this.#open === "dropped") return;
    assert(this.#open === "module");
    this.output.raw(bytes.bytes, bytes.start, bytes.end);
  }

  hasModule(name: string): boolean {
    return this.#modules === "any" || this.#modules.has(name);
  }

  /**
   * Tells of something that no target can hold and that has no method here. Where the whole key is
   * lost with it, it stands in place of `begin…()`.
   */
  omit(feature: Feature): void {
    if (!losesKey(feature)) {
      this.losses.take(feature, this.#object);
      return;
    }
    this.#begin("dropped");
    this.#loseKey(feature);
  }

  endValue(): void {
    const defect = this.#end();
    if (defect !== undefined) throw this.#corrupt(defect);
    this.#open = undefined;
  }

  /** What is wrong with the value, where that shows only at its end. */
  #end(): string | undefined {
    switch (this.#open) {
      case "list":
        return this.#list.end() ? undefined : "an empty list";
      case "set":
        return this.#set.end() ? undefined : "a set with an element twice";
      case "hash":
        return this.#hash.end();
      case "zset":
        return this.#zset.end();
      case "stream":
        return this.#stream.end();
      case "module":
      case "dropped":
        return undefined;
      case undefined:
        return assert.fail("No value to end");
    }
  }

  #begin(open: Open, size?: number): void {
    assert(this.#open === undefined, "A value in a value");
    if (size === 0) throw this.#corrupt(`an empty ${open}`);
    this.#open = open;
  }

  #loseKey(feature: Feature, detail?: string): void {
    this.losses.take(feature, this.#object, detail);
    this.#open = "dropped";
    this.output.drop();
  }

  #expiry(expireAtMs: number | bigint): number | bigint {
    assert(expireAtMs >= 0, "An expiry before 1970");
    if (this.#can.fieldExpiry === "valkey") return expireAtMs;
    if (this.#can.fieldExpiry === "none") {
      this.losses.take("field expiry", this.#object);
      return noExpiry;
    }
    if (expireAtMs >= endOfFieldExpiry) {
      this.losses.take("field expiry", this.#object, "a field's expiry is too far in the future");
      return noExpiry;
    }
    return expireAtMs;
  }

  get #object(): string {
    return `key ${quote(this.key())}`;
  }

  #corrupt(found: string): Failure {
    return new Failure("DATA_CORRUPT", `Cannot write ${this.#object}: ${found}`);
  }
}
