/**
 * Reads the log between two places out of a repository, proved whole.
 *
 * WHY. Whatever a restore makes of a log, it must be what was recorded: all of it, in order, nothing
 * twice. So the bytes pass a scanner on their way, which holds every position line against the bytes
 * before it and against the line before it, also from one piece to the next.
 *
 * A part of a log that begins inside a batch is no log of its own: the checksum of the position line
 * behind that batch is of bytes that are not there. `asFile` makes it one: it selects the database
 * that is selected there, and writes that one line anew.
 *
 * INVARIANTS
 *
 *   1. What is given out has passed the checksums of its frames, and, up to the last position line in
 *      what was read, those of the log. Damage names the object and the offset in it.
 *   2. The sequence numbers of position lines go on without a hole, as the names of the pieces say.
 *   3. Memory: two frames, and `aheadBytes` of the pieces that follow. Small pieces, as there are of
 *      the last hour, are read while the one before is looked at: of them, the delay of the store counts.
 */
import { crc32 } from "node:zlib";
import type { Piece } from "../archive/catalogue.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { copyBytesOf, empty } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { formatPositionLine, type PositionLine } from "../codec/aof/annotation.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import type { LogRange } from "./plan-result.ts";
import { type ArchiveView, footholdAt, logIndexOf } from "./restore-locate.ts";

export type ReadLogOptions = {
  /** Makes it a file that stands for itself: see above. */
  readonly asFile?: boolean;
  readonly signal?: AbortSignal | undefined;
};

/** Raw bytes of pieces that are read ahead of the one that is given out, and how many of those. */
const aheadBytes = 16 * 2 ** 20;
const maxAhead = 8;

/** Chunks are cut anywhere, and owned by the consumer. @throws Failure DATA_CORRUPT */
export async function* readLog(
  view: ArchiveView,
  range: LogRange,
  { asFile = false, signal }: ReadLogOptions = {},
): AsyncGenerator<Uint8Array> {
  const { pieces, start, end } = range;
  let reseal: Reseal | undefined;
  if (asFile) {
    const select = selectRecord(start.database);
    reseal = new Reseal(select);
    if (select.length > 0) yield select;
  }
  const opened = new PieceQueue(view, pieces);
  let after: PositionLine | undefined;
  for (const [number, piece] of pieces.entries()) {
    signal?.throwIfAborted();
    const part = new PiecePart(await opened.take(), piece, {
      from: number === 0 ? start.offset : 0,
      to: number === end.piece ? end.offset : piece.rawBytes,
      after,
    });
    for await (const bytes of part.bytes(reseal)) {
      signal?.throwIfAborted();
      if (bytes.length > 0) yield bytes;
    }
    after = part.position;
  }
}

function selectRecord(database: number | undefined): Uint8Array {
  if (database === undefined) return empty;
  const encoder = new RespEncoder();
  encoder.command("SELECT", database);
  return encoder.take();
}

/** Opens the pieces that follow while one is read; of small ones, all is read. */
class PieceQueue {
  readonly #view: ArchiveView;
  readonly #pieces: readonly Piece[];
  readonly #ahead: { readonly opening: Promise<OpenPiece>; readonly rawBytes: number }[] = [];
  #next = 0;

  constructor(view: ArchiveView, pieces: readonly Piece[]) {
    this.#view = view;
    this.#pieces = pieces;
  }

  async take(): Promise<OpenPiece> {
    this.#fill();
    const { opening } = this.#ahead.shift() as { opening: Promise<OpenPiece> };
    const opened = await opening;
    this.#fill();
    return opened;
  }

  #fill(): void {
    let bytes = this.#ahead.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
    while (this.#next < this.#pieces.length && this.#ahead.length < maxAhead) {
      const piece = this.#pieces[this.#next] as Piece;
      const isSmall = bytes + piece.rawBytes <= aheadBytes;
      if (!isSmall && this.#ahead.length > 0) return;
      // The ends of a range are read in part only: what of them, is not known here.
      const isWhole = this.#next > 0 && this.#next < this.#pieces.length - 1;
      const opening = this.#open(piece, isSmall && isWhole);
      // Told to whoever comes to that piece; nobody does where the reading is given up.
      opening.catch(() => {});
      this.#ahead.push({ opening, rawBytes: piece.rawBytes });
      bytes += piece.rawBytes;
      this.#next++;
    }
  }

  async #open({ object, sizeBytes }: Piece, readsAll: boolean): Promise<OpenPiece> {
    const reader = await this.#view.openObject(object, sizeBytes);
    return readsAll
      ? { reader, chunks: await Array.fromAsync(reader.rawBytes({ sums: false })) }
      : { reader };
  }
}

type OpenPiece = { readonly reader: ObjectReader; readonly chunks?: readonly Uint8Array[] };

type Bounds = {
  readonly from: number;
  readonly to: number;
  /** The last position line of the piece before, where one was read. */
  readonly after: PositionLine | undefined;
};

/** What is wanted of one piece. */
class PiecePart {
  readonly #reader: ObjectReader;
  readonly #chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  readonly #piece: Piece;
  readonly #bounds: Bounds;
  readonly #log: LogScanner;
  /** Where the reading starts, and where it ends. */
  readonly #start: number;
  readonly #end: number;

