/**
 * Damages a file as chance, a broken disk or an enemy would.
 *
 * The enemy knows the format: where lengths stand they become huge, in both long forms, and bytes
 * become others that mean something there. A checksum would end most of these cases early, so it is
 * made to fit, or taken away, in half of them.
 */
import { crc64 } from "../../src/codec/rdb/crc64.ts";
import { bytes, int64, length } from "../support/rdb-bytes.ts";
import type { Random } from "./random.ts";

export type Subject = {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Where lengths stand, as far as they are known. */
  readonly lengths: readonly number[];
  /** Whether the last eight bytes are a checksum. */
  readonly hasChecksum: boolean;
};

/** Bytes that stand for something: opcodes, lengths, string forms, ends, forms of elements. */
const speaking = [
  0, 1, 2, 3, 5, 7, 0x0d, 0x0e, 0x0f, 0x15, 0x16, 0x1c, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0x82,
  0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xd0, 0xe0, 0xef, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6,
  0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
];

const hugeLengths = [
  2 ** 16,
  2 ** 20,
  2 ** 24,
  2 ** 30 - 1,
  2 ** 30 + 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
].map(BigInt);
const absurdLengths = [2n ** 53n - 1n, 2n ** 53n, 2n ** 62n, 2n ** 63n, 2n ** 64n - 1n];

type Mutation = (file: Uint8Array, random: Random, subject: Subject, other: Subject) => Uint8Array;

const mutations: readonly Mutation[] = [
  flipBits,
  flipBits,
  writeSpeaking,
  writeSpeaking,
  blowUpLength,
  blowUpLength,
  blowUpLength,
  writeSize,
  cutTail,
  cutOut,
  double,
  splice,
];

/** The damaged file, and what is needed to make it again is the seed. */
export function mutate(random: Random, subject: Subject, other: Subject): Uint8Array {
  let file: Uint8Array = Uint8Array.from(subject.bytes);
  for (let left = 1 + random.below(random.once(2) ? 1 : 5); left > 0; left--) {
    if (file.length > 0) file = random.pick(mutations)(file, random, subject, other);
  }
  if (!subject.hasChecksum || file.length < 8 || random.once(2)) return file;
  const content = file.subarray(0, -8);
  return bytes(content, int64(random.once(2) ? 0 : crc64(content)));
}

function flipBits(file: Uint8Array, random: Random): Uint8Array {
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(file.length);
    file[at] = (file[at] as number) ^ (1 << random.below(8));
  }
  return file;
}

function writeSpeaking(file: Uint8Array, random: Random, subject: Subject): Uint8Array {
  file[place(file, random, subject)] = random.pick(speaking);
  return file;
}

/** A long length over what stands there, or in the place of one byte. */
function blowUpLength(file: Uint8Array, random: Random, subject: Subject): Uint8Array {
  const at = place(file, random, subject);
  const value = random.pick(random.once(3) ? absurdLengths : hugeLengths);
  const form = length(value, value < 2n ** 32n && random.once(2) ? 32 : 64);
  const size = random.once(2) ? 1 : form.length;
  return bytes(file.subarray(0, at), form, file.subarray(at + size));
}

/** Four bytes as sizes and counts in containers have them. */
function writeSize(file: Uint8Array, random: Random): Uint8Array {
  const size = random.pick([0, 1, 0xff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]);
  const at = random.below(file.length);
  for (let i = 0; i < 4 && at + i < file.length; i++) file[at + i] = size >>> (8 * i);
  return file;
}

function cutTail(file: Uint8Array, random: Random): Uint8Array {
  return file.subarray(0, random.below(file.length));
}

function cutOut(file: Uint8Array, random: Random): Uint8Array {
  const [start, end] = range(file, random);
  return bytes(file.subarray(0, start), file.subarray(end));
}

function double(file: Uint8Array, random: Random): Uint8Array {
  const [start, end] = range(file, random);
  return bytes(file.subarray(0, end), file.subarray(start));
}

function splice(file: Uint8Array, random: Random, _: Subject, other: Subject): Uint8Array {
  const [start, end] = range(other.bytes, random);
  const at = random.below(file.length);
  const size = random.once(2) ? 0 : end - start;
  return bytes(file.subarray(0, at), other.bytes.subarray(start, end), file.subarray(at + size));
}

function place(file: Uint8Array, random: Random, { lengths }: Subject): number {
  const at = random.once(4) || lengths.length === 0 ? 0 : random.pick(lengths);
  return at > 0 && at < file.length ? at : random.below(file.length);
}

/** Short ones mostly. */
function range(file: Uint8Array, random: Random): [start: number, end: number] {
  const start = random.below(file.length + 1);
  const longest = random.once(4) ? file.length : 64;
  return [start, Math.min(file.length, start + random.below(longest + 1))];
}
