/** The end of a log that another one follows. */
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import type { Manifest } from "../codec/aof/manifest.ts";
import type { Place } from "./new-segment.ts";
import { recoverLog, removeOurHistory } from "./recover.ts";
import { readManifest, removeUnfinished, setAside } from "./spool-files.ts";

/** A log that is to be retired; `last` is where it is known to end. */
export type OldLog = {
  readonly manifest: Manifest;
  readonly last: PositionLine | undefined;
  readonly retiredName: string;
};

/**
 * The log in force, as it is on disk: cut to where it is proved, and synced. A manifest that cannot
 * be read is put aside, with whatever may belong to it.
 */
export async function endLog({ disk, paths, sequences }: Place): Promise<OldLog | undefined> {
  let manifest: Manifest | undefined;
  try {
    manifest = await readManifest(disk, paths.log);
  } catch (error) {
    if (!(error instanceof Failure) || !error.code.startsWith("DATA_")) throw error;
    await setAside(disk, paths, `${++sequences.base}-damaged`);
  }
  if (manifest === undefined) return undefined;
  await removeUnfinished(disk, paths, manifest);
  const found = await recoverLog(disk, paths, manifest);
  await removeOurHistory(disk, paths, manifest, found);
  const number = manifest.base?.sequence ?? 0;
  return found.kind === "ready"
    ? { manifest, last: found.last.last, retiredName: `${number}` }
    : { manifest, last: found.last, retiredName: `${number}-damaged` };
}
