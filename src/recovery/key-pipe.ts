/**
 * Keys on their way from an RDB to wherever they are wanted: chosen, renamed, given other expiries.
 *
 *   chunks ─► RdbReader ─► selection ─► prefix, expiry ─► KeySink
 *
 * WHY HERE. Everything that brings keys back (convert, restore, flashback) offers the same choices;
 * they are made once, between the reader and any sink.
 *
 * A key is announced to the sink when its first element is there: collections without elements,
 * which servers skip when they load a file, are left out and counted.
 */
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import type { RdbEvent } from "../codec/rdb/parts.ts";
import { RdbReader } from "../codec/rdb/reader.ts";
import { type Expiring, heldTime, hold, lastFieldMs } from "./restore-held.ts";
import { isEverything, KeyMatcher, type Selection } from "./selection.ts";

/**
 * What becomes of expiries. `keep`: they stay the times that they are. `shift`: what was left at
 * the moment `fromMs` is left again at `toMs`; what had expired by then is gone. `persist`: none; what had
 * expired at `fromMs` is gone. `hold`: put off, for a log to be replayed (restore-held.ts); `release`: what was put off, of fields, moved back.
 */
export type ExpiryPolicy =
  | { readonly kind: "keep" }
  | {
      readonly kind: "shift";
      readonly toMs: number;
      readonly fromMs: number;
      /** Whether the time at which the RDB says it was made, if it does, goes before `fromMs`. */
      readonly orCtime?: boolean;
    }
  | { readonly kind: "persist"; readonly fromMs?: number }
  | { readonly kind: "hold"; readonly only?: "fields" }
  | { readonly kind: "release" };

export type KeyPipeOptions = {
  readonly selection?: Selection;
  readonly expiry?: ExpiryPolicy;
  /** Put in front of every key. */
  readonly prefix?: Uint8Array;
  /** Keys and members compared for duplicates: see RdbReaderOptions. */
  readonly maxDistinct?: number;
  readonly comparesKeys?: boolean;
};

export type KeyPipeCounts = {
  readonly read: number;
  readonly written: number;
  /** Not chosen. */
  readonly skipped: number;
  readonly empty: number;
  /** Under `shift` and `persist`: expired at the moment that expiries count from. */
  readonly expired: number;
  /** Function libraries that were left out: they belong to no key, and keys were chosen. */
  readonly libraries: number;
  /** Members and keys that were not compared for duplicates: there were too many. */
  readonly unchecked: number;
};

/** A module's record outside of keys is kept in memory whole, up to this. */
const maxModuleAuxBytes = 64 * 2 ** 20;

/** The last time that there is: nothing is moved beyond it. */
const lastMs = 2n ** 63n - 1n;

export class KeyPipe {
  readonly reader: RdbReader;
  readonly #sink: KeySink;
  readonly #matcher: KeyMatcher;
  readonly #selection: Selection;
  readonly #expiry: ExpiryPolicy;
  readonly #prefix: Uint8Array | undefined;
  readonly #head = new MovingHead();
  #counts = { read: 0, written: 0, skipped: 0, empty: 0, expired: 0, libraries: 0 };
  #state: "none" | "announced" | "waiting" | "dropped" | "module aux" = "none";
  #hasNode = false;
  #shiftMs = 0;
  #moduleAux: Uint8Array[] = [];
  #moduleAuxBytes = 0;

  constructor(sink: KeySink, options: KeyPipeOptions = {}) {
    const { selection = {}, expiry = { kind: "keep" }, prefix, maxDistinct = 0 } = options;
    const { comparesKeys = true } = options;
    this.reader = new RdbReader({ maxDistinct, comparesKeys });
    this.#sink = sink;
    this.#selection = selection;
    this.#matcher = new KeyMatcher(selection);
    this.#expiry = expiry;
    this.#prefix = prefix;
    if (expiry.kind === "shift") this.#shiftMs = expiry.toMs - expiry.fromMs;
  }

  get counts(): KeyPipeCounts {
    return { ...this.#counts, unchecked: this.reader.unchecked };
  }

  /** Passes on what the chunk that was pushed to `reader` holds. True: the RDB has ended in it. */
  drain(): boolean {
    for (let event = this.reader.next(); event; event = this.reader.next()) {
      this.#take(event);
      if (event !== "end") continue;
      this.#sink.finish();
      return true;
    }
    return false;
  }

  #take(event: RdbEvent): void {
    const { parts } = this.reader;
    switch (event) {
      case "key":
        this.#key();
        return;
      case "aux":
        this.#aux();
        return;
      case "function":
        // A library belongs to no key: it comes along when everything does.
        if (this.#isWhole) this.#sink.library(parts.first);
        else this.#counts.libraries++;
        return;
      case "module aux":
        this.#takeModuleAux();
        return;
      case "database":
      case "size":
      case "slot info":
      case "slot import":
      case "end":
        return;
      default:
        this.#element(event);
    }
  }

  get #isWhole(): boolean {
    return isEverything(this.#selection);
  }

  #aux(): void {
    const { first, second } = this.reader.parts;
    if (this.#expiry.kind !== "shift" || !this.#expiry.orCtime) return;
    if (first.latin1() !== "ctime" || !/^\d{1,12}$/.test(second.latin1())) return;
    this.#shiftMs = this.#expiry.toMs - Number(second.latin1()) * 1000;
  }

  #key(): void {
    const { reader } = this;
    this.#counts.read++;
    if (!this.#matcher.matches(reader)) {
      this.#counts.skipped++;
      reader.skip();
      return;
    }
    if (this.#hasExpired(reader.expireAtMs)) {
      this.#counts.expired++;
      reader.skip();
      return;
    }
    this.#head.take(reader, this.#prefix);
    const { expireAtMs } = reader;
    this.#head.expireAtMs = expireAtMs === null ? null : this.#moved(expireAtMs, "keys");
    this.#state = "waiting";
    this.#hasNode = false;
  }

