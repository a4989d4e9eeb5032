/**
 * A store in a bucket of S3, or of what speaks like it.
 *
 * WHY the client is Amazon's: it has the chain of credentials that operators rely on. All else it
 * would do (trying again, sending parts, checksums that other storages refuse) is switched off and
 * done here and in the files beside, where its limits are known.
 *
 * INVARIANTS
 *
 *   1. A conditional `put()` is never just sent again. Where its answer was lost, what is there is
 *      read: its own bytes mean that it has come first.
 *   2. Each request has a time within which it must be answered, as long as a slow line needs.
 *   3. A listing is checked: what is out of order or stands still is an error, not a short list.
 *   4. Names that this program would not give are not listed: others may use the bucket too.
 *
 * WHAT OTHERS GET WRONG, and so is not relied on: Ceph begins a listing with `StartAfter` itself; some
 * answer a range with the whole object; some give no code with a 404; Moto shows any part upload as of
 * the year 2010, so old ones are not cleaned up by their age (a lifecycle rule of the bucket does that).
 */
import type { DeleteObjectsCommandOutput, S3Client } from "@aws-sdk/client-s3";
import { equalBytes } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { S3Options } from "./address.ts";
import { checkName, checkPrefix, compareNames, isName, maxNameBytes } from "./name.ts";
import {
  type Attempts,
  defaultRetry,
  failIfAborted,
  isBusy,
  type RetryOptions,
  retrying,
} from "./retry.ts";
import { s3Failure, saidBy } from "./s3-failure.ts";
import { readObject } from "./s3-read.ts";
import { uploadObject } from "./s3-upload.ts";
import {
  type Abortable,
  type ByteRange,
  type ListOptions,
  type ObjectInfo,
  type PutOptions,
  readAll,
  type Store,
  type TransferOptions,
} from "./store.ts";

const connectTimeoutMs = 10_000;
/** A request must be answered within this, and a second more for each so many bytes that it sends. */
const answerTimeoutMs = 60_000;
const slowestBytesPerMs = 64;
/** So many listings without a name, one after the other, are an endless one. */
const maxEmptyPages = 100;
/** S3's limit. */
const deletesAtOnce = 1000;
/** Where the storage cannot delete many at once. */
const singleDeletesAtOnce = 8;

type Sdk = typeof import("@aws-sdk/client-s3");

/** What the files beside use of a bucket. */
export type Bucket = {
  readonly sdk: Sdk;
  readonly client: S3Client;
  readonly bucket: string;
  readonly retry: RetryOptions;
  /** `"log/1" in s3://bucket`, for messages. */
  readonly describe: (name: string) => string;
  readonly keyOf: (name: string) => string;
  /** Makes one request that sends so many bytes, and gives up waiting for its answer in time. */
  readonly within: typeof within;
};

export class S3Store implements Store {
  readonly name: string;
  readonly #bucket: Bucket;
  readonly #keyPrefix: string;
  #deletesMany = true;

  private constructor(name: string, keyPrefix: string, bucket: Bucket) {
    this.name = name;
    this.#keyPrefix = keyPrefix;
    this.#bucket = bucket;
  }

  /** Connects to nothing yet. */
  static async open(options: S3Options): Promise<S3Store> {
    const sdk = await import("@aws-sdk/client-s3");
    const { bucket, prefix, endpoint, credentials } = options;
    const region =
      options.region ?? process.env["AWS_REGION"] ?? (endpoint ? "us-east-1" : undefined);
    const client = new sdk.S3Client({
      forcePathStyle: options.pathStyle ?? endpoint !== undefined,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      expectContinueHeader: false,
      maxAttempts: 1,
      // It writes to the console otherwise, about attempts that it does not make.
      logger: { trace: silent, debug: silent, info: silent, warn: silent, error: silent },
      requestHandler: { connectionTimeout: connectTimeoutMs },
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(region === undefined ? {} : { region }),
      ...(credentials === undefined ? {} : { credentials }),
    });
    const name = `s3://${bucket}${prefix === "" ? "" : `/${prefix}`}`;
    const keyPrefix = prefix === "" ? "" : `${prefix}/`;
    if (prefix !== "") checkName(prefix);
    return new S3Store(name, keyPrefix, {
      sdk,
      client,
      bucket,
      retry: { ...defaultRetry, ...options.retry },
      describe: (object) => `"${object}" in ${name}`,
      keyOf: (object) => keyOf(keyPrefix, object),
      within,
    });
  }

