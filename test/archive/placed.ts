/** The repository of filled.ts in a folder, as a command line opens it. */
import { initRepository } from "../../src/archive/repository.ts";
import { openStore } from "../../src/store/open.ts";
import { fillRepository } from "./filled.ts";

/** What `isLeft` says no to is not there. */
export async function placeRepository(
  path: string,
  isLeft: (object: string) => boolean = () => true,
): Promise<void> {
  await using store = await openStore(path);
  await initRepository(store, { probe: { lateListingMs: 1 } });
  const { store: filled } = await fillRepository();
  for (const [name, { bytes }] of filled.objects) {
    if (isLeft(name)) await store.put(name, bytes);
  }
}
