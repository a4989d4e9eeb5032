import assert from "node:assert/strict";
import { Slice } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import type { PackedCursor } from "../../src/codec/rdb/packed.ts";

const margin = 16;

/**
 * All elements of a packed container, as text. It is read twice, between zeros and between ff: what
 * stands around a container must not matter.
 */
export function elementsOf(cursor: PackedCursor, container: Uint8Array): string[] {
  const [zeros, ones] = [0, 0xff].map((around) => outcomeOf(cursor, container, around));
  assert.deepEqual(zeros, ones);
  if (zeros instanceof Failure) throw zeros;
  return zeros as string[];
}

function outcomeOf(cursor: PackedCursor, container: Uint8Array, around: number) {
  const bytes = new Uint8Array(container.length + 2 * margin).fill(around);
  bytes.set(container, margin);
  const blob = new Slice();
  blob.set(bytes, margin, margin + container.length);
  const texts: string[] = [];
  const element = new Slice();
  try {
    cursor.open(blob, 1000);
    const { count } = cursor;
    while (cursor.next(element)) texts.push(element.latin1());
    assert.equal(count, texts.length);
    return texts;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

/** Fails unless any bytes are read, or refused as corrupt at the container's place. */
export function assertNeverCrashes(cursor: PackedCursor, container: Uint8Array): void {
  try {
    elementsOf(cursor, container);
  } catch (error) {
    assert(error instanceof Failure, String(error));
    assert.deepEqual([error.code, error.offset], ["DATA_CORRUPT", 1000]);
  }
}
