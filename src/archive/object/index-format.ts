/**
 * The index of an archived object: what is in each of its blocks, and where.
 *
 * WHY. An object is a stock file, compressed. To find a moment or a key in it without reading all of
 * it, and to tell which part is damaged, something has to say what is where. It stands at the
 * object's end, because it is known then, in a frame that decompressors skip.
 *
 * FORMAT (version 1, little-endian)
 *
 *   object   [ header ] frame* tail            a header where it is encrypted: see sealing.ts
 *   tail     0x184d2a54 u32 | size of the rest u32 | filters | index | footer
 *   filters  those of the blocks, one behind the other: see key-filter.ts
 *   index    one zstd frame of JSON, `ObjectIndex`
 *   footer   length of filters u32 | length of index u32 | length of its JSON u32
 *            | CRC-32 of index u32 | version u8 = 1 | flags u8: 1 encrypted | 0 u16
 *            | CRC-32 of the footer so far u32 | "TIDEMARK"
 *
 *   Lengths and CRCs are of what is stored: of the ciphertext with its tag where it is encrypted.
 *
 * INVARIANTS (checked by `decodeIndex()`; nothing is believed that breaks one)
 *
 *   1. Header, frames, tail fill the object without gaps; the blocks' raw bytes fill the file.
 *   2. Every byte is under a CRC: frames and filters by the index, the index by the footer, the
 *      footer by itself. So a flipped bit is found in whatever part is read, and named.
 *   3. No length is larger than a named limit and than what is there.
 *
 * REJECTED. A binary table: a page of code on both sides, to save a part of one percent. The filters
 * inside the JSON: a plan needs times and positions only, and the filters are the bulk. An index
 * object beside it: two objects can disagree.
 */
import { crc32 } from "node:zlib";
import { z } from "zod";
import { Failure } from "../../base/errors.ts";
import type { PositionLine } from "../../codec/aof/annotation.ts";
import { compressFrame, decompressFrame, maxCompressedBytes, maxFrameBytes } from "./frame.ts";
import { maxFilterBytes } from "./key-filter.ts";
import { type Sealing, tagBytes } from "./sealing.ts";

export const footerBytes = 32;
export const tailHeadBytes = 8;
const tailMagic = 0x184d2a54;
const footerMagic = "TIDEMARK";
const version = 1;
/** Of JSON: some 250 bytes a block. */
const maxIndexBytes = 64 * 2 ** 20;
const maxFiltersBytes = 2 ** 31;

const count = z.int().min(0);
const crc = z.int().min(0).max(0xffff_ffff);
const maxTextBytes = 1000;
const text = z.string().max(maxTextBytes);
const database = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);

const positionLine = z.object({
  replicationId: z.string().regex(/^[0-9a-f]{40}$/),
  offset: count,
  ms: count,
  sequence: count,
  dataCrc: crc,
});

const frame = z.tuple([
  /** Raw and stored bytes, and the CRC of the stored ones. */
  z.int().min(1).max(maxFrameBytes),
  z
    .int()
    .min(1)
    .max(maxCompressedBytes(maxFrameBytes) + tagBytes),
  crc,
]);

/** Null: the block may have to do with any key. */
const filter = z.nullable(
  z.object({
    bytes: z
      .int()
      .min(0)
      .max(maxFilterBytes + tagBytes),
    crc,
  }),
);

/** A command that concerns more than some keys. */
const wideCommand = z.object({
  name: text,
  /** Where its record starts, in the raw file. */
  at: count,
  /** Keys that it changes: of all databases, of the one selected, of some slots, or none. */
  keys: z.enum(["all", "db", "slots", "none"]),
  /** The database that was selected; null where the log does not say. */
  database: z.nullable(database),
  /** The replication offset behind it, where that is known to the byte. */
  offset: z.nullable(count),
  /** The time of the position line behind it. */
  ms: z.nullable(count),
});

const logBlock = z.object({
  frames: z.array(frame).min(1),
  filter,
  /** Selected at its start; null where the log has not said. */
  database: z.nullable(database),
  /** Records, MULTI and SELECT too. */
  commands: count,
  /** Its first and last position line. */
  first: z.nullable(positionLine),
  last: z.nullable(positionLine),
  /** Whether it ends with a position line, so that what follows can be verified from its start. */
  isSealed: z.boolean(),
  wide: z.array(wideCommand),
  /** Whether there are more of them than are listed. */
  hasMoreWide: z.boolean(),
});

const rdbBlock = z.object({
  frames: z.array(frame).min(1),
  filter,
  /** Selected at its start. */
  database,
  /** How many keys of which database start in it; null where it was not understood. */
  keys: z.nullable(z.array(z.tuple([database, count]))),
  /** Whether it starts between keys, or just anywhere. */
  isAtBoundary: z.boolean(),
});

