/**
 * Looks for a position line inside the record that a log ends in.
 *
 * WHY. A cut tail and a damaged length look the same to the framing: a record asks for more bytes
 * than there are. In the one case a few bytes go; in the other, everything that was written since.
 * But where a later position line of this very log stands whole inside the "cut" record, that
 * record was complete once, and its length is what is wrong. No value can hold such a line: it would
 * have been written before the sequence number that it tells was given out.
 */
import { toLatin1 } from "../../base/bytes.ts";
import { type PositionLine, parsePositionLine } from "./annotation.ts";

/** More than any position line has. */
const maxLineBytes = 160;
const mark = Buffer.from("#TM1:");

export class LateLine {
  /** The first such line of the record that starts at `#recordStart`. */
  #found: { readonly offset: number; readonly line: PositionLine } | undefined;
  #recordStart = -1;
  /** The last bytes of the chunk before: a line may go over its end. */
  #rest: Uint8Array = new Uint8Array(0);

  /** Looks at the chunk that ends in the record which starts at `recordStart`. */
  look(chunk: Uint8Array, chunkStart: number, recordStart: number, last: PositionLine): void {
    if (recordStart !== this.#recordStart) {
      this.#recordStart = recordStart;
      this.#found = undefined;
      this.#rest = new Uint8Array(0);
    }
    if (this.#found !== undefined) return;
    const fresh = chunk.subarray(Math.max(recordStart - chunkStart, 0));
    const bytes = this.#rest.length === 0 ? fresh : Buffer.concat([this.#rest, fresh]);
    const start = chunkStart + chunk.length - bytes.length;
    this.#search(bytes, start, last);
    this.#rest = Uint8Array.from(bytes.subarray(-maxLineBytes));
  }

  /** Where the line stands, if the log ends in the record that starts at `recordStart`. */
  find(recordStart: number): number | undefined {
    return recordStart === this.#recordStart ? this.#found?.offset : undefined;
  }

  #search(bytes: Uint8Array, start: number, last: PositionLine): void {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = buffer.indexOf(mark); at >= 0; at = buffer.indexOf(mark, at + 1)) {
      const size = buffer.subarray(at, at + maxLineBytes).indexOf(10) + 1;
      const line = parsePositionLine(toLatin1(bytes, at, at + size));
      const isLater = line?.replicationId === last.replicationId && line.sequence > last.sequence;
      if (line === undefined || !isLater) continue;
      this.#found = { offset: start + at, line };
      return;
    }
  }
}
