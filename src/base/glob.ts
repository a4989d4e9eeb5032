import type { Slice } from "./bytes.ts";

/**
 * Redis's glob patterns, as KEYS has them, over bytes: `*`, `?`, `[abc]`, `[^a-z]`, `\x`.
 *
 * A star is tried again from its last place only, so the time is at most the product of the two
 * lengths; the recursive form, which servers use, takes exponential time for hostile patterns.
 *
 * Ranges compare bytes as 0 to 255. Servers take them as C's `char`, which has a sign on some
 * machines and none on others; it matters for ranges beyond ASCII only.
 */
export class Glob {
  readonly #pattern: Uint8Array;

  constructor(pattern: string) {
    this.#pattern = Buffer.from(pattern);
  }

  matches({ bytes, start, end }: Slice): boolean {
    const pattern = this.#pattern;
    let at = 0;
    let text = start;
    let starAt = -1;
    let starText = 0;
    while (text < end) {
      const code = pattern[at];
      if (code === star) {
        starAt = ++at;
        starText = text;
        continue;
      }
      const next = code === undefined ? 0 : this.#one(at, bytes[text] as number);
      if (next > 0) {
        at = next;
        text++;
      } else if (starAt >= 0) {
        at = starAt;
        text = ++starText;
      } else {
        return false;
      }
    }
    while (pattern[at] === star) at++;
    return at === pattern.length;
  }

  /** Where the pattern goes on when its item at `at` matches the byte, else 0. */
  #one(at: number, byte: number): number {
    const pattern = this.#pattern;
    const code = pattern[at];
    if (code === question) return at + 1;
    if (code === bracket) return this.#set(at + 1, byte);
    if (code === backslash && at + 1 < pattern.length) {
      return pattern[at + 1] === byte ? at + 2 : 0;
    }
    return code === byte ? at + 1 : 0;
  }

  /** A set without its closing bracket goes to the end of the pattern, as on servers. */
  #set(start: number, byte: number): number {
    const pattern = this.#pattern;
    let at = start;
    const isNegated = pattern[at] === caret;
    if (isNegated) at++;
    let isMember = false;
    while (at < pattern.length && pattern[at] !== closing) {
      if (pattern[at] === backslash && at + 1 < pattern.length) {
        at++;
        isMember ||= pattern[at] === byte;
      } else if (pattern[at + 1] === dash && at + 2 < pattern.length) {
        const [a, b] = [pattern[at] as number, pattern[at + 2] as number];
        isMember ||= byte >= Math.min(a, b) && byte <= Math.max(a, b);
        at += 2;
      } else {
        isMember ||= pattern[at] === byte;
      }
      at++;
    }
    if (isMember === isNegated) return 0;
    return Math.min(at + 1, pattern.length);
  }
}

const star = 0x2a;
const question = 0x3f;
const bracket = 0x5b;
const closing = 0x5d;
const backslash = 0x5c;
const caret = 0x5e;
const dash = 0x2d;
