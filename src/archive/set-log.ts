/**
 * Whether the log of a run has the position of a set: only then the run can be replayed from it.
 *
 * WHY. Sets and pieces are listed by time, and a time may be of several logs: of two writers, one behind the
 * other by its clock, or of a standby. Which of them has a position, the index of one piece tells.
 *
 * A yes is sure. Where the change of a replication id is between two lines that no index has, it is a no.
 */
import type { Position, PositionLine } from "../codec/aof/annotation.ts";
import type { Abortable } from "../store/store.ts";
import type { Piece } from "./catalogue.ts";
import type { LogIndex } from "./object/index-format.ts";
import { openObject } from "./repository.ts";
import { findingOf, type Readable } from "./verify-object.ts";

/** A piece that cannot be read has nothing. @throws Failure that says nothing of the piece: of the store */
export async function hasPosition(
  repository: Readable,
  pieces: readonly Piece[],
  position: Position,
  options: Abortable = {},
): Promise<boolean> {
  for (const { object, sizeBytes, fromOffset, toOffset } of pieces) {
    const { offset } = position;
    // Offsets may step back where the history goes on under another id.
    const mayHave = (offset >= fromOffset && offset <= toOffset) || toOffset < fromOffset;
    if (!mayHave) continue;
    try {
      const { index } = await openObject(repository, object, sizeBytes, options);
      if (index.kind === "aof" && isBetweenLines(index, position)) return true;
    } catch (error) {
      findingOf(error, object);
    }
  }
  return false;
}

function isBetweenLines({ after, blocks }: LogIndex, { replicationId, offset }: Position): boolean {
  let before: PositionLine | null = after;
  for (const line of blocks.flatMap(({ first, last }) => [first, last])) {
    if (line === null) continue;
    const isOne = before === null || before.replicationId === replicationId;
    if (line.replicationId === replicationId) {
      if (line.offset === offset) return true;
      if (isOne && before !== null && before.offset <= offset && offset < line.offset) return true;
    }
    before = line;
  }
  return before?.replicationId === replicationId && before.offset === offset;
}
