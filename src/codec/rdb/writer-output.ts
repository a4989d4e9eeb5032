/**
 * Where the writer's bytes collect: RDB's primitives, appended to one growing buffer.
 *
 * WHY. Bytes leave by `take()`, when the caller wants them: a writer that called back for each
 * piece, or was a stream, would pay for every key. Inside, everything is an append to an array.
 *
 * A key's type byte stands before its value, but is known only when the value has been seen. So
 * `hold()` begins an entry whose bytes stay here until `decide()` has put the type in its place, or
 * `drop()` has taken the entry back.
 *
 *   length   00xxxxxx | 01xxxxxx + 1 | 80 + u32 BE | 81 + u64 BE
 *   string   length, bytes | c0 i8 | c1 i16 LE | c2 i32 LE | c3 length length, LZF
 *
 * INVARIANTS
 *
 *   1. What `take()` has given is never changed.
 *   2. No entry is taken before its type is decided.
 */
import assert from "node:assert/strict";
import { copyBytes, type PackedEncoder } from "./encode-packed.ts";
import { parseInt32 } from "./integer.ts";
import { LzfEncoder } from "./lzf-encode.ts";

const firstCapacity = 1 << 16;
/** One huge value must not make every later buffer as huge. */
const keptCapacity = 1 << 22;
/** Buffers are doubled up to here, then grow by this much. */
const largestStep = 1 << 26;
/** Up to here strings are never compressed; a compressed one must save this much. */
const shortestCompressed = 20;
const leastSaving = 4;
/** Bytes of a string besides its content, at most. */
const stringOverhead = 19;
const noEntry = -1;
const two32 = 2 ** 32;

export class Output {
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(firstCapacity);
  length = 0;
  #view = new DataView(this.bytes.buffer);
  readonly #lzf: LzfEncoder | undefined;
  /** Where the undecided entry starts, and where its type byte is. */
  #heldAt = noEntry;
  #typeAt = 0;

  constructor(compress: boolean) {
    this.#lzf = compress ? new LzfEncoder() : undefined;
  }

  /** Bytes that `take()` would give. */
  get ready(): number {
    return this.#heldAt === noEntry ? this.length : this.#heldAt;
  }

