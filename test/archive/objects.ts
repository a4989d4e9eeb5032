/** Archived objects in memory, for tests. */
import type { ObjectIndex } from "../../src/archive/object/index-format.ts";
import { ObjectReader, type ObjectSource } from "../../src/archive/object/object-reader.ts";
import {
  type BlockCutter,
  type ObjectSummary,
  ObjectWriter,
  type WriterOptions,
} from "../../src/archive/object/object-writer.ts";
import type { KeyRing } from "../../src/archive/object/sealing.ts";

export type Written<Index extends ObjectIndex> = ObjectSummary<Index> & {
  readonly object: Uint8Array;
};

export async function writeObject<Index extends ObjectIndex>(
  cutter: BlockCutter<Index>,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: WriterOptions = {},
): Promise<Written<Index>> {
  const writer = new ObjectWriter(cutter, options);
  const parts = await Array.fromAsync(writer.bytes(chunks));
  return { object: Buffer.concat(parts), ...writer.summary };
}

/** Pieces that are overwritten when the next one is taken, as those of a reused buffer are. */
export function* borrowed(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = new Uint8Array(bytes.subarray(at, at + size));
    yield piece;
    piece.fill(0xee);
  }
}

export function sourceOf(object: Uint8Array, pieceBytes = 1 << 20): ObjectSource {
  return {
    name: "the object",
    sizeBytes: object.length,
    async *read(start, end) {
      for (let at = start; at < end; at += pieceBytes) {
        yield object.slice(at, Math.min(end, at + pieceBytes));
      }
    },
  };
}

export async function openObject(object: Uint8Array, keys?: KeyRing): Promise<ObjectReader> {
  return await ObjectReader.open(sourceOf(object), keys);
}

/** All raw bytes, or those of some blocks. */
export async function readObject(
  reader: ObjectReader,
  range?: { readonly from?: number; readonly to?: number },
): Promise<Uint8Array> {
  return Buffer.concat(await Array.fromAsync(reader.rawBytes(range)));
}
