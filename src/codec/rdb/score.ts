/**
 * Scores of sorted sets as text, as they stand in ziplists and listpacks and in commands.
 *
 * Servers write 17 digits (before 7.2) or the shortest digits that read back the same (since), and
 * read whatever C's `strtod` takes, even `nan` and hexadecimal; text that is no number they read as
 * 0. Here only decimal numbers and infinities are scores.
 */
import { toLatin1 } from "../../base/bytes.ts";

/** Servers copy the text into a buffer of fixed size; no honest score comes near this. */
const longestScore = 255;
const decimal = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?$/i;
const infinite = /^[+-]?inf(?:inity)?$/i;

/** The score that the text stands for, or NaN when it stands for none. */
export function parseScore(bytes: Uint8Array, start: number, end: number): number {
  if (end - start > longestScore) return Number.NaN;
  const text = toLatin1(bytes, start, end);
  if (decimal.test(text)) return Number(text);
  if (!infinite.test(text)) return Number.NaN;
  return text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

/** The shortest text that reads back the same, as Redis 7.2 and later spell it. */
export function formatScore(score: number): string {
  if (score === Number.POSITIVE_INFINITY) return "inf";
  if (score === Number.NEGATIVE_INFINITY) return "-inf";
  return Object.is(score, -0) ? "-0" : String(score);
}

/** Whether a packed sorted set holds the score as an integer. Negative zero would lose its sign. */
export function isIntegerScore(score: number): boolean {
  return Number.isSafeInteger(score) && !Object.is(score, -0);
}
