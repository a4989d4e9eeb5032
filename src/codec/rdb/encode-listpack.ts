/**
 * Listpacks: small collections for servers from 7.0 on, and the nodes of every stream.
 *
 *   size u32 LE | count u16 LE, 65535 for more | entries | ff
 *
 * An entry is its encoding and data, L bytes together, then L again for walking backwards:
 *
 *   0xxxxxxx, 110xxxxx + 1              integer of 7 bits, unsigned; of 13 bits, signed
 *   f1, f2, f3, f4                      integer of 16, 24, 32, 64 bits, LE, signed
 *   10xxxxxx, 1110xxxx + 1, f0 + u32 LE a string of that many bytes follows
 *
 * The back-length is in base 128, most significant digit first, all but the first with bit 7 set.
 *
 * QUIRK. Where L is all ones (16383, 2097151, 268435455), servers up to Redis 8.6 and Valkey 8.1
 * write a digit more than needed, a leading zero, and later ones don't; neither reads the other's.
 * A writer avoids such entries (`isBoundary()`) wherever another form exists. It does not in the
 * nodes of streams, and in very long lists that are written node for node: there the target decides.
 */
import { corrupt, Failure } from "../../base/errors.ts";
import {
  copyBytes,
  grow,
  largestContainer,
  largestCount,
  type PackedEncoder,
  restart,
  writeUint32,
} from "./encode-packed.ts";
import { Int64 } from "./integer.ts";

export type BackLengths = "old" | "minimal";

const headerBytes = 6;
/** Head and back-length at most. */
const overhead = 11;
/** A listpack that is shorter has no entry that the quirk is about. */
export const shortestQuirk = 16383;

export class ListpackEncoder implements PackedEncoder {
  bytes: Uint8Array = new Uint8Array(1024);
  size = headerBytes;
  count = 0;
  readonly #form: BackLengths;
  readonly #integer = new Int64();

  constructor(form: BackLengths) {
    this.#form = form;
  }

  begin(): void {
    this.bytes = restart(this.bytes);
    this.size = headerBytes;
    this.count = 0;
  }

  element(bytes: Uint8Array, start: number, end: number): void {
    if (this.#integer.parse(bytes, start, end)) {
      this.#putInteger();
      return;
    }
    const length = end - start;
    const from = this.#open(length);
    let at = from;
    if (length < 64) {
      this.bytes[at++] = 0x80 | length;
    } else if (length < 4096) {
      this.bytes[at++] = 0xe0 | (length >> 8);
      this.bytes[at++] = length;
    } else {
      this.bytes[at++] = 0xf0;
      writeUint32(this.bytes, at, length);
      at += 4;
    }
    copyBytes(bytes, start, end, this.bytes, at);
    this.#close(from, at + length);
  }

  integer(value: number): void {
    this.#integer.setSafe(value);
    this.#putInteger();
  }

  finish(): number {
    if (this.size + 1 > largestContainer) {
      throw new Failure("LIMIT_EXCEEDED", `Cannot write a listpack of ${this.size + 1} bytes`);
    }
    if (this.bytes.length === this.size) this.bytes = grow(this.bytes, this.size + 1);
    this.bytes[this.size++] = 0xff;
    writeUint32(this.bytes, 0, this.size);
    const count = Math.min(this.count, largestCount);
    this.bytes[4] = count;
    this.bytes[5] = count >> 8;
    return this.size;
  }

