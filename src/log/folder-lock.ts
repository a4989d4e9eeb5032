/**
 * Keeps a folder for one process.
 *
 * WHY SQLite. Two writers in one spool would destroy it, so the lock has to be one that the kernel
 * lets go of when its holder dies, however that happens, and that is seen across containers which
 * share the folder. Node has no `flock()`, but it has SQLite, whose locks are `fcntl()` locks of the
 * kernel: an empty database in which a transaction is open for good. There is nothing stale to detect.
 *
 * REJECTED. A file with a process id: the id is that of another container, or was given out again,
 * and whoever removes a "stale" file may be the second one to do so. A socket in the abstract
 * namespace: containers do not share it. A heartbeat: after a crash one would have to wait for it.
 *
 * Nobody in this process may open the lock's file in another way: the kernel lets go of a process's
 * locks on a file when that process closes any handle to it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { makeFolder } from "../base/make-folder.ts";
import { fileFailure } from "./input-file.ts";

const lockFile = "spool.lock";
/** Says who holds the lock, for people; it proves nothing. */
const ownerFile = "spool.owner";
/** SQLITE_BUSY. */
const busy = 5;

export async function lockFolder(folder: string, ownerName: string): Promise<AsyncDisposable> {
  // Loaded where it is needed: Node 24 warns that it is experimental.
  const { DatabaseSync } = await import("node:sqlite");
  const path = join(folder, lockFile);
  try {
    await makeFolder(folder);
    const database = new DatabaseSync(path);
    try {
      database.exec("PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE");
      writeFileSync(
        join(folder, ownerFile),
        `${ownerName}, process ${process.pid} on ${hostname()}\n`,
      );
    } catch (error) {
      database.close();
      throw error;
    }
    return { [Symbol.asyncDispose]: async () => database.close() };
  } catch (cause) {
    if ((cause as { errcode?: unknown }).errcode !== busy) throw fileFailure("lock", path, cause);
    throw new Failure("FILE_EXISTS", `Cannot write to "${folder}": ${readOwner(folder)} does`, {
      hint: "Stop that process, or choose another folder.",
    });
  }
}

function readOwner(folder: string): string {
  try {
    return readFileSync(join(folder, ownerFile), "utf8").slice(0, 200).trim() || "another process";
  } catch {
    return "another process";
  }
}
