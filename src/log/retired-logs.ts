/** The logs of a spool that were in force before, each in a folder of its own, until somebody discards them. */
import { strict as assert } from "node:assert";
import { join } from "node:path";
import type { Disk } from "./disk.ts";
import { type Generation, readGeneration } from "./segment.ts";
import { type SpoolPaths, tryReadManifest } from "./spool-files.ts";

type Place = { readonly disk: Disk; readonly paths: SpoolPaths };

/** Oldest first. */
export async function readRetired({ disk, paths }: Place): Promise<Generation[]> {
  const generations: Generation[] = [];
  for (const name of await disk.list(paths.retired)) {
    const folder = join(paths.retired, name);
    const manifest = await tryReadManifest(disk, folder);
    const nothing = { base: undefined, segments: [], rebased: undefined, damaged: [] };
    const unknown = { name, folder, ...nothing };
    generations.push(
      manifest === undefined ? unknown : await readGeneration(disk, folder, name, manifest),
    );
  }
  return generations.sort((a, b) => Number.parseInt(a.name, 10) - Number.parseInt(b.name, 10));
}

/** Deletes all of one. */
export async function discardRetired({ disk, paths }: Place, name: string): Promise<void> {
  assert((await disk.list(paths.retired)).includes(name), "It is a retired log");
  const folder = join(paths.retired, name);
  // The manifest goes last: without it, nobody would know what the files are.
  const names = await disk.list(folder);
  const isManifest = (file: string) => file.endsWith(".manifest");
  for (const file of names.filter((each) => !isManifest(each))) {
    await disk.remove(join(folder, file));
  }
  for (const file of names.filter(isManifest)) await disk.remove(join(folder, file));
  await disk.removeFolder(folder);
  await disk.syncFolder(paths.retired);
}