  async put(name: string, bytes: Uint8Array, options: PutOptions = {}) {
    const key = this.#bucket.keyOf(name);
    const { signal, ifAbsent = false } = options;
    failIfAborted(signal, `write "${name}"`);
    return await retrying(this.#bucket.retry, signal, async (attempts) => {
      try {
        await this.#putOnce(key, name, bytes, ifAbsent, signal);
        return "created";
      } catch (error) {
        if (!ifAbsent) throw error;
        return await this.#settle(name, bytes, error, attempts, signal);
      }
    });
  }

  upload(name: string, chunks: AsyncIterable<Uint8Array>, options: TransferOptions = {}) {
    return uploadObject(this.#bucket, name, chunks, options);
  }

  read(name: string, range?: ByteRange, options: TransferOptions = {}) {
    return readObject(this.#bucket, name, range, options);
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    checkPrefix(prefix);
    let last = options.startAfter ?? "";
    let token: string | undefined;
    for (let emptyPages = 0; emptyPages < maxEmptyPages; ) {
      const page = await this.#page(prefix, options, token);
      for (const info of page.infos) {
        if (compareNames(info.name, last) <= 0) {
          // Ceph begins with the name behind which it shall begin.
          if (token === undefined && compareNames(info.name, options.startAfter ?? "") <= 0)
            continue;
          throw this.#unfit(`it lists "${info.name}" behind "${last}"`);
        }
        last = info.name;
        yield info;
      }
      if (page.token === undefined) return;
      if (page.token === token) break;
      emptyPages = page.infos.length === 0 ? emptyPages + 1 : 0;
      token = page.token;
    }
    throw this.#unfit("its listing does not end");
  }

  async delete(names: readonly string[], options: Abortable = {}): Promise<void> {
    const keys = names.map((name) => this.#bucket.keyOf(name));
    for (let at = 0; at < keys.length; at += deletesAtOnce) {
      let rest = keys.slice(at, at + deletesAtOnce);
      await retrying(this.#bucket.retry, options.signal, async () => {
        failIfAborted(options.signal, `delete from ${this.name}`);
        rest = await this.#deleteSome(rest, options.signal);
        if (rest.length === 0) return;
        throw new Failure("STORE_BUSY", `Cannot delete ${rest.length} objects in ${this.name}`);
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#bucket.client.destroy();
  }

  async #putOnce(
    key: string,
    name: string,
    bytes: Uint8Array,
    ifAbsent: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { sdk, client, bucket, describe } = this.#bucket;
    const input = { Bucket: bucket, Key: key, Body: bytes, ContentLength: bytes.length };
    try {
      const command = new sdk.PutObjectCommand(ifAbsent ? { ...input, IfNoneMatch: "*" } : input);
      await within(signal, bytes.length, (options) => client.send(command, options));
    } catch (error) {
      if (saidBy(error).status === 412) {
        throw new Failure("FILE_EXISTS", `Cannot create ${describe(name)}: it exists`);
      }
      throw s3Failure(`write ${describe(name)}`, error, signal);
    }
  }

  /**
   * What a failed conditional put means. "It exists" is the answer, unless an attempt before it was
   * lost on the way: then the one that exists may be ours.
   */
  async #settle(
    name: string,
    bytes: Uint8Array,
    error: unknown,
    attempts: Attempts,
    signal: AbortSignal | undefined,
  ): Promise<"created" | "exists"> {
    const exists = error instanceof Failure && error.code === "FILE_EXISTS";
    if (exists && attempts.failures === 0) return "exists";
    if (!exists && !isBusy(error)) throw error;
    try {
      const there = await readAll(this, name, bytes.length, { signal });
      return equalBytes(there, bytes) ? "created" : "exists";
    } catch (readError) {
      const code = readError instanceof Failure ? readError.code : undefined;
      if (code === "LIMIT_EXCEEDED") return "exists";
      // It was deleted meanwhile, or the request never arrived: ask again.
      if (code === "OBJECT_MISSING" && !exists) throw error;
      if (code === "OBJECT_MISSING") throw this.#busy(`create "${name}": it comes and goes`);
      throw readError;
    }
  }

  async #page(prefix: string, { startAfter, signal }: ListOptions, token: string | undefined) {
    const { sdk, client, bucket, retry } = this.#bucket;
    const command = new sdk.ListObjectsV2Command({
      Bucket: bucket,
      Prefix: this.#keyPrefix + prefix,
      // Keys of others may hold what XML cannot.
      EncodingType: "url",
      ...(token !== undefined
        ? { ContinuationToken: token }
        : startAfter
          ? { StartAfter: this.#keyPrefix + startAfter }
          : {}),
    });
    return await retrying(retry, signal, async () => {
      try {
        const page = await within(signal, 0, (options) => client.send(command, options));
        if (page.IsTruncated && !page.NextContinuationToken) {
          throw this.#unfit("its listing stops short");
        }
        const infos = (page.Contents ?? []).flatMap((entry) => {
          const name = this.#nameOf(entry.Key ?? "");
          if (name === undefined) return [];
          const modifiedMs = entry.LastModified?.getTime() ?? 0;
          return [{ name, sizeBytes: entry.Size ?? 0, modifiedMs }];
        });
        return { infos, token: page.IsTruncated ? page.NextContinuationToken : undefined };
      } catch (error) {
        throw s3Failure(`list "${prefix}" in ${this.name}`, error, signal);
      }
    });
  }

  /** The name behind an encoded key; undefined for what this program has not put there. */
  #nameOf(encoded: string): string | undefined {
    try {
      const key = decodeURIComponent(encoded.replaceAll("+", " "));
      const name = key.slice(this.#keyPrefix.length);
      return key.startsWith(this.#keyPrefix) && isName(name) ? name : undefined;
    } catch {
      return undefined;
    }
  }

  /** Returns the keys that should be tried again. */
  async #deleteSome(keys: string[], signal: AbortSignal | undefined): Promise<string[]> {
    const { sdk, client, bucket } = this.#bucket;
    if (!this.#deletesMany) return await this.#deleteSingly(keys, signal);
    const objects = keys.map((Key) => ({ Key }));
    let answer: DeleteObjectsCommandOutput;
    try {
      const input = { Bucket: bucket, Delete: { Objects: objects, Quiet: true } };
      const command = new sdk.DeleteObjectsCommand(input);
      answer = await within(signal, 0, (options) => client.send(command, options));
    } catch (error) {
      const { name, status } = saidBy(error);
      const isUnknown = /^(NotImplemented|MethodNotAllowed|MissingContentMD5|InvalidRequest)$/;
      if (!isUnknown.test(name) && status !== 501 && status !== 405) {
        throw s3Failure(`delete from ${this.name}`, error, signal);
      }
      this.#deletesMany = false;
      return await this.#deleteSingly(keys, signal);
    }
    const again: string[] = [];
    for (const { Key = "", Code = "", Message = "" } of answer.Errors ?? []) {
      if (Code === "NoSuchKey") continue;
      const name = Key.slice(this.#keyPrefix.length);
      const said = Object.assign(new Error(Message), { Code, $metadata: { httpStatusCode: 400 } });
      const failure = s3Failure(`delete "${name}" in ${this.name}`, said, signal);
      if (!isBusy(failure)) throw failure;
      again.push(Key);
    }
    return again;
  }

  async #deleteSingly(keys: readonly string[], signal: AbortSignal | undefined): Promise<string[]> {
    const { sdk, client, bucket } = this.#bucket;
    const again: string[] = [];
    for (let at = 0; at < keys.length; at += singleDeletesAtOnce) {
      const some = keys.slice(at, at + singleDeletesAtOnce).map(async (Key) => {
        try {
          const command = new sdk.DeleteObjectCommand({ Bucket: bucket, Key });
          await within(signal, 0, (options) => client.send(command, options));
        } catch (error) {
          const failure = s3Failure(`delete from ${this.name}`, error, signal);
          if (failure.code === "OBJECT_MISSING") return;
          if (!isBusy(failure)) throw failure;
          again.push(Key);
        }
      });
      await Promise.all(some);
    }
    return again;
  }

  #unfit(found: string): Failure {
    return new Failure("STORE_UNFIT", `Cannot use ${this.name}: ${found}`);
  }

  #busy(doing: string): Failure {
    return new Failure("STORE_BUSY", `Cannot ${doing}`);
  }
}

function silent(): void {}

function keyOf(keyPrefix: string, name: string): string {
  checkName(name);
  const key = keyPrefix + name;
  if (Buffer.byteLength(key) <= maxNameBytes) return key;
  throw new Failure("USAGE", `Cannot use "${key}" as a key: it has over ${maxNameBytes} bytes`);
}

/** The signal that the action is given ends with it: the body of an answer may take any time. */
async function within<T>(
  signal: AbortSignal | undefined,
  sentBytes: number,
  action: (options: { abortSignal: AbortSignal }) => Promise<T>,
): Promise<T> {
  const limitMs = answerTimeoutMs + Math.ceil(sentBytes / slowestBytesPerMs);
  const controller = new AbortController();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    controller.abort();
  }, limitMs);
  const abort = () => controller.abort();
  signal?.addEventListener("abort", abort, { once: true });
  if (signal?.aborted) abort();
  try {
    return await action({ abortSignal: controller.signal });
  } catch (error) {
    throw isLate ? new Error(`no answer within ${limitMs} ms`, { cause: error }) : error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}
