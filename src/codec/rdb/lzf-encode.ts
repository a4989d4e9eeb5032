/**
 * LZF compression, for strings and packed containers of more than 20 bytes.
 *
 * FORMAT, a sequence of
 *
 *   000xxxxx                   x+1 literal bytes follow
 *   LLLxxxxx yyyyyyyy          L of 1 to 6: copy L+2 bytes from xxxxx:yyyyyyyy + 1 bytes back
 *   111xxxxx LLLLLLLL yyyyyyyy copy L+9 bytes, likewise
 *
 * WHY IT LOOKS LIKE THIS. Most strings are short and do not compress, so what counts is what a
 * failed attempt costs: nothing is allocated, no literal is copied before a match is found, and the
 * hash table is never cleared. Instead each call numbers its positions above those of all calls
 * before: an older entry is seen to lie before the start. Short strings use a small part of the
 * table, which stays in the first-level cache.
 *
 * The choices (first match found, no match with the very first byte, how far a match reaches near
 * the end, which positions are remembered within one) are those of liblzf, so that for most input
 * the bytes are those that a server writes. Nothing depends on that.
 */

const farthest = 8192;
const longest = 264;
const longestRun = 32;
const referenceBytes = 3;
const tableBits = 14;
const shortTableBits = 10;
const shortBytes = 256;
/** Positions are kept in 31 bits; longer input would wrap them. */
const longestInput = 2 ** 30;

export class LzfEncoder {
  readonly #table = new Int32Array(1 << tableBits);
  /** The number of this call's first byte; what is smaller in the table is of an earlier call. */
  #first = 1;

  /**
   * Writes the compressed bytes into `target` from `at`, and returns how many; or returns 0, and
   * leaves rubbish there, when they would be more than `limit`.
   */
  encode(
    source: Uint8Array,
    start: number,
    end: number,
    target: Uint8Array,
    at: number,
    limit: number,
  ): number {
    const size = end - start;
    if (size > longestInput) return 0;
    if (this.#first > 0x7fffffff - size) {
      this.#table.fill(0);
      this.#first = 1;
    }
    const numbering = this.#first - start;
    this.#first += size;
    const table = this.#table;
    const shift = 32 - (size <= shortBytes ? shortTableBits : tableBits);
    const stop = at + limit;
    const last = end - 2;
    let out = at;
    let literals = start;
    let from = start;
    let until = giveUpAt(literals, stop - out, last);

    // Three bytes of the source, of which the first two are known from the position before.
    let word =
      size < 2 ? 0 : ((source[from] as number) << 8) | ((source[from + 1] as number) << 16);
    while (from < until) {
      word = (word >> 8) | ((source[from + 2] as number) << 16);
      const slot = Math.imul(word, 0x9e3779b1) >>> shift;
      const match = (table[slot] as number) - numbering;
      table[slot] = from + numbering;
      if (
        match <= start ||
        from - match > farthest ||
        source[match] !== (word & 0xff) ||
        source[match + 1] !== ((word >> 8) & 0xff) ||
        source[match + 2] !== word >> 16
      ) {
        from++;
        continue;
      }
      if (out + runSize(from - literals) + referenceBytes > stop) return 0;
      const length = matchLength(source, match, from, end);
      out = copyLiterals(source, literals, from, target, out);
      out = putReference(target, out, length, from - match - 1);
      from += length;
      literals = from;
      until = giveUpAt(literals, stop - out, last);
      if (from < last) {
        word = ((source[from] as number) << 8) | ((source[from + 1] as number) << 16);
        remember(source, from - 2, table, shift, numbering);
        remember(source, from - 1, table, shift, numbering);
      }
    }

    if (from < last || out + runSize(end - literals) > stop) return 0;
    return copyLiterals(source, literals, end, target, out) - at;
  }
}

/** Where to stop looking: near the end, or where the literals alone would be too many. */
function giveUpAt(literals: number, room: number, last: number): number {
  return Math.min(last, literals + room - Math.floor(room / (longestRun + 1)) + 1);
}

function runSize(literals: number): number {
  return literals + Math.ceil(literals / longestRun);
}

/** As liblzf: not into the last two bytes, except for what its unrolled loop reaches. */
function matchLength(source: Uint8Array, match: number, from: number, end: number): number {
  let reach = end - from - 2;
  if (reach > longest) reach = longest;
  if (reach === 17 || reach === 18) reach = 19;
  let length = 3;
  while (length < reach && source[match + length] === source[from + length]) length++;
  return length;
}

function putReference(target: Uint8Array, at: number, length: number, offset: number): number {
  const code = length - 2;
  let out = at;
  if (code < 7) {
    target[out++] = (code << 5) | (offset >> 8);
  } else {
    target[out++] = 0xe0 | (offset >> 8);
    target[out++] = code - 7;
  }
  target[out++] = offset & 0xff;
  return out;
}

function copyLiterals(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  at: number,
): number {
  let out = at;
  let from = start;
  while (from < end) {
    const to = Math.min(from + longestRun, end);
    target[out++] = to - from - 1;
    while (from < to) target[out++] = source[from++] as number;
  }
  return out;
}

function remember(
  source: Uint8Array,
  at: number,
  table: Int32Array,
  shift: number,
  numbering: number,
): void {
  const word =
    (source[at] as number) | ((source[at + 1] as number) << 8) | ((source[at + 2] as number) << 16);
  table[Math.imul(word, 0x9e3779b1) >>> shift] = at + numbering;
}
