/**
 * Ziplists: small collections for servers before 7.0 (types 10, 12, 13, 14).
 *
 *   size u32 LE | offset of the last entry u32 LE | count u16 LE | entries | ff
 *
 * An entry is the size of the entry before (1 byte below 254, else fe and u32 LE), then
 *
 *   00pppppp, 01pppppp + 1, 80 + u32 BE    a string of that many bytes follows (lengths BE)
 *   fe f1..fd c0 f0 d0 e0                  integer: int8, 0 to 12, int16, int24, int32, int64 (LE)
 */
import { Failure } from "../../base/errors.ts";
import {
  copyBytes,
  grow,
  largestContainer,
  largestCount,
  type PackedEncoder,
  restart,
  writeUint32,
} from "./encode-packed.ts";
import { Int64 } from "./integer.ts";

const headerBytes = 10;
/** Size of the entry before, and head, at most. */
const overhead = 10;
const firstLongPrevious = 254;

export class ZiplistEncoder implements PackedEncoder {
  bytes: Uint8Array = new Uint8Array(1024);
  size = headerBytes;
  count = 0;
  #last = headerBytes;
  readonly #integer = new Int64();

  begin(): void {
    this.bytes = restart(this.bytes);
    this.size = headerBytes;
    this.count = 0;
    this.#last = headerBytes;
  }

  element(bytes: Uint8Array, start: number, end: number): void {
    if (this.#integer.parse(bytes, start, end)) {
      this.#putInteger();
      return;
    }
    const length = end - start;
    let at = this.#open(length);
    if (length < 64) {
      this.bytes[at++] = length;
    } else if (length < 16384) {
      this.bytes[at++] = 0x40 | (length >> 8);
      this.bytes[at++] = length;
    } else {
      this.bytes[at++] = 0x80;
      this.bytes[at++] = length >> 24;
      this.bytes[at++] = length >> 16;
      this.bytes[at++] = length >> 8;
      this.bytes[at++] = length;
    }
    copyBytes(bytes, start, end, this.bytes, at);
    this.size = at + length;
  }

  integer(value: number): void {
    this.#integer.setSafe(value);
    this.#putInteger();
  }

  finish(): number {
    if (this.size + 1 > largestContainer) {
      throw new Failure("LIMIT_EXCEEDED", `Cannot write a ziplist of ${this.size + 1} bytes`);
    }
    if (this.bytes.length === this.size) this.bytes = grow(this.bytes, this.size + 1);
    this.bytes[this.size++] = 0xff;
    writeUint32(this.bytes, 0, this.size);
    writeUint32(this.bytes, 4, this.#last);
    const count = Math.min(this.count, largestCount);
    this.bytes[8] = count;
    this.bytes[9] = count >> 8;
    return this.size;
  }

  /** Starts an entry: writes the size of the one before; returns where the new one's head goes. */
  #open(length: number): number {
    const needed = this.size + overhead + length;
    if (this.bytes.length < needed) this.bytes = grow(this.bytes, needed);
    const previous = this.count === 0 ? 0 : this.size - this.#last;
    this.#last = this.size;
    this.count++;
    let at = this.size;
    if (previous < firstLongPrevious) {
      this.bytes[at++] = previous;
    } else {
      this.bytes[at++] = 0xfe;
      writeUint32(this.bytes, at, previous);
      at += 4;
    }
    return at;
  }

  #putInteger(): void {
    const { value, low, high } = this.#integer;
    let at = this.#open(8);
    const bytes = this.bytes;
    if (value >= 0 && value <= 12) {
      bytes[at++] = 0xf1 + value;
    } else if (value >= -0x80 && value <= 0x7f) {
      bytes[at++] = 0xfe;
      bytes[at++] = low;
    } else if (value >= -0x8000 && value <= 0x7fff) {
      bytes[at++] = 0xc0;
      bytes[at++] = low;
      bytes[at++] = low >> 8;
    } else if (value >= -0x800000 && value <= 0x7fffff) {
      bytes[at++] = 0xf0;
      bytes[at++] = low;
      bytes[at++] = low >> 8;
      bytes[at++] = low >> 16;
    } else {
      const isWide = value < -0x80000000 || value > 0x7fffffff;
      bytes[at++] = isWide ? 0xe0 : 0xd0;
      writeUint32(bytes, at, low);
      at += 4;
      if (isWide) {
        writeUint32(bytes, at, high);
        at += 4;
      }
    }
    this.size = at;
  }
}
