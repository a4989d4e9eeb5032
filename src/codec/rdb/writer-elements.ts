/**
 * Elements of one collection, kept until it is known in which form they are written. Each may have
 * a number: a score, or an expiry.
 */
import type { Slice } from "../../base/bytes.ts";
import { copyBytes, type PackedEncoder } from "./encode-packed.ts";
import type { Output } from "./writer-output.ts";

const firstBytes = 1 << 14;
const firstCount = 1 << 10;
/** What is kept for the next collection. */
const keptBytes = 1 << 25;
/** What an element takes besides its bytes. */
const elementOverhead = 16;

export class Elements {
  bytes: Uint8Array = new Uint8Array(firstBytes);
  count = 0;
  #ends: Float64Array = new Float64Array(firstCount);
  #numbers: Float64Array = new Float64Array(firstCount);
  #size = 0;

  /** About what the elements hold in memory. */
  get sizeBytes(): number {
    return this.#size + this.count * elementOverhead;
  }

  clear(): void {
    if (this.bytes.length > keptBytes) this.bytes = new Uint8Array(firstBytes);
    this.count = 0;
    this.#size = 0;
  }

  add(element: Slice): void {
    const length = element.end - element.start;
    const size = this.#size + length;
    if (size > this.bytes.length) this.#growBytes(size);
    if (this.count === this.#ends.length) this.#ends = extend(this.#ends, this.count * 2);
    copyBytes(element.bytes, element.start, element.end, this.bytes, this.#size);
    this.#size = size;
    this.#ends[this.count++] = size;
  }

  start(index: number): number {
    return index === 0 ? 0 : (this.#ends[index - 1] as number);
  }

  end(index: number): number {
    return this.#ends[index] as number;
  }

  length(index: number): number {
    return this.end(index) - this.start(index);
  }

  /** Memory order of two elements' bytes. */
  compare(a: number, b: number): number {
    const [aStart, bStart] = [this.start(a), this.start(b)];
    const [aLength, bLength] = [this.length(a), this.length(b)];
    const shorter = Math.min(aLength, bLength);
    for (let i = 0; i < shorter; i++) {
      const difference = (this.bytes[aStart + i] as number) - (this.bytes[bStart + i] as number);
      if (difference !== 0) return difference;
    }
    return aLength - bLength;
  }

  /** Points a slice at an element, until the next call. */
  select(index: number, into: Slice): void {
    into.set(this.bytes, this.start(index), this.end(index));
  }

  /** Writes an element as a string. */
  writeTo(output: Output, index: number): void {
    output.string(this.bytes, this.start(index), this.end(index));
  }

  /** Appends an element to a container. */
  packInto(packed: PackedEncoder, index: number): void {
    packed.element(this.bytes, this.start(index), this.end(index));
  }

  number(index: number): number {
    return this.#numbers[index] as number;
  }

  /** Gives the last element its number. */
  setNumber(value: number): void {
    if (this.#numbers.length < this.#ends.length) {
      this.#numbers = extend(this.#numbers, this.#ends.length);
    }
    this.#numbers[this.count - 1] = value;
  }

  /** Forgets the first elements; those after them keep their order, and lose their numbers. */
  dropFirst(count: number): void {
    if (count === 0) return;
    const dropped = this.#ends[count - 1] as number;
    this.bytes.copyWithin(0, dropped, this.#size);
    for (let i = count; i < this.count; i++) {
      this.#ends[i - count] = (this.#ends[i] as number) - dropped;
    }
    this.count -= count;
    this.#size -= dropped;
  }

  #growBytes(needed: number): void {
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.#size));
    this.bytes = larger;
  }
}

function extend(numbers: Float64Array, length: number): Float64Array {
  const longer = new Float64Array(length);
  longer.set(numbers);
  return longer;
}
