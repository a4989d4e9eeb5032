/**
 * What the two packed containers of small collections have in common: they are built in memory,
 * element after element, since their size stands at their start. Encoders are reused.
 */
export interface PackedEncoder {
  /** The container, from byte 0 on; borrowed, and another array after the next call. */
  readonly bytes: Uint8Array;
  /** Bytes so far, with the header, without the end mark. */
  readonly size: number;
  readonly count: number;

  begin(): void;

  /** Appends an element: as an integer where that is what its text stands for. */
  element(bytes: Uint8Array, start: number, end: number): void;

  /** Appends a safe integer. */
  integer(value: number): void;

  /** Completes the container and returns its size. */
  finish(): number;
}

/** The size field of both is 32 bits wide. */
export const largestContainer = 0xffff_ffff;
/** A count of more than fits stands there as 65535: "walk it". */
export const largestCount = 65535;
/** What an encoder keeps for the next container; what one large one needed is given back. */
const keptBytes = 1 << 20;

/** A buffer for the next container. */
export function restart(bytes: Uint8Array): Uint8Array {
  return bytes.length > keptBytes ? new Uint8Array(keptBytes) : bytes;
}

/** The bytes with room for `needed`. */
export function grow(bytes: Uint8Array, needed: number): Uint8Array {
  const larger = new Uint8Array(Math.max(needed, bytes.length * 2));
  larger.set(bytes);
  return larger;
}

export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >> 8;
  bytes[at + 2] = value >> 16;
  bytes[at + 3] = value >> 24;
}

/** Copies short runs byte by byte: making a view costs as much as copying fifty. */
export function copyBytes(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  at: number,
): void {
  if (end - start > longestLoop) {
    const isWhole = start === 0 && end === source.length;
    target.set(isWhole ? source : source.subarray(start, end), at);
    return;
  }
  for (let from = start, to = at; from < end; from++, to++) target[to] = source[from] as number;
}

const longestLoop = 48;
