/**
 * What a log of a spool is called in a repository.
 *
 * A log's line, and the pieces in it, are named for the position lines that they begin with. A spool whose
 * log was rebased does not have the first of these any more, but says which they were, and who has what is
 * before: an instance of a repository. For any other one, the log begins where the spool's does.
 */
import type { PositionLine } from "../codec/aof/annotation.ts";
import type { SegmentEnds } from "../log/rebase-notes.ts";
import type { Generation, Segment } from "../log/segment.ts";
import type { Ship } from "./archiver-piece.ts";

/** What a spool calls the one that has what it does not have any more. */
export function keeperOf({ repository, instance }: Pick<Ship, "repository" | "instance">): string {
  return `${repository.id}/${instance}`;
}

/** What the line begins with; undefined where the start of the log is missing. */
export function originOf(
  { segments: [start], rebased }: Generation,
  keeper: string,
): PositionLine | undefined {
  if (rebased === undefined) return start?.first.sequence === 0 ? start.first : undefined;
  if (start?.was === undefined) return undefined;
  return rebased.keeper === keeper ? rebased.origin : start.first;
}

/** What the piece of a segment begins and ends with, where the segment does not. */
export function shippedEndsOf(
  { was }: Segment,
  { rebased }: Generation,
  keeper: string,
): SegmentEnds | undefined {
  return rebased?.keeper === keeper ? was : undefined;
}
