/** Segments and logs as values: what there is, from where to where. */
import { join } from "node:path";
import { toLatin1 } from "../base/bytes.ts";
import { type PositionLine, parsePositionLine } from "../codec/aof/annotation.ts";
import type { Manifest } from "../codec/aof/manifest.ts";
import { type Disk, openIfThere, readAt } from "./disk.ts";
import { endsOf, noteOf, type RebaseNote, type SegmentEnds } from "./rebase-notes.ts";

/** A file of the log: what was received after `first`, up to `last`. */
export type Segment = {
  readonly name: string;
  readonly path: string;
  readonly sequence: number;
  readonly sizeBytes: number;
  readonly first: PositionLine;
  /** Where the file ends; of one that is written to, where it ends so far. */
  readonly last: PositionLine;
  /** Of one that was begun anew: how it was before. */
  readonly was?: SegmentEnds;
};

export type Base = {
  readonly name: string;
  readonly path: string;
  readonly sequence: number;
  readonly sizeBytes: number;
};

/** A base and the segments behind it: what a server loads. */
export type Generation = {
  /** Its name among the retired ones; "current" for the one that is written to. */
  readonly name: string;
  readonly folder: string;
  readonly base: Base | undefined;
  readonly segments: readonly Segment[];
  /** Undefined where it begins as it once did. */
  readonly rebased: RebaseNote | undefined;
  /** Files that are missing, or that do not begin and end with a position line. */
  readonly damaged: readonly string[];
};

/** More than a position line has. */
const lineBytes = 160;

/** Looks at the files that a manifest names: at their sizes, first lines and last lines. */
export async function readGeneration(
  disk: Disk,
  folder: string,
  name: string,
  manifest: Manifest,
): Promise<Generation> {
  const segments: Segment[] = [];
  const damaged: string[] = [];
  for (const entry of manifest.increments) {
    const { file, sequence } = entry;
    const path = join(folder, file);
    const was = endsOf(entry);
    const ends = await readEnds(disk, path);
    if (ends?.first === undefined || ends.last === undefined) damaged.push(file);
    else {
      const { sizeBytes, first, last } = ends;
      const segment = { name: file, path, sequence, sizeBytes, first, last };
      segments.push(was === undefined ? segment : { ...segment, was });
    }
  }
  let base: Base | undefined;
  if (manifest.base !== undefined) {
    const { file, sequence } = manifest.base;
    const path = join(folder, file);
    const sizeBytes = (await readEnds(disk, path))?.sizeBytes;
    if (sizeBytes === undefined) damaged.push(file);
    else base = { name: file, path, sequence, sizeBytes };
  }
  return { name, folder, base, segments, rebased: noteOf(manifest), damaged };
}

export type Ends = {
  readonly sizeBytes: number;
  /** The position line that the file begins with. */
  readonly first: PositionLine | undefined;
  /** The one that it ends with. */
  readonly last: PositionLine | undefined;
  /** Its first bytes, one character each. */
  readonly head: string;
};

/** Undefined where there is no such file. */
export async function readEnds(disk: Disk, path: string): Promise<Ends | undefined> {
  const file = await openIfThere(disk, path);
  if (file === undefined) return undefined;
  try {
    const sizeBytes = await file.size();
    const head = toLatin1(await readAt(file, 0, lineBytes));
    const tail = toLatin1(await readAt(file, Math.max(0, sizeBytes - lineBytes), lineBytes));
    const first = parsePositionLine(head.slice(0, head.indexOf("\n") + 1));
    const last = parsePositionLine(tail.slice(tail.lastIndexOf("\n", tail.length - 2) + 1));
    return { sizeBytes, first, last, head };
  } finally {
    await file.close();
  }
}
