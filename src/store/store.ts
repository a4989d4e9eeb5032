import { Failure } from "../base/errors.ts";

/**
 * Objects under names: what a repository rests on.
 *
 * WHY so little. A directory and an S3 bucket have few things in common, and these are they. Objects
 * are made whole, never changed and never renamed; a listing says what there is. Whatever else a
 * storage does well or badly is found out by `probeStore()` and worked round by `withAbilities()`.
 *
 * INVARIANTS, of every driver; `test/store/contract.ts` tests them
 *
 *   1. An object is there whole or not at all, whatever is killed or cut off.
 *   2. When `put()` or `upload()` returns, the object is durable. On a directory its bytes, its name
 *      and its folders are synced; on S3 the storage says so.
 *   3. Of any number of `put()` with `ifAbsent` for one name, one says "created", if the storage can
 *      (`conditionalCreate`). One that is cut off looks at what is there: its own bytes mean
 *      "created". So bytes that decide who comes first, as in a lease, must differ between writers.
 *   4. `read()` gives the bytes asked for, all of them and in order, or throws. Chunks are owned.
 *   5. `list()` gives names in byte order (UTF-8), each once, and nothing that is half there.
 *   6. What fails is a `Failure`. STORE_BUSY says that it may go better later: the driver has tried
 *      again already, and the object may or may not be there.
 *   7. Nothing that is thrown or named contains a credential.
 *
 * Names are parts with slashes between them, see name.ts. On a directory an object is a file, so
 * one name must not stand in another's way as `a` does in that of `a/b`.
 */
export type Store = AsyncDisposable & {
  /** For messages: `file:///backups` or `s3://bucket/prefix`. */
  readonly name: string;
  /**
   * Creates an object of bytes in memory, or replaces it. With `ifAbsent` it replaces nothing, and
   * "exists" says that there is one.
   */
  readonly put: (
    name: string,
    bytes: Uint8Array,
    options?: PutOptions,
  ) => Promise<"created" | "exists">;
  /**
   * Creates or replaces an object, in bounded memory. A chunk is read until the next one is asked
   * for. What the chunks throw is thrown, and nothing of the object is there.
   */
  readonly upload: (
    name: string,
    chunks: AsyncIterable<Uint8Array>,
    options?: TransferOptions,
  ) => Promise<{ readonly sizeBytes: number }>;
  /**
   * The bytes from `start` to before `end`, or all.
   *
   * @throws Failure OBJECT_MISSING, and DATA_CORRUPT where the object ends before `end`
   */
  readonly read: (
    name: string,
    range?: ByteRange,
    options?: TransferOptions,
  ) => AsyncIterable<Uint8Array>;
  /** What begins with the prefix, in byte order, from behind `startAfter` on. */
  readonly list: (prefix: string, options?: ListOptions) => AsyncIterable<ObjectInfo>;
  /** Removes objects, as far as they are there. */
  readonly delete: (names: readonly string[], options?: Abortable) => Promise<void>;
};

export type ObjectInfo = {
  readonly name: string;
  readonly sizeBytes: number;
  /** By the clock of the storage. */
  readonly modifiedMs: number;
};

export type ByteRange = { readonly start: number; readonly end: number };

export type Abortable = { readonly signal?: AbortSignal | undefined };
export type PutOptions = Abortable & { readonly ifAbsent?: boolean };
export type ListOptions = Abortable & { readonly startAfter?: string };
export type TransferOptions = Abortable & {
  /** Use neither ranges nor parts, for a storage that gets them wrong: see `withAbilities()`. */
  readonly inOnePiece?: boolean;
};

/** What a storage was seen to do. What it must do at least is not here: `probeStore()` refuses it. */
export type StoreAbilities = {
  /** `ifAbsent` holds, also among writers at the same time. */
  readonly conditionalCreate: boolean;
  /** Parts of objects come back right. */
  readonly ranges: boolean;
  /** Objects that were sent in parts come back right. */
  readonly parts: boolean;
  /** `put()` replaces, and at once. */
  readonly overwrite: boolean;
  /** What was put or deleted is listed, or not, at once. */
  readonly listing: boolean;
  /** Objects can be deleted: false where the credentials may not. */
  readonly deletes: boolean;
};

/** All bytes of an object that is known to be small. Owned. */
export async function readAll(
  store: Store,
  name: string,
  maxBytes: number,
  options?: TransferOptions,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of store.read(name, undefined, options)) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new Failure(
        "LIMIT_EXCEEDED",
        `Cannot read "${name}" of ${store.name}: it is larger than ${maxBytes} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}
