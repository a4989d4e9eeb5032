/**
 * The unread bytes of a stream that arrives in chunks, seen as one run of bytes.
 *
 * WHY. A parser wants the whole of a command in one buffer, a socket or a file gives chunks that
 * end anywhere, and joining chunks costs more than parsing them. Nearly all commands lie within
 * one chunk: those are read in place. Only a command that goes over the end of a chunk is copied,
 * with as little of the next chunk as it needs; the command after it is read in place again.
 *
 * INVARIANTS
 *
 *   1. The unread bytes are `bytes[at .. end)`. Parsers remember places relative to `at`, which
 *      stay true when the bytes move to another buffer.
 *   2. A chunk is borrowed from `push()` until `more()` returns false; what of it is unread then
 *      has been copied.
 *   3. Nothing is allocated for bytes that have not come. A byte is copied at most a few times, and
 *      a long command does not cost the square of its length, whatever the size of the chunks.
 *
 * REJECTED. A list of chunks with a cursor: every byte access becomes a branch. Copying the rest of
 * the chunk behind the command that was cut: that is the whole stream once more through `memcpy`.
 */
import { strict as assert } from "node:assert";
import { copyBytesOf, empty } from "../../base/bytes.ts";

/** How much of a chunk is taken at first behind a command that was cut: most end within it. */
const bridgeBytes = 1024;
/** A buffer longer than this is given back when the command that needed it is done. */
const keptBytes = 1024 * 1024;

export class Window {
  bytes: Uint8Array = empty;
  at = 0;
  end = 0;
  /** Whether `bytes` is a buffer of the window's own, and not the chunk. */
  #isOwn = false;
  #own: Uint8Array = empty;
  #chunk: Uint8Array = empty;
  /** The bytes of the chunk before this one are in `bytes` too, were passed over, or were read. */
  #taken = 0;
  /** Bytes still to come that nobody wants. */
  #unwanted = 0;

  /** Takes the next chunk. The last one must have been used up: `more()` has returned false. */
  push(chunk: Uint8Array): void {
    const isUsedUp = this.#isOwn ? this.#taken === this.#chunk.length : this.at === this.end;
    assert(isUsedUp, "A chunk is pushed only when more() has returned false");
    const passed = Math.min(this.#unwanted, chunk.length);
    this.#unwanted -= passed;
    // Not a Buffer: its slice() does not copy, and a loop that sees both kinds is slower.
    this.#chunk = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
    this.#taken = passed;
    if (this.at === this.end) this.#readInPlace(passed);
  }

  /** Brings more bytes behind `end`. False: the chunk is used up, and the next one is needed. */
  more(): boolean {
    if (!this.#isOwn) {
      this.#leaveChunk(this.end);
      this.#chunk = empty;
      this.#taken = 0;
      return false;
    }
    const rest = this.#chunk.length - this.#taken;
    if (rest === 0) return false;
    // At least as much as is there already: the number of steps is logarithmic.
    const size = Math.min(rest, Math.max(this.end - this.at, bridgeBytes));
    this.#makeRoom(size);
    this.#own.set(this.#chunk.subarray(this.#taken, this.#taken + size), this.end);
    this.#taken += size;
    this.end += size;
    return true;
  }

  /**
   * Goes back to reading the chunk in place, if all that is unread is in it. To be called at the
   * start of a command: what is left of one that was passed over in part is no run of bytes.
   */
  settle(): void {
    if (!this.#isOwn || this.end - this.at > this.#taken) return;
    this.#readInPlace(this.#taken - (this.end - this.at));
    if (this.#own.length > keptBytes) this.#own = empty;
  }

  /** Forgets `size` bytes of the stream from `bytes[from]` on, also those that are yet to come. */
  pass(from: number, size: number): void {
    if (!this.#isOwn) {
      const inChunk = Math.min(size, this.end - from);
      this.#leaveChunk(from);
      this.#taken = from + inChunk;
      this.#unwanted = size - inChunk;
      return;
    }
    const inOwn = Math.min(size, this.end - from);
    this.bytes.copyWithin(from, from + inOwn, this.end);
    this.end -= inOwn;
    const inChunk = Math.min(size - inOwn, this.#chunk.length - this.#taken);
    this.#taken += inChunk;
    this.#unwanted = size - inOwn - inChunk;
  }

  /** Owned bytes: all that has come and is unread, for another reader. The window is then empty. */
  takeRest(): Uint8Array {
    while (this.#isOwn && this.more());
    const rest = copyBytesOf(this.bytes, this.at, this.end);
    this.at = this.end;
    this.settle();
    return rest;
  }

  #readInPlace(at: number): void {
    this.bytes = this.#chunk;
    this.at = at;
    this.end = this.#chunk.length;
    this.#taken = this.end;
    this.#isOwn = false;
  }

  /** Moves the unread bytes before `until` from the chunk to the window's own buffer. */
  #leaveChunk(until: number): void {
    const size = until - this.at;
    if (this.#own.length < size) this.#own = new Uint8Array(Math.max(2 * size, 4 * bridgeBytes));
    this.#own.set(this.bytes.subarray(this.at, until));
    this.bytes = this.#own;
    this.at = 0;
    this.end = size;
    this.#isOwn = true;
  }

  #makeRoom(size: number): void {
    const unread = this.end - this.at;
    if (this.#own.length - this.end >= size) return;
    if (this.#own.length < 2 * (unread + size)) {
      const grown = new Uint8Array(2 * (unread + size));
      grown.set(this.#own.subarray(this.at, this.end));
      this.#own = grown;
    } else {
      this.#own.copyWithin(0, this.at, this.end);
    }
    this.bytes = this.#own;
    this.at = 0;
    this.end = unread;
  }
}
