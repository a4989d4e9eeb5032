import { closeSync, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import { Failure } from "../base/errors.ts";

/** How much is read at once: of 64 KiB, 256 KiB and 1 MiB the fastest for a walk over 227 MB. */
const chunkBytes = 256 * 1024;

/** One for all files: they are read one after the other. */
let shared: Uint8Array | undefined;

/**
 * A file that is read once, from its start to its end.
 *
 * Reads are synchronous: a promise for each chunk would cost more than what is done with it. Whoever
 * reads much lets the event loop go now and then.
 */
export class InputFile implements Disposable {
  readonly path: string;
  /** When it was opened. */
  readonly stats: Stats;
  readonly #fd: number;
  #position = 0;

  private constructor(path: string, fd: number, stats: Stats) {
    this.path = path;
    this.#fd = fd;
    this.stats = stats;
  }

  /** @throws Failure FILE_MISSING, FILE_FAILED */
  static open(path: string): InputFile {
    try {
      // To open a pipe would wait for somebody who writes to it.
      if (statSync(path).isFile()) {
        const fd = openSync(path, "r");
        return new InputFile(path, fd, fstatSync(fd));
      }
    } catch (cause) {
      throw fileFailure("read", path, cause);
    }
    throw new Failure("FILE_FAILED", `Cannot read "${path}": it is not a regular file`, {
      hint: "Name a file or a folder.",
    });
  }

  /** Its first bytes, owned; it is read from the start all the same. */
  head(size: number): Uint8Array {
    const bytes = new Uint8Array(Math.min(size, this.stats.size));
    return bytes.subarray(0, this.#readInto(bytes, 0));
  }

  /** The next chunk, empty at the end. Borrowed until the next call, of any file. */
  read(): Uint8Array {
    shared ??= new Uint8Array(chunkBytes);
    const size = this.#readInto(shared, this.#position);
    this.#position += size;
    return shared.subarray(0, size);
  }

  /** How many bytes have been read. */
  get position(): number {
    return this.#position;
  }

  /** Whether something has been written to it since it was opened. */
  hasGrown(): boolean {
    return fstatSync(this.#fd).size > this.stats.size;
  }

  #readInto(bytes: Uint8Array, position: number): number {
    try {
      return readSync(this.#fd, bytes, 0, bytes.length, position);
    } catch (cause) {
      throw fileFailure(`read at byte ${position}`, this.path, cause);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

const missing: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENOTDIR"]);

/** What the operating system said, as a failure of ours. */
export function fileFailure(verb: string, path: string, cause: unknown): Failure {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (missing.has(code)) {
    return new Failure("FILE_MISSING", `Cannot ${verb} "${path}": there is no such file`, {
      cause,
    });
  }
  // "EACCES: permission denied, open '…'": the path has been named already.
  const said = /^\w+: ([^,]+)/.exec(message)?.[1] ?? message;
  return new Failure("FILE_FAILED", `Cannot ${verb} "${path}": ${said}`, { cause });
}
