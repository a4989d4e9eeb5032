/** The data at the moment of a plan as one RDB file: a set as it is, for other servers, or replayed. */
import { Failure } from "../base/errors.ts";
import type { Target } from "../codec/rdb/model.ts";
import { OutputFile } from "../log/output-file.ts";
import type { KeyPipeOptions } from "./key-pipe.ts";
import type { Plan } from "./plan-result.ts";
import { type DataOptions, openData } from "./restore-data.ts";
import { withLibraries } from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { ProgressCounter } from "./restore-progress.ts";
import { isTakenOver, type Rewritten, rewriteSnapshot, targetOfMagic } from "./restore-snapshot.ts";

export type DownloadOptions = DataOptions & {
  /** Servers that have to load it; by default the oldest that load it as it is. */
  readonly target?: Target | undefined;
  readonly lossy?: boolean;
  readonly pipe?: KeyPipeOptions;
  /** Replaces a file that is there. */
  readonly mayReplace?: boolean;
};

export type Downloaded = {
  readonly path: string;
  readonly target: Target;
  readonly sizeBytes: number;
  /** Null where it was copied as it is and nobody counted them. */
  readonly keys: number | null;
  readonly dropped: ReadonlyMap<string, number>;
};

/**
 * Writes beside its place, and gives the file its name when all is there and durable.
 *
 * @throws Failure FILE_EXISTS, SERVER_NEEDED, TARGET_CANNOT_HOLD, DATA_CORRUPT
 */
export async function downloadRdb(
  view: ArchiveView,
  plan: Plan,
  path: string,
  options: DownloadOptions = {},
): Promise<Downloaded> {
  const { pipe = {}, lossy = false, mayReplace = false, onProgress, signal } = options;
  using file = OutputFile.create(path, mayReplace);
  await using data = await openData(view, plan, options);
  const target = options.target ?? targetOfMagic(data.magic);
  const progress = new ProgressCounter(data.rawBytes, onProgress);
  let rewritten: Rewritten | undefined;
  if (isTakenOver(data.magic, target, { pipe, isNamed: options.target !== undefined })) {
    for await (const bytes of data.bytes()) {
      signal?.throwIfAborted();
      file.write(bytes);
      progress.add(bytes.length);
    }
  } else {
    rewritten = await rewriteSnapshot(data, target, {
      pipe,
      writer: { lossy },
      write: async (bytes) => file.write(bytes),
      onRead: (bytes, keys) => {
        signal?.throwIfAborted();
        progress.keys = keys;
        progress.add(bytes);
      },
    });
  }
  if (file.sizeBytes === 0) {
    throw new Failure("DATA_CORRUPT", `Cannot download set "${plan.set.name}": it is empty`);
  }
  file.publish();
  progress.begin("done");
  return {
    path,
    target,
    sizeBytes: file.sizeBytes,
    keys: rewritten?.counts.written ?? data.keys,
    dropped: withLibraries(rewritten),
  };
}
