import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Makes a folder and those above it that are missing. Returns the topmost one made, if any was.
 *
 * Node's own `recursive` never ends where a folder is there but takes no new ones and calls that ENOENT, as
 * /proc does (seen with Node 26): it makes the parent, which is there, and tries again.
 *
 * @throws what the system says
 */
export async function makeFolder(path: string, mode = 0o777): Promise<string | undefined> {
  try {
    return await makeOne(path, mode);
  } catch (error) {
    const parent = dirname(path);
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || parent === path) throw error;
    const first = await makeFolder(parent, mode);
    const own = await makeOne(path, mode);
    return first ?? own;
  }
}

/** Undefined where it is there. */
async function makeOne(path: string, mode: number): Promise<string | undefined> {
  try {
    await mkdir(path, { mode });
    return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if ((await stat(path)).isDirectory()) return undefined;
    throw error;
  }
}
