/**
 * Reads RDB files of every version, in pieces of any size.
 *
 * WHY a cursor. The caller pulls one event after the other and decides at each key whether it wants
 * the value decoded, as it stands in the file, or not at all. Nothing is allocated for a key or an
 * element: they are slices of the input. The caller may wait for a slow disk between two events.
 *
 *     const reader = new RdbReader();
 *     for await (const chunk of file) {
 *       reader.push(chunk);
 *       for (let event = reader.next(); event; event = reader.next()) …
 *     }
 *     reader.finish();
 *
 * FORMAT
 *
 *   magic     "REDIS" + 4 digits, or "VALKEY" + 3 digits
 *   record*   ff                     end; then u64 LE CRC-64 of all before, from version 5 on
 *             fe len                 database
 *             fd i32 | fc i64        expiry of the next key, in s | ms, LE
 *             fb len len             sizes of the database: hints
 *             fa str str             auxiliary field
 *             f9 u8 | f8 len         LFU counter | idle seconds of the next key
 *             f7 …                   module aux: len id, len 2, len when, tagged values
 *             f5 str                 function library
 *             f4 len len len         redis: sizes of a cluster slot: hints
 *             f3 …                   redis: metadata of the next key; valkey: slot import
 *             f2 …                   redis: hash template
 *             type, str key, value   see layout.ts
 *
 * INVARIANTS
 *
 *   1. What is not known is refused by number and offset: without a length, nothing can be skipped.
 *   2. What has been reported was sound as far as it was read; whether the file is whole and its
 *      checksum right is known at "end", and a caller that must know waits for it.
 *   3. Memory: one element, or one packed container, and the chunk it came in.
 */

import assert from "node:assert/strict";
import { Slice } from "../../base/bytes.ts";
import { Distinct } from "../../base/distinct.ts";
import { corrupt, unsupported } from "../../base/errors.ts";
import { CollectionReader } from "./collection.ts";
import { joinCrc64 } from "./crc64.ts";
import { defaultMaxElementBytes, hungry, Input } from "./input.ts";
import { type Layout, layoutOf } from "./layout.ts";
import type { Family } from "./model.ts";
import { Parts, type RdbEvent } from "./parts.ts";
import { readModulePart, ValuePasser } from "./pass.ts";
import { StreamReader } from "./stream.ts";
import { quote } from "./target.ts";
import { Templates } from "./template.ts";

export type RdbReaderOptions = {
  /** A larger string or packed container is refused; one of 16 KiB never is. Default: 1 GiB. */
  readonly maxElementBytes?: number;
  /**
   * Refuses duplicate keys and members, which servers refuse or lose, comparing up to so many of
   * each database and each collection (16 bytes of memory each). Default: 0, no comparing.
   */
  readonly maxDistinct?: number;
  /** False where somebody else compares the keys: then members alone are compared. */
  readonly comparesKeys?: boolean;
};

type Phase =
  | "header"
  | "record"
  | "value"
  | "collection"
  | "stream"
  | "skip"
  | "raw"
  | "raw end"
  | "checksum"
  | "end";

/** Bytes below this in the place of an opcode are value types. */
const firstOpcode = 0xf2;
const firstWithChecksum = 5;
/** Newest versions whose layouts are known. */
const newestRedis = 15;
const newestValkey = 80;

const moduleAuxLayout: Layout = {
  type: "module",
  encoding: "module",
  pieces: ["length", "length", "length", "module"],
};

export class RdbReader {
  /** Set by the header, before the first event. */
  family: Family = "redis";
  version = 0;
  database = 0;
  /** Sizes that the file states for the database, at a "size" event. */
  statedKeys = 0;
  statedExpires = 0;
  /** The key and what stands with it, from its "key" event on; borrowed until the next call. */
  readonly key = new Slice();
  type = 0;
  layout: Layout = layoutOf("redis", 0) as Layout;
  /** Unix milliseconds; null where the key does not expire. */
  expireAtMs: number | bigint | null = null;
  idleSeconds: number | null = null;
  frequency: number | null = null;
  /** Metadata of Redis 8.6, as it stands in the file, opcode included. */
  metadata: Uint8Array | null = null;
  /** What the latest event is about. */
  readonly parts = new Parts();
  /** Whether the file had a checksum that was compared, once it has ended. */
  isChecked = false;
  /** At the end: where the checksum stands, and so how many bytes it is of; 0 where there is none. */
  checksumAt = 0;

