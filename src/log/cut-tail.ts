/**
 * Cuts the torn tail off a log's file, on disk.
 *
 * WHY so much care for one call of `ftruncate`. It is the only thing here that destroys bytes of a
 * user's, at a moment when they have just lost some. So whatever happens, a crash included, there is
 * either the file as it was or a complete copy of that which has reached the disk:
 *
 *   1. the file is still the one that was checked: its size and time have not changed;
 *   2. copy it beside itself, under a name that was free;
 *   3. sync the copy, then the folder;
 *   4. look again, as in 1: the copy took time;
 *   5. cut the file, and sync it.
 *
 * A server that is running on the file is found out where it writes between 1 and 4. One that is idle
 * is not: it appends behind the new end, which does no harm, since servers open logs for appending.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  rmSync,
  type Stats,
} from "node:fs";
import { dirname } from "node:path";
import { Failure } from "../base/errors.ts";
import { fileFailure } from "./input-file.ts";

/** Copies of earlier repairs are kept, up to so many. */
const maxCopies = 1000;

export type TailCut = {
  readonly path: string;
  /** Of the file that was checked. */
  readonly stats: Pick<Stats, "size" | "mtimeMs">;
  readonly truncateTo: number;
};

/**
 * Returns the path of the copy.
 *
 * @throws Failure FILE_FAILED; the file is then as it was, unless the last step is what failed
 */
export function cutTail({ path, stats, truncateTo }: TailCut): string {
  const fd = attempt("open", path, () => openSync(path, "r+"));
  try {
    mustBeUnchanged(path, fd, stats);
    const copy = copyAside(path);
    sync(copy);
    sync(dirname(path));
    mustBeUnchanged(path, fd, stats);
    attempt("cut", path, () => {
      ftruncateSync(fd, truncateTo);
      fsyncSync(fd);
    });
    return copy;
  } finally {
    closeSync(fd);
  }
}

function mustBeUnchanged(path: string, fd: number, { size, mtimeMs }: TailCut["stats"]): void {
  const now = attempt("look at", path, () => fstatSync(fd));
  if (now.size === size && now.mtimeMs === mtimeMs) return;
  throw new Failure("FILE_FAILED", `Cannot cut "${path}": it has changed since it was checked`, {
    hint: "Stop the server that writes to it, and check it again.",
  });
}

function copyAside(path: string): string {
  for (let number = 1; number <= maxCopies; number++) {
    const copy = `${path}.before-repair${number === 1 ? "" : `-${number}`}`;
    try {
      copyFileSync(path, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      return copy;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "EEXIST") continue;
      rmSync(copy, { force: true });
      throw fileFailure("copy", path, cause);
    }
  }
  throw new Failure("FILE_EXISTS", `Cannot copy "${path}": it has ${maxCopies} copies already`);
}

function sync(path: string): void {
  attempt("sync", path, () => {
    const fd = openSync(path, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  });
}

function attempt<T>(verb: string, path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw fileFailure(verb, path, cause);
  }
}
