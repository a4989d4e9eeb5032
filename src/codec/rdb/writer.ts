/**
 * Writes an RDB file that a named server loads.
 *
 * WHY IT PUSHES. A caller walks data of its own and says what it finds; bytes collect inside and are
 * taken from time to time. Nothing here waits, allocates for a key, or knows where the bytes go:
 *
 *   const writer = new RdbWriter("redis:7.2");
 *   writer.database(0);
 *   writer.key(key, { expireAtMs }).string(value);
 *   if (writer.pendingBytes > 1 << 20) await file.write(writer.take());
 *   …
 *   writer.finish();
 *   await file.write(writer.take());
 *
 * FORMAT
 *
 *   magic and version | AUX fa | functions f5 | database fe, sizes fb | entries | ff | CRC-64 LE
 *   entry: [expiry fc i64] [idle f8 length] [frequency f9 u8] type, key, value
 *
 * INVARIANTS
 *
 *   1. The file has the version that the target's oldest server knows, whatever is in it.
 *   2. A key has its attributes, type, key and value together or is not in the file at all.
 *   3. The checksum covers every byte that was taken, in order.
 *
 * The forms of values are in writer-value.ts; what targets can hold, in target.ts. Slices are
 * borrowed for the time of a call.
 */
import assert from "node:assert/strict";
import { Slice } from "../../base/bytes.ts";
import { Crc64 } from "./crc64.ts";
import { copyBytes } from "./encode-packed.ts";
import type { Target } from "./model.ts";
import { type Capabilities, capabilities, type Feature } from "./target.ts";
import { type ValueOptions, ValueWriter } from "./writer-value.ts";

const opcodes = {
  function: 0xf5,
  moduleAux: 0xf7,
  idle: 0xf8,
  frequency: 0xf9,
  aux: 0xfa,
  sizes: 0xfb,
  expireMs: 0xfc,
  database: 0xfe,
  end: 0xff,
} as const;

export type WriterOptions = ValueOptions & {
  /** Compute the checksum; else the file says that it has none. Default: true. */
  readonly checksum?: boolean;
  /** The server version that the file claims; null writes no AUX at all by itself. */
  readonly version?: string | null;
  readonly ctimeSeconds?: number;
  /** Whether this is the base of an AOF: then servers keep what has expired. */
  readonly aofBase?: boolean;
};

/** What stands with a key; undefined or null for none. A reader at a key is one of these. */
export type KeyAttributes = {
  /** Absolute, in Unix milliseconds; -1 is none too. */
  readonly expireAtMs?: number | bigint | null | undefined;
  readonly idleSeconds?: number | null | undefined;
  /** The LFU counter, 0 to 255. */
  readonly frequency?: number | null | undefined;
};

const noAttributes: KeyAttributes = {};

export class RdbWriter {
  readonly #values: ValueWriter;
  readonly #can: Capabilities;
  readonly #key = new Slice();
  readonly #crc: Crc64 | undefined;
  /** Bytes of the output that the checksum has already. */
  #summed = 0;
  #isFinished = false;

  constructor(target: Target, options: WriterOptions = {}) {
    this.#values = new ValueWriter(target, options);
    this.#values.key = () => this.#key.view();
    this.#can = capabilities[target];
    this.#crc = (options.checksum ?? true) ? new Crc64() : undefined;
    this.#values.output.raw(Buffer.from(this.#can.header, "latin1"));
    this.#begin(options);
  }

  #begin({ version, ctimeSeconds, aofBase }: WriterOptions): void {
    if (version !== null) {
      const name = this.#can.family === "valkey" ? "valkey-ver" : "redis-ver";
      this.aux(name, version ?? this.#can.version);
      this.aux("redis-bits", 64);
    }
    if (ctimeSeconds !== undefined) this.aux("ctime", ctimeSeconds);
    if (aofBase === undefined) return;
    this.aux(this.#can.hasFunctions ? "aof-base" : "aof-preamble", aofBase ? 1 : 0);
  }

  /** A note about the file. Text has characters below 256, one for each byte. */
  aux(name: string, value: string | number | Uint8Array): void {
    const { output } = this.#values;
    output.byte(opcodes.aux);
    output.string(Buffer.from(name, "latin1"));
    output.string(typeof value === "object" ? value : Buffer.from(String(value), "latin1"));
  }

  functionLibrary(code: Uint8Array): void {
    if (!this.#can.hasFunctions) {
      this.#values.losses.take("function", "a function library");
      return;
    }
    this.#values.output.byte(opcodes.function);
    this.#values.output.string(code);
  }

  /** What a module keeps outside of keys: the bytes after the opcode, from the module's id on. */
  moduleAux(name: string, bytes: Uint8Array): void {
    if (!this.#values.hasModule(name)) {
      this.#values.losses.take("module aux", `the record of module type ${name}`);
      return;
    }
    this.#values.output.byte(opcodes.moduleAux);
    this.#values.output.raw(bytes);
  }

  /** The keys that follow belong to it. Sizes are hints for servers; they may be wrong. */
  database(db: number, hint?: { readonly keys: number; readonly expires: number }): void {
    const { output } = this.#values;
    output.byte(opcodes.database);
    output.rdbLength(db);
    if (hint === undefined) return;
    output.byte(opcodes.sizes);
    output.rdbLength(hint.keys);
    output.rdbLength(hint.expires);
  }

  /** Begins an entry; what is returned, always the same object, takes its value. */
  key(key: Slice | Uint8Array, attributes: KeyAttributes = noAttributes): ValueWriter {
    assert(!this.#isFinished, "A key after the end");
    const { output } = this.#values;
    const { expireAtMs = null, idleSeconds = null, frequency = null } = attributes;
    output.hold();
    // Servers differ in what an expiry of -1 means: none, or long ago.
    if (expireAtMs !== null && expireAtMs !== -1 && expireAtMs !== -1n) {
      output.byte(opcodes.expireMs);
      output.int64(expireAtMs);
    }
    if (idleSeconds !== null) {
      output.byte(opcodes.idle);
      output.rdbLength(idleSeconds);
    }
    if (frequency !== null) {
      output.byte(opcodes.frequency);
      output.byte(frequency);
    }
    output.type();
    if (key instanceof Slice) this.#writeKey(key.bytes, key.start, key.end);
    else this.#writeKey(key, 0, key.length);
    return this.#values;
  }

  #writeKey(bytes: Uint8Array, start: number, end: number): void {
    copyBytes(bytes, start, end, this.#key.reserve(end - start), 0);
    this.#values.output.string(bytes, start, end);
  }

  /** Ends the file; then only `take()` is left. */
  finish(): void {
    assert(!this.#isFinished, "The file has ended");
    const { output } = this.#values;
    output.byte(opcodes.end);
    assert.equal(output.ready, output.length, "The last key has no value");
    this.#isFinished = true;
    this.#crc?.update(output.bytes, this.#summed, output.length);
    output.uint64(this.#crc?.value() ?? 0n);
    this.#summed = output.length;
  }

  /** Bytes that `take()` would give. Those of a key whose form is not decided are not among them. */
  get pendingBytes(): number {
    return this.#values.output.ready;
  }

  /** What is ready, owned by the caller. */
  take(): Uint8Array {
    const { output } = this.#values;
    const size = output.ready;
    if (!this.#isFinished) this.#crc?.update(output.bytes, 0, size);
    this.#summed = 0;
    return output.take();
  }

  /** What the target could not hold: feature to how many times. */
  get dropped(): ReadonlyMap<Feature, number> {
    return this.#values.losses.counts;
  }
}
