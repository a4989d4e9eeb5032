/**
 * A store in a directory: an object is a file, its name is its path.
 *
 * WHY it is this strict. A backup that is there after `kill -9` but not after a power loss is not
 * there, and whoever can read a backup has the data. So all is synced before it is said to be done,
 * files are 0600 and folders 0700, and no symbolic link is followed below the root.
 *
 * HOW an object comes to be
 *
 *   1. it is written to `.tmp/` in the root, under a random name, and synced
 *   2. `link()` gives it its name if there is none (`ifAbsent`), or `rename()` in place of another
 *   3. its folder is synced, and all above it up to the root
 *
 * INVARIANTS
 *
 *   1. Names begin with no dot, so `.tmp` is no object, and neither is what others hide here.
 *   2. What a crash leaves is in `.tmp` and is removed by a later writer after a day. A file that
 *      is still written to is younger than that.
 *   3. A folder goes with the last object in it. Another process may have made it, or found it there, to put
 *      something into it: so who finds it gone makes it again. And as a folder that is there may be another
 *      one than before, which nobody has synced yet, all above an object is synced each time: where nothing has
 *      changed, that is little work.
 *   4. A folder that somebody has removed all the same is made again by the next write. The root is not: in
 *      its place may be the bare mount point of a disk that is gone.
 *
 * REJECTED. `O_EXCL` in place of `link()`: the object would be there before its bytes are. Temporary
 * files beside the object: each folder would have to be looked through for old ones. `O_TMPFILE`:
 * Node has no `linkat()` for it.
 */
import { randomUUID } from "node:crypto";
import { constants, type Dirent } from "node:fs";
import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type Clock, systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { makeFolder } from "../base/make-folder.ts";
import { checkName, checkPrefix, compareNames, isName } from "./name.ts";
import { failIfAborted } from "./retry.ts";
import type {
  Abortable,
  ByteRange,
  ListOptions,
  ObjectInfo,
  PutOptions,
  Store,
  TransferOptions,
} from "./store.ts";

const temporaryFolder = ".tmp";
const temporaryLifeMs = 24 * 60 * 60 * 1000;
const chunkBytes = 256 * 1024;
/** Files whose sizes are asked for at the same time. */
const statsAtOnce = 64;
/** For one object: so often in a row, others do not remove the folder that was just made for it. */
const maxFolderRaces = 100;

export class DirectoryStore implements Store {
  readonly name: string;
  readonly #root: string;
  readonly #clock: Clock;
  /** Folders that were there, and had no link on their path, when this store last had to do with them. */
  readonly #made = new Set<string>();
  /** Which folder the root is, once something was written; undefined before. */
  #rootIs: { readonly dev: number; readonly ino: number } | undefined;
  #hasCleaned = false;

