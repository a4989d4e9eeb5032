/**
 * Reads archived objects: their index, some of their blocks, or all of them.
 *
 * WHY. Restoring wants all of an object fast, planning its index alone, bringing back a key a few of
 * its blocks; and each of them has to know that what it read is what was written.
 *
 * INVARIANTS
 *
 *   1. No raw byte is given before the CRC of its frame (and, where it is encrypted, its tag) was
 *      found right. All of an object is also held against the SHA-256 of the file, at its end, unless
 *      the caller has no time for that.
 *   2. Damage names the object, the block, and the offset in the object.
 *   3. Memory: two frames, and the filters from when one is asked for.
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { Failure } from "../../base/errors.ts";
import { decompressFrame } from "./frame.ts";
import {
  checkTailHead,
  decodeFooter,
  decodeIndex,
  type Footer,
  footerBytes,
  type Layout,
  type ObjectIndex,
  tailHeadBytes,
} from "./index-format.ts";
import { mayHoldKey } from "./key-filter.ts";
import { type KeyRing, maxHeaderBytes, Sealing } from "./sealing.ts";

/** An object that lies somewhere. */
export type ObjectSource = {
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The bytes [start, end), in chunks of any size. */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
};

export type BlockRange = {
  /** The first block, 0 by default. */
  readonly from?: number;
  /** The block behind the last one; by default, all are read. */
  readonly to?: number;
  /**
   * False: what is read is not held against the SHA-256 of the file, which takes as long as all the rest.
   * Each frame has a CRC of its own, and one of zstd's.
   */
  readonly sums?: boolean;
};

/** Read at once from an object's end: holds the index, without filters, of some gigabytes. */
const tailBytes = 2 ** 16;
const maxInFlight = 2;

type StoredFrame = {
  readonly block: number;
  /** Counted over the object. */
  readonly number: number;
  readonly offset: number;
  readonly rawBytes: number;
  readonly bytes: Uint8Array;
  readonly crc: number;
};

export class ObjectReader {
  readonly name: string;
  readonly index: ObjectIndex;
  /** The id of the key that it is encrypted with. */
  readonly keyId: string | undefined;
  readonly #source: ObjectSource;
  readonly #sealing: Sealing | undefined;
  readonly #layout: Layout;
  #filters: Uint8Array | undefined;

  private constructor(
    source: ObjectSource,
    sealing: Sealing | undefined,
    { index, layout }: { readonly index: ObjectIndex; readonly layout: Layout },
  ) {
    this.name = source.name;
    this.index = index;
    this.keyId = sealing?.keyId;
    this.#source = source;
    this.#sealing = sealing;
    this.#layout = layout;
  }

  /**
   * Reads the index: mostly in one read, two where the object is encrypted or large.
   *
   * @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED; KEY_NEEDED
   */
  static async open(source: ObjectSource, keys?: KeyRing): Promise<ObjectReader> {
    const { name, sizeBytes } = source;
    const start = Math.max(0, sizeBytes - tailBytes);
    const tail = await readAll(source, start, sizeBytes);
    const footer = decodeFooter(tail, sizeBytes, name);
    const sealing = footer.isEncrypted ? await openSealing(source, keys) : undefined;
    const indexStart = sizeBytes - footerBytes - footer.indexBytes;
    const stored =
      indexStart >= start
        ? tail.subarray(indexStart - start, tail.length - footerBytes)
        : await readAll(source, indexStart, sizeBytes - footerBytes);
    await checkHead(source, footer, { tail, start });
    return new ObjectReader(source, sealing, await decodeIndex(stored, footer, source, sealing));
  }

  /** Where each block starts in the raw file; then the size of the file. */
  get rawStarts(): readonly number[] {
    return this.#layout.rawStart;
  }

  /** What has to be read of the object for a range of blocks. */
  storedBytes({ from = 0, to = this.index.blocks.length }: BlockRange = {}): number {
    const { start } = this.#layout;
    return from >= to ? 0 : (start[to] as number) - (start[from] as number);
  }

  /**
   * The raw bytes of blocks: of all of them, the file as it was. Chunks are owned.
   *
   * @throws Failure DATA_CORRUPT with the block and the offset
   */
  async *rawBytes({
    from = 0,
    to = this.index.blocks.length,
    sums = true,
  }: BlockRange = {}): AsyncGenerator<Uint8Array> {
    const { index } = this;
    const isWhole = from === 0 && to === index.blocks.length;
    const rawSha256 = isWhole && sums && index.kind === "rdb" ? index.rawSha256 : undefined;
    const sum = rawSha256 === undefined ? undefined : createHash("sha256");
    const jobs: Promise<Uint8Array>[] = [];
    for await (const frame of this.#frames(from, to)) {
      const job = this.#open(frame);
      // Told to whoever waits for it; nobody does where the reading is given up.
      job.catch(() => {});
      jobs.push(job);
      const oldest = jobs.length < maxInFlight ? undefined : jobs.shift();
      if (oldest === undefined) continue;
      const raw = await oldest;
      sum?.update(raw);
      yield raw;
    }
    for (const job of jobs) {
      const raw = await job;
      sum?.update(raw);
      yield raw;
    }
    if (sum !== undefined && sum.digest("hex") !== rawSha256) {
      throw this.#damage("the file that its blocks give is not the one that was written", 0);
    }
  }

