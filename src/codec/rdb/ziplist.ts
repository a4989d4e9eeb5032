/**
 * Ziplists: lists, sorted sets and hashes of servers up to Redis 6.2 (types 10, 12, 13, 14).
 *
 *   total u32 LE | offset of the last entry u32 LE | count u16 LE (65535: unknown) | entries | ff
 *
 * An entry is the size of the one before it (one byte below 254, else fe and u32 LE; the long form
 * of a small size is sound), an encoding and data:
 *
 *   00xxxxxx                   string, length of 6 bits
 *   01xxxxxx + 1 byte          string, length of 14 bits
 *   10xxxxxx + u32 BE          string
 *   c0 d0 e0                   integer of 2, 4, 8 bytes, LE, signed
 *   f0 fe                      integer of 3 bytes, of 1 byte
 *   f1 to fd                   integer 0 to 12
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

const container = "ziplist";
const headerBytes = 10;
const unknownCount = 65535;

export class ZiplistCursor implements PackedCursor {
  count = 0;
  isInteger = false;
  integer = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  /** Where the end mark stands. */
  #end = 0;
  #seen = 0;
  #previous = 0;
  #origin = 0;

  open(blob: Slice, origin: number): void {
    const { bytes, start } = blob;
    this.#bytes = bytes;
    this.#start = start;
    this.#end = blob.end - 1;
    this.#origin = origin;
    this.#rewind();
    if (blob.length <= headerBytes) throw corruptIn(container, origin, 0, "No whole header");
    const total = readInt32(bytes, start) >>> 0;
    if (total !== blob.length) {
      throw corruptIn(container, origin, 0, `Size ${total} in a string of ${blob.length} bytes`);
    }
    if (bytes[this.#end] !== 0xff) {
      throw corruptIn(container, origin, blob.length - 1, "No end mark");
    }
    this.count = (bytes[start + 8] as number) | ((bytes[start + 9] as number) << 8);
    if (this.count === unknownCount) {
      const scratch = new Slice();
      while (this.next(scratch));
      this.count = this.#seen;
      this.#rewind();
    }
  }

  next(into: Slice): boolean {
    if (this.#at === this.#end) {
      this.#close();
      return false;
    }
    const bytes = this.#bytes;
    const at = this.#at;
    const isShort = bytes[at] !== 254;
    const head = isShort ? at + 1 : at + 5;
    if (head >= this.#end) throw this.#corrupt(at, "An element past the end");
    const before = isShort ? (bytes[at] as number) : readInt32(bytes, at + 1) >>> 0;
    // ff in the place of a size is an end mark: servers stop there.
    if (before !== this.#previous || bytes[at] === 0xff) {
      throw this.#corrupt(at, `A previous size of ${before}, not ${this.#previous}`);
    }
    this.#seen++;
    const first = bytes[head] as number;
    if (first >= 0xc0) this.#integer(into, head, first);
    else if (first < 0x40) this.#string(into, head + 1, first);
    else if (first < 0x80) {
      this.#string(into, head + 2, ((first & 0x3f) << 8) | (bytes[head + 1] as number));
    } else {
      const swapped = head + 5 > this.#end ? 0 : readInt32(bytes, head + 1);
      const length =
        ((swapped >>> 24) |
          ((swapped >>> 8) & 0xff00) |
          ((swapped & 0xff00) << 8) |
          (swapped << 24)) >>>
        0;
      this.#string(into, head + 5, length);
    }
    this.#previous = this.#at - at;
    return true;
  }

  #rewind(): void {
    this.#at = this.#start + headerBytes;
    this.#seen = 0;
    this.#previous = 0;
  }

  #close(): void {
    if (this.#seen !== this.count && this.count !== unknownCount) {
      throw this.#corrupt(this.#start + 8, `A count of ${this.count} for ${this.#seen} elements`);
    }
    const tail = readInt32(this.#bytes, this.#start + 4) >>> 0;
    const last = this.#end - this.#previous - this.#start;
    if (tail !== last) {
      throw this.#corrupt(this.#start + 4, `A last element at ${tail}, not at ${last}`);
    }
  }

  #string(into: Slice, start: number, length: number): void {
    this.#advance(start, length);
    this.isInteger = false;
    into.set(this.#bytes, start, start + length);
  }

  #integer(into: Slice, head: number, first: number): void {
    const bytes = this.#bytes;
    const at = head + 1;
    this.isInteger = true;
    switch (first) {
      case 0xc0:
        this.#advance(at, 2);
        this.integer = readInt16(bytes, at);
        break;
      case 0xd0:
        this.#advance(at, 4);
        this.integer = readInt32(bytes, at);
        break;
      case 0xe0:
        this.#advance(at, 8);
        this.integer = setInt64(into, readInt64(bytes, at));
        return;
      case 0xf0:
        this.#advance(at, 3);
        this.integer = readInt24(bytes, at);
        break;
      case 0xfe:
        this.#advance(at, 1);
        this.integer = ((bytes[at] as number) << 24) >> 24;
        break;
      default:
        if (first < 0xf1 || first > 0xfd) {
          throw this.#corrupt(head, `Byte 0x${first.toString(16)} starts no element`);
        }
        this.#advance(at, 0);
        this.integer = first - 0xf1;
    }
    into.setInteger(this.integer);
  }

  #advance(start: number, length: number): void {
    if (start + length > this.#end) throw this.#corrupt(this.#at, "An element past the end");
    this.#at = start + length;
  }

  #corrupt(at: number, found: string) {
    return corruptIn(container, this.#origin, at - this.#start, found);
  }
}
