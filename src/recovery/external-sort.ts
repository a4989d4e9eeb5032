/**
 * Sorts more lines than memory holds: sorted runs in temporary files, merged at the end.
 *
 * Lines and their keys come as text of one character a byte, and are held as bytes: as strings they
 * would take several times the memory, and nobody could say how much.
 *
 *   run    entry*                           entry  key length u32 LE, line length u32 LE, key, line
 *
 * When `fanIn` runs of one level have come together, they are merged into one of the next level, so
 * that each line is written a few times only, and few files are open at once.
 *
 * MEMORY. `maxHeldBytes` of entries and 12 bytes for each; at the end, a buffer for each run.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { Sorter } from "../codec/json-lines.ts";

const defaultMaxHeldBytes = 12 * 2 ** 20;
const firstHeldBytes = 64 * 1024;
const fanIn = 32;
const bufferBytes = 64 * 1024;
const headBytes = 8;

type Run = { readonly path: string; readonly level: number };

export class ExternalSort implements Sorter, Disposable {
  readonly #maxHeldBytes: number;
  #held = new Held();
  #folder: string | undefined;
  #runs: Run[] = [];
  #made = 0;

  constructor(maxHeldBytes = defaultMaxHeldBytes) {
    this.#maxHeldBytes = maxHeldBytes;
  }

  add(key: string, line: string): void {
    this.#held.add(key, line);
    if (this.#held.sizeBytes > this.#maxHeldBytes) this.#spill();
  }

  *drain(): Generator<string> {
    if (this.#runs.length === 0) {
      for (const entry of this.#held.sorted()) yield lineOf(entry);
      this.#held.clear();
      return;
    }
    this.#spill();
    for (const entry of merge(this.#runs)) yield lineOf(entry);
    this.#remove();
  }

  [Symbol.dispose](): void {
    this.#remove();
  }

  #spill(): void {
    if (this.#held.isEmpty) return;
    this.#writeRun(this.#held.sorted(), 0);
    this.#held.clear();
    for (let level = 0; ; level++) {
      const runs = this.#runs.filter((run) => run.level === level);
      if (runs.length < fanIn) return;
      this.#runs = this.#runs.filter((run) => run.level !== level);
      this.#writeRun(merge(runs), level + 1);
      for (const { path } of runs) rmSync(path);
    }
  }

  #writeRun(entries: Iterable<Uint8Array>, level: number): void {
    this.#folder ??= mkdtempSync(join(tmpdir(), "tidemark-sort-"));
    const path = join(this.#folder, `${this.#made++}`);
    try {
      const file = openSync(path, "wx", 0o600);
      try {
        writeEntries(file, entries);
      } finally {
        closeSync(file);
      }
    } catch (cause) {
      throw new Failure("FILE_FAILED", `Cannot write temporary file "${path}"`, { cause });
    }
    this.#runs.push({ path, level });
  }

  #remove(): void {
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
    this.#runs = [];
  }
}

/** Entries in memory, one behind the other. */
class Held {
  #bytes = Buffer.allocUnsafe(firstHeldBytes);
  #size = 0;
  #starts = new Uint32Array(256);
  #count = 0;

