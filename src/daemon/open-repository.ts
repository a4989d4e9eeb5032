/** Repositories as the configuration names them: their stores, and their keys from where those lie. */

import type { KeyRing, ObjectKey } from "../archive/object/sealing.ts";
import { openRepository, type Repository } from "../archive/repository.ts";
import { Failure } from "../base/errors.ts";
import type { Secret } from "../link/secret.ts";
import { openStore } from "../store/open.ts";
import type { Abortable } from "../store/store.ts";
import type { RepositoryConfig } from "./config.ts";

export type OpenRepository = Repository & AsyncDisposable;

/** @throws Failure as `openRepository()`; USAGE where a key cannot be had */
export async function openConfigured(
  { address, key, olderKeys, level }: RepositoryConfig,
  options: Abortable = {},
): Promise<OpenRepository> {
  const ids = key === undefined ? olderKeys : [key, ...olderKeys];
  const known = new Map<string, Uint8Array>();
  for (const { id, key: secret } of ids) known.set(id, await readKey(secret, options.signal));
  const own = key && known.get(key.id);
  return await open(address, {
    ...options,
    keys: (id) => known.get(id),
    ...(key && own && { key: { id: key.id, key: own } }),
    ...(level !== undefined && { level }),
  });
}

/** Without a configuration: `key`, if there is one, is the key of any id. */
export async function openByAddress(
  address: string,
  key: Secret | undefined,
  options: Abortable = {},
): Promise<OpenRepository> {
  const bytes = key && (await readKey(key, options.signal));
  return await open(address, { ...options, keys: () => bytes });
}

type Options = Abortable & {
  readonly keys: KeyRing;
  readonly key?: ObjectKey;
  readonly level?: number;
};

async function open(address: string, options: Options): Promise<OpenRepository> {
  const store = await openStore(address);
  try {
    const repository = await openRepository(store, options);
    return { ...repository, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** 32 bytes, as hexadecimal digits or base64. @throws Failure USAGE, without repeating any of it */
export async function readKey(secret: Secret, signal?: AbortSignal): Promise<Uint8Array> {
  const text = (await secret.reveal(signal)).trim();
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, "hex");
  if (/^[A-Za-z0-9+/]{43}=$/.test(text)) return Buffer.from(text, "base64");
  const found = `it is ${text.length} characters that are neither of the forms`;
  throw new Failure("USAGE", `Cannot use the key: ${found}`, {
    hint: "A key is 32 bytes as 64 hexadecimal digits or in base64: `openssl rand -hex 32`.",
  });
}
