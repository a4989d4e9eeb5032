/**
 * The bytes of an RDB file as they come in, and the primitives that everything in it is made of.
 *
 * WHY. A file may be larger than memory and arrives in chunks that are cut anywhere. The readers
 * above would be unreadable if each of their steps could stop in the middle; so they work in
 * *units* (a record head, an element), and a unit that finds too few bytes is given up, the input
 * goes back to the unit's start, and the unit is tried again when enough has come. A unit is as
 * large as one element, and that is also the bound of the memory used.
 *
 * LENGTHS (big-endian)            STRINGS
 *
 *   00xxxxxx          6 bits        length and bytes
 *   01xxxxxx + 1     14 bits        c0 c1 c2: integer of 1, 2, 4 bytes, LE, as decimal text
 *   80 + 4           32 bits        c3: LZF: length compressed, length plain, bytes
 *   81 + 8           64 bits
 *
 * INVARIANTS
 *
 *   1. `#wanted` bytes from `#mark` on are needed before the current unit can succeed; fewer are
 *      not tried again, so a large string that comes in small pieces is scanned once.
 *   2. Bytes are added to the checksum when they are let go, so exactly once and in order.
 *   3. Memory grows with what has come in, never with what a length says will come.
 *   4. A unit of many parts is short (`limitUnit()`): it starts anew with each chunk that comes.
 *
 * REJECTED. Generators that yield when they need bytes: each level costs as much as a whole key.
 */
import { empty, type Slice } from "../../base/bytes.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import { Crc64 } from "./crc64.ts";
import { decompressLzf, mayDecompress } from "./lzf-decode.ts";

/** Thrown to give up a unit; made once, so that throwing it costs next to nothing. */
class Hungry extends Error {}
export const hungry = new Hungry("More bytes are needed");

/** A string or packed container of more bytes than this is refused, by default. */
export const defaultMaxElementBytes = 2 ** 30;

const smallestBuffer = 1 << 12;

/** Records that are read as one unit although they have many parts are small. */
const maxUnitBytes = 2 ** 20;

export class Input {
  readonly #crc = new Crc64();
  /** Bytes of the file from here on are summed by somebody else. */
  #sumEnd = Number.POSITIVE_INFINITY;
  readonly #maxElementBytes: number;
  #bytes: Uint8Array = empty;
  /** A buffer of our own, used when a unit spans two chunks. */
  #own: Uint8Array = empty;
  #at = 0;
  #end = 0;
  /** Offset in the file of `#bytes[0]`. */
  #base = 0;
  /** Where the unit that is being read started. */
  #mark = 0;
  #wanted = 0;
  /** Up to where the bytes held have been summed. */
  #summed = 0;
  /** Bytes that are passed over as they come. */
  #passing = 0;

  constructor(maxElementBytes: number) {
    this.#maxElementBytes = maxElementBytes;
  }

  /** Offset in the file of the next byte. */
  get position(): number {
    return this.#base + this.#at;
  }

  /** How many bytes are held that have not been read. */
  get held(): number {
    return this.#end - this.#at;
  }

  /** Whether bytes that are passed over are still to come. */
  get isPassing(): boolean {
    return this.#passing > 0;
  }

