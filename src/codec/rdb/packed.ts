import type { Slice } from "../../base/bytes.ts";
import { corrupt, type Failure } from "../../base/errors.ts";

/**
 * A walk over the elements of a packed container: intset, ziplist, listpack or zipmap.
 *
 * The walk checks as it goes: each element lies within the container, and when `next()` returns
 * false, the count in the header, the end mark and whatever else the format repeats have been
 * compared. What it reads is hostile until then.
 */
export interface PackedCursor {
  /** How many elements `next()` will give. */
  readonly count: number;
  /** Whether the last element was stored as an integer, and that integer (rounded above 2^53). */
  readonly isInteger: boolean;
  readonly integer: number;

  /** Starts at the first element. `origin` is where the container starts in the input, for errors. */
  open(blob: Slice, origin: number): void;

  /** Points `into` at the next element, borrowed; integers as decimal text. False after the last. */
  next(into: Slice): boolean;
}

/** Damage at a byte of a container, which may be compressed in the input. */
export function corruptIn(container: string, origin: number, at: number, found: string): Failure {
  return corrupt(origin, `${found} at its byte ${at}, in the ${container}`);
}

/** The signed 64-bit integer at `at`, little-endian. */
export function readInt64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(readInt32(bytes, at + 4)) << 32n) | BigInt(readInt32(bytes, at) >>> 0);
}

/** The signed 32-bit integer at `at`, little-endian. */
export function readInt32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  );
}

/** The signed 24-bit integer at `at`, little-endian. */
export function readInt24(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
  return low | (((bytes[at + 2] as number) << 24) >> 8);
}

/** The signed 16-bit integer at `at`, little-endian. */
export function readInt16(bytes: Uint8Array, at: number): number {
  return (((bytes[at] as number) | ((bytes[at + 1] as number) << 8)) << 16) >> 16;
}

/** Points a slice at the decimal text of a 64-bit integer; returns it as a number, rounded. */
export function setInt64(into: Slice, value: bigint): number {
  const rounded = Number(value);
  if (Number.isSafeInteger(rounded)) into.setInteger(rounded);
  else into.setLatin1(value.toString());
  return rounded;
}
