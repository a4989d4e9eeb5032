import type { Slice } from "../../base/bytes.ts";
import { escapeBytes } from "../render/text.ts";
import type { PrefixReport } from "./report.ts";
import { others, Tally } from "./tally.ts";

/** Some 4 MB of memory, or 8 with names as long as they may be on average. */
const maxPrefixes = 65_536;
const maxPrefixBytes = 256;

export type PrefixOptions = {
  readonly prefixSeparator: Uint8Array;
  /** A prefix goes up to so many separators. */
  readonly prefixDepth: number;
};

/** Sums keys and bytes by what keys start with. */
export class Prefixes {
  readonly #tally = new Tally({ maxNames: maxPrefixes, maxNameBytes: maxPrefixBytes });
  readonly #separator: Uint8Array;
  readonly #depth: number;
  readonly #without = { keys: 0, bytes: 0 };
  /** That of the current key; undefined where it has none. */
  #slot: number | undefined;

  constructor({ prefixSeparator, prefixDepth }: PrefixOptions) {
    this.#separator = prefixSeparator;
    this.#depth = prefixDepth;
  }

  begin({ bytes, start, end }: Slice): void {
    const prefixEnd = this.#endOfPrefix(bytes, start, end);
    if (prefixEnd < 0) {
      this.#slot = undefined;
      this.#without.keys++;
    } else {
      this.#slot = this.#tally.count(bytes, start, prefixEnd);
    }
  }

  /** Says how many bytes the key turned out to have. */
  end(bytes: number): void {
    if (this.#slot === undefined) this.#without.bytes += bytes;
    else this.#tally.add(this.#slot, bytes);
  }

  /** Behind the last separator that counts, or -1. Where there are too few, the last one counts. */
  #endOfPrefix(bytes: Uint8Array, start: number, end: number): number {
    const separator = this.#separator;
    const first = separator[0];
    const last = end - separator.length;
    let left = this.#depth;
    let found = -1;
    for (let at = start; at <= last; at++) {
      if (bytes[at] !== first || !startsAt(bytes, at, separator)) continue;
      at += separator.length - 1;
      found = at + 1;
      if (--left === 0) break;
    }
    return found;
  }

  report(top: number): PrefixReport {
    const tally = this.#tally;
    const share = (slot: number) => ({
      keys: tally.counts[slot] as number,
      bytes: tally.amounts[slot] as number,
    });
    return {
      separator: escapeBytes(this.#separator),
      depth: this.#depth,
      top: tally
        .top(tally.amounts, top)
        .map((slot) => ({ prefix: escapeBytes(tally.name(slot)), ...share(slot) })),
      distinct: tally.size,
      others: share(others),
      without: this.#without,
    };
  }
}

function startsAt(bytes: Uint8Array, at: number, separator: Uint8Array): boolean {
  for (let i = 1; i < separator.length; i++) {
    if (bytes[at + i] !== separator[i]) return false;
  }
  return true;
}
