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
/** Keys that there is room for at first. */
const fewKeys = 4096;

/** Writes the two hashes of a key. Signed here and below: larger numbers cost much. */
function hashKey(bytes: Uint8Array, start: number, end: number, to: Int32Array, at: number): void {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x85ebca6b);
  }
  to[at] = mix(a ^ (end - start));
  to[at + 1] = mix((b + end - start) | 0) | 1;
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
  const hashes = new Int32Array(2);
  hashKey(key, 0, key.length, hashes, 0);
  const a = hashes[0] as number;
  const b = hashes[1] as number;
  for (let i = 0; i < probes; i++) {
    const bit = bitOf(a, b, i, bits);
    if (((filter[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/**
 * The different keys of a block, as hashes, until it is known how many they are.
 *
 * A key is only written down when it comes. Repeats are dropped all at once: a table that is looked
 * into between two commands is out of the processor's cache each time, and took thrice as long.
 */
export class KeyCollector {
  /** Pairs of hashes, as the keys came. */
  #pairs = new Int32Array(2 * fewKeys);
  #end = 0;
  /** Where the different pairs are, plus one. Open addressing, at most half full; for `#dropRepeats()`. */
  #table = new Int32Array(2 * fewKeys);
  #isUnknown = false;

  add(key: Slice): void {
    if (this.#end === this.#pairs.length) this.#makeRoom();
    if (this.#isUnknown) return;
    hashKey(key.bytes, key.start, key.end, this.#pairs, this.#end);
    this.#end += 2;
  }

  /** From here on the block may have to do with any key. */
  addUnknown(): void {
    this.#isUnknown = true;
    this.#end = 0;
  }

  /** The filter of what was added, or undefined where it stands for all keys; begins a new one. */
  take(): Uint8Array | undefined {
    this.#dropRepeats();
    const filter = this.#isUnknown ? undefined : this.#build();
    if (this.#end * 16 < this.#pairs.length) this.#resize(fewKeys);
    this.#end = 0;
    this.#isUnknown = false;
    return filter;
  }

  #build(): Uint8Array {
    const filter = new Uint8Array(Math.ceil(((this.#end / 2) * bitsPerKey) / 8));
    const bits = filter.length * 8;
    assert(filter.length <= maxFilterBytes, "A filter is bounded");
    for (let at = 0; at < this.#end; at += 2) {
      const a = this.#pairs[at] as number;
      const b = this.#pairs[at + 1] as number;
      for (let i = 0; i < probes; i++) {
        const bit = bitOf(a, b, i, bits);
        filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7));
      }
    }
    return filter;
  }

  #makeRoom(): void {
    this.#dropRepeats();
    const room = this.#pairs.length / 2;
    if (this.#end > room) this.#resize(2 * room);
  }

  #resize(keys: number): void {
    const pairs = new Int32Array(2 * keys);
    pairs.set(this.#pairs.subarray(0, Math.min(this.#end, pairs.length)));
    this.#pairs = pairs;
    this.#table = new Int32Array(2 * keys);
  }

  /** Leaves each pair that is there once; none, where there are too many. */
  #dropRepeats(): void {
    const pairs = this.#pairs;
    const table = this.#table.fill(0);
    const mask = table.length - 1;
    let end = 0;
    for (let at = 0; at < this.#end; at += 2) {
      const a = pairs[at] as number;
      const b = pairs[at + 1] as number;
      let slot = a & mask;
      let there = table[slot] as number;
      while (there !== 0 && (pairs[there - 1] !== a || pairs[there] !== b)) {
        slot = (slot + 1) & mask;
        there = table[slot] as number;
      }
      if (there !== 0) continue;
      table[slot] = end + 1;
      pairs[end] = a;
      pairs[end + 1] = b;
      end += 2;
    }
    this.#end = end;
    if (end > 2 * maxFilterKeys) this.addUnknown();
  }
}