  /** The bytes held, borrowed. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#end);
  }

  /**
   * Takes the next chunk. Where nothing is left of the last one it is read where it stands, so it
   * is borrowed until `release()`.
   */
  push(chunk: Uint8Array): void {
    const left = this.#end - this.#at;
    if (left === 0) {
      this.#sumUpTo(this.#at);
      this.#rebase(chunk);
      this.#end = chunk.length;
      return;
    }
    this.#reserve(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** Lets the last chunk go: what has not been read of it is kept aside. */
  release(): void {
    if (this.#bytes === this.#own) return;
    this.#sumUpTo(this.#at);
    if (this.#end > this.#at) this.#reserve(0);
  }

  /** Makes room for `size` bytes behind those held, in a buffer of our own. */
  #reserve(size: number): void {
    if (this.#bytes === this.#own && this.#end + size <= this.#own.length) return;
    this.#sumUpTo(this.#at);
    const left = this.#end - this.#at;
    const from = this.#bytes.subarray(this.#at, this.#end);
    if (left + size > this.#own.length) {
      // Twice what is there: a string that comes in many pieces is copied a few times only.
      const grown = Math.max(left + size, Math.min(2 * left, this.#wanted), smallestBuffer);
      this.#own = new Uint8Array(grown);
      this.#own.set(from);
    } else if (this.#bytes === this.#own) {
      this.#own.copyWithin(0, this.#at, this.#end);
    } else {
      this.#own.set(from);
    }
    this.#rebase(this.#own);
    this.#end = left;
  }

  #rebase(bytes: Uint8Array): void {
    this.#base += this.#at;
    this.#bytes = bytes;
    this.#at = 0;
    this.#mark = 0;
    this.#summed = 0;
  }

  /** Leaves the checksum of what stands from `offset` on to somebody else. */
  stopSummingAt(offset: number): void {
    this.#sumEnd = offset;
  }

  /** The CRC of all bytes read so far, or of those before `stopSummingAt()`. */
  checksum(): bigint {
    this.#sumUpTo(this.#at);
    return this.#crc.value();
  }

  #sumUpTo(at: number): void {
    const end = Math.min(at, this.#sumEnd - this.#base);
    if (end > this.#summed) this.#crc.update(this.#bytes, this.#summed, end);
    this.#summed = at;
  }

  /** Begins a unit; false when it can't succeed with the bytes held. */
  beginUnit(): boolean {
    if (this.#passing > 0 && !this.#passOn()) return false;
    this.#mark = this.#at;
    if (this.#end - this.#at < this.#wanted) return false;
    this.#wanted = 0;
    return true;
  }

  /** Goes back to the start of a unit that was given up. */
  abandonUnit(): void {
    this.#at = this.#mark;
  }

  /** Ends a unit within a longer step: what was read stays read. */
  commitUnit(): void {
    this.#mark = this.#at;
  }

  /** Refuses a unit that gets long; called after each of its parts. */
  limitUnit(): void {
    if (this.#at - this.#mark <= maxUnitBytes) return;
    const offset = this.#base + this.#mark;
    throw new Failure(
      "LIMIT_EXCEEDED",
      `Cannot read the record at byte ${offset}: it has more than ${maxUnitBytes} bytes`,
      { offset },
    );
  }

  need(size: number): void {
    if (this.#at + size > this.#end) {
      this.#wanted = this.#at + size - this.#mark;
      throw hungry;
    }
  }

  byte(): number {
    if (this.#at >= this.#end) this.need(1);
    return this.#bytes[this.#at++] as number;
  }

  /** Points at the next bytes. */
  bytes(size: number, into: Slice): void {
    this.need(size);
    into.set(this.#bytes, this.#at, this.#at + size);
    this.#at += size;
  }

  int32(): number {
    this.need(4);
    const bytes = this.#bytes;
    const at = this.#at;
    this.#at = at + 4;
    return (
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    );
  }

  /** A signed little-endian integer. */
  int64(): bigint {
    this.need(8);
    const low = this.int32() >>> 0;
    return (BigInt(this.int32()) << 32n) | BigInt(low);
  }

  /** Unix milliseconds: a number where that is exact. */
  time(): number | bigint {
    this.need(8);
    const low = this.int32() >>> 0;
    const high = this.int32();
    const value = high * 0x1_0000_0000 + low;
    return Number.isSafeInteger(value) ? value : (BigInt(high) << 32n) | BigInt(low);
  }

  double(): number {
    this.need(8);
    for (let i = 0; i < 8; i++) doubleBytes[i] = this.#bytes[this.#at + i] as number;
    this.#at += 8;
    return doubleView.getFloat64(0, true);
  }

  /** A length that counts something; above 2^53 it is corrupt: nothing has so many. */
  length(): number {
    const first = this.byte();
    if (first < 0x40) return first;
    if (first < 0x80) return ((first & 0x3f) << 8) | this.byte();
    const value = this.#longLength(first);
    const count = Number(value);
    if (!Number.isSafeInteger(count)) throw corrupt(this.position - 9, `A count of ${value}`);
    return count;
  }

  /** A length over all 64 bits, unsigned. */
  length64(): bigint {
    const first = this.byte();
    if (first < 0x40) return BigInt(first);
    if (first < 0x80) return BigInt(((first & 0x3f) << 8) | this.byte());
    return this.#longLength(first);
  }

  #longLength(first: number): bigint {
    if (first === 0x80) return BigInt(this.#uint32());
    if (first !== 0x81) {
      throw corrupt(this.position - 1, `Byte 0x${first.toString(16)} starts no length`);
    }
    this.need(8);
    const high = this.#uint32();
    return (BigInt(high) << 32n) | BigInt(this.#uint32());
  }

  /** Big-endian. */
  #uint32(): number {
    this.need(4);
    const bytes = this.#bytes;
    const at = this.#at;
    this.#at = at + 4;
    return (
      (((bytes[at] as number) << 24) |
        ((bytes[at + 1] as number) << 16) |
        ((bytes[at + 2] as number) << 8) |
        (bytes[at + 3] as number)) >>>
      0
    );
  }

  /** A string, decoded: in the input where it stands plain, else in the slice's own buffer. */
  string(into: Slice): void {
    const first = this.byte();
    let size = first;
    if (first >= 0x40) {
      if (first >= 0xc0) {
        this.#encodedString(first, into);
        return;
      }
      size = first < 0x80 ? ((first & 0x3f) << 8) | this.byte() : this.#elementSize(first);
    }
    const at = this.#at;
    if (at + size > this.#end) this.need(size);
    into.set(this.#bytes, at, at + size);
    this.#at = at + size;
  }

  #encodedString(first: number, into: Slice): void {
    if (first === 0xc0) into.setInteger((this.byte() << 24) >> 24);
    else if (first === 0xc1) into.setInteger(((this.byte() | (this.byte() << 8)) << 16) >> 16);
    else if (first === 0xc2) into.setInteger(this.int32());
    else if (first === 0xc3) {
      const { compressed, plain } = this.#lzfSizes();
      this.need(compressed);
      const at = this.#at;
      const own = into.reserve(plain);
      decompressLzf(this.#bytes, at, at + compressed, own, plain, this.#base + at);
      this.#at = at + compressed;
    } else {
      throw corrupt(this.position - 1, `Byte 0x${first.toString(16)} starts no string`);
    }
  }

  #lzfSizes(): { compressed: number; plain: number } {
    const start = this.position - 1;
    const compressed = this.#checkSize(this.length());
    const plain = this.#checkSize(this.length());
    if (!mayDecompress(compressed, plain)) {
      throw corrupt(start, `An LZF string of ${compressed} bytes said to hold ${plain}`);
    }
    return { compressed, plain };
  }

  #elementSize(first: number): number {
    const value = this.#longLength(first);
    return this.#checkSize(value > 2n ** 53n ? 2 ** 53 : Number(value));
  }

  #checkSize(size: number): number {
    if (size <= this.#maxElementBytes) return size;
    const offset = this.#base + this.#mark;
    throw new Failure(
      "LIMIT_EXCEEDED",
      `Cannot read an element of ${size} bytes at byte ${offset}: the limit is ${this.#maxElementBytes}`,
      { offset },
    );
  }

  /** Passes over a string without decoding it; the rest of it need not have come yet. */
  passString(): void {
    const first = this.byte();
    let size = first;
    if (first >= 0x40) {
      if (first < 0x80) size = ((first & 0x3f) << 8) | this.byte();
      else if (first < 0xc0) size = this.#elementSize(first);
      else if (first <= 0xc2) size = 1 << (first - 0xc0);
      else if (first === 0xc3) size = this.#lzfSizes().compressed;
      else throw corrupt(this.position - 1, `Byte 0x${first.toString(16)} starts no string`);
    }
    this.pass(size);
  }

  /**
   * Passes over bytes, which need not have come yet: those that come next are then passed over
   * before anything else is read. Must be the last thing that a unit does.
   */
  pass(size: number): void {
    this.#at += size;
    if (this.#at > this.#end) {
      this.#passing = this.#at - this.#end;
      this.#at = this.#end;
    }
  }

  /** Points at what has been read since `position`, which must lie in the bytes held. */
  since(position: number, into: Slice): void {
    into.set(this.#bytes, position - this.#base, this.#at);
  }

  #passOn(): boolean {
    const size = Math.min(this.#passing, this.#end - this.#at);
    this.#at += size;
    this.#passing -= size;
    return this.#passing === 0;
  }
}

const doubleBytes = new Uint8Array(8);
const doubleView = new DataView(doubleBytes.buffer);
