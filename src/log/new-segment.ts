/** A new segment: its name, what it begins with, and how it comes into force. */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import type { PositionLine } from "../codec/aof/annotation.ts";
import type { Manifest } from "../codec/aof/manifest.ts";
import type { LogWriter } from "../codec/aof/writer.ts";
import { type Disk, type DiskFile, writeAll } from "./disk.ts";
import type { Moment } from "./gap-list.ts";
import type { Segment } from "./segment.ts";
import { publishManifest, type Sequences, type SpoolPaths, segmentName } from "./spool-files.ts";

/** Where a log lives, and the numbers for its next files. */
export type Place = {
  readonly disk: Disk;
  readonly paths: SpoolPaths;
  /** The last ones that were used. */
  readonly sequences: Sequences;
};

/** What a segment begins with. */
export type Header = {
  readonly bytes: Uint8Array;
  readonly first: PositionLine;
  readonly position: PositionLine;
};

export type SegmentName = Pick<Segment, "name" | "path" | "sequence">;

/** The name of the next segment; no other one will get it. */
export function nextSegment({ paths, sequences }: Place): SegmentName {
  const sequence = ++sequences.segment;
  const name = segmentName(sequence);
  return { name, path: join(paths.log, name), sequence };
}

/** Begins a segment at a position: with its line, and with the selected database, sealed by another. */
export function writeHeader(writer: LogWriter, at: Moment, database: number | undefined): Header {
  writer.seal(at, at.ms);
  const first = writer.position as PositionLine;
  if (database !== undefined) {
    writer.select(database);
    writer.seal(at, at.ms);
  }
  return { bytes: writer.take(), first, position: writer.position as PositionLine };
}

/** A new segment, synced and left open. */
export async function writeSegment(disk: Disk, path: string, header: Header): Promise<DiskFile> {
  const file = await disk.open(path, "create");
  try {
    await writeAll(file, header.bytes, 0);
    await file.sync();
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Publishes a manifest with a file that is made for it, and returns that, open. */
export async function publishWith(
  disk: Disk,
  paths: SpoolPaths,
  manifest: Manifest,
  create: () => Promise<DiskFile>,
): Promise<DiskFile> {
  let file: DiskFile | undefined;
  try {
    await publishManifest(disk, paths, manifest, async () => {
      file = await create();
    });
  } catch (error) {
    await file?.close();
    throw error;
  }
  assert(file !== undefined, "It was made");
  return file;
}
