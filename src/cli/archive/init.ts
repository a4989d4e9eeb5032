/** The command `init`. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ObjectKey } from "../../archive/object/sealing.ts";
import { initRepository, type Repository } from "../../archive/repository.ts";
import { Failure } from "../../base/errors.ts";
import { exampleConfig } from "../../daemon/example.ts";
import { readKey } from "../../daemon/open-repository.ts";
import { Secret } from "../../link/secret.ts";
import { parseAddress, type StoreOptions } from "../../store/address.ts";
import { openStore } from "../../store/open.ts";
import type { Store, StoreAbilities } from "../../store/store.ts";
import { renderPairs } from "../render/table.ts";
import { stoppable } from "../stop.ts";

export type InitFlags = {
  readonly keyFile?: string;
  readonly keyId?: string;
  readonly example?: true;
  readonly json?: true;
};

const defaultKeyId = "key-1";

export async function init(address: string | undefined, flags: InitFlags): Promise<void> {
  if (flags.example) {
    process.stdout.write(exampleConfig(address ?? "./repository"));
    return;
  }
  if (address === undefined) {
    throw new Failure("USAGE", "Cannot make a repository: it is not said where", {
      hint: "Name a folder or s3://BUCKET/PREFIX, as in `tidemark init /backups/tidemark`.",
    });
  }
  const key = await readObjectKey(flags);
  await using store = await openStore(address);
  const { id, abilities } = await stoppable(
    { doing: "make the repository", left: "Nothing of it was left." },
    (signal) => make(store, parseAddress(address), key, signal),
  );
  if (flags.json) {
    const made = { repository: store.name, id, abilities, keyId: key?.id ?? null };
    process.stdout.write(`${JSON.stringify(made)}\n`);
    return;
  }
  const lines = [
    `Made a repository in ${store.name}`,
    ...renderPairs([
      ["id", id],
      ["encryption", key === undefined ? "none" : `with key "${key.id}"`],
      ...abilityWords.map(
        ([ability, name, good, bad]) => [name, abilities[ability] ? good : bad] as const,
      ),
    ]),
    "",
    `Next: \`tidemark init --example '${address}' > tidemark.yaml\`, name your instances there, \`tidemark up\`.`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** Leaves nothing where it fails; and where it does not, no folders that it has only tried things out in. */
async function make(
  store: Store,
  options: StoreOptions,
  key: ObjectKey | undefined,
  signal: AbortSignal,
): Promise<Repository> {
  const path = options.kind === "directory" ? options.path : undefined;
  const first = path === undefined ? undefined : topmostMissing(path);
  let isInUse = false;
  try {
    return await initRepository(store, { signal, ...(key !== undefined && { key }) });
  } catch (error) {
    // Whoever made it may be at work in it: its folders are not ours to remove.
    isInUse = error instanceof Failure && error.code === "FILE_EXISTS";
    throw error;
  } finally {
    if (path !== undefined && !isInUse) {
      const { removeEmptyFolders } = await import("../../store/directory.ts");
      for (const name of ["probe", ".tmp"]) await removeEmptyFolders(join(path, name));
      if (first !== undefined) await removeEmptyFolders(first);
    }
  }
}

/** Of a path and the folders above it; undefined where it is there. */
function topmostMissing(path: string): string | undefined {
  if (existsSync(path)) return undefined;
  return topmostMissing(dirname(path)) ?? path;
}

async function readObjectKey({ keyFile, keyId }: InitFlags) {
  if (keyFile !== undefined) {
    return { id: keyId ?? defaultKeyId, key: await readKey(Secret.file(keyFile, "key")) };
  }
  if (keyId === undefined) return undefined;
  throw new Failure("USAGE", "Cannot encrypt: there is --key-id but no --key-file");
}

const abilityWords: readonly (readonly [
  ability: keyof StoreAbilities,
  name: string,
  good: string,
  bad: string,
])[] = [
  [
    "conditionalCreate",
    "creates once",
    "yes: two writers are told apart at once",
    "no: writers are told apart by listing",
  ],
  ["ranges", "reads parts", "yes", "no: a part of an object takes reading all before it"],
  ["parts", "takes parts", "yes", "no: large objects go through a temporary file"],
  ["overwrite", "replaces", "yes", "no"],
  ["listing", "lists", "at once", "late"],
  ["deletes", "deletes", "yes", "no: nothing can expire with these credentials"],
];