  /** What is ready, owned by the caller. */
  take(): Uint8Array {
    const size = this.ready;
    const isWorthGiving = size === this.length && size * 2 >= this.bytes.length;
    if (!isWorthGiving) {
      const taken = this.bytes.slice(0, size);
      this.bytes.copyWithin(0, size, this.length);
      this.length -= size;
      this.#typeAt -= size;
      if (this.#heldAt !== noEntry) this.#heldAt = 0;
      return taken;
    }
    const taken = this.bytes.subarray(0, size);
    this.bytes = new Uint8Array(Math.min(this.bytes.length, keptCapacity));
    this.#view = new DataView(this.bytes.buffer);
    this.length = 0;
    return taken;
  }

  /** Begins an entry. */
  hold(): void {
    assert(this.#heldAt === noEntry, "The entry before has no value");
    this.#heldAt = this.length;
  }

  /** Leaves room for the type byte. */
  type(): void {
    this.#typeAt = this.length;
    this.byte(0);
  }

  decide(type: number): void {
    this.bytes[this.#typeAt] = type;
    this.#heldAt = noEntry;
  }

  /** Takes the entry back as if it had never begun. */
  drop(): void {
    assert(this.#heldAt !== noEntry, "The entry is decided");
    this.length = this.#heldAt;
    this.#heldAt = noEntry;
  }

  byte(value: number): void {
    this.#room(1);
    this.bytes[this.length++] = value;
  }

  /** A signed 64-bit integer, LE. */
  int64(value: bigint | number): void {
    this.#room(8);
    if (typeof value === "bigint") {
      this.#view.setBigInt64(this.length, value, true);
    } else {
      assert(Number.isSafeInteger(value), "A time beyond 2^53 comes as a bigint");
      this.#view.setInt32(this.length, value | 0, true);
      this.#view.setInt32(this.length + 4, Math.floor(value / two32), true);
    }
    this.length += 8;
  }

  /** An unsigned 64-bit integer, BE. */
  uint64BigEndian(value: bigint): void {
    this.#room(8);
    this.#view.setBigUint64(this.length, value);
    this.length += 8;
  }

  uint64(value: bigint): void {
    this.#room(8);
    this.#view.setBigUint64(this.length, value, true);
    this.length += 8;
  }

  float64(value: number): void {
    this.#room(8);
    this.#view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  raw(bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.#room(end - start);
    copyBytes(bytes, start, end, this.bytes, this.length);
    this.length += end - start;
  }

  /** Called `len` in the format's description: a safe integer, 0 or more. */
  rdbLength(value: number): void {
    this.#room(9);
    this.length = this.#putLength(this.length, value);
  }

  /** The same for all 64 bits, unsigned. */
  rdbLength64(value: bigint): void {
    const rounded = Number(value);
    if (Number.isSafeInteger(rounded)) {
      this.rdbLength(rounded);
      return;
    }
    this.byte(0x81);
    this.uint64BigEndian(value);
  }

  /** Puts a length where one byte was left for it, in front of what was written since. */
  insertLength(at: number, value: number): void {
    const extra = lengthSize(value) - 1;
    this.#room(extra);
    if (extra > 0) this.bytes.copyWithin(at + 1 + extra, at + 1, this.length);
    this.#putLength(at, value);
    this.length += extra;
  }

  /** A string in the form that a server would choose. */
  string(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const integer = parseInt32(bytes, start, end);
    if (Number.isNaN(integer)) this.blob(bytes, start, end);
    else this.#integer(integer);
  }

  /** A string that is no integer: compressed if that saves something. */
  blob(bytes: Uint8Array, start: number, end: number): void {
    const size = end - start;
    this.#room(size + stringOverhead);
    if (size > shortestCompressed && this.#compress(bytes, start, end)) return;
    this.length = this.#putLength(this.length, size);
    copyBytes(bytes, start, end, this.bytes, this.length);
    this.length += size;
  }

  /** Completes a container and writes it. */
  container(packed: PackedEncoder): void {
    // In two steps: completing it may give it another array.
    const size = packed.finish();
    this.blob(packed.bytes, 0, size);
  }

  #integer(value: number): void {
    this.#room(5);
    const at = this.length;
    if (value >= -0x80 && value <= 0x7f) {
      this.bytes[at] = 0xc0;
      this.bytes[at + 1] = value;
      this.length = at + 2;
    } else if (value >= -0x8000 && value <= 0x7fff) {
      this.bytes[at] = 0xc1;
      this.#view.setInt16(at + 1, value, true);
      this.length = at + 3;
    } else {
      this.bytes[at] = 0xc2;
      this.#view.setInt32(at + 1, value, true);
      this.length = at + 5;
    }
  }

  /** Compresses in place, behind a gap for the head; the gap is closed where it was too wide. */
  #compress(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#lzf === undefined) return false;
    const size = end - start;
    const limit = size - leastSaving;
    const gap = 1 + lengthSize(limit) + lengthSize(size);
    const at = this.length + gap;
    const packed = this.#lzf.encode(bytes, start, end, this.bytes, at, limit);
    if (packed === 0) return false;
    this.bytes[this.length] = 0xc3;
    const content = this.#putLength(this.#putLength(this.length + 1, packed), size);
    if (content !== at) this.bytes.copyWithin(content, at, at + packed);
    this.length = content + packed;
    return true;
  }

  #putLength(at: number, value: number): number {
    const bytes = this.bytes;
    if (value < 0x40) {
      bytes[at] = value;
      return at + 1;
    }
    if (value < 0x4000) {
      bytes[at] = 0x40 | (value >> 8);
      bytes[at + 1] = value;
      return at + 2;
    }
    if (value < two32) {
      bytes[at] = 0x80;
      this.#view.setUint32(at + 1, value);
      return at + 5;
    }
    bytes[at] = 0x81;
    this.#view.setUint32(at + 1, Math.floor(value / two32));
    this.#view.setUint32(at + 5, value);
    return at + 9;
  }

  #room(size: number): void {
    const needed = this.length + size;
    if (needed > this.bytes.length) this.#grow(needed);
  }

  #grow(needed: number): void {
    const doubled = this.bytes.length + Math.min(this.bytes.length, largestStep);
    const larger = new Uint8Array(Math.max(needed, doubled));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

function lengthSize(value: number): number {
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < two32 ? 5 : 9;
}
