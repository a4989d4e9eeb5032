/**
 * Makes pieces of the log out of the files of a spool, and puts them into the repository.
 *
 * WHY in two steps. The name of a piece has the sum of its object, so the object has to be made
 * before it can be sent. It is gathered in memory up to `maxGatheredBytes`, and beyond that in a file.
 *
 * INVARIANTS
 *
 *   1. A piece is whole position lines: it begins behind one, or at the start of the log, and ends with
 *      one. All of its bytes were found right on the way.
 *   2. Nothing is written to the repository without a look at the lease right before.
 *   3. Memory: what the object's writer needs, a chunk of the file, `maxGatheredBytes`.
 */
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { LogScanner } from "../codec/aof/log-scanner.ts";
import { type Disk, readPart } from "../log/disk.ts";
import { fileFailure } from "../log/input-file.ts";
import { failIfAborted } from "../store/retry.ts";
import type { Piece } from "./catalogue.ts";
import { pieceObject } from "./layout.ts";
import { LogBlocks } from "./object/log-blocks.ts";
import { ObjectWriter } from "./object/object-writer.ts";
import { type Repository, writerOptions } from "./repository.ts";

/** What shipping needs, whatever is shipped. */
export type Ship = {
  readonly repository: Repository;
  readonly instance: string;
  /** Throws where another writer has taken over. */
  readonly lease: { readonly check: (signal?: AbortSignal) => Promise<void> };
  readonly disk: Disk;
  /** For objects that are too large for memory. It is this archiver's alone. */
  readonly temporaryFolder: string;
  readonly maxGatheredBytes?: number;
};

/** Behind a position line of a file; or at its start, where `line` is the one that the file goes on from. */
export type Mark = {
  readonly path: string;
  readonly at: number;
  readonly line: PositionLine | undefined;
};

/** A part of a file that ends with a position line. */
export type LogRange = { readonly from: Mark; readonly to: Mark };

const chunkBytes = 256 * 1024;
const defaultGatheredBytes = 8 * 1024 * 1024;
const partPattern = /^[0-9a-f-]{36}\.part$/;

/**
 * The end of the last position line in a file that has no higher sequence number than `sequence`;
 * all before it is proved.
 *
 * @throws Failure DATA_CORRUPT, FILE_MISSING, FILE_FAILED
 */
export async function findMark(disk: Disk, from: Mark, sequence: number): Promise<Mark> {
  const { path } = from;
  const offset = from.at;
  const after = from.line;
  const scanner = new LogScanner(after === undefined ? { offset } : { offset, after });
  let mark = from;
  const file = await disk.open(path, "read");
  try {
    const chunk = new Uint8Array(chunkBytes);
    for (let at = offset; (mark.line?.sequence ?? -1) < sequence; ) {
      const size = await file.read(chunk, at);
      if (size === 0) return mark;
      scanner.push(chunk.subarray(0, size));
      at += size;
      for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
        if (item !== "position") continue;
        const line = scanner.position as PositionLine;
        if (line.sequence > sequence) return mark;
        mark = { path, at: scanner.sealedEnd, line };
        // What follows may not be whole yet.
        if (line.sequence === sequence) return mark;
      }
    }
    return mark;
  } finally {
    await file.close();
  }
}

/** Ships a part of a log file. @throws Failure DATA_… where the file is damaged; those of the store */
export async function shipPiece(
  ship: Ship,
  line: string,
  { from, to }: LogRange,
  signal: AbortSignal,
): Promise<Piece> {
  const { repository, instance, disk } = ship;
  const after = from.line;
  const blocks = new LogBlocks(after === undefined ? {} : { after });
  const writer = new ObjectWriter(blocks, writerOptions(repository));
  await using gathered = new Gathered(ship);
  const bytes = readPart(disk, { path: to.path, start: from.at, end: to.at });
  for await (const chunk of writer.bytes(bytes)) {
    failIfAborted(signal, `archive "${to.path}"`);
    await gathered.add(chunk);
  }
  const { index, sha256, sizeBytes } = writer.summary;
  const first = index.blocks[0]?.first;
  const { last } = index;
  if (!first || !last || last.sequence !== to.line?.sequence) {
    const found = `it should end with position line ${to.line?.sequence}, and ends with ${last?.sequence}`;
    throw new Failure("DATA_CORRUPT", `Cannot archive "${to.path}": ${found}`, { offset: to.at });
  }
  const start = after ?? first;
  const facts = {
    firstSequence: after === undefined ? first.sequence : after.sequence + 1,
    lastSequence: last.sequence,
    ...{ fromOffset: start.offset, toOffset: last.offset },
    ...{ fromMs: start.ms, toMs: last.ms },
    ...{ rawBytes: to.at - from.at, sha256 },
  };
  const object = pieceObject(instance, line, facts);
  await ship.lease.check(signal);
  await gathered.store(object, signal);
  return { ...facts, object, sizeBytes };
}

/** Removes what a process before has left. */
export async function cleanTemporaryFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      if (partPattern.test(name)) await rm(join(folder, name), { force: true });
    }
  } catch (cause) {
    throw fileFailure("use", folder, cause);
  }
}

/** An object that is made, and has no name yet. */
class Gathered implements AsyncDisposable {
  readonly #ship: Ship;
  readonly #limit: number;
  readonly #path: string;
  #chunks: Uint8Array[] = [];
  #sizeBytes = 0;
  #file: FileHandle | undefined;

  constructor(ship: Ship) {
    this.#ship = ship;
    this.#limit = ship.maxGatheredBytes ?? defaultGatheredBytes;
    this.#path = join(ship.temporaryFolder, `${randomUUID()}.part`);
  }

  async add(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    this.#sizeBytes += chunk.length;
    if (this.#sizeBytes > this.#limit) await this.#spill();
  }

  async #spill(): Promise<void> {
    try {
      this.#file ??= await open(this.#path, "wx", 0o600);
      for (const chunk of this.#chunks) await this.#file.writeFile(chunk);
    } catch (cause) {
      throw fileFailure("write", this.#path, cause);
    }
    this.#chunks = [];
  }

  async store(object: string, signal: AbortSignal): Promise<void> {
    const { store } = this.#ship.repository;
    if (this.#file === undefined) {
      await store.put(object, Buffer.concat(this.#chunks), { signal });
      return;
    }
    await store.upload(object, this.#read(), { signal });
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of createReadStream(this.#path)) yield chunk as Uint8Array;
    } catch (cause) {
      throw fileFailure("read", this.#path, cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    if (this.#file !== undefined) await rm(this.#path, { force: true });
  }
}
