/**
 * A repository: a storage that was found fit for one, and what is known of it.
 *
 * WHY an object that says so. What a storage can do is found out once, by doing it, and every writer and
 * reader has to act on the same findings. And whoever opens a repository has to be told at once, not in
 * the middle of a restore, that it is none, that it is of a newer format, or that its key is another one.
 *
 * FORMAT. `tidemark.json`, a document (document.ts):
 *
 *   format       1
 *   id           a random UUID
 *   madeMs       when it was made
 *   abilities    what `probeStore()` found: `StoreAbilities`
 *   encryption   null; or { keyId, check }: `check` is the header of an encrypted object (sealing.ts) in
 *                base64. It tells the right key of that id from another one, and nothing else.
 *
 * And for each further key that new objects were encrypted with, `keys/ID.json`, ID in hexadecimal digits of
 * its bytes: a document of { format: 1, keyId, check }.
 *
 * INVARIANTS
 *
 *   1. It is written once, when the repository is made, and never changed. Keys are rotated by giving
 *      another one for new objects; the first one stays needed, as the objects under it do. So is the check
 *      of a further key: it is written by the first writer that has it, before any object.
 *   2. All of a repository is encrypted, or none of it.
 *   3. Objects are told by a listing, or are named with random bits: nothing that is there is replaced
 *      by something else.
 *   4. An id stands for one key. A key that is given under an id whose check is there is held against it
 *      before anything is read or written with it: what a wrong key has sealed, nobody opens again.
 *
 * REJECTED. Probing whenever one is opened: it writes, which a reader may not, and sends 9 MiB.
 */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { type Clock, systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { withAbilities } from "../store/abilities.ts";
import { type ProbeOptions, probeStore } from "../store/probe.ts";
import { type Abortable, readAll, type Store, type StoreAbilities } from "../store/store.ts";
import { formatDocument, maxDocumentBytes, parseDocument } from "./document.ts";
import { keyObject, repositoryObject } from "./layout.ts";
import { ObjectReader } from "./object/object-reader.ts";
import type { WriterOptions } from "./object/object-writer.ts";
import { type KeyRing, type ObjectKey, Sealing } from "./object/sealing.ts";

export type Repository = {
  /** With what the storage gets wrong worked round. The caller of `openRepository()` closes it. */
  readonly store: Store;
  readonly id: string;
  readonly madeMs: number;
  readonly abilities: StoreAbilities;
  /** For new objects; undefined where they are not encrypted. */
  readonly key: ObjectKey | undefined;
  readonly keys: KeyRing;
  /** Of zstd, for new objects; undefined: what suits them. */
  readonly level: number | undefined;
};

export type RepositoryOptions = Abortable & {
  /** Finds the keys of what is encrypted. */
  readonly keys?: KeyRing | undefined;
  /** Encrypts new objects; where it is not given, the key that the repository was made with does. */
  readonly key?: ObjectKey | undefined;
  readonly level?: number | undefined;
};

export type InitOptions = RepositoryOptions & {
  readonly clock?: Clock;
  readonly probe?: ProbeOptions;
};

const description = z.object({
  format: z.literal(1),
  id: z.uuid(),
  madeMs: z.int().min(0),
  abilities: z.object({
    conditionalCreate: z.boolean(),
    ranges: z.boolean(),
    parts: z.boolean(),
    overwrite: z.boolean(),
    listing: z.boolean(),
    deletes: z.boolean(),
  }),
  encryption: z.nullable(z.object({ keyId: z.string().max(64), check: z.base64().max(200) })),
});

type Description = z.infer<typeof description>;
type KeyCheck = NonNullable<Description["encryption"]>;

const furtherKey = z.object({
  format: z.literal(1),
  keyId: z.string().max(64),
  check: z.base64().max(200),
});

/**
 * Finds out what the storage can do, and makes a repository of it; `key` has all of it encrypted.
 *
 * @throws Failure FILE_EXISTS where there is one, STORE_UNFIT where the storage cannot serve
 */
export async function initRepository(store: Store, options: InitOptions = {}): Promise<Repository> {
  const { key, signal, clock = systemClock } = options;
  if (await isThere(store, signal)) throw thereIsOne(store);
  const abilities = await probeStore(store, { ...options.probe, signal });
  mustServe(store, abilities);
  const made: Description = {
    format: 1,
    id: randomUUID(),
    madeMs: clock.now(),
    abilities,
    encryption: key === undefined ? null : describeKey(key),
  };
  const bytes = formatDocument(made);
  const able = withAbilities(store, abilities);
  const outcome = await able.put(repositoryObject, bytes, { ifAbsent: true, signal });
  if (outcome === "exists") throw thereIsOne(store);
  return await open(store, made, options);
}

/**
 * Opens a repository.
 *
 * @throws Failure OBJECT_MISSING where there is none, DATA_UNSUPPORTED where it is of a newer format,
 *   KEY_NEEDED
 */
export async function openRepository(
  store: Store,
  options: RepositoryOptions = {},
): Promise<Repository> {
  const { signal } = options;
  try {
    const made = await readDocument(store, repositoryObject, description, { signal });
    return await open(store, made, options);
  } catch (cause) {
    if (!(cause instanceof Failure) || cause.code !== "OBJECT_MISSING") throw cause;
    const message = `Cannot open ${store.name}: there is no repository`;
    const hint = "Check the address, or make one with `tidemark init`.";
    throw new Failure("OBJECT_MISSING", message, { cause, hint });
  }
}

async function open(
  store: Store,
  made: Description,
  options: RepositoryOptions,
): Promise<Repository> {
  const { id, madeMs, abilities, encryption } = made;
  const keys = withKey(options.key, options.keys);
  if (encryption === null && options.key !== undefined) {
    throw new Failure("USAGE", `Cannot encrypt in ${store.name}: it was made without a key`, {
      hint: "Make another repository, with a key.",
    });
  }
  const key = encryption === null ? undefined : await keyFor(store, encryption, options);
  const able = withAbilities(store, abilities);
  return { store: able, id, madeMs, abilities, key, keys, level: options.level };
}

/** For new objects: the one given for them, else the one that the repository was made with. */
async function keyFor(
  store: Store,
  first: KeyCheck,
  { key, keys, signal }: RepositoryOptions,
): Promise<ObjectKey> {
  const all = withKey(key, keys);
  if (key === undefined || key.id === first.keyId) return proveKey(store, first, all);
  if (all(first.keyId) !== undefined) proveKey(store, first, all);
  const check = await readKeyCheck(store, key.id, { signal });
  return check === undefined ? key : proveKey(store, check, all);
}

/** The one that the check is of, among those given under its id. @throws Failure KEY_NEEDED */
function proveKey(store: Store, { keyId, check }: KeyCheck, keys: KeyRing): ObjectKey {
  const name = `the repository ${store.name}`;
  const { given } = Sealing.open(Buffer.from(check, "base64"), name, keys);
  const { id } = given;
  if (id === keyId) return given;
  throw new Failure(
    "DATA_CORRUPT",
    `Cannot open ${name}: it names two keys, "${keyId}" and "${id}"`,
  );
}

async function readKeyCheck(
  store: Store,
  id: string,
  options: Abortable,
): Promise<KeyCheck | undefined> {
  try {
    return await readDocument(store, keyObject(id), furtherKey, options);
  } catch (error) {
    if (error instanceof Failure && error.code === "OBJECT_MISSING") return undefined;
    throw error;
  }
}

/**
 * For who is about to write: has the repository tell the key of new objects from another one, from now on.
 *
 * @throws Failure KEY_NEEDED where another one has come to have its id meanwhile; of the store
 */
export async function admitKey(
  { store, key }: Pick<Repository, "store" | "key">,
  { signal }: Abortable = {},
): Promise<void> {
  if (key === undefined) return;
  const made = await readDocument(store, repositoryObject, description, { signal });
  if (made.encryption?.keyId === key.id) return;
  const known = await readKeyCheck(store, key.id, { signal });
  if (known === undefined) {
    const bytes = formatDocument({ format: 1, ...describeKey(key) });
    await store.put(keyObject(key.id), bytes, { ifAbsent: true, signal });
  }
  const check = known ?? (await readKeyCheck(store, key.id, { signal }));
  if (check !== undefined) proveKey(store, check, () => key.key);
}

function describeKey(key: ObjectKey): KeyCheck {
  const { header } = Sealing.create("aof", key);
  return { keyId: key.id, check: Buffer.from(header).toString("base64") };
}

/** A ring that has one key more; of its id, there may be others. */
function withKey(key: ObjectKey | undefined, keys: KeyRing = () => undefined): KeyRing {
  if (key === undefined) return keys;
  return (id) => {
    if (id !== key.id) return keys(id);
    const others = keys(id) ?? [];
    return [key.key, ...(others instanceof Uint8Array ? [others] : others)];
  };
}

async function isThere(store: Store, signal: AbortSignal | undefined): Promise<boolean> {
  for await (const { name } of store.list(repositoryObject, { signal })) {
    return name === repositoryObject;
  }
  return false;
}

function thereIsOne(store: Store): Failure {
  const message = `Cannot make a repository in ${store.name}: there is one`;
  return new Failure("FILE_EXISTS", message, { hint: "Use it, or choose another address." });
}

/** All else that a storage cannot do is worked round. */
function mustServe(store: Store, abilities: StoreAbilities): void {
  if (abilities.conditionalCreate || abilities.listing) return;
  const found = "it neither creates conditionally nor lists at once what was written";
  throw new Failure("STORE_UNFIT", `Cannot make a repository in ${store.name}: ${found}`, {
    hint: "Two writers could not be told apart there. Choose another storage.",
  });
}

/** For the objects that are written into a repository. */
export function writerOptions({ key, level }: Repository): WriterOptions {
  return { ...(key === undefined ? {} : { key }), ...(level === undefined ? {} : { level }) };
}

/** An archived object. @throws Failure OBJECT_MISSING, DATA_CORRUPT, KEY_NEEDED */
export async function openObject(
  { store, keys }: Pick<Repository, "store" | "keys">,
  object: string,
  sizeBytes: number,
  { signal }: Abortable = {},
): Promise<ObjectReader> {
  const name = `"${object}" in ${store.name}`;
  const read = (start: number, end: number) => store.read(object, { start, end }, { signal });
  return await ObjectReader.open({ name, sizeBytes, read }, keys);
}

/**
 * A small object that proves itself, of format 1.
 *
 * @throws Failure OBJECT_MISSING, LIMIT_EXCEEDED; DATA_CORRUPT, DATA_UNSUPPORTED naming it
 */
export async function readDocument<T>(
  store: Store,
  object: string,
  schema: z.ZodType<T>,
  { signal }: Abortable = {},
): Promise<T> {
  const bytes = await readAll(store, object, maxDocumentBytes, { signal });
  const parsed = schema.safeParse(parseDocument(bytes, object));
  if (parsed.success) return parsed.data;
  const { path, message: found } = parsed.error.issues[0] ?? { path: [], message: "" };
  const message = `Cannot read "${object}": ${path.join(".") || "it"}: ${found}`;
  throw new Failure("DATA_CORRUPT", message);
}
