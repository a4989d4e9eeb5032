/**
 * Says durably which retired log is being discarded.
 *
 * WHY. A log goes file by file, and a process may end in between. What is left then looks like a
 * damaged log, of which nobody could say any more that all of it was archived.
 */
import { open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileFailure } from "../log/input-file.ts";

const ending = ".discarding";

/** The logs whose discarding has begun. */
export async function readDiscards(folder: string): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter((name) => name.endsWith(ending));
    return names.map((name) => name.slice(0, -ending.length));
  } catch (cause) {
    throw fileFailure("read", folder, cause);
  }
}

export async function beginDiscard(folder: string, generation: string): Promise<void> {
  const path = join(folder, `${generation}${ending}`);
  try {
    const file = await open(path, "w", 0o600);
    await file.sync();
    await file.close();
    await syncFolder(folder);
  } catch (cause) {
    throw fileFailure("write", path, cause);
  }
}

export async function endDiscard(folder: string, generation: string): Promise<void> {
  const path = join(folder, `${generation}${ending}`);
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw fileFailure("remove", path, cause);
  }
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}
