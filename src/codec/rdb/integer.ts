/**
 * Decimal text that stands for an integer and for nothing else.
 *
 * Servers keep "12" as a number, but "012", "-0", "+1", " 1" and "1.0" as the text they are: reading
 * the number back must give the same bytes. Text like that is called canonical: `0`, or an optional
 * `-`, a digit from 1 to 9, and digits.
 */
import { toLatin1 } from "../../base/bytes.ts";

/** Longest canonical text: of an int32, and of an int64. */
const int32Digits = 11;
const int64Digits = 20;
/** Any integer of this many digits, and a sign, is exact as a number. */
const exactDigits = 15;
const two32 = 2 ** 32;

/** The int32 that the text stands for, or NaN. */
export function parseInt32(bytes: Uint8Array, start: number, end: number): number {
  if (end - start > int32Digits) return Number.NaN;
  const value = parseExact(bytes, start, end);
  return value >= -0x80000000 && value <= 0x7fffffff ? value : Number.NaN;
}

/** A 64-bit integer out of text, without a BigInt for each. Reused. */
export class Int64 {
  /** Exact where it is a safe integer, else rounded. */
  value = 0;
  /** Upper and lower half, as signed 32-bit numbers. */
  high = 0;
  low = 0;

  /** False, and the fields undefined, when the text is no canonical int64. */
  parse(bytes: Uint8Array, start: number, end: number): boolean {
    const size = end - start;
    if (size > int64Digits) return false;
    if (size <= exactDigits) {
      const value = parseExact(bytes, start, end);
      if (Number.isNaN(value)) return false;
      this.setSafe(value);
      return true;
    }
    return this.#parseLong(bytes, start, end);
  }

  /** Takes a safe integer. */
  setSafe(value: number): void {
    this.value = value;
    this.high = Math.floor(value / two32) | 0;
    this.low = value | 0;
  }

  #parseLong(bytes: Uint8Array, start: number, end: number): boolean {
    const first = bytes[start] === 45 ? start + 1 : start;
    if (bytes[first] === 48) return false;
    for (let at = first; at < end; at++) {
      const byte = bytes[at] as number;
      if (byte < 48 || byte > 57) return false;
    }
    const value = BigInt(toLatin1(bytes, start, end));
    if (BigInt.asIntN(64, value) !== value) return false;
    this.value = Number(value);
    this.high = Number(BigInt.asIntN(32, value >> 32n));
    this.low = Number(BigInt.asIntN(32, value));
    return true;
  }
}

/** The value of canonical text that is short enough for a number, or NaN. */
function parseExact(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  const isNegative = bytes[at] === 45;
  if (isNegative) at++;
  if (at >= end) return Number.NaN;
  const first = bytes[at] as number;
  if (first < 49 || first > 57) return first === 48 && end - start === 1 ? 0 : Number.NaN;
  let value = first - 48;
  while (++at < end) {
    const byte = bytes[at] as number;
    if (byte < 48 || byte > 57) return Number.NaN;
    value = value * 10 + (byte - 48);
  }
  return isNegative ? -value : value;
}