  /** Whether a block may have to do with a key: if not, it does not hold or change it by name. */
  async mayHold(block: number, key: Uint8Array): Promise<boolean> {
    const filter = await this.filter(block);
    return filter === undefined || mayHoldKey(filter, key);
  }

  /** The key filter of a block, or undefined where it may have to do with any key. */
  async filter(block: number): Promise<Uint8Array | undefined> {
    const place = this.index.blocks[block]?.filter;
    if (place === null || place === undefined) return undefined;
    const { filterStart, indexStart, filterOffset } = this.#layout;
    this.#filters ??= await readAll(this.#source, filterStart, indexStart);
    const at = filterOffset[block] as number;
    const stored = this.#filters.subarray(at, at + place.bytes);
    const found = `the key filter of block ${block} is`;
    if (crc32(stored) !== place.crc) throw this.#damage(`${found} damaged`, filterStart + at);
    const plain = this.#sealing ? this.#sealing.unseal("filter", block, stored) : stored;
    if (plain === undefined) throw this.#damage(`${found} another one`, filterStart + at);
    return plain;
  }

  /** Reads all of it. @throws Failure DATA_CORRUPT where a byte is not as it was written */
  async verify(): Promise<void> {
    for await (const _ of this.rawBytes());
    for (let block = 0; block < this.index.blocks.length; block++) await this.filter(block);
  }

  /** Frames as they are stored, cut from one read over all of them. */
  async *#frames(from: number, to: number): AsyncGenerator<StoredFrame> {
    const { start, firstFrame } = this.#layout;
    if (from >= to) return;
    let offset = start[from] as number;
    await using source = new ChunkQueue(this.#source.read(offset, start[to] as number));
    for (let block = from; block < to; block++) {
      const frames = this.index.blocks[block]?.frames ?? [];
      for (const [i, [rawBytes, storedBytes, crc]] of frames.entries()) {
        const bytes = await source.take(storedBytes);
        const number = (firstFrame[block] as number) + i;
        if (bytes === undefined) throw this.#damage(`block ${block} is cut off`, offset);
        yield { block, number, offset, rawBytes, bytes, crc };
        offset += storedBytes;
      }
    }
  }

  async #open({ block, number, offset, rawBytes, bytes, crc }: StoredFrame): Promise<Uint8Array> {
    if (crc32(bytes) !== crc) throw this.#damage(`block ${block} is damaged`, offset);
    const plain = this.#sealing ? this.#sealing.unseal("frame", number, bytes) : bytes;
    if (plain === undefined) {
      throw this.#damage(`block ${block} is not the one that was sealed there`, offset);
    }
    const raw = await decompressFrame(plain, rawBytes);
    if (raw === undefined) throw this.#damage(`block ${block} does not decompress`, offset);
    return raw;
  }

  #damage(found: string, offset: number): Failure {
    const words = `Cannot read ${this.name}: ${found}, at byte ${offset}`;
    return new Failure("DATA_CORRUPT", words, { offset });
  }
}

async function openSealing(source: ObjectSource, keys: KeyRing | undefined): Promise<Sealing> {
  const head = await readAll(source, 0, Math.min(maxHeaderBytes, source.sizeBytes));
  return Sealing.open(head, source.name, keys);
}

/** Checks what makes decompressors skip the tail; only where the filters are large, it costs a read. */
async function checkHead(
  source: ObjectSource,
  footer: Footer,
  { tail, start }: { readonly tail: Uint8Array; readonly start: number },
): Promise<void> {
  const { indexBytes, filtersBytes } = footer;
  const at = source.sizeBytes - footerBytes - indexBytes - filtersBytes - tailHeadBytes;
  const head =
    at >= start
      ? tail.subarray(at - start, at - start + tailHeadBytes)
      : await readAll(source, at, at + tailHeadBytes);
  checkTailHead(head, footer, at, source.name);
}

/** What a store gives is held against what was asked for. */
async function readAll(source: ObjectSource, start: number, end: number): Promise<Uint8Array> {
  if (start === end) return new Uint8Array(0);
  await using queue = new ChunkQueue(source.read(start, end));
  const bytes = await queue.take(end - start);
  if (bytes !== undefined) return bytes;
  const words = `Cannot read ${source.name}: it ends before byte ${end}`;
  throw new Failure("DATA_CORRUPT", words, { offset: start });
}

/** Chunks of any size, taken in pieces of a wanted size. */
class ChunkQueue implements AsyncDisposable {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Owned bytes, or undefined where there are not so many. Nothing is allocated ahead of them. */
  async take(size: number): Promise<Uint8Array | undefined> {
    const parts: Uint8Array[] = [];
    let missing = size;
    while (missing > 0) {
      if (this.#rest.length === 0) {
        const { value, done } = await this.#chunks.next();
        if (done === true) return undefined;
        this.#rest = value;
      }
      const part = this.#rest.subarray(0, missing);
      parts.push(part);
      missing -= part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
  }

  /** Ends the reading that it takes from. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }
}
