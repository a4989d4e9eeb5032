/** Repositories as the configuration names them: their stores, and their keys from where those lie. */

import { repositoryObject } from "../archive/layout.ts";
import type { KeyRing, ObjectKey } from "../archive/object/sealing.ts";
import { openRepository, type Repository } from "../archive/repository.ts";
import { Failure } from "../base/errors.ts";
import type { Secret } from "../link/secret.ts";
import { parseAddress } from "../store/address.ts";
import { openStore } from "../store/open.ts";
import type { Abortable } from "../store/store.ts";
import type { RepositoryConfig } from "./config.ts";

export type OpenRepository = Repository & AsyncDisposable;

export type OpenOptions = Abortable & {
  /** Whether somebody waits for it, and rather hears soon that the storage is away. */
  readonly isAwaited?: boolean;
};

const answerMs = 8000;

/** @throws Failure as `openRepository()`; USAGE where a key cannot be had */
export async function openConfigured(
  { address, key, olderKeys, level }: RepositoryConfig,
  options: OpenOptions = {},
): Promise<OpenRepository> {
  const own = key && { id: key.id, key: await readKey(key.key, options.signal) };
  // Several may have one id: which of them it is, the repository tells.
  const known = new Map<string, Uint8Array[]>();
  for (const { id, key: secret } of olderKeys) {
    known.set(id, [...(known.get(id) ?? []), await readKey(secret, options.signal)]);
  }
  return await open(address, {
    ...options,
    keys: (id) => known.get(id),
    ...(own && { key: own }),
    ...(level !== undefined && { level }),
  });
}

/** Without a configuration, any of `keys` may be the key of any id: each is tried. */
export async function openByAddress(
  address: string,
  keys: readonly Secret[],
  options: OpenOptions = {},
): Promise<OpenRepository> {
  const known: Uint8Array[] = [];
  for (const key of keys) known.push(await readKey(key, options.signal));
  return await open(address, { ...options, keys: () => known });
}

/**
 * Throws where a storage over the network gives no answer for some seconds. Who reads for somebody that waits
 * asks this first, as what comes after is tried for half a minute.
 */
async function mustAnswer(address: string, signal: AbortSignal | undefined): Promise<void> {
  const options = parseAddress(address);
  if (options.kind === "directory") return;
  const late = AbortSignal.timeout(answerMs);
  await using store = await openStore({ ...options, retry: { attempts: 4, maxDelayMs: 1000 } });
  try {
    const until = signal === undefined ? late : AbortSignal.any([signal, late]);
    for await (const _ of store.list(repositoryObject, { signal: until })) return;
  } catch (cause) {
    if (!late.aborted || signal?.aborted) throw cause;
    const found = `it has given no answer for ${answerMs / 1000} seconds`;
    throw new Failure("STORE_BUSY", `Cannot read ${store.name}: ${found}`, { cause });
  }
}

type Options = OpenOptions & {
  readonly keys: KeyRing;
  readonly key?: ObjectKey;
  readonly level?: number;
};

async function open(
  address: string,
  { isAwaited = false, ...options }: Options,
): Promise<OpenRepository> {
  if (isAwaited) await mustAnswer(address, options.signal);
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
