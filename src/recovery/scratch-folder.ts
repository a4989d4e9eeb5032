/**
 * A folder for what a restore needs only while it runs; whoever comes next removes those that were
 * left behind by one that was killed.
 *
 * WHY a lock and not an age or a process id: a restore may run for hours, and an id is given out again.
 * The lock is the kernel's, and ends with its holder.
 *
 * A server that was started in such a folder ends with the program (scratch-server.ts); where that did
 * not happen, it answers on the socket in the folder, by which it is known to be ours, and is told to go.
 *
 * INVARIANT. Only folders of this user are looked into, and no link is followed: the folder for temporary
 * files is open to all, and whoever else puts something there must not have a server ended by it.
 */
import { existsSync } from "node:fs";
import { lstat, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { Connection } from "../link/connection.ts";
import { systemDisk } from "../log/disk.ts";

const prefix = "tidemark-restore-";
const lockName = "spool.lock";
/** One that has no lock yet may be about to get it. */
const youngMs = 60_000;
const patienceMs = 2000;
const attempts = 3;

export class ScratchFolder implements AsyncDisposable {
  readonly path: string;
  readonly #lock: AsyncDisposable;

  private constructor(path: string, lock: AsyncDisposable) {
    this.path = path;
    this.#lock = lock;
  }

  /** Removes what was left behind, and makes one. `nowMs` tells the age of what is there. */
  static async open(nowMs: number): Promise<ScratchFolder> {
    await sweepScratchFolders(nowMs);
    for (let left = attempts; ; left--) {
      const path = await mkdtemp(join(tmpdir(), prefix));
      try {
        const lock = await systemDisk.lock(path, "tidemark restore");
        return new ScratchFolder(path, lock);
      } catch (error) {
        // Somebody who sweeps may just have taken it for one that was left behind.
        await rm(path, { recursive: true, force: true });
        if (left <= 1 || !(error instanceof Failure)) throw error;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeFolder(this.path);
    await this.#lock[Symbol.asyncDispose]();
  }
}

/** Removes the folders whose holders are gone, and ends what still runs in them. */
export async function sweepScratchFolders(nowMs: number): Promise<void> {
  const root = tmpdir();
  const names = await readdir(root).catch(() => []);
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const path = join(root, name);
    try {
      const found = await lstat(path);
      if (!found.isDirectory() || found.uid !== process.getuid?.()) continue;
      const isYoung = nowMs - found.mtimeMs < youngMs;
      if (isYoung && !existsSync(join(path, lockName))) continue;
      await using _ = await systemDisk.lock(path, "tidemark restore, which removes it");
      await endServers(path);
      await removeFolder(path);
    } catch {
      // Somebody has it, or has just removed it; nothing of this one depends on it.
    }
  }
}

/** The lock goes last: a folder without one is taken for one that is just being made, and left for a while. */
async function removeFolder(path: string): Promise<void> {
  for (const name of await readdir(path)) {
    if (name !== lockName) await rm(join(path, name), { recursive: true, force: true });
  }
  await rm(path, { recursive: true, force: true });
}

async function endServers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name, "socket");
    try {
      if (!(await lstat(path)).isSocket()) continue;
      const options = { connectTimeoutMs: patienceMs, replyTimeoutMs: patienceMs };
      await using connection = await Connection.open({ path }, options);
      await connection.call("SHUTDOWN", "NOSAVE");
    } catch {
      // It is gone, or was never there, or goes without an answer.
    }
  }
}
