/**
 * Counts by name, for names that are bytes and come by the million.
 *
 * WHY not a `Map`. Its keys would have to be strings, and to make one for each key of a data set
 * costs as much as reading the data set. Here a name that is known costs its hash and one comparison,
 * and nothing is allocated.
 *
 * INVARIANTS
 *
 *   1. Memory is bounded by `maxNames` and `maxNameBytes`, whatever comes. A name for which there is
 *      no room, and one that is too long, counts as slot 0, "the others".
 *   2. So the first names win. Which ones come first is chance in an RDB, whose keys stand in the
 *      order of a hash: a name that is frequent enough to matter is met early.
 */

/** Open addressing, at most half full; a slot number and its hash in turn; 0 is free. */
const firstTableLength = 2 * 512;

/** Names that were chosen to have the same hash must not make every look-up long. */
const maxProbes = 64;

/** The slot of names for which there was no room. */
export const others = 0;

export type TallyOptions = {
  readonly maxNames: number;
  /** A longer name is not kept. */
  readonly maxNameBytes: number;
  /** Whether names that differ in letter case are the same. */
  readonly foldsCase?: boolean;
};

export class Tally {
  readonly #maxNames: number;
  readonly #maxNameBytes: number;
  readonly #fold: Uint8Array;
  #table = new Int32Array(firstTableLength);
  /** The bytes of all names, and where each slot's name ends; it starts where the one before does. */
  #bytes = new Uint8Array(4096);
  #ends: number[] = [0];
  /** By slot: how often, and how much. */
  readonly counts: number[] = [0];
  readonly amounts: number[] = [0];

  constructor({ maxNames, maxNameBytes, foldsCase = false }: TallyOptions) {
    this.#maxNames = maxNames;
    this.#maxNameBytes = maxNameBytes;
    this.#fold = foldsCase ? upperCase : asIs;
  }

  /** How many names have been met and kept. */
  get size(): number {
    return this.counts.length - 1;
  }

  /** Counts the name once, and returns its slot. */
  count(bytes: Uint8Array, start: number, end: number): number {
    const slot = this.#find(bytes, start, end);
    this.counts[slot] = (this.counts[slot] as number) + 1;
    return slot;
  }

  /** Adds to what the name of a slot amounts to. */
  add(slot: number, amount: number): void {
    this.amounts[slot] = (this.amounts[slot] as number) + amount;
  }

  /** Borrowed. */
  name(slot: number): Uint8Array {
    return this.#bytes.subarray(this.#ends[slot - 1] ?? 0, this.#ends[slot]);
  }

  /** The slots of names with the greatest numbers, greatest first; equal ones as they came. */
  top(numbers: readonly number[], max: number): number[] {
    const slots = Array.from({ length: this.size }, (_, index) => index + 1);
    return slots
      .sort((a, b) => (numbers[b] as number) - (numbers[a] as number) || a - b)
      .slice(0, max);
  }

  #find(bytes: Uint8Array, start: number, end: number): number {
    if (end - start > this.#maxNameBytes) return others;
    const fold = this.#fold;
    let hash = 0x811c9dc5;
    for (let at = start; at < end; at++) {
      hash = Math.imul(hash ^ (fold[bytes[at] as number] as number), 0x01000193);
    }
    hash ^= hash >>> 15;
    const table = this.#table;
    const mask = table.length - 2;
    let place = (hash << 1) & mask;
    for (let probe = 0; probe < maxProbes; probe++) {
      const slot = table[place] as number;
      if (slot === 0) return this.#insert(bytes, start, end, place, hash);
      if (table[place + 1] === hash && this.#isName(slot, bytes, start, end)) return slot;
      place = (place + 2) & mask;
    }
    return others;
  }

  #isName(slot: number, bytes: Uint8Array, start: number, end: number): boolean {
    const from = this.#ends[slot - 1] as number;
    const size = end - start;
    if ((this.#ends[slot] as number) - from !== size) return false;
    const own = this.#bytes;
    const fold = this.#fold;
    for (let i = 0; i < size; i++) {
      if (own[from + i] !== fold[bytes[start + i] as number]) return false;
    }
    return true;
  }

  #insert(bytes: Uint8Array, start: number, end: number, place: number, hash: number): number {
    const slot = this.counts.length;
    if (slot > this.#maxNames) return others;
    const from = this.#ends[slot - 1] as number;
    const to = from + (end - start);
    if (to > this.#bytes.length) {
      const grown = new Uint8Array(2 * to);
      grown.set(this.#bytes.subarray(0, from));
      this.#bytes = grown;
    }
    for (let i = 0; i < to - from; i++) {
      this.#bytes[from + i] = this.#fold[bytes[start + i] as number] as number;
    }
    this.#ends.push(to);
    this.counts.push(0);
    this.amounts.push(0);
    this.#table[place] = slot;
    this.#table[place + 1] = hash;
    if (4 * slot >= this.#table.length) this.#grow();
    return slot;
  }

  #grow(): void {
    const old = this.#table;
    const table = new Int32Array(2 * old.length);
    const mask = table.length - 2;
    for (let from = 0; from < old.length; from += 2) {
      if (old[from] === 0) continue;
      let place = ((old[from + 1] as number) << 1) & mask;
      while (table[place] !== 0) place = (place + 2) & mask;
      table[place] = old[from] as number;
      table[place + 1] = old[from + 1] as number;
    }
    this.#table = table;
  }
}

const asIs = Uint8Array.from({ length: 256 }, (_, byte) => byte);
const upperCase = asIs.map((byte) => (byte >= 97 && byte <= 122 ? byte - 32 : byte));
