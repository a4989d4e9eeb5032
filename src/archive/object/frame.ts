/** One zstd frame at a time, in the thread pool, with bounds on what comes out. */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** The most raw bytes of a frame: a reader needs no more memory than this for each. */
export const maxFrameBytes = 8 * 2 ** 20;
/** Of a decoder: 2^23 is `maxFrameBytes`. A frame that asks for more is refused. */
const maxWindowLog = 23;
const chunkBytes = 2 ** 19;

/** zstd's own bound of what `rawBytes` become. */
export function maxCompressedBytes(rawBytes: number): number {
  return rawBytes + (rawBytes >>> 8) + 1024;
}

/** How hard zstd tries. */
export type Effort = {
  readonly level: number;
  /** The size of its table of places to look at, as a power of two; the level's own where it is not given. */
  readonly hashLog?: number;
};

export async function compressFrame(
  raw: Uint8Array,
  { level, hashLog }: Effort,
): Promise<Uint8Array> {
  return await compress(raw, {
    chunkSize: Math.min(chunkBytes, maxCompressedBytes(raw.length)),
    pledgedSrcSize: raw.length,
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: 1,
      ...(hashLog !== undefined && { [constants.ZSTD_c_hashLog]: hashLog }),
    },
  });
}

/** The raw bytes, or undefined where these are not the frame of so many. */
export async function decompressFrame(
  frame: Uint8Array,
  rawBytes: number,
): Promise<Uint8Array | undefined> {
  try {
    const raw = await decompress(frame, {
      // All that may come fits in, so that nothing is joined.
      chunkSize: Math.max(rawBytes + 1, 64),
      maxOutputLength: rawBytes + 1,
      params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
    });
    return raw.length === rawBytes ? raw : undefined;
  } catch {
    // Whatever zlib says, it says of these bytes: there is no other input.
    return undefined;
  }
}
