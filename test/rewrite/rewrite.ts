import type { Target } from "../../src/codec/rdb/model.ts";
import type { Feature } from "../../src/codec/rdb/target.ts";
import { RdbTranscoder } from "../../src/codec/rdb/transcode.ts";
import { RdbWriter } from "../../src/codec/rdb/writer.ts";
import { KeyPipe, type KeyPipeCounts } from "../../src/recovery/key-pipe.ts";

export type Rewritten = {
  readonly file: Uint8Array;
  readonly dropped: ReadonlyMap<Feature, number>;
  readonly counts: KeyPipeCounts;
};

/** No divisor of anything, so that values are cut everywhere. */
const chunkBytes = 10_007;

/** Makes an RDB for a target out of another one, by the parts of which `tidemark convert` consists. */
export function rewrite(source: Uint8Array, target: Target, lossy = false): Rewritten {
  const writer = new RdbWriter(target, { lossy });
  const pipe = new KeyPipe(new RdbTranscoder(writer), { maxDistinct: 1_000_000 });
  const parts: Uint8Array[] = [];
  for (let at = 0; at < source.length; at += chunkBytes) {
    pipe.reader.push(source.slice(at, at + chunkBytes));
    const isOver = pipe.drain();
    parts.push(writer.take());
    if (isOver) break;
  }
  pipe.reader.finish();
  return { file: Buffer.concat(parts), dropped: writer.dropped, counts: pipe.counts };
}
