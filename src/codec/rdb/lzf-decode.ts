/**
 * LZF decompression, as RDB strings use it: no header, the sizes stand outside.
 *
 *   000xxxxx                          the next x + 1 bytes as they are
 *   lllooooo + low byte               copy l + 2 bytes from (o << 8 | low) + 1 bytes back
 *   111ooooo + more length + low byte the same with length 7 + more + 2
 *
 * A copy may overlap what it writes. One reference of three bytes yields at most 264, so sound data
 * never grows more than 88-fold: `mayDecompress()` says so before anything is allocated.
 */
import { corrupt } from "../../base/errors.ts";

/** A reference of 3 bytes stands for 264. */
export const maxLzfGrowth = 88;

/** Whether `size` bytes can be what `compressed` bytes decompress to. */
export function mayDecompress(compressed: number, size: number): boolean {
  return size <= compressed * maxLzfGrowth && size > 0 === compressed > 0;
}

/** Fills `target[0, size)` from `source[start, end)`; `origin` is where that stands in the input. */
export function decompressLzf(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  size: number,
  origin: number,
): void {
  let at = start;
  let to = 0;
  while (at < end) {
    const control = source[at++] as number;
    if (control < 32) {
      const stop = at + control + 1;
      if (stop > end || to + control + 1 > size) throw tooLong(origin + at - start);
      while (at < stop) target[to++] = source[at++] as number;
      continue;
    }
    let length = control >> 5;
    if (at + (length === 7 ? 2 : 1) > end) throw tooLong(origin + at - start);
    if (length === 7) length += source[at++] as number;
    const from = to - (((control & 31) << 8) | (source[at++] as number)) - 1;
    const stop = to + length + 2;
    if (from < 0) throw corrupt(origin + at - start, "An LZF reference before the start");
    if (stop > size) throw tooLong(origin + at - start);
    for (let back = from; to < stop; ) target[to++] = target[back++] as number;
  }
  if (to !== size) throw corrupt(origin, `LZF data of ${to} bytes where ${size} are stated`);
}

function tooLong(offset: number) {
  return corrupt(offset, "LZF data past its end");
}