  readonly #input: Input;
  readonly #templates = new Templates();
  readonly #passer: ValuePasser;
  readonly #collection: CollectionReader;
  readonly #stream: StreamReader;
  readonly #keys: Distinct | undefined;
  readonly #members: Distinct | undefined;
  readonly #scratch = new Slice();
  #phase: Phase = "header";
  #isSkipping = false;
  #isHungry = true;
  /** Whether the attributes belong to a key that is done. */
  #isStale = false;
  #statedChecksum = 0n;
  /** Of the bytes that are summed here. */
  #sum = 0n;
  /** Bytes of the file from here on are summed by the caller. */
  #sumEnd = Number.POSITIVE_INFINITY;
  /** Where the record that is being read started. */
  #recordAt = 0;
  #rawEvent: "raw" | "module aux" = "raw";
  #rawFrom = 0;

  constructor(options: RdbReaderOptions = {}) {
    const { maxElementBytes = defaultMaxElementBytes, maxDistinct = 0 } = options;
    if (maxDistinct > 0) {
      if (options.comparesKeys ?? true) this.#keys = new Distinct(maxDistinct);
      this.#members = new Distinct(maxDistinct);
    }
    this.#input = new Input(maxElementBytes);
    this.#passer = new ValuePasser(this.#input, this.#templates);
    this.#collection = new CollectionReader(
      this.#input,
      this.parts,
      this.#templates,
      this.#members,
    );
    this.#stream = new StreamReader(this.#input, this.parts);
  }

  /** Offset in the file of the next byte to be read. */
  get position(): number {
    return this.#input.position;
  }

  /** Keys and members that were not compared because `maxDistinct` was reached. */
  get unchecked(): number {
    return (this.#keys?.unchecked ?? 0) + (this.#members?.unchecked ?? 0);
  }

  /** Gives the next chunk, when `next()` has asked for it; borrowed until it asks again. */
  push(chunk: Uint8Array): void {
    assert(this.#isHungry, "push() is called when next() has returned undefined");
    this.#input.push(chunk);
    this.#isHungry = false;
  }

  /**
   * What comes next in the file, or undefined where the next chunk is needed.
   *
   * @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED or LIMIT_EXCEEDED, with the offset
   */
  next(): RdbEvent | undefined {
    const input = this.#input;
    if (this.#phase === "raw") this.#rawFrom = input.position;
    if (!input.beginUnit()) return this.#starve();
    try {
      return this.#advance();
    } catch (cause) {
      if (cause !== hungry) throw cause;
      input.abandonUnit();
      return this.#starve();
    }
  }

  #starve(): RdbEvent | undefined {
    if (this.#phase === "raw") {
      this.#input.since(this.#rawFrom, this.parts.first);
      if (this.parts.first.length > 0) return this.#rawEvent;
    }
    this.#isHungry = true;
    this.#input.release();
    return undefined;
  }

  /**
   * Before the first chunk: leaves the checksum of what stands from `offset` on, which costs a third of
   * reading, to another thread. The caller then gives the sum of the bytes from there to
   * `checksumAt` to `confirmChecksum()`.
   */
  deferChecksum(offset: number): void {
    this.#sumEnd = offset;
    this.#input.stopSummingAt(offset);
  }

  /** Completes a checksum that was left to others, at the end. @throws Failure DATA_CORRUPT */
  confirmChecksum(rest: bigint): void {
    const restBytes = Math.max(0, this.checksumAt - this.#sumEnd);
    this.#compare(joinCrc64(this.#sum, rest, restBytes));
  }

  #compare(sum: bigint): void {
    this.isChecked = this.#statedChecksum !== 0n;
    if (!this.isChecked || this.#statedChecksum === sum) return;
    const sums = `it says ${this.#statedChecksum.toString(16)}, the bytes give ${sum.toString(16)}`;
    throw corrupt(this.checksumAt, `A wrong checksum: ${sums},`);
  }

  /** At a "key" event: passes over the value without decoding it. */
  skip(): void {
    assert(this.#phase === "value", "skip() is called at a key");
    this.#isSkipping = true;
  }

  /** At a "key" event: gives the value as it stands in the file, without its type, in pieces. */
  raw(): void {
    assert(this.#phase === "value", "raw() is called at a key");
    this.#passer.begin(this.layout);
    this.#rawEvent = "raw";
    this.#phase = "raw";
  }

  /** The bytes behind the end of the RDB that have come already (an AOF may follow); borrowed. */
  rest(): Uint8Array {
    assert(this.#phase === "end", "rest() is called at the end");
    return this.#input.rest();
  }

  /** Says that no more bytes will come. @throws Failure DATA_CORRUPT where the file is cut off */
  finish(): void {
    if (this.#phase === "end") return;
    const end = this.#input.position + this.#input.held;
    throw corrupt(
      end,
      `The RDB is cut off: it ends in the record that starts at ${this.#recordAt},`,
    );
  }

  #advance(): RdbEvent {
    switch (this.#phase) {
      case "header":
        this.#header();
        return this.#record();
      case "record":
        return this.#record();
      case "value":
        return this.#value();
      case "collection":
        return this.#endOf(this.#collection.next());
      case "stream":
        return this.#endOf(this.#stream.next());
      case "skip":
        this.#passer.finish();
        this.#endValue();
        return this.#record();
      case "raw":
        return this.#raw();
      case "raw end":
        // A module's own record may stand between a key and its attributes.
        if (this.#rawEvent === "raw") this.#endValue();
        this.#phase = "record";
        return "end value";
      case "checksum":
        return this.#checksum();
      case "end":
        throw hungry;
    }
  }

  #endOf(event: RdbEvent): RdbEvent {
    if (event === "end value") this.#endValue();
    return event;
  }

  #endValue(): void {
    this.#isStale = true;
    this.#phase = "record";
  }

  #header(): void {
    const { first } = this.parts;
    this.#input.bytes(9, first);
    const magic = first.latin1();
    const match = /^(?:REDIS(\d{4})|VALKEY(\d{3}))$/.exec(magic);
    if (!match) throw corrupt(0, `No RDB: it starts with ${JSON.stringify(magic)}`);
    this.family = match[1] === undefined ? "valkey" : "redis";
    this.version = Number(match[1] ?? match[2]);
    const newest = this.family === "redis" ? newestRedis : newestValkey;
    if (this.version < 1) throw corrupt(0, "RDB version 0");
    if (this.version > newest) throw unsupported(0, `RDB version ${magic}`);
    this.#phase = "record";
    this.#input.commitUnit();
  }

  #record(): RdbEvent {
    const input = this.#input;
    if (this.#isStale) this.#forgetKey();
    for (;;) {
      const opcode = input.byte();
      this.#recordAt = input.position - 1;
      if (opcode < firstOpcode) return this.#key(opcode);
      const event = this.#opcode(opcode);
      if (event) return event;
      input.commitUnit();
    }
  }

  #forgetKey(): void {
    this.expireAtMs = null;
    this.idleSeconds = null;
    this.frequency = null;
    this.metadata = null;
    this.#isSkipping = false;
    this.#isStale = false;
  }

  #key(type: number): RdbEvent {
    if (type !== this.type) {
      const layout = layoutOf(this.family, type);
      if (!layout) throw this.#unknown(type);
      this.layout = layout;
      this.type = type;
    }
    this.#input.string(this.key);
    if (this.#keys?.add(this.key, this.database) === false) {
      throw corrupt(this.#recordAt, `A second key ${quote(this.key.view())} in its database`);
    }
    this.#phase = "value";
    return "key";
  }

  #unknown(type: number) {
    if (type === 6) return unsupported(this.#recordAt, "A module value from before Redis 4.0");
    if (type === 8) return corrupt(this.#recordAt, "Type 8, which was never assigned,");
    return unsupported(this.#recordAt, `Value type or opcode ${type}`);
  }

  #value(): RdbEvent {
    if (this.type === 0) {
      if (!this.#isSkipping) {
        this.#input.string(this.parts.first);
        this.#endValue();
        return "string";
      }
      // The unit ends here: what follows may give up its own.
      this.#input.passString();
      this.#input.commitUnit();
      this.#endValue();
      return this.#record();
    }
    if (this.#isSkipping) {
      this.#passer.begin(this.layout);
      this.#phase = "skip";
    } else if (this.layout.type === "stream") {
      this.#stream.begin(this.type);
      this.#phase = "stream";
    } else if (this.layout.type === "module") {
      this.raw();
      this.#rawFrom = this.#input.position;
    } else {
      this.#collection.begin(this.layout, this.type, this.family);
      this.#phase = "collection";
    }
    return this.#advance();
  }

  #raw(): RdbEvent {
    this.#passer.finish();
    if (this.#input.isPassing) throw hungry;
    this.#input.since(this.#rawFrom, this.parts.first);
    this.#phase = "raw end";
    return this.#rawEvent;
  }

  #opcode(opcode: number): RdbEvent | undefined {
    const input = this.#input;
    const { first, second } = this.parts;
    switch (opcode) {
      case 0xff:
        return this.#end();
      case 0xfe:
        return this.#database();
      case 0xfd:
        this.expireAtMs = input.int32() * 1000;
        return undefined;
      case 0xfc:
        // Servers take -1 for no expiry, all but Redis 8.6, which drops the key.
        this.expireAtMs = input.time();
        if (this.expireAtMs === -1) this.expireAtMs = null;
        return undefined;
      case 0xfb:
        this.statedKeys = Number(input.length64());
        this.statedExpires = Number(input.length64());
        return "size";
      case 0xfa:
        input.string(first);
        input.string(second);
        return "aux";
      case 0xf9:
        this.frequency = input.byte();
        return undefined;
      case 0xf8:
        this.idleSeconds = Number(input.length64());
        return undefined;
      case 0xf7:
        return this.#moduleAux();
      case 0xf6:
        throw unsupported(this.#recordAt, "A function of a release candidate of Redis 7.0");
      case 0xf5:
        input.string(first);
        return "function";
      case 0xf4:
        for (let i = 0; i < 3; i++) input.length64();
        return "slot info";
      case 0xf3:
        return this.family === "redis" ? this.#metadata() : this.#slotImport();
      default:
        if (this.family === "valkey") throw unsupported(this.#recordAt, `Opcode ${opcode}`);
        this.#templates.define(input);
        return undefined;
    }
  }

  #database(): RdbEvent {
    const database = this.#input.length();
    if (database > 2 ** 31 - 1) throw corrupt(this.#recordAt, `Database ${database}`);
    this.database = database;
    return "database";
  }

  #moduleAux(): RdbEvent {
    this.#input.commitUnit();
    this.#passer.begin(moduleAuxLayout);
    this.#rawEvent = "module aux";
    this.#rawFrom = this.#input.position;
    this.#phase = "raw";
    return this.#raw();
  }

  /** Metadata of the next key, whose type must follow at once. In one unit: it is small. */
  #metadata(): undefined {
    const input = this.#input;
    const classes = input.length();
    if (classes > 7) throw corrupt(this.#recordAt, `${classes} classes of key metadata`);
    for (let left = classes; left > 0; left--) {
      input.int32();
      while (readModulePart(input, this.#scratch)) input.limitUnit();
    }
    input.since(this.#recordAt, this.#scratch);
    this.metadata = this.#scratch.copy();
  }

  #slotImport(): RdbEvent {
    this.#input.string(this.parts.first);
    for (let left = this.#input.length(); left > 0; left--) {
      this.#input.length();
      this.#input.length();
      this.#input.limitUnit();
    }
    return "slot import";
  }

  #end(): RdbEvent {
    this.#phase = this.version >= firstWithChecksum ? "checksum" : "end";
    if (this.#phase === "end") return "end";
    this.#input.commitUnit();
    return this.#checksum();
  }

  #checksum(): RdbEvent {
    const input = this.#input;
    input.need(8);
    this.#sum = input.checksum();
    this.checksumAt = input.position;
    this.#statedChecksum = BigInt.asUintN(64, input.int64());
    if (this.#sumEnd === Number.POSITIVE_INFINITY) this.#compare(this.#sum);
    this.#phase = "end";
    return "end";
  }
}