  #hasExpired(expireAtMs: number | bigint | null): boolean {
    if (expireAtMs === null) return false;
    const { kind } = this.#expiry;
    if (kind === "shift") return expireAtMs <= this.#expiry.toMs - this.#shiftMs;
    return kind === "persist" && expireAtMs <= (this.#expiry.fromMs ?? Number.NEGATIVE_INFINITY);
  }

  #moved(expireAtMs: number | bigint, of: Expiring): number | bigint | null {
    switch (this.#expiry.kind) {
      case "keep":
        return expireAtMs;
      case "persist":
        return null;
      case "hold":
        return of === (this.#expiry.only ?? of) ? hold(expireAtMs, of) : expireAtMs;
      case "release":
        return of === "fields" ? (heldTime(expireAtMs, of) ?? expireAtMs) : expireAtMs;
      case "shift": {
        if (typeof expireAtMs === "number") return expireAtMs + this.#shiftMs;
        const moved = expireAtMs + BigInt(this.#shiftMs);
        return moved < lastMs ? moved : lastMs;
      }
    }
  }

  #element(event: RdbEvent): void {
    const { parts } = this.reader;
    if (this.#state === "waiting" && !this.#announce(event)) return;
    if (this.#state === "module aux") {
      this.#endModuleAux();
      return;
    }
    if (this.#state === "dropped") {
      if (event === "end value") this.#state = "none";
      return;
    }
    if (event === "field" && parts.fieldExpireAtMs !== -1) {
      const at = parts.fieldExpireAtMs;
      // A field that has expired stays, for the server to remove, and may not be moved to before 1970.
      const moved = this.#hasExpired(at) ? at : this.#moved(at, "fields");
      parts.fieldExpireAtMs = moved === null ? -1 : fieldTime(moved, at);
    }
    this.#sink.accept(event, parts);
    if (event === "end value" || event === "string") this.#state = "none";
  }

  /** Tells the sink of a key as soon as it is known not to be empty. */
  #announce(event: RdbEvent): boolean {
    const { parts } = this.reader;
    const isStream = this.#head.layout.type === "stream";
    if (event === "begin" && !isStream && parts.count <= 0) {
      if (parts.count === 0) this.#drop();
      return false;
    }
    if (event === "node" && !isStream) {
      this.#hasNode = true;
      return false;
    }
    if (event === "end value") {
      this.#drop();
      this.#state = "none";
      return false;
    }
    this.#sink.begin(this.#head);
    this.#counts.written++;
    this.#state = "announced";
    if (this.#hasNode) {
      this.#sink.accept("begin", parts);
      this.#sink.accept("node", parts);
    }
    return true;
  }

  #drop(): void {
    this.#counts.empty++;
    this.#state = "dropped";
  }

  #takeModuleAux(): void {
    const { first } = this.reader.parts;
    this.#state = "module aux";
    this.#moduleAuxBytes += first.length;
    if (this.#moduleAuxBytes > maxModuleAuxBytes) {
      throw new Failure(
        "LIMIT_EXCEEDED",
        `Cannot read a module's record of more than ${maxModuleAuxBytes} bytes`,
        { offset: this.reader.position },
      );
    }
    this.#moduleAux.push(first.copy());
  }

  #endModuleAux(): void {
    if (this.#isWhole) this.#sink.moduleAux(Buffer.concat(this.#moduleAux));
    this.#moduleAux = [];
    this.#moduleAuxBytes = 0;
    this.#state = "none";
  }
}

/** Not moved to where no server takes it. */
function fieldTime(moved: number | bigint, from: number | bigint): number | bigint {
  if (moved > lastFieldMs && from <= lastFieldMs) return lastFieldMs;
  return moved > 0 ? moved : 0;
}

/** The reader's key as the sink sees it. Its own copy: it outlives the chunk that the key came in. */
class MovingHead implements KeyHead {
  database = 0;
  readonly key = new Slice();
  type = 0;
  version = 0;
  layout: KeyHead["layout"] = { type: "string", encoding: "plain", pieces: [] };
  expireAtMs: number | bigint | null = null;
  idleSeconds: number | null = null;
  frequency: number | null = null;
  metadata: Uint8Array | null = null;

  take(reader: KeyHead, prefix: Uint8Array | undefined): void {
    const { bytes, start, end } = reader.key;
    const at = prefix?.length ?? 0;
    const own = this.key.reserve(at + end - start);
    if (prefix) own.set(prefix);
    for (let i = start; i < end; i++) own[at + i - start] = bytes[i] as number;
    this.database = reader.database;
    this.type = reader.type;
    this.version = reader.version;
    this.layout = reader.layout;
    this.idleSeconds = reader.idleSeconds;
    this.frequency = reader.frequency;
    this.metadata = reader.metadata;
  }
}
