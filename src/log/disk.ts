/**
 * The disk as the spool uses it: few operations, all of which can fail.
 *
 * WHY a seam. What a spool promises is about moments that no test can make happen on a real disk: a
 * power loss between two calls, a sync that fails, a write that ends half-way. `testing.ts` has a
 * disk on which they happen, from a seed. The one here is the machine's.
 *
 * Everything is asynchronous. A write to the page cache takes microseconds, and in a thread of the
 * pool it costs some 25 µs more; but while a sync runs, or when the kernel makes writers wait, the
 * same call was seen to take 140 ms, in which nothing else would be answered.
 *
 * INVARIANTS
 *
 *   1. What fails is a `Failure` that names the path; its `cause` has the system's code.
 *   2. Nothing is retried here, and nothing is synced that was not asked for.
 */
import {
  type FileHandle,
  open as openHandle,
  readdir,
  rename,
  rmdir,
  statfs,
  unlink,
} from "node:fs/promises";
import { Failure } from "../base/errors.ts";
import { makeFolder } from "../base/make-folder.ts";
import { lockFolder } from "./folder-lock.ts";
import { fileFailure } from "./input-file.ts";

export type Disk = {
  /** Keeps every other process away until it is disposed of. @throws Failure naming the holder */
  readonly lock: (folder: string, ownerName: string) => Promise<AsyncDisposable>;
  /** Makes a folder, if it is not there. */
  readonly makeFolder: (path: string) => Promise<void>;
  /** Removes a folder, if it is there and empty. */
  readonly removeFolder: (path: string) => Promise<void>;
  /** The names in a folder, sorted; none where there is no such folder. */
  readonly list: (folder: string) => Promise<string[]>;
  /** "create" empties a file that is there. */
  readonly open: (path: string, mode: OpenMode) => Promise<DiskFile>;
  readonly rename: (from: string, to: string) => Promise<void>;
  /** Removes a file, if it is there. */
  readonly remove: (path: string) => Promise<void>;
  /** Makes the names in a folder durable. */
  readonly syncFolder: (path: string) => Promise<void>;
  /** Bytes that can be written there. */
  readonly freeBytes: (folder: string) => Promise<number>;
};

export type OpenMode = "read" | "write" | "create";

export type DiskFile = {
  /** Writes from `at` on; returns how many bytes it took, which may be fewer than were given. */
  readonly write: (bytes: Uint8Array, at: number) => Promise<number>;
  /** Fills `bytes` from `at` on; returns how many there were. */
  readonly read: (bytes: Uint8Array, at: number) => Promise<number>;
  readonly size: () => Promise<number>;
  readonly truncate: (size: number) => Promise<void>;
  /** Makes durable what was written before the call. */
  readonly sync: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** The disk of this machine. */
export const systemDisk: Disk = {
  lock: lockFolder,
  makeFolder: (path) => attempt("make", path, async () => void (await makeFolder(path))),
  removeFolder: (path) => attempt("remove", path, () => ignoring(emptyOrGone, () => rmdir(path))),
  list: (folder) =>
    attempt("list", folder, async () => {
      const names = await ignoring(["ENOENT"], () => readdir(folder));
      return (names ?? []).sort();
    }),
  open: (path, mode) =>
    attempt(
      "open",
      path,
      async () => new SystemFile(path, await openHandle(path, flags[mode], 0o644)),
    ),
  rename: (from, to) => attempt("rename", from, () => rename(from, to)),
  remove: (path) => attempt("remove", path, () => ignoring(["ENOENT"], () => unlink(path))),
  syncFolder: (path) =>
    attempt("sync", path, async () => {
      await using folder = await openHandle(path, "r");
      await folder.sync();
    }),
  freeBytes: (folder) =>
    attempt("look at", folder, async () => {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    }),
};

const flags = { read: "r", write: "r+", create: "w+" } as const satisfies Record<OpenMode, string>;
const emptyOrGone = ["ENOENT", "ENOTEMPTY", "EEXIST"];

class SystemFile implements DiskFile {
  readonly #path: string;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  async write(bytes: Uint8Array, at: number): Promise<number> {
    try {
      return (await this.#handle.write(bytes, 0, bytes.length, at)).bytesWritten;
    } catch (cause) {
      throw fileFailure("write", this.#path, cause);
    }
  }

  async read(bytes: Uint8Array, at: number): Promise<number> {
    try {
      return (await this.#handle.read(bytes, 0, bytes.length, at)).bytesRead;
    } catch (cause) {
      throw fileFailure("read", this.#path, cause);
    }
  }

  size(): Promise<number> {
    return attempt("look at", this.#path, async () => (await this.#handle.stat()).size);
  }

  truncate(size: number): Promise<void> {
    return attempt("cut", this.#path, () => this.#handle.truncate(size));
  }

  /** fdatasync: it has the size written too, which is all that an append changes. */
  sync(): Promise<void> {
    return attempt("sync", this.#path, () => this.#handle.datasync());
  }

  close(): Promise<void> {
    return attempt("close", this.#path, () => this.#handle.close());
  }
}

/** Writes all of the bytes, in as many calls as that takes. */
export async function writeAll(file: DiskFile, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += await file.write(done === 0 ? bytes : bytes.subarray(done), at + done);
  }
}

/** The bytes from `at` on, `size` of them or as many as there are. Owned. */
export async function readAt(file: DiskFile, at: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let done = 0;
  while (done < size) {
    const count = await file.read(bytes.subarray(done), at + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}

const partBytes = 256 * 1024;

type Part = { readonly path: string; readonly start?: number; readonly end?: number };

/**
 * The bytes of a part of a file, up to its end where no other is given. Each is borrowed until the next.
 *
 * @throws Failure DATA_TORN where it ends before
 */
export async function* readPart(
  disk: Disk,
  { path, start = 0, end }: Part,
): AsyncGenerator<Uint8Array> {
  const file = await disk.open(path, "read");
  try {
    const until = end ?? (await file.size());
    const chunk = new Uint8Array(Math.max(0, Math.min(partBytes, until - start)));
    for (let at = start; at < until; ) {
      const size = await file.read(chunk.subarray(0, Math.min(chunk.length, until - at)), at);
      if (size === 0) {
        throw new Failure("DATA_TORN", `"${path}" ends at byte ${at}`, { offset: at });
      }
      yield chunk.subarray(0, size);
      at += size;
    }
  } finally {
    await file.close();
  }
}

/** A whole file that is known to be small; undefined where it is not there. */
export async function readSmall(
  disk: Disk,
  path: string,
  limit: number,
): Promise<Uint8Array | undefined> {
  const file = await openIfThere(disk, path);
  if (file === undefined) return undefined;
  try {
    return await readAt(file, 0, Math.min(await file.size(), limit));
  } finally {
    await file.close();
  }
}

/** A file to read from; undefined where it is not there. */
export async function openIfThere(disk: Disk, path: string): Promise<DiskFile | undefined> {
  try {
    return await disk.open(path, "read");
  } catch (error) {
    if ((error as { code?: unknown }).code === "FILE_MISSING") return undefined;
    throw error;
  }
}

/** Writes a small file beside its place, and makes it durable there. */
export async function writeSmall(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, "create");
  try {
    await writeAll(file, bytes, 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function attempt<T>(verb: string, path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw fileFailure(verb, path, cause);
  }
}

async function ignoring<T>(
  codes: readonly string[],
  action: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (codes.includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
