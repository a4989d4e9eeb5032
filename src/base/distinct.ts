import type { Slice } from "./bytes.ts";

/** At first, and after `clear()`. */
const smallSlots = 128;

/** Slots that are looked at for one string: many more than chance needs, few for a hostile input. */
const longestProbe = 1024;

/**
 * A set of byte strings that tells whether it has seen one before, in some 16 bytes of memory for
 * each (11 to 22), however long they are: it keeps 64-bit fingerprints.
 *
 * Two different strings are taken for the same with a chance of n²/2^65: one in a million for six
 * million strings. Beyond `max` strings it stops adding and counts the rest as `unchecked`. So it
 * does with strings that were made to collide: looking for them among their like would take for ever.
 */
export class Distinct {
  readonly #max: number;
  /** Pairs of halves; a pair of zeros is a free slot. Open addressing, at most 3/4 full. */
  #table = new Uint32Array(2 * smallSlots);
  #used = 0;
  /** Strings that were not added because the set was full. */
  unchecked = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** False where the string was added before with the same `salt`. */
  add(slice: Slice, salt = 0): boolean {
    const { bytes, start, end } = slice;
    // Two multiplicative hashes with different primes, each mixed at the end (as in MurmurHash3).
    let a = 0x811c9dc5 ^ salt;
    let b = 0x9747b28c + salt;
    for (let i = start; i < end; i++) {
      const byte = bytes[i] as number;
      a = Math.imul(a ^ byte, 0x01000193);
      b = Math.imul(b, 0x85ebca6b) + byte;
    }
    a = mix(a ^ (end - start));
    b = mix(b) || 1;
    const mask = this.#table.length / 2 - 1;
    let slot = a & mask;
    for (let left = longestProbe; ; left--) {
      const low = this.#table[2 * slot] as number;
      const high = this.#table[2 * slot + 1] as number;
      if (high === 0) break;
      if (low === a && high === b) return false;
      slot = (slot + 1) & mask;
      if (left === 0) {
        this.unchecked++;
        return true;
      }
    }
    if (this.#used === this.#max) {
      this.unchecked++;
      return true;
    }
    this.#table[2 * slot] = a;
    this.#table[2 * slot + 1] = b;
    this.#used++;
    if (this.#used * 8 > this.#table.length * 3) this.#grow();
    return true;
  }

  clear(): void {
    if (this.#table.length > 2 * smallSlots) this.#table = new Uint32Array(2 * smallSlots);
    else if (this.#used > 0) this.#table.fill(0);
    this.#used = 0;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(old.length * 2);
    const mask = this.#table.length / 2 - 1;
    for (let i = 0; i < old.length; i += 2) {
      const low = old[i] as number;
      const high = old[i + 1] as number;
      if (high === 0) continue;
      let slot = low & mask;
      while (this.#table[2 * slot + 1] !== 0) slot = (slot + 1) & mask;
      this.#table[2 * slot] = low;
      this.#table[2 * slot + 1] = high;
    }
  }
}

function mix(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
