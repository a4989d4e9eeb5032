/**
 * Makes an archived object of a file, while it is read.
 *
 * WHY. What is archived may be larger than memory, and goes to a bucket as it is made. So the writer
 * takes chunks cut anywhere, gives chunks of the object, and goes on only when those are wanted.
 *
 *     const writer = new ObjectWriter(new LogBlocks({ after }));
 *     await store.upload(name, writer.bytes(file));
 *     const { index, sha256, sizeBytes } = writer.summary;
 *
 * Where blocks end, and what is in them, the cutter says, which walks over the same bytes: there is
 * one for logs (`LogBlocks`) and one for snapshots (`RdbBlocks`). The bytes go into the object as
 * they come, whatever the cutter makes of them.
 *
 * INVARIANTS
 *
 *   1. The object decompressed is what came in, byte for byte, or the writer throws.
 *   2. Memory: three buffers of a frame, what the cutter needs, the filters.
 *   3. The index is written last: an object that ends early is no object.
 */
import { strict as assert } from "node:assert";
import { createHash, type Hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { BlockFrames, type Frame } from "./block-frames.ts";
import { encodeTail, type ObjectIndex } from "./index-format.ts";
import { type ObjectKey, Sealing } from "./sealing.ts";

/** What a cutter knows of a block; its frames and where its filter is are the writer's. */
export type BlockFacts<Block> = {
  readonly facts: Omit<Block, "frames" | "filter">;
  /** Undefined: it may have to do with any key. */
  readonly filter: Uint8Array | undefined;
};

export type ObjectFacts<Index extends ObjectIndex> = Omit<
  Index,
  "format" | "writer" | "kind" | "rawBytes" | "rawSha256" | "blocks"
>;

/** Says where blocks end. Counts bytes from the start of the file. */
export type BlockCutter<Index extends ObjectIndex = ObjectIndex> = {
  readonly kind: Index["kind"];
  /** Takes the next chunk, borrowed until `next()` has returned undefined. */
  push(chunk: Uint8Array): void;
  /** The end of the block within the chunk; undefined: it goes on in the next one. */
  next(): number | undefined;
  /** What was in the block that has ended, or in the last one. Begins the next block. */
  takeBlock(): BlockFacts<Index["blocks"][number]>;
  /** What was in the file. @throws Failure where it may not end here */
  finish(): ObjectFacts<Index>;
};

export type WriterOptions = {
  /** Of zstd, 1 to 19; where it is not given, 1 or 3, whichever suits the bytes. */
  readonly level?: number;
  /** Encrypts the object. */
  readonly key?: ObjectKey;
  /** Program and version, for the index. */
  readonly writer?: string;
};

export type ObjectSummary<Index extends ObjectIndex = ObjectIndex> = {
  readonly index: Index;
  /** Of the object, not of the file in it. */
  readonly sha256: string;
  readonly sizeBytes: number;
};

/**
 * Raw bytes from which a block ends at the next good place. Measured: blocks of 1 to 8 MiB are
 * compressed alike, the smaller ones a little better; and memory goes with the size.
 */
export const blockBytes = 2 * 2 ** 20;
/** Blocks of a large file are larger, so that their number stays below some ten thousands. */
const shareOfFile = 2 ** -14;
/** What is looked at in one go: the event loop waits so long. */
const sliceBytes = 2 ** 18;

/** How large the block that starts at `start` should get, in a file of blocks of `least` bytes. */
export function blockTarget(start: number, least: number): number {
  return Math.max(least, start * shareOfFile);
}

type Pending = {
  readonly facts: object;
  readonly frames: Frame[];
  readonly filter: Uint8Array | undefined;
};

export class ObjectWriter<Index extends ObjectIndex> {
  readonly #cutter: BlockCutter<Index>;
  readonly #options: WriterOptions;
  readonly #rawSum: Hash | undefined;
  readonly #sum = createHash("sha256");
  readonly #blocks: Pending[] = [];
  #rawBytes = 0;
  #blockStart = 0;
  #sizeBytes = 0;
  #hasBegun = false;
  #summary: ObjectSummary<Index> | undefined;

  constructor(cutter: BlockCutter<Index>, options: WriterOptions = {}) {
    this.#cutter = cutter;
    this.#options = options;
    this.#rawSum = cutter.kind === "rdb" ? createHash("sha256") : undefined;
  }

  /**
   * The object of the file that `source` gives, in chunks that the consumer owns. Once only.
   *
   * @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, DATA_TORN where a log is not as it must be
   */
  async *bytes(
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    assert(!this.#hasBegun, "A writer writes one object");
    this.#hasBegun = true;
    const { level, key } = this.#options;
    const sealing = key === undefined ? undefined : Sealing.create(this.#cutter.kind, key);
    if (sealing !== undefined) yield this.#count(sealing.header);
    const frames = new BlockFrames(level, blockBytes + blockBytes / 2, sealing);
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += sliceBytes) {
        yield* this.#take(chunk.subarray(at, at + sliceBytes), frames);
      }
    }
    const facts = this.#cutter.finish();
    if (this.#rawBytes > this.#blockStart) yield* this.#endBlock(frames);
    for await (const bytes of frames.finish()) yield this.#count(bytes);
    const filters = this.#blocks.map(({ filter }, i) => filter && sealFilter(filter, i, sealing));
    const index = this.#index(facts, filters);
    const stored = filters.filter((filter) => filter !== undefined);
    yield this.#count(await encodeTail(index, stored, sealing));
    this.#summary = { index, sha256: this.#sum.digest("hex"), sizeBytes: this.#sizeBytes };
  }

  /** What was written, when all of `bytes()` was taken. */
  get summary(): ObjectSummary<Index> {
    assert(this.#summary !== undefined, "The object was taken to its end");
    return this.#summary;
  }

  async *#take(slice: Uint8Array, frames: BlockFrames): AsyncGenerator<Uint8Array> {
    const start = this.#rawBytes;
    this.#rawSum?.update(slice);
    this.#cutter.push(slice);
    let from = 0;
    for (let end = this.#cutter.next(); end !== undefined; end = this.#cutter.next()) {
      assert(end - start >= from && end - start <= slice.length, "A block ends within the chunk");
      for await (const bytes of frames.add(slice.subarray(from, end - start))) {
        yield this.#count(bytes);
      }
      this.#rawBytes = end;
      yield* this.#endBlock(frames);
      from = end - start;
    }
    for await (const bytes of frames.add(slice.subarray(from))) yield this.#count(bytes);
    this.#rawBytes = start + slice.length;
  }

  async *#endBlock(frames: BlockFrames): AsyncGenerator<Uint8Array> {
    for await (const bytes of frames.endBlock()) yield this.#count(bytes);
    this.#blocks.push({ ...this.#cutter.takeBlock(), frames: frames.takeList() });
    this.#blockStart = this.#rawBytes;
  }

  #count(bytes: Uint8Array): Uint8Array {
    this.#sum.update(bytes);
    this.#sizeBytes += bytes.length;
    return bytes;
  }

  #index(facts: ObjectFacts<Index>, filters: readonly (Uint8Array | undefined)[]): Index {
    const blocks = this.#blocks.map(({ facts: block, frames }, i) => {
      const filter = filters[i];
      const place = filter === undefined ? null : { bytes: filter.length, crc: crc32(filter) };
      return { ...block, frames, filter: place };
    });
    const index = {
      format: 1,
      writer: this.#options.writer ?? "tidemark",
      kind: this.#cutter.kind,
      rawBytes: this.#rawBytes,
      ...(this.#rawSum && { rawSha256: this.#rawSum.digest("hex") }),
      ...facts,
      blocks,
    };
    // The cutter's types say that facts and blocks are those of this kind of index.
    return index as unknown as Index;
  }
}

function sealFilter(filter: Uint8Array, block: number, sealing: Sealing | undefined): Uint8Array {
  return sealing?.seal("filter", block, filter) ?? filter;
}