  constructor(path: string, clock: Clock = systemClock) {
    this.#root = resolve(path);
    this.#clock = clock;
    this.name = pathToFileURL(this.#root).href;
  }

  async put(name: string, bytes: Uint8Array, options: PutOptions = {}) {
    checkName(name);
    failIfAborted(options.signal, `write "${name}"`);
    return await this.#attempt("write", name, async () => {
      await using file = await this.#create();
      await writeAll(file.handle, bytes);
      return await this.#publish(file, name, options.ifAbsent === true);
    });
  }

  async upload(name: string, chunks: AsyncIterable<Uint8Array>, options: TransferOptions = {}) {
    checkName(name);
    return await this.#attempt("write", name, async () => {
      await using file = await this.#create();
      const gathered = Buffer.allocUnsafe(chunkBytes);
      let filled = 0;
      let sizeBytes = 0;
      for await (const chunk of chunks) {
        failIfAborted(options.signal, `write "${name}"`);
        sizeBytes += chunk.length;
        if (filled + chunk.length > chunkBytes) {
          await writeAll(file.handle, gathered.subarray(0, filled));
          filled = 0;
        }
        if (chunk.length > chunkBytes) {
          await writeAll(file.handle, chunk);
        } else {
          gathered.set(chunk, filled);
          filled += chunk.length;
        }
      }
      await writeAll(file.handle, gathered.subarray(0, filled));
      failIfAborted(options.signal, `write "${name}"`);
      await this.#publish(file, name, false);
      return { sizeBytes };
    });
  }

  async *read(name: string, range?: ByteRange, options: TransferOptions = {}) {
    checkName(name);
    if (range !== undefined && range.start >= range.end) return;
    failIfAborted(options.signal, `read "${name}"`);
    await using handle = await this.#attempt("read", name, () => this.#open(name));
    let at = range?.start ?? 0;
    const end = range?.end ?? (await handle.stat()).size;
    while (at < end) {
      failIfAborted(options.signal, `read "${name}"`);
      const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, end - at));
      const { bytesRead } = await this.#attempt("read", name, () =>
        handle.read(chunk, 0, chunk.length, at),
      );
      if (bytesRead === 0) {
        throw new Failure("DATA_CORRUPT", `"${name}" in ${this.name} ends at byte ${at}`, {
          offset: at,
        });
      }
      at += bytesRead;
      yield chunk.subarray(0, bytesRead);
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    checkPrefix(prefix);
    const startAfter = options.startAfter ?? "";
    yield* this.#walk(prefix.slice(0, prefix.lastIndexOf("/") + 1), {
      prefix,
      startAfter,
      signal: options.signal,
    });
  }

  async delete(names: readonly string[], options: Abortable = {}): Promise<void> {
    for (const name of names) checkName(name);
    const changed = new Set<string>();
    for (const name of names) {
      failIfAborted(options.signal, `delete "${name}"`);
      await this.#attempt("delete", name, async () => {
        const folder = await this.#folderOf(name);
        if (folder === undefined) return;
        if (await isThere(unlink(join(folder, lastPart(name))))) changed.add(folder);
      });
    }
    for (const folder of changed) {
      await this.#attempt("sync", folder, async () => {
        await ifThere(syncFolder(await this.#removeEmpty(folder)));
      });
    }
  }

  /** Removes a folder without anything in it, and those above it; returns the first one that stays. */
  async #removeEmpty(folder: string): Promise<string> {
    let at = folder;
    while (at !== this.#root && (await removeIfEmpty(at))) at = dirname(at);
    return at;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #open(name: string): Promise<FileHandle> {
    const folder = await this.#folderOf(name);
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle =
      folder === undefined ? undefined : await ifThere(open(join(folder, lastPart(name)), flags));
    if (handle !== undefined && (await handle.stat()).isFile()) return handle;
    await handle?.close();
    throw new Failure("OBJECT_MISSING", `Cannot read "${name}" in ${this.name}: it is not there`);
  }

  /** Lists a folder: "" or a name with a slash at its end. */
  async *#walk(folder: string, wanted: Wanted): AsyncGenerator<ObjectInfo> {
    failIfAborted(wanted.signal, `list "${wanted.prefix}"`);
    const path = join(this.#root, folder);
    const found = await this.#attempt("list", folder, async () => {
      await this.#checkFolder(path);
      return await ifThere(readdir(path, { withFileTypes: true }));
    });
    const names = (found ?? [])
      .map((entry) => nameIn(folder, entry))
      .filter((name) => name !== undefined && isWanted(name, wanted))
      .sort(compareNames as (a: string | undefined, b: string | undefined) => number) as string[];
    for (let at = 0; at < names.length; ) {
      const next = names[at] as string;
      if (next.endsWith("/")) {
        yield* this.#walk(next, wanted);
        at++;
        continue;
      }
      const rest = names.slice(at, at + statsAtOnce);
      const folderAt = rest.findIndex((name) => name.endsWith("/"));
      const files = folderAt < 0 ? rest : rest.slice(0, folderAt);
      yield* await this.#attempt("list", folder, () => this.#infosOf(files));
      at += files.length;
    }
  }

  /** What is gone by now is left out. */
  async #infosOf(names: readonly string[]): Promise<ObjectInfo[]> {
    const stats = await Promise.all(names.map((name) => ifThere(lstat(join(this.#root, name)))));
    return names.flatMap((name, i) => {
      const found = stats[i];
      if (found === undefined) return [];
      return [{ name, sizeBytes: found.size, modifiedMs: Math.floor(found.mtimeMs) }];
    });
  }

  async #create(): Promise<TemporaryFile> {
    const folder = join(this.#root, temporaryFolder);
    return await this.#inFolder(folder, async () => {
      if (!this.#hasCleaned) await this.#removeOldFiles(folder);
      this.#hasCleaned = true;
      const path = join(folder, randomUUID());
      return new TemporaryFile(path, await open(path, "wx", 0o600));
    });
  }

  /** Files of others may come and go meanwhile. */
  async #removeOldFiles(folder: string): Promise<void> {
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const found = await ifThere(lstat(path));
      if (found === undefined || this.#clock.now() - found.mtimeMs < temporaryLifeMs) continue;
      await rm(path, { force: true });
    }
  }

  async #publish(file: TemporaryFile, name: string, ifAbsent: boolean) {
    await file.handle.sync();
    const isNew = await this.#giveName(file.path, join(this.#root, name), ifAbsent);
    if (!isNew) return "exists";
    for (let at = dirname(name); ; at = dirname(at)) {
      // Whoever has removed the object since may have removed its folder too.
      await ifThere(syncFolder(join(this.#root, at)));
      if (at === ".") return "created";
    }
  }

  async #giveName(from: string, path: string, ifAbsent: boolean): Promise<boolean> {
    return await this.#inFolder(dirname(path), async () => {
      if (ifAbsent) return await linkIfAbsent(from, path);
      await rename(from, path);
      return true;
    });
  }

  /** In a folder that is there, or is made; and again where others have removed it meanwhile. */
  async #inFolder<T>(folder: string, action: () => Promise<T>): Promise<T> {
    for (let races = 0; ; races++) {
      try {
        await this.#makeFolder(folder);
        return await action();
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== "ENOENT" || races === maxFolderRaces) throw error;
        await this.#mustHaveRoot(error);
        this.#made.clear();
      }
    }
  }

  /** @throws Failure STORE_FAILED where the root is gone, or another folder by now; the error where none was made */
  async #mustHaveRoot(error: unknown): Promise<void> {
    if (this.#rootIs === undefined) throw error;
    const found = await ifThere(stat(this.#root));
    const { dev, ino } = this.#rootIs;
    if (found?.dev === dev && found.ino === ino) return;
    const state = found === undefined ? "it is gone" : "another folder is in its place";
    throw new Failure("STORE_FAILED", `Cannot write into "${this.#root}": ${state}`, {
      cause: error,
      hint: "Check that it is mounted, and bring it back; nothing is written beside it.",
    });
  }

  /** Makes a folder, if it is not there, and those above it. */
  async #makeFolder(folder: string): Promise<void> {
    if (this.#made.has(folder)) return;
    if (folder === this.#root) {
      const first = await makeFolder(folder, 0o700);
      if (first !== undefined) {
        for (let at = folder; at.length >= first.length; at = dirname(at)) {
          await syncFolder(dirname(at));
        }
      }
      const { dev, ino } = await stat(folder);
      this.#rootIs ??= { dev, ino };
    } else {
      await this.#makeFolder(dirname(folder));
      await ignoring("EEXIST", mkdir(folder, { mode: 0o700 }));
      await this.#checkFolder(folder);
    }
    this.#made.add(folder);
  }

  /** The folder that an object's file is in; undefined where there is none. */
  async #folderOf(name: string): Promise<string | undefined> {
    const folder = dirname(join(this.#root, name));
    return (await this.#checkFolder(folder)) ? folder : undefined;
  }

  /** Whether a folder is there. @throws Failure where a symbolic link is part of its path */
  async #checkFolder(folder: string): Promise<boolean> {
    const real = await ifThere(realpath(folder));
    if (real === undefined) return false;
    if (folder === this.#root) return true;
    if (relative(await realpath(this.#root), real) === relative(this.#root, folder)) return true;
    throw new Failure("STORE_DENIED", `Cannot use "${folder}": a symbolic link is on its path`, {
      hint: "Put the whole repository where the link leads to, or mount that there.",
    });
  }

  /** Names what was tried. What others threw, as the chunks of an upload, stays as it is. */
  async #attempt<T>(verb: string, name: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw isSystemError(error) ? diskFailure(`${verb} "${name}" in ${this.name}`, error) : error;
    }
  }
}

/**
 * Takes away what an undertaking has left that ended before there was an object: folders without a file in
 * them, from the root on. Only for a folder in which nobody else can be at work yet.
 *
 * What cannot be removed stays: there may be a failure to tell already, and this is none.
 */
export async function removeEmptyFolders(path: string): Promise<void> {
  try {
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeEmptyFolders(join(path, entry.name));
    }
    await rmdir(path);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

type Wanted = {
  readonly prefix: string;
  readonly startAfter: string;
  readonly signal: AbortSignal | undefined;
};

/** The name of a file, that of a folder with a slash behind it, or undefined for all else. */
function nameIn(folder: string, entry: Dirent): string | undefined {
  const name = folder + entry.name;
  if (!isName(name)) return undefined;
  return entry.isFile() ? name : entry.isDirectory() ? `${name}/` : undefined;
}

function isWanted(name: string, { prefix, startAfter }: Wanted): boolean {
  const isFolder = name.endsWith("/");
  if (!name.startsWith(prefix) && !(isFolder && prefix.startsWith(name))) return false;
  return compareNames(name, startAfter) > 0 || (isFolder && startAfter.startsWith(name));
}

/** A file that is removed when it is disposed of, unless it was given another name. */
class TemporaryFile implements AsyncDisposable {
  readonly path: string;
  readonly handle: FileHandle;

  constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.handle = handle;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handle.close();
    await rm(this.path, { force: true });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
  }
}

/** Makes the names in a folder durable. */
async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}

async function linkIfAbsent(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    const isUnknown = /^(EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP|EMLINK)$/.test(code ?? "");
    // EPERM is also what a folder says that may only be added to; there a stat() tells them apart.
    if (!isUnknown || (await ifThere(stat(to))) !== undefined) throw cause;
    throw new Failure("STORE_UNFIT", `Cannot create "${to}": its file system has no hard links`, {
      cause,
      hint: "Choose a folder on another file system.",
    });
  }
}

const gone: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);

async function ifThere<T>(action: Promise<T>): Promise<T | undefined> {
  try {
    return await action;
  } catch (error) {
    if (gone.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** Whether it is gone. One that stays, be it that it must not be removed, does no harm. */
async function removeIfEmpty(path: string): Promise<boolean> {
  try {
    await ifThere(rmdir(path));
    return true;
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}

async function isThere(action: Promise<void>): Promise<boolean> {
  return (await ifThere(action.then(() => true))) === true;
}

async function ignoring(code: string, action: Promise<void>): Promise<void> {
  try {
    await action;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== code) throw error;
  }
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}

function diskFailure(doing: string, cause: NodeJS.ErrnoException): Failure {
  const { code = "", message } = cause;
  // "EACCES: permission denied, open '…'": the path has been named already.
  const said = /^\w+: ([^,]+)/.exec(message)?.[1] ?? message;
  const text = `Cannot ${doing}: ${said}`;
  switch (code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new Failure("STORE_DENIED", text, {
        cause,
        hint: "Check who owns the folder, its permissions, and how it is mounted.",
      });
    case "ENOSPC":
    case "EDQUOT":
      return new Failure("STORE_FAILED", text, { cause, hint: "Free some space; then try again." });
    case "ELOOP":
      return new Failure("STORE_DENIED", text, { cause, hint: "Symbolic links are not followed." });
    case "ENOTDIR":
    case "EISDIR":
    case "ENOTEMPTY":
      return new Failure("STORE_FAILED", text, {
        cause,
        hint: "The name of another object is in the way.",
      });
    default:
      return new Failure("STORE_FAILED", text, { cause, hint: "Check the disk." });
  }
}