  get sizeBytes(): number {
    return this.#size;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  add(key: string, line: string): void {
    const size = headBytes + key.length + line.length;
    if (this.#size + size > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, this.#size + size));
      this.#bytes.copy(grown, 0, 0, this.#size);
      this.#bytes = grown;
    }
    if (this.#count === this.#starts.length) {
      const grown = new Uint32Array(2 * this.#count);
      grown.set(this.#starts);
      this.#starts = grown;
    }
    const at = this.#size;
    this.#bytes.writeUInt32LE(key.length, at);
    this.#bytes.writeUInt32LE(line.length, at + 4);
    this.#bytes.write(key, at + headBytes, "latin1");
    this.#bytes.write(line, at + headBytes + key.length, "latin1");
    this.#starts[this.#count++] = at;
    this.#size += size;
  }

  /** The entries in order, borrowed. */
  *sorted(): Generator<Buffer> {
    const bytes = this.#bytes;
    const starts = this.#starts.slice(0, this.#count);
    starts.sort((a, b) => compareKeys(bytes, a, bytes, b));
    for (const start of starts) yield bytes.subarray(start, start + sizeOf(bytes, start));
  }

  clear(): void {
    this.#size = 0;
    this.#count = 0;
    // What one large value needed is given back.
    if (this.#bytes.length > 2 * defaultMaxHeldBytes) {
      this.#bytes = Buffer.allocUnsafe(firstHeldBytes);
    }
  }
}

function sizeOf(bytes: Buffer, at: number): number {
  return headBytes + bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4);
}

function lineOf(entry: Buffer): string {
  return entry.toString("latin1", headBytes + entry.readUInt32LE(0));
}

/** Memory order of the keys of two entries. */
function compareKeys(a: Buffer, aAt: number, b: Buffer, bAt: number): number {
  const aLength = a.readUInt32LE(aAt);
  const bLength = b.readUInt32LE(bAt);
  const shorter = Math.min(aLength, bLength);
  const aKey = aAt + headBytes;
  const bKey = bAt + headBytes;
  for (let i = 0; i < shorter; i++) {
    const difference = (a[aKey + i] as number) - (b[bKey + i] as number);
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}

function writeEntries(file: number, entries: Iterable<Uint8Array>): void {
  const buffer = Buffer.allocUnsafe(bufferBytes);
  let filled = 0;
  const flush = (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
  };
  for (const entry of entries) {
    if (filled + entry.length > bufferBytes) {
      flush(buffer.subarray(0, filled));
      filled = 0;
    }
    if (entry.length > bufferBytes) {
      flush(entry);
      continue;
    }
    buffer.set(entry, filled);
    filled += entry.length;
  }
  flush(buffer.subarray(0, filled));
}

/** The runs as one, in order; entries are borrowed. The runs are few: a scan finds the least. */
function* merge(runs: readonly Run[]): Generator<Buffer> {
  const cursors: RunCursor[] = [];
  try {
    for (const { path } of runs) cursors.push(new RunCursor(path));
    for (;;) {
      let least: RunCursor | undefined;
      for (const cursor of cursors) {
        if (!cursor.isOver && (!least || cursor.isBefore(least))) least = cursor;
      }
      if (!least) return;
      yield least.entry();
      least.advance();
    }
  } finally {
    for (const cursor of cursors) cursor.close();
  }
}

class RunCursor {
  isOver = false;
  readonly #file: number;
  #buffer = Buffer.allocUnsafe(bufferBytes);
  #at = 0;
  #end = 0;
  #size = 0;

  constructor(path: string) {
    this.#file = openSync(path, "r");
    this.advance();
  }

  entry(): Buffer {
    return this.#buffer.subarray(this.#at, this.#at + this.#size);
  }

  isBefore(other: RunCursor): boolean {
    return compareKeys(this.#buffer, this.#at, other.#buffer, other.#at) < 0;
  }

  advance(): void {
    this.#at += this.#size;
    this.#size = 0;
    if (!this.#fill(headBytes)) {
      this.isOver = true;
      return;
    }
    const size = sizeOf(this.#buffer, this.#at);
    this.#fill(size);
    this.#size = size;
  }

  /** Has at least `size` bytes ready; false at the end of the run. */
  #fill(size: number): boolean {
    if (this.#end - this.#at >= size) return true;
    const target = size > this.#buffer.length ? Buffer.allocUnsafe(size) : this.#buffer;
    this.#buffer.copy(target, 0, this.#at, this.#end);
    this.#buffer = target;
    this.#end -= this.#at;
    this.#at = 0;
    while (this.#end < size) {
      const read = readSync(this.#file, target, this.#end, target.length - this.#end, null);
      if (read === 0) return false;
      this.#end += read;
    }
    return true;
  }

  close(): void {
    closeSync(this.#file);
  }
}
