/**
 * Where a snapshot ends that a source sends in front of its stream.
 *
 * FORMAT
 *
 *   sized    "$" length CR LF, so many bytes, and the stream behind them
 *   marked   "$EOF:" mark CR LF, the RDB, the mark again; the mark is 40 bytes
 *
 * WHY AN RDB IS PARSED HERE. A server uses the same mark for every snapshot that it sends, so whoever has
 * seen one can store it in a key, and a search for it would end there. What an RDB is made of says
 * where it ends, and then the mark must follow. Values are passed over, no checksum is computed:
 * this costs a small part of what it takes to write the bytes to a disk.
 *
 * INVARIANT. What comes out does not depend on how the bytes were cut into chunks.
 *
 * REJECTED. Taking the mark where the bytes that have come end in it, as servers do: chance decides
 * where they end. Not announcing that marks are understood: the source would need room for a file.
 */
import { Failure } from "../base/errors.ts";
import { RdbReader } from "../codec/rdb/reader.ts";

export type TransferHeader =
  | { readonly kind: "sized"; readonly sizeBytes: number }
  | { readonly kind: "marked"; readonly mark: Uint8Array };

const markBytes = 40;
/** A key or a function library longer than this ends a marked transfer: it is held in memory. */
const maxHeldBytes = 64 * 1024 * 1024;

/** Longer than any header, or any error that a server sends in its place. */
export const maxHeaderBytes = 1024;

/** The line before a snapshot, without its line end. @throws Failure PROTOCOL_ERROR */
export function parseTransferHeader(line: string): TransferHeader {
  if (line.startsWith("$EOF:") && line.length === markBytes + 5) {
    return { kind: "marked", mark: Buffer.from(line.slice(5), "latin1") };
  }
  const size = /^\$(\d{1,15})$/.exec(line)?.[1];
  if (size !== undefined && Number(size) > 0) return { kind: "sized", sizeBytes: Number(size) };
  const found = JSON.stringify(line.slice(0, 60));
  throw new Failure("PROTOCOL_ERROR", `Cannot take the snapshot: ${found} is no start of one`);
}

/** How much of a chunk is the snapshot's, and up to where it is used; the stream comes after. */
export type Share = { readonly snapshotBytes: number; readonly usedBytes: number };

export class Transfer {
  isDone = false;
  /** Of the snapshot, so far. */
  sizeBytes = 0;
  readonly #header: TransferHeader;
  readonly #reader = new RdbReader({ maxElementBytes: maxHeldBytes });
  #hasEnded = false;
  /** How much of the mark behind the snapshot has come. */
  #marked = 0;

  constructor(header: TransferHeader) {
    this.#header = header;
    this.#reader.deferChecksum(0);
  }

  /** Takes the next chunk. @throws Failure PROTOCOL_ERROR, DATA_CORRUPT, DATA_UNSUPPORTED, … */
  take(chunk: Uint8Array): Share {
    const header = this.#header;
    const before = this.sizeBytes;
    if (header.kind === "sized") {
      const size = Math.min(header.sizeBytes - before, chunk.length);
      this.sizeBytes += size;
      this.isDone = this.sizeBytes === header.sizeBytes;
      return { snapshotBytes: size, usedBytes: size };
    }
    if (!this.#hasEnded) this.sizeBytes = this.#findEnd(chunk);
    const size = this.sizeBytes - before;
    const used = this.#hasEnded ? this.#takeMark(chunk, size, header.mark) : size;
    return { snapshotBytes: size, usedBytes: used };
  }

  /** The size of the snapshot up to and with what of it is in this chunk. */
  #findEnd(chunk: Uint8Array): number {
    const reader = this.#reader;
    reader.push(chunk);
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      if (event === "key") reader.skip();
      if (event !== "end") continue;
      this.#hasEnded = true;
      return reader.position;
    }
    return this.sizeBytes + chunk.length;
  }

  /** Returns where in the chunk the bytes behind the mark start. */
  #takeMark(chunk: Uint8Array, start: number, mark: Uint8Array): number {
    let at = start;
    for (; this.#marked < markBytes && at < chunk.length; at++) {
      if (chunk[at] !== mark[this.#marked]) {
        const where = `at byte ${this.sizeBytes + this.#marked}`;
        throw new Failure(
          "PROTOCOL_ERROR",
          `Cannot take the snapshot: behind its end stands something else than the mark ${where}`,
        );
      }
      this.#marked++;
    }
    this.isDone = this.#marked === markBytes;
    return at;
  }
}
