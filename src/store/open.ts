import { parseAddress, type StoreOptions } from "./address.ts";
import type { Store } from "./store.ts";

/**
 * Opens a store by its address, see `parseAddress()`. Nothing is looked at or made: a folder comes
 * to be with its first object, a bucket has to be there.
 *
 * @throws Failure USAGE
 */
export async function openStore(address: string | StoreOptions): Promise<Store> {
  const options = typeof address === "string" ? parseAddress(address) : address;
  // Each is loaded where it is needed: the client of S3 takes longer than all the rest.
  if (options.kind === "directory") {
    const { DirectoryStore } = await import("./directory.ts");
    return new DirectoryStore(options.path);
  }
  const { S3Store } = await import("./s3.ts");
  return await S3Store.open(options);
}
