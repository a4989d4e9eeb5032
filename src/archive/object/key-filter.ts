/**
 * Which keys a block may have to do with: a Bloom filter.
 *
 * WHY. To bring one key back, only the blocks that touch it have to be read. A filter answers "not in
 * here" for sure and "perhaps" with some mistakes, in six bits a key: 5.6 % of the blocks that do not
 * have a key say "perhaps". More bits would cost more of the archive than they save of reading.
 *
 * FORMAT (what is stored is the bits alone; their number is that of the bytes times 8)
 *
 *   a = FNV-1a of the key, 32 bits (start 0x811c9dc5, prime 0x01000193), xor its length, mixed
 *   b = as a, from start 0x9747b28c with prime 0x85ebca6b, plus its length, mixed, lowest bit set
 *   mixed: x ^= x >>> 16; x *= 0x85ebca6b; x ^= x >>> 13; x *= 0xc2b2ae35; x ^= x >>> 16
 *   a key is in if for i in 0 … 3 bit floor(((a + i * b) mod 2^32) / 2) mod bits is set;
 *   bit n is bit n mod 8, the lowest first, of byte floor(n / 8)
 *
 * The name of a key counts, not its database: a log may start without telling which is selected, and
 * SWAPDB, MOVE and COPY carry keys from one to another.
 */
import { strict as assert } from "node:assert";
import type { Slice } from "../../base/bytes.ts";

const bitsPerKey = 6;
const probes = 4;
/** A block with more keys than this has no filter, which stands for all keys. */
export const maxFilterKeys = 2 ** 20;
export const maxFilterBytes = (maxFilterKeys * bitsPerKey) / 8;
const smallSlots = 1024;

/** The two hashes of a key, valid until the next call. Signed here and below: larger numbers cost much. */
const hashes = new Int32Array(2);

function hashKey(bytes: Uint8Array, start: number, end: number): void {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x85ebca6b);
  }
  hashes[0] = mix(a ^ (end - start));
  hashes[1] = mix((b + end - start) | 0) | 1;
}

function mix(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  return x ^ (x >>> 16);
}

function bitOf(a: number, b: number, probe: number, bits: number): number {
  return ((a + Math.imul(probe, b)) >>> 1) % bits;
}

/** Whether a block with this filter may have to do with a key. */
export function mayHoldKey(filter: Uint8Array, key: Uint8Array): boolean {
  const bits = filter.length * 8;
  if (bits === 0) return false;
  hashKey(key, 0, key.length);
  const a = hashes[0] as number;
  const b = hashes[1] as number;
  for (let i = 0; i < probes; i++) {
    const bit = bitOf(a, b, i, bits);
    if (((filter[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** The different keys of a block, as hashes, until it is known how many they are. */
export class KeyCollector {
  /** Pairs of hashes; b is never 0 where there is one. Open addressing, at most 3/4 full. */
  #table = new Int32Array(2 * smallSlots);
  #size = 0;
  #isUnknown = false;

  add(key: Slice): void {
    if (this.#isUnknown) return;
    hashKey(key.bytes, key.start, key.end);
    const a = hashes[0] as number;
    const b = hashes[1] as number;
    const table = this.#table;
    const mask = table.length / 2 - 1;
    let slot = a & mask;
    while (table[2 * slot + 1] !== 0) {
      if (table[2 * slot] === a && table[2 * slot + 1] === b) return;
      slot = (slot + 1) & mask;
    }
    table[2 * slot] = a;
    table[2 * slot + 1] = b;
    this.#size++;
    if (this.#size > maxFilterKeys) this.addUnknown();
    else if (this.#size * 8 > table.length * 3) this.#grow();
  }

  /** From here on the block may have to do with any key. */
  addUnknown(): void {
    this.#isUnknown = true;
  }

  /** The filter of what was added, or undefined where it stands for all keys; begins a new one. */
  take(): Uint8Array | undefined {
    const filter = this.#isUnknown ? undefined : this.#build();
    if (this.#size * 16 < this.#table.length) this.#table = new Int32Array(2 * smallSlots);
    else this.#table.fill(0);
    this.#size = 0;
    this.#isUnknown = false;
    return filter;
  }

  #build(): Uint8Array {
    const filter = new Uint8Array(Math.ceil((this.#size * bitsPerKey) / 8));
    const bits = filter.length * 8;
    assert(filter.length <= maxFilterBytes, "A filter is bounded");
    for (let at = 0; at < this.#table.length; at += 2) {
      const b = this.#table[at + 1] as number;
      if (b === 0) continue;
      const a = this.#table[at] as number;
      for (let i = 0; i < probes; i++) {
        const bit = bitOf(a, b, i, bits);
        filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7));
      }
    }
    return filter;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Int32Array(2 * old.length);
    const mask = this.#table.length / 2 - 1;
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] === 0) continue;
      let slot = (old[at] as number) & mask;
      while (this.#table[2 * slot + 1] !== 0) slot = (slot + 1) & mask;
      this.#table[2 * slot] = old[at] as number;
      this.#table[2 * slot + 1] = old[at + 1] as number;
    }
  }
}
