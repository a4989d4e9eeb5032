/**
 * What the manifest of a rebased log says of its beginning, which the spool does not have any more.
 *
 * WHY in the manifest. What is said has to be true of the files that are in force, whatever a crash
 * leaves: so it comes into force with them, by the same rename. Servers step over keys of a manifest that
 * they do not know, and so did all before us.
 *
 * FORMAT. Four keys more on two lines of the manifest:
 *
 *   file appendonly.aof.5.base.rdb seq 5 type b tidemark-origin LINE tidemark-keeper WORD
 *   file appendonly.aof.rebased-5.7.incr.aof seq 7 type i tidemark-began LINE tidemark-ended LINE
 *
 *   tidemark-origin   the position line that the log once began with
 *   tidemark-keeper   who has what was in between: the id of a repository, a slash, an instance in it
 *   tidemark-began,   the position lines that the segment began and ended with, before it was begun anew:
 *   tidemark-ended    the last one has another checksum now where the log begins in its batch
 *
 * LINE is a position line without its line end: it has a checksum of its own. One that is wrong, or is
 * there without the others, makes the manifest one that cannot be read.
 */
import { toLatin1 } from "../base/bytes.ts";
import { corrupt } from "../base/errors.ts";
import {
  formatPositionLine,
  type PositionLine,
  parsePositionLine,
} from "../codec/aof/annotation.ts";
import type { Manifest, ManifestEntry } from "../codec/aof/manifest.ts";

export type RebaseNote = {
  /** The position line that the log once began with. */
  readonly origin: PositionLine;
  /** Who has what was between it and where the log begins now. */
  readonly keeper: string;
};

/** The position lines that a segment began and ended with before it was begun anew. */
export type SegmentEnds = { readonly first: PositionLine; readonly last: PositionLine };

const originKey = "tidemark-origin";
const keeperKey = "tidemark-keeper";
const beganKey = "tidemark-began";
const endedKey = "tidemark-ended";
const keeperPattern = /^[\w./-]{1,200}$/;

export function isKeeper(text: string): boolean {
  return keeperPattern.test(text);
}

export function withNote(entry: ManifestEntry, { origin, keeper }: RebaseNote): ManifestEntry {
  return {
    ...entry,
    others: [
      [originKey, textOf(origin)],
      [keeperKey, keeper],
    ],
  };
}

export function withEnds(entry: ManifestEntry, { first, last }: SegmentEnds): ManifestEntry {
  return {
    ...entry,
    others: [
      [beganKey, textOf(first)],
      [endedKey, textOf(last)],
    ],
  };
}

/** Undefined where the log was never rebased. @throws Failure DATA_CORRUPT */
export function noteOf({ base, increments }: Manifest): RebaseNote | undefined {
  const origin = lineOf(base, originKey);
  const keeper = valueOf(base, keeperKey);
  const ends = endsOf(increments[0]);
  if (origin === undefined && keeper === undefined && ends === undefined) return undefined;
  if (origin !== undefined && keeper !== undefined && isKeeper(keeper) && ends !== undefined) {
    return { origin, keeper };
  }
  throw corrupt(0, `Manifest of a rebased log that does not say all of its beginning`);
}

/** Undefined where the segment is as it was closed. @throws Failure DATA_CORRUPT */
export function endsOf(entry: ManifestEntry | undefined): SegmentEnds | undefined {
  const first = lineOf(entry, beganKey);
  const last = lineOf(entry, endedKey);
  if (first === undefined && last === undefined) return undefined;
  if (first !== undefined && last !== undefined) return { first, last };
  throw corrupt(0, `Manifest that says one end of a segment only`);
}

function lineOf(entry: ManifestEntry | undefined, key: string): PositionLine | undefined {
  const text = valueOf(entry, key);
  if (text === undefined) return undefined;
  const line = parsePositionLine(`${text}\r\n`);
  if (line === undefined) throw corrupt(0, `Manifest with a damaged ${key}`);
  return line;
}

function valueOf(entry: ManifestEntry | undefined, key: string): string | undefined {
  return entry?.others?.find(([name]) => name === key)?.[1];
}

function textOf(line: PositionLine): string {
  return toLatin1(formatPositionLine(line)).trimEnd();
}
