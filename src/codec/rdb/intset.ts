/**
 * Intsets: sets of integers (RDB type 11).
 *
 *   width u32 LE     2, 4 or 8: bytes of a member
 *   count u32 LE     1 or more
 *   count × intN LE  signed, strictly ascending
 *
 * A server finds a member by binary search, so an unsorted intset silently loses members: it is
 * refused here, whatever servers do. A width greater than needed is sound.
 */
import type { Slice } from "../../base/bytes.ts";
import {
  corruptIn,
  type PackedCursor,
  readInt16,
  readInt32,
  readInt64,
  setInt64,
} from "./packed.ts";

const container = "intset";
const headerBytes = 8;

export class IntsetCursor implements PackedCursor {
  count = 0;
  readonly isInteger = true;
  integer = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  #end = 0;
  #width = 0;
  #origin = 0;
  #previous = 0n;

  open(blob: Slice, origin: number): void {
    this.#bytes = blob.bytes;
    this.#start = blob.start;
    this.#end = blob.end;
    this.#at = blob.start + headerBytes;
    this.#origin = origin;
    if (blob.length < headerBytes) throw corruptIn(container, origin, 0, "No whole header");
    this.#width = readInt32(blob.bytes, blob.start);
    this.count = readInt32(blob.bytes, blob.start + 4) >>> 0;
    if (this.#width !== 2 && this.#width !== 4 && this.#width !== 8) {
      throw corruptIn(container, origin, 0, `Width ${this.#width}`);
    }
    if (this.count === 0 || blob.length !== headerBytes + this.#width * this.count) {
      throw corruptIn(container, origin, 4, `${this.count} members in ${blob.length} bytes`);
    }
  }

  next(into: Slice): boolean {
    const at = this.#at;
    if (at === this.#end) return false;
    this.#at = at + this.#width;
    if (this.#width === 8) {
      const value = readInt64(this.#bytes, at);
      this.#ascend(at, value > this.#previous, value);
      this.integer = setInt64(into, value);
      return true;
    }
    const value = this.#width === 2 ? readInt16(this.#bytes, at) : readInt32(this.#bytes, at);
    this.#ascend(at, value > this.integer);
    this.integer = value;
    into.setInteger(value);
    return true;
  }

  #ascend(at: number, isAscending: boolean, value = 0n): void {
    if (!isAscending && at !== this.#start + headerBytes) {
      throw corruptIn(container, this.#origin, at - this.#start, "A member not above the last");
    }
    this.#previous = value;
  }
}