  #open(length: number): number {
    const needed = this.size + overhead + length;
    if (this.bytes.length < needed) this.bytes = grow(this.bytes, needed);
    this.count++;
    return this.size;
  }

  #close(from: number, end: number): void {
    const length = end - from;
    if (length < 128) {
      this.bytes[end] = length;
      this.size = end + 1;
      return;
    }
    this.size = putBackLength(this.bytes, end, length, this.#form);
  }

  #putInteger(): void {
    const { value, low, high } = this.#integer;
    const from = this.#open(8);
    const bytes = this.bytes;
    let at = from;
    if (value >= 0 && value <= 127) {
      bytes[at++] = value;
    } else if (value >= -4096 && value <= 4095) {
      bytes[at++] = 0xc0 | ((value >> 8) & 0x1f);
      bytes[at++] = value;
    } else if (value >= -0x8000 && value <= 0x7fff) {
      bytes[at++] = 0xf1;
      bytes[at++] = low;
      bytes[at++] = low >> 8;
    } else if (value >= -0x800000 && value <= 0x7fffff) {
      bytes[at++] = 0xf2;
      bytes[at++] = low;
      bytes[at++] = low >> 8;
      bytes[at++] = low >> 16;
    } else {
      const isWide = value < -0x80000000 || value > 0x7fffffff;
      bytes[at++] = isWide ? 0xf4 : 0xf3;
      writeUint32(bytes, at, low);
      at += 4;
      if (isWide) {
        writeUint32(bytes, at, high);
        at += 4;
      }
    }
    this.#close(from, at);
  }
}

/** Whether a string of this length makes an entry that not all servers can walk over. */
export function isBoundary(length: number): boolean {
  return length === 16378 || length === 2097146 || length === 268435450;
}

/** Writes the back-length of an entry of `length` bytes; returns where the next one goes. */
function putBackLength(bytes: Uint8Array, at: number, length: number, form: BackLengths): number {
  const digits = backLengthDigits(length, form);
  for (let i = digits - 1, rest = length; i >= 0; i--, rest = Math.floor(rest / 128)) {
    bytes[at + i] = i === 0 ? rest : (rest & 0x7f) | 0x80;
  }
  return at + digits;
}

function backLengthDigits(length: number, form: BackLengths): number {
  let digits = 1;
  for (let bound = 128; length >= bound; bound *= 128) {
    digits++;
  }
  return form === "old" && isAllOnes(length) ? digits + 1 : digits;
}

function isAllOnes(length: number): boolean {
  return length === 16383 || length === 2097151 || length === 268435455;
}

/**
 * The listpack with the back-lengths that a target reads: the same bytes, unless it has one of the
 * entries that the quirk is about.
 */
export function withBackLengths(listpack: Uint8Array, form: BackLengths): Uint8Array {
  const end = listpack.length - 1;
  const parts: Uint8Array[] = [];
  let copied = 0;
  let change = 0;
  for (let at = headerBytes; at < end; ) {
    const length = entryLength(listpack, at);
    const back = at + length;
    if (back >= end) throw corrupt(at, "A listpack entry past the end");
    const isOld = isAllOnes(length) && listpack[back] === 0;
    const digits = backLengthDigits(length, isOld ? "old" : "minimal");
    at = back + digits;
    if (!isAllOnes(length) || isOld === (form === "old")) continue;
    const other = new Uint8Array(backLengthDigits(length, form));
    putBackLength(other, 0, length, form);
    parts.push(listpack.subarray(copied, back), other);
    copied = at;
    change += other.length - digits;
  }
  if (parts.length === 0) return listpack;
  const changed = Buffer.concat([...parts, listpack.subarray(copied)]);
  writeUint32(changed, 0, listpack.length + change);
  return changed;
}

/** Bytes of the entry at `at`, without its back-length. */
function entryLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  if (first < 0x80) return 1;
  if (first < 0xc0) return 1 + (first & 0x3f);
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 2 + (((first & 0x0f) << 8) | (bytes[at + 1] as number));
  if (first === 0xf0 && at + 5 < bytes.length) {
    return 5 + new DataView(bytes.buffer, bytes.byteOffset + at + 1).getUint32(0, true);
  }
  const length = { 0xf1: 3, 0xf2: 4, 0xf3: 5, 0xf4: 9 }[first];
  if (length === undefined)
    throw corrupt(at, `Byte 0x${first.toString(16)} starts no listpack entry`);
  return length;
}