  constructor({ reader, chunks }: OpenPiece, piece: Piece, bounds: Bounds) {
    const index = logIndexOf(reader);
    const { rawStarts } = reader;
    const block = Math.max(
      0,
      rawStarts.findLastIndex((start) => start <= bounds.from),
    );
    const last = Math.max(0, index.blocks.length - 1);
    const foothold = footholdAt(index, Math.min(block, last));
    const to = rawStarts.findIndex((start) => start >= bounds.to);
    this.#start = rawStarts[foothold.block] as number;
    this.#end = rawStarts[to] as number;
    const after = bounds.after ?? foothold.after;
    this.#log = new LogScanner({ offset: this.#start, ...(after && { after }) });
    this.#chunks = chunks ?? reader.rawBytes({ from: foothold.block, to, sums: false });
    this.#reader = reader;
    this.#piece = piece;
    this.#bounds = bounds;
  }

  /** The last position line that was read. */
  get position(): PositionLine | undefined {
    return this.#log.position;
  }

  async *bytes(reseal: Reseal | undefined): AsyncGenerator<Uint8Array> {
    const { from, to } = this.#bounds;
    const log = this.#log;
    let at = this.#start;
    for await (const chunk of this.#chunks) {
      log.push(chunk);
      const wanted = { from: Math.max(from, at), to: Math.min(to, at + chunk.length) };
      if (reseal === undefined || reseal.isDone) {
        this.#scan(undefined, wanted.to);
        yield chunk.subarray(wanted.from - at, Math.max(wanted.to, wanted.from) - at);
      } else {
        reseal.begin(chunk, at, wanted.from);
        this.#scan(reseal, to);
        yield reseal.end(wanted.to, log.scanner.pending === "annotation" ? log.scanner.start : to);
      }
      at += chunk.length;
    }
    this.#checkEnd(at);
  }

  /** Reads the items of the chunk. The first position line in what is wanted is for `reseal`. */
  #scan(reseal: Reseal | undefined, to: number): void {
    const log = this.#log;
    const { scanner } = log;
    try {
      for (let item = log.next(); item !== "more"; item = log.next()) {
        if (item !== "position" || reseal === undefined || reseal.isDone) continue;
        if (scanner.end <= this.#bounds.from || scanner.end > to) continue;
        reseal.line(log.position as PositionLine, scanner.start, scanner.end);
      }
    } catch (cause) {
      if (!(cause instanceof Failure) || cause.offset === undefined) throw cause;
      const { offset, code } = cause;
      const message = `Cannot read the log in ${this.#reader.name}: ${cause.message}`;
      throw new Failure(code, message, { cause, offset });
    }
  }

  /** A piece ends with the line that its name says; so does the last block of it that was read. */
  #checkEnd(at: number): void {
    const { scanner, sealedEnd, position } = this.#log;
    const isWhole = at === this.#piece.rawBytes;
    const isSealed = sealedEnd === at && position?.sequence === this.#piece.lastSequence;
    const found =
      at !== this.#end
        ? `it ends at byte ${at} instead of ${this.#end}`
        : isWhole && !isSealed
          ? `it does not end with position line ${this.#piece.lastSequence}`
          : scanner.goodEnd < this.#bounds.to
            ? `it is torn at byte ${scanner.goodEnd}`
            : undefined;
    if (found === undefined) return;
    const message = `Cannot read the log in ${this.#reader.name}: ${found}`;
    throw new Failure("DATA_CORRUPT", message, { offset: scanner.goodEnd });
  }
}

/**
 * Writes the first position line anew, for the bytes that are there. A line may be cut by the end of
 * a chunk: so what may be one is held back.
 */
class Reseal {
  isDone = false;
  #crc: number;
  #held: Uint8Array = empty;
  #chunk: Uint8Array = empty;
  /** Where the held bytes and the chunk behind them start, and up to where bytes have been taken. */
  #start = 0;
  #done = 0;
  #parts: Uint8Array[] = [];

  constructor(before: Uint8Array) {
    this.#crc = crc32(before);
  }

  begin(chunk: Uint8Array, at: number, from: number): void {
    this.#start = at - this.#held.length;
    this.#chunk = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#done = Math.max(from - this.#held.length, this.#start);
    if (this.#held.length === 0) this.#done = Math.max(from, at);
    this.#held = empty;
  }

  line(line: PositionLine, start: number, end: number): void {
    this.#take(start);
    this.#parts.push(formatPositionLine({ ...line, dataCrc: this.#crc }));
    this.#done = end;
    this.isDone = true;
  }

  /** All of the chunk up to `to`; what starts at `held` may be a position line. */
  end(to: number, held: number): Uint8Array {
    const limit = this.isDone ? to : Math.min(to, Math.max(held, this.#done));
    this.#take(limit);
    if (limit < to) this.#held = copyBytesOf(this.#chunk, limit - this.#start, to - this.#start);
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#chunk = empty;
    return bytes;
  }

  #take(to: number): void {
    if (to <= this.#done) return;
    const bytes = this.#chunk.subarray(this.#done - this.#start, to - this.#start);
    if (!this.isDone) this.#crc = crc32(bytes, this.#crc);
    this.#parts.push(bytes);
    this.#done = to;
  }
}
