/**
 * Rows of `SET key value`, sent as MSET.
 *
 * WHY. A restore is made of little else, and a third of what a short SET costs a server is the command
 * around it: the look-up, the clock, the reply. MSET does to each key what SET does, in order, also where
 * a key comes twice, and takes the expiry away as well.
 *
 * INVARIANT. Whatever else is sent to the same database comes behind `flush()`.
 */
import type { Slice } from "../base/bytes.ts";
import { ByteWriter, type RespEncoder } from "../codec/resp/encode.ts";

/** Long values gain nothing, and would be copied once more. */
const longestValue = 2048;
const maxPairs = 64;

export class SetRow {
  readonly #pairs = new ByteWriter();
  #count = 0;

  /** Takes a pair; false where it is none for a row: it is sent by itself then. */
  add(key: Slice, value: Slice): boolean {
    if (value.length > longestValue || key.length > longestValue) return false;
    this.#pairs.appendBulk(key.bytes, key.start, key.end);
    this.#pairs.appendBulk(value.bytes, value.start, value.end);
    this.#count++;
    return true;
  }

  get isFull(): boolean {
    return this.#count >= maxPairs;
  }

  /** Writes what it has. Returns how many commands that makes: one, or none. */
  flush(out: RespEncoder): number {
    const count = this.#count;
    if (count === 0) return 0;
    out.array(1 + 2 * count);
    out.bulkText(count === 1 ? "SET" : "MSET");
    out.raw(this.#pairs.peek());
    this.#pairs.truncate(0);
    this.#count = 0;
    return 1;
  }
}
