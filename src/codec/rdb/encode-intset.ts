/**
 * Intsets: sets of integers (type 11).
 *
 *   width u32 LE: 2, 4 or 8 | count u32 LE | members, intN LE, strictly ascending
 */
import { writeUint32 } from "./encode-packed.ts";
import type { Int64 } from "./integer.ts";

const headerBytes = 8;

export class IntsetEncoder {
  bytes: Uint8Array = new Uint8Array(headerBytes);
  readonly #capacity: number;
  readonly #values: Float64Array;
  /** All members once one of them is not exact as a number. */
  #wide: BigInt64Array | undefined;
  #count = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#values = new Float64Array(capacity);
  }

  begin(): void {
    this.#count = 0;
    this.#wide = undefined;
  }

  add(member: Int64): void {
    if (this.#wide === undefined && !Number.isSafeInteger(member.value)) this.#widen();
    if (this.#wide === undefined) this.#values[this.#count++] = member.value;
    else this.#wide[this.#count++] = (BigInt(member.high) << 32n) | BigInt(member.low >>> 0);
  }

  #widen(): void {
    this.#wide = new BigInt64Array(this.#capacity);
    for (let i = 0; i < this.#count; i++) this.#wide[i] = BigInt(this.#values[i] as number);
  }

  /** Sorts and encodes; returns the size, or 0 when a member came twice. */
  finish(): number {
    const members = (this.#wide ?? this.#values).subarray(0, this.#count).sort();
    for (let i = 1; i < members.length; i++) if (members[i] === members[i - 1]) return 0;
    const width = this.#wide === undefined ? widthOf(members as Float64Array) : 8;
    const size = headerBytes + width * members.length;
    if (this.bytes.length < size) this.bytes = new Uint8Array(headerBytes + 8 * this.#capacity);
    writeUint32(this.bytes, 0, width);
    writeUint32(this.bytes, 4, members.length);
    const view = new DataView(this.bytes.buffer);
    for (let i = 0; i < members.length; i++) {
      const at = headerBytes + i * width;
      if (width === 2) view.setInt16(at, members[i] as number, true);
      else if (width === 4) view.setInt32(at, members[i] as number, true);
      else view.setBigInt64(at, BigInt(members[i] as number | bigint), true);
    }
    return size;
  }
}

function widthOf(ascending: Float64Array): number {
  const largest = Math.max(-(ascending[0] as number) - 1, ascending.at(-1) as number);
  return largest <= 0x7fff ? 2 : largest <= 0x7fffffff ? 4 : 8;
}
