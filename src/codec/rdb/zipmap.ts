/**
 * Zipmaps: small hashes of Redis 2.4 and older (type 9).
 *
 *   count u8 (254 and above: unknown) | pairs | ff
 *
 *   key length, key, value length, free u8, value, `free` unused bytes
 *
 * A length is one byte below 254; fe starts a length of four bytes (LE in practice).
 */
import { Slice } from "../../base/bytes.ts";
import { corruptIn, type PackedCursor, readInt32 } from "./packed.ts";

const container = "zipmap";
const unknownCount = 254;

export class ZipmapCursor implements PackedCursor {
  /** Fields and values, so twice the number of pairs. */
  count = 0;
  readonly isInteger = false;
  readonly integer = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  /** Where the end mark stands. */
  #end = 0;
  #seen = 0;
  #origin = 0;

  open(blob: Slice, origin: number): void {
    this.#bytes = blob.bytes;
    this.#start = blob.start;
    this.#end = blob.end - 1;
    this.#origin = origin;
    this.#at = this.#start + 1;
    this.#seen = 0;
    if (blob.length < 2) throw corruptIn(container, origin, 0, "No whole header");
    if (blob.bytes[this.#end] !== 0xff) {
      throw corruptIn(container, origin, blob.length - 1, "No end mark");
    }
    const stated = blob.bytes[blob.start] as number;
    const scratch = new Slice();
    while (this.next(scratch));
    if (stated < unknownCount && stated * 2 !== this.#seen) {
      throw corruptIn(container, origin, 0, `A count of ${stated} for ${this.#seen / 2} pairs`);
    }
    this.count = this.#seen;
    this.#at = this.#start + 1;
    this.#seen = 0;
  }

  next(into: Slice): boolean {
    const isValue = this.#seen % 2 === 1;
    if (this.#at === this.#end) {
      if (isValue) throw this.#corrupt("A field without a value");
      return false;
    }
    const length = this.#length();
    let free = 0;
    if (isValue) {
      free = this.#bytes[this.#at] as number;
      this.#at++;
    }
    if (this.#at + length + free > this.#end) throw this.#corrupt("An element past the end");
    into.set(this.#bytes, this.#at, this.#at + length);
    this.#at += length + free;
    this.#seen++;
    return true;
  }

  #length(): number {
    const first = this.#bytes[this.#at] as number;
    const size = first === 254 ? 5 : 1;
    if (first === 255 || this.#at + size > this.#end)
      throw this.#corrupt("An element past the end");
    const length = first === 254 ? readInt32(this.#bytes, this.#at + 1) >>> 0 : first;
    this.#at += size;
    return length;
  }

  #corrupt(found: string) {
    return corruptIn(container, this.#origin, this.#at - this.#start, found);
  }
}