const common = {
  format: z.literal(version),
  writer: text,
  rawBytes: count,
};

const logIndex = z.object({
  ...common,
  kind: z.literal("aof"),
  /** The last position line before the first byte, of the segment before. */
  after: z.nullable(positionLine),
  /** The last position line, of this object or before it. */
  last: z.nullable(positionLine),
  commands: count,
  blocks: z.array(logBlock),
});

const rdbIndex = z.object({
  ...common,
  kind: z.literal("rdb"),
  /** Of the file. A log has none: its position lines prove it, and it grows as fast as a source writes. */
  rawSha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** As in its first bytes: "REDIS0011", "VALKEY080"; null where they are others. */
  magic: z.nullable(text),
  /** Null where it was not understood to its end. */
  keys: z.nullable(count),
  /** Where and why it was not understood. What stands behind is there, in blocks cut anywhere. */
  notUnderstood: z.nullable(z.object({ at: count, found: text })),
  /** The end of the RDB, where it was read to its end: an AOF may follow. */
  rdbBytes: z.nullable(count),
  blocks: z.array(rdbBlock),
});

const objectIndex = z.discriminatedUnion("kind", [logIndex, rdbIndex]);

export type LogBlock = z.infer<typeof logBlock>;
export type RdbBlock = z.infer<typeof rdbBlock>;
export type LogIndex = z.infer<typeof logIndex>;
export type RdbIndex = z.infer<typeof rdbIndex>;
export type WideCommand = z.infer<typeof wideCommand>;
export type ObjectIndex = z.infer<typeof objectIndex>;
export type ObjectKind = ObjectIndex["kind"];

/** The longest text that an index holds. */
export function shorten(words: string): string {
  return words.length > maxTextBytes ? `${words.slice(0, maxTextBytes - 1)}…` : words;
}

/** Plain data, as it goes into the index. */
export function plainLine(line: PositionLine | undefined): LogIndex["last"] {
  return line === undefined ? null : { ...line };
}

/** Where things are in the object. */
export type Layout = {
  readonly filterStart: number;
  readonly indexStart: number;
  /** For each block: the first of its frames, counted over the object; then the count of all. */
  readonly firstFrame: readonly number[];
  /** Where each block starts in the raw file, and in the object; then where the last one ends. */
  readonly rawStart: readonly number[];
  readonly start: readonly number[];
  /** Where the filter of each block starts among the filters; then the size of all. */
  readonly filterOffset: readonly number[];
};

export type Footer = {
  readonly filtersBytes: number;
  readonly indexBytes: number;
  readonly jsonBytes: number;
  readonly indexCrc: number;
  readonly isEncrypted: boolean;
};

/** The end of an object, behind its last frame. */
export async function encodeTail(
  index: ObjectIndex,
  filters: readonly Uint8Array[],
  sealing: Sealing | undefined,
): Promise<Uint8Array> {
  const json = Buffer.from(JSON.stringify(index));
  if (json.length > maxIndexBytes) {
    const found = `its index has ${json.length} bytes, the limit is ${maxIndexBytes}`;
    throw new Failure("LIMIT_EXCEEDED", `Cannot write an object: ${found}`);
  }
  const plain = await compressFrame(json, { level: 3 });
  const stored = sealing?.seal("index", 0, plain) ?? plain;
  const filtersBytes = filters.reduce((sum, each) => sum + each.length, 0);
  const head = Buffer.alloc(tailHeadBytes);
  head.writeUInt32LE(tailMagic, 0);
  head.writeUInt32LE(filtersBytes + stored.length + footerBytes, 4);
  const footer = Buffer.alloc(footerBytes);
  footer.writeUInt32LE(filtersBytes, 0);
  footer.writeUInt32LE(stored.length, 4);
  footer.writeUInt32LE(json.length, 8);
  footer.writeUInt32LE(crc32(stored), 12);
  footer[16] = version;
  footer[17] = sealing === undefined ? 0 : 1;
  footer.writeUInt32LE(crc32(footer.subarray(0, 20)), 20);
  footer.write(footerMagic, 24, "latin1");
  return Buffer.concat([head, ...filters, stored, footer]);
}

