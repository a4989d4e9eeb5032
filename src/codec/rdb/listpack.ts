/**
 * Listpacks: small hashes, sorted sets, sets, list nodes (types 16 to 18, 20, 25, 30) and the nodes
 * of every stream.
 *
 *   total u32 LE | count u16 LE (65535: unknown) | entries | ff
 *
 * An entry is its encoding and data, L bytes together, then L again for walking backwards:
 *
 *   0xxxxxxx                   integer 0 to 127
 *   10xxxxxx + n bytes         string, n of 6 bits
 *   110xxxxx + 1 byte          integer of 13 bits, signed
 *   1110xxxx + 1 byte + n      string, n of 12 bits
 *   f0 + u32 LE + n            string
 *   f1 f2 f3 f4                integer of 2, 3, 4, 8 bytes, LE, signed
 *
 * The back-length is L in base 128, most significant digit first, all but the first with bit 7 set.
 *
 * QUIRK. Where L is all ones (16383, 2097151, 268435455), servers up to Redis 8.6 and Valkey 8.1
 * write one digit more than needed, a leading zero; later ones don't; neither reads the other's.
 * Here both are read.
 */
import { Slice } from "../../base/bytes.ts";
import {
  corruptIn,
  type PackedCursor,
  readInt16,
  readInt24,
  readInt32,
  readInt64,
  setInt64,
} from "./packed.ts";

const container = "listpack";
const headerBytes = 6;
const unknownCount = 65535;

export class ListpackCursor implements PackedCursor {
  count = 0;
  isInteger = false;
  integer = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  /** Where the end mark stands. */
  #end = 0;
  #seen = 0;
  #origin = 0;
  /** The last element where it was a 64-bit integer. */
  #wide = 0n;

  open(blob: Slice, origin: number): void {
    const { bytes, start, end } = blob;
    this.#bytes = bytes;
    this.#start = start;
    this.#at = start + headerBytes;
    this.#end = end - 1;
    this.#seen = 0;
    this.#origin = origin;
    if (blob.length <= headerBytes) throw corruptIn(container, origin, 0, "No whole header");
    const total = readInt32(bytes, start) >>> 0;
    if (total !== blob.length) {
      throw corruptIn(container, origin, 0, `Size ${total} in a string of ${blob.length} bytes`);
    }
    if (bytes[end - 1] !== 0xff) {
      throw corruptIn(container, origin, blob.length - 1, "No end mark");
    }
    this.count = (bytes[start + 4] as number) | ((bytes[start + 5] as number) << 8);
    if (this.count === unknownCount) this.#countAll(blob, origin);
  }

  /** The header has no room for the number of elements: walk once to know it. */
  #countAll(blob: Slice, origin: number): void {
    const scratch = new Slice();
    let count = 0;
    while (this.next(scratch)) count++;
    this.#at = blob.start + headerBytes;
    this.#seen = 0;
    this.#origin = origin;
    this.count = count;
  }

  next(into: Slice): boolean {
    const bytes = this.#bytes;
    const at = this.#at;
    if (at === this.#end) {
      if (this.#seen !== this.count && this.count !== unknownCount) {
        throw this.#corrupt(4, `A count of ${this.count} for ${this.#seen} elements`);
      }
      return false;
    }
    const first = bytes[at] as number;
    this.#seen++;
    if (first < 0x80) {
      this.#finish(at, 1);
      this.isInteger = true;
      this.integer = first;
      into.setInteger(first);
    } else if (first < 0xc0) {
      this.#string(into, at, 1, first & 0x3f);
    } else if (first >= 0xe0 && first < 0xf0) {
      this.#string(into, at, 2, ((first & 0x0f) << 8) | (bytes[at + 1] as number));
    } else if (first === 0xf0) {
      if (at + 5 > this.#end) throw this.#corrupt(at - this.#start, "An element cut off");
      this.#string(into, at, 5, readInt32(bytes, at + 1) >>> 0);
    } else {
      this.#integer(into, at, first);
    }
    return true;
  }

  /** The next element, which must be an integer, exactly. */
  nextInteger(into: Slice): bigint {
    const at = this.#at;
    if (!this.next(into) || !this.isInteger) {
      throw this.#corrupt(at - this.#start, "No integer where one must be");
    }
    return Number.isSafeInteger(this.integer) ? BigInt(this.integer) : this.#wide;
  }

  /** Where in the container the next element starts. */
  get position(): number {
    return this.#at - this.#start;
  }

  #string(into: Slice, at: number, head: number, length: number): void {
    this.#finish(at, head + length);
    this.isInteger = false;
    into.set(this.#bytes, at + head, at + head + length);
  }

  #integer(into: Slice, at: number, first: number): void {
    const bytes = this.#bytes;
    this.isInteger = true;
    if (first < 0xe0) {
      this.#finish(at, 2);
      this.integer = ((((first & 0x1f) << 8) | (bytes[at + 1] as number)) << 19) >> 19;
    } else if (first === 0xf1) {
      this.#finish(at, 3);
      this.integer = readInt16(bytes, at + 1);
    } else if (first === 0xf2) {
      this.#finish(at, 4);
      this.integer = readInt24(bytes, at + 1);
    } else if (first === 0xf3) {
      this.#finish(at, 5);
      this.integer = readInt32(bytes, at + 1);
    } else if (first === 0xf4) {
      this.#finish(at, 9);
      this.#wide = readInt64(bytes, at + 1);
      this.integer = setInt64(into, this.#wide);
      return;
    } else {
      throw this.#corrupt(at - this.#start, `Byte 0x${first.toString(16)} starts no element`);
    }
    into.setInteger(this.integer);
  }

  /** Moves past an element of `length` bytes and its back-length, which must say the same. */
  #finish(at: number, length: number): void {
    const bytes = this.#bytes;
    const back = at + length;
    if (back >= this.#end) throw this.#corrupt(at - this.#start, "An element past the end");
    if (length < 128) {
      if (bytes[back] !== length) throw this.#corrupt(back - this.#start, "A wrong back-length");
      this.#at = back + 1;
      return;
    }
    let digits = length < 16384 ? 2 : length < 2097152 ? 3 : length < 268435456 ? 4 : 5;
    const isAllOnes = length === 16383 || length === 2097151 || length === 268435455;
    if (isAllOnes && bytes[back] === 0) digits++;
    let value = 0;
    for (let i = 0; i < digits; i++) {
      const digit = bytes[back + i] as number;
      if (i > 0 && digit < 0x80) value = Number.NaN;
      value = value * 128 + (i === 0 ? digit : digit & 0x7f);
    }
    if (back + digits > this.#end || value !== length) {
      throw this.#corrupt(back - this.#start, "A wrong back-length");
    }
    this.#at = back + digits;
  }

  #corrupt(at: number, found: string) {
    return corruptIn(container, this.#origin, at, found);
  }
}