/** Reads the last bytes of an object of `sizeBytes`; `bytes` may be more than the footer. */
export function decodeFooter(bytes: Uint8Array, sizeBytes: number, name: string): Footer {
  const fail = (found: string) => {
    const offset = Math.max(0, sizeBytes - footerBytes);
    const words = `Cannot read ${name}: ${found} at byte ${offset}`;
    return new Failure("DATA_CORRUPT", words, { offset });
  };
  const isCut = "no footer of an object: it is cut off, damaged there, or something else,";
  if (bytes.length < footerBytes) throw fail(isCut);
  const footer = Buffer.from(bytes.subarray(-footerBytes));
  if (footer.toString("latin1", 24) !== footerMagic) throw fail(isCut);
  if (footer.readUInt32LE(20) !== crc32(footer.subarray(0, 20))) throw fail("a damaged footer");
  if (footer[16] !== version || (footer[17] as number) > 1 || footer.readUInt16LE(18) !== 0) {
    const found = `an object of version ${footer[16]} with flags ${footer.readUInt16LE(17)}`;
    throw new Failure("DATA_UNSUPPORTED", `Cannot read ${name}: ${found}`);
  }
  const found = {
    filtersBytes: footer.readUInt32LE(0),
    indexBytes: footer.readUInt32LE(4),
    jsonBytes: footer.readUInt32LE(8),
    indexCrc: footer.readUInt32LE(12),
    isEncrypted: footer[17] === 1,
  };
  const fits = found.filtersBytes + found.indexBytes + footerBytes + tailHeadBytes <= sizeBytes;
  const isBounded = found.jsonBytes <= maxIndexBytes && found.filtersBytes <= maxFiltersBytes;
  if (!fits || !isBounded || found.indexBytes > maxCompressedBytes(maxIndexBytes)) {
    throw fail("a footer with lengths that cannot be");
  }
  return found;
}

/** Checks what stands in front of the filters. */
export function checkTailHead(bytes: Uint8Array, footer: Footer, at: number, name: string): void {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const size = footer.filtersBytes + footer.indexBytes + footerBytes;
  if (head.readUInt32LE(0) === tailMagic && head.readUInt32LE(4) === size) return;
  const words = `Cannot read ${name}: a damaged start of its index`;
  throw new Failure("DATA_CORRUPT", `${words} at byte ${at}`, { offset: at });
}

/** @throws Failure DATA_CORRUPT */
export async function decodeIndex(
  stored: Uint8Array,
  footer: Footer,
  object: { readonly name: string; readonly sizeBytes: number },
  sealing: Sealing | undefined,
): Promise<{ readonly index: ObjectIndex; readonly layout: Layout }> {
  const offset = object.sizeBytes - footerBytes - footer.indexBytes;
  const fail = (found: string) => {
    const words = `Cannot read ${object.name}: its index ${found}`;
    return new Failure("DATA_CORRUPT", `${words}, at byte ${offset}`, { offset });
  };
  if (crc32(stored) !== footer.indexCrc) throw fail("is damaged");
  const plain = sealing === undefined ? stored : sealing.unseal("index", 0, stored);
  if (plain === undefined) throw fail("is not the one that was sealed with it");
  const json = await decompressFrame(plain, footer.jsonBytes);
  if (json === undefined) throw fail("does not decompress");
  const parsed = objectIndex.safeParse(parseJson(json));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw fail(`is wrong in ${issue?.path.join(".") || "itself"}: ${issue?.message ?? "?"}`);
  }
  const index = parsed.data;
  if (sealing !== undefined && sealing.kind !== index.kind) throw fail("is of another kind");
  const layout = layOut(index, sealing, offset - footer.filtersBytes);
  const { rawStart, start } = layout;
  const contradiction =
    rawStart.at(-1) !== index.rawBytes
      ? `has blocks of ${rawStart.at(-1)} raw bytes for a file of ${index.rawBytes}`
      : start.at(-1) !== layout.filterStart - tailHeadBytes
        ? `has frames up to byte ${start.at(-1)} and itself at ${layout.filterStart - tailHeadBytes}`
        : layout.filterOffset.at(-1) !== footer.filtersBytes
          ? "has filters of another size"
          : undefined;
  if (contradiction !== undefined) throw fail(contradiction);
  return { index, layout };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
}

function layOut(index: ObjectIndex, sealing: Sealing | undefined, filterStart: number): Layout {
  let raw = 0;
  let at = sealing?.header.length ?? 0;
  let frames = 0;
  let filters = 0;
  const [rawStart, start, firstFrame, filterOffset] = [[raw], [at], [frames], [filters]];
  for (const block of index.blocks) {
    for (const [rawBytes, storedBytes] of block.frames) {
      raw += rawBytes;
      at += storedBytes;
    }
    frames += block.frames.length;
    filters += block.filter?.bytes ?? 0;
    rawStart.push(raw);
    start.push(at);
    firstFrame.push(frames);
    filterOffset.push(filters);
  }
  return {
    filterStart,
    indexStart: filterStart + filters,
    firstFrame,
    rawStart,
    start,
    filterOffset,
  };
}
