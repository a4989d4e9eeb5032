/**
 * Sending a stream to S3 as one object, in bounded memory.
 *
 * HOW. What fits into the first part goes as one request. More goes as a multipart upload: nothing
 * of it is there until it is completed, and a failure aborts it. The first parts have 8 MiB; every
 * 1000 parts they double, to 64 MiB, so that the 10,000 that S3 allows reach 492 GiB without
 * the first megabytes having to wait for the last ones.
 *
 * INVARIANTS
 *
 *   1. At most `maxSendingBytes` are under way and one part is being filled: 128 MiB at most, 40 MiB
 *      for objects below 8 GiB.
 *   2. Each upload has an id of its own in the object's metadata. After it was completed, and where
 *      the answer to that was lost, the object that is there must have this id and the right size.
 *   3. No part is sent or retried after the upload has failed.
 *
 * A storage that gets parts wrong (Ceph's gateway over SQLite gives other bytes back) is sent each object
 * `inOnePiece`: S3 wants its size first, so it goes through a file without a name in the system's temporary folder.
 *
 * A crash leaves parts that nobody sees but that are paid for: a lifecycle rule of the bucket
 * (AbortIncompleteMultipartUpload) removes them.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Failure } from "../base/errors.ts";
import { failIfAborted, retrying } from "./retry.ts";
import type { Bucket } from "./s3.ts";
import { s3Failure, saidBy } from "./s3-failure.ts";
import type { TransferOptions } from "./store.ts";

const mib = 1024 * 1024;
const firstPartBytes = 8 * mib;
const lastPartBytes = 64 * mib;
const partsOfOneSize = 1000;
/** S3's limits. */
const maxParts = 10_000;
const maxPieceBytes = 5 * 1024 * mib;
const maxSendingBytes = 64 * mib;
const maxSendingParts = 4;
const fileChunkBytes = 256 * 1024;
const idKey = "tidemark-upload";

/** The size of a part, counted from 1. */
export function partBytes(number: number): number {
  const doubled = firstPartBytes * 2 ** Math.floor((number - 1) / partsOfOneSize);
  return Math.min(doubled, lastPartBytes);
}

export async function uploadObject(
  bucket: Bucket,
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  { signal, inOnePiece }: TransferOptions,
): Promise<{ sizeBytes: number }> {
  const target = { key: bucket.keyOf(name), what: bucket.describe(name), signal };
  failIfAborted(signal, `write ${target.what}`);
  let upload: MultipartUpload | OnePiece | undefined;
  try {
    for await (const { bytes, isLast } of partsOf(chunks, target)) {
      if (isLast && upload === undefined) {
        await putWhole(bucket, target, () => bytes, bytes.length);
        return { sizeBytes: bytes.length };
      }
      upload ??= inOnePiece
        ? await OnePiece.begin(bucket, target)
        : await MultipartUpload.begin(bucket, target);
      await upload.add(bytes);
    }
    return { sizeBytes: await (upload as MultipartUpload | OnePiece).end() };
  } finally {
    await upload?.[Symbol.asyncDispose]();
  }
}

type Target = {
  readonly key: string;
  readonly what: string;
  readonly signal: AbortSignal | undefined;
};

/** Cuts a stream into parts. Each has bytes of its own; the last one may be empty. */
async function* partsOf(chunks: AsyncIterable<Uint8Array>, { what, signal }: Target) {
  let number = 1;
  let part = Buffer.allocUnsafeSlow(partBytes(number));
  let filled = 0;
  for await (const chunk of chunks) {
    failIfAborted(signal, `write ${what}`);
    for (let at = 0; at < chunk.length; ) {
      if (filled === part.length) {
        yield { bytes: part, isLast: false };
        if (++number > maxParts) {
          throw new Failure(
            "LIMIT_EXCEEDED",
            `Cannot write ${what}: it needs over ${maxParts} parts`,
          );
        }
        part = Buffer.allocUnsafeSlow(partBytes(number));
        filled = 0;
      }
      const taken = Math.min(chunk.length - at, part.length - filled);
      part.set(chunk.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
    }
  }
  failIfAborted(signal, `write ${what}`);
  yield { bytes: part.subarray(0, filled), isLast: true };
}

/** One request; `open()` gives the bytes anew for each attempt. */
async function putWhole(
  { sdk, client, bucket, retry, within }: Bucket,
  { key, what, signal }: Target,
  openBody: () => Uint8Array | Readable,
  size: number,
): Promise<void> {
  await retrying(retry, signal, async () => {
    const input = { Bucket: bucket, Key: key, Body: openBody(), ContentLength: size };
    try {
      await within(signal, size, (options) =>
        client.send(new sdk.PutObjectCommand(input), options),
      );
    } catch (error) {
      throw s3Failure(`write ${what}`, error, signal);
    } finally {
      if (!(input.Body instanceof Uint8Array)) input.Body.destroy();
    }
  });
}

class MultipartUpload implements AsyncDisposable {
  readonly #bucket: Bucket;
  readonly #target: Target;
  readonly #uploadId: string;
  readonly #ownId: string;
  readonly #stop = new AbortController();
  /** By the number of the part. */
  readonly #sending = new Map<number, Promise<void>>();
  readonly #etags: string[] = [];
  #failure: Failure | undefined;
  #size = 0;
  #count = 0;
  #isDone = false;

  private constructor(bucket: Bucket, target: Target, uploadId: string, ownId: string) {
    this.#bucket = bucket;
    this.#target = target;
    this.#uploadId = uploadId;
    this.#ownId = ownId;
  }

  static async begin(bucket: Bucket, target: Target): Promise<MultipartUpload> {
    const { sdk, client, retry, within } = bucket;
    const { key, what, signal } = target;
    const ownId = randomUUID();
    const command = new sdk.CreateMultipartUploadCommand({
      Bucket: bucket.bucket,
      Key: key,
      Metadata: { [idKey]: ownId },
    });
    const uploadId = await retrying(retry, signal, async () => {
      try {
        const answer = await within(signal, 0, (options) => client.send(command, options));
        return answer.UploadId;
      } catch (error) {
        throw s3Failure(`write ${what}`, error, signal);
      }
    });
    if (uploadId) return new MultipartUpload(bucket, target, uploadId, ownId);
    throw new Failure("STORE_UNFIT", `Cannot write ${what}: the storage gives no id for an upload`);
  }

  /** Resolves when there is room for the next part. */
  async add(bytes: Uint8Array): Promise<void> {
    this.#size += bytes.length;
    const number = ++this.#count;
    this.#sending.set(number, this.#send(number, bytes));
    const most = Math.min(maxSendingParts, Math.floor(maxSendingBytes / bytes.length));
    while (this.#sending.size >= Math.max(1, most)) await Promise.race(this.#sending.values());
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Completes the object and returns its size. */
  async end(): Promise<number> {
    await Promise.all(this.#sending.values());
    if (this.#failure !== undefined) throw this.#failure;
    const { retry } = this.#bucket;
    const { what, signal } = this.#target;
    await retrying(retry, signal, async (attempts) => {
      try {
        await this.#complete();
      } catch (error) {
        // An attempt before this one may have done it.
        const isGone = /^(NoSuchUpload|NoSuchKey)$/.test(saidBy(error).name);
        if (!isGone || attempts.failures === 0) throw s3Failure(`write ${what}`, error, signal);
      }
    });
    await retrying(retry, signal, () => this.#checkResult());
    this.#isDone = true;
    return this.#size;
  }

  /** Aborts what was not completed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDone) return;
    this.#stop.abort();
    await Promise.all(this.#sending.values());
    const { sdk, client, bucket, within } = this.#bucket;
    const command = new sdk.AbortMultipartUploadCommand({
      Bucket: bucket,
      Key: this.#target.key,
      UploadId: this.#uploadId,
    });
    try {
      // Once: there is a failure to be reported, and a bucket's rule removes what stays.
      await within(undefined, 0, (options) => client.send(command, options));
    } catch {
      return;
    }
  }

  /** Never rejects: a failure has to wait until somebody looks at it. */
  async #send(number: number, bytes: Uint8Array): Promise<void> {
    const { sdk, client, bucket, retry, within } = this.#bucket;
    const { key, what, signal } = this.#target;
    const stop = this.#stop.signal;
    const stopOrAbort = signal === undefined ? stop : AbortSignal.any([signal, stop]);
    try {
      this.#etags[number - 1] = await retrying(retry, stopOrAbort, async () => {
        const command = new sdk.UploadPartCommand({
          Bucket: bucket,
          Key: key,
          UploadId: this.#uploadId,
          PartNumber: number,
          Body: bytes,
          ContentLength: bytes.length,
        });
        try {
          const answer = await within(stopOrAbort, bytes.length, (options) =>
            client.send(command, options),
          );
          return answer.ETag ?? "";
        } catch (error) {
          throw s3Failure(`write part ${number} of ${what}`, error, stopOrAbort);
        }
      });
    } catch (error) {
      this.#failure ??= s3Failure(`write ${what}`, error);
      this.#stop.abort();
    } finally {
      this.#sending.delete(number);
    }
  }

  async #complete(): Promise<void> {
    const { sdk, client, bucket, within } = this.#bucket;
    const command = new sdk.CompleteMultipartUploadCommand({
      Bucket: bucket,
      Key: this.#target.key,
      UploadId: this.#uploadId,
      MultipartUpload: {
        Parts: this.#etags.map((ETag, i) => ({ ETag, PartNumber: i + 1 })),
      },
    });
    // Some storages join the parts before they answer.
    await within(this.#target.signal, this.#size / 16, (options) => client.send(command, options));
  }

  async #checkResult(): Promise<void> {
    const { sdk, client, bucket, within } = this.#bucket;
    const { key, what, signal } = this.#target;
    const command = new sdk.HeadObjectCommand({ Bucket: bucket, Key: key });
    try {
      const there = await within(signal, 0, (options) => client.send(command, options));
      if (there.Metadata?.[idKey] === this.#ownId && there.ContentLength === this.#size) return;
    } catch (error) {
      const failure = s3Failure(`write ${what}`, error, signal);
      if (saidBy(error).status !== 404) throw failure;
    }
    throw new Failure("STORE_FAILED", `Cannot write ${what}: it is not there as it was sent`);
  }
}

/** Gathers an object in a file, to send it when its size is known. */
class OnePiece implements AsyncDisposable {
  readonly #bucket: Bucket;
  readonly #target: Target;
  readonly #file: FileHandle;
  #size = 0;

  private constructor(bucket: Bucket, target: Target, file: FileHandle) {
    this.#bucket = bucket;
    this.#target = target;
    this.#file = file;
  }

  static async begin(bucket: Bucket, target: Target): Promise<OnePiece> {
    const path = join(tmpdir(), `tidemark-${randomUUID()}`);
    return await onDisk(target.what, async () => {
      const file = await open(path, "wx+", 0o600);
      // Without a name it is gone with this process, however that ends.
      await unlink(path);
      return new OnePiece(bucket, target, file);
    });
  }

  async add(bytes: Uint8Array): Promise<void> {
    if (this.#size + bytes.length > maxPieceBytes) {
      throw new Failure(
        "LIMIT_EXCEEDED",
        `Cannot write ${this.#target.what}: over ${maxPieceBytes} bytes, and the storage takes no parts`,
      );
    }
    await onDisk(this.#target.what, async () => {
      for (let at = 0; at < bytes.length; ) {
        const rest = bytes.length - at;
        at += (await this.#file.write(bytes, at, rest, this.#size + at)).bytesWritten;
      }
    });
    this.#size += bytes.length;
  }

  async end(): Promise<number> {
    // Not a stream of the file: to destroy that closes the file, and there may be another attempt.
    const openBody = () => Readable.from(this.#chunks(), { objectMode: false });
    await putWhole(this.#bucket, this.#target, openBody, this.#size);
    return this.#size;
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < this.#size; ) {
      const chunk = Buffer.allocUnsafeSlow(Math.min(fileChunkBytes, this.#size - at));
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new Failure("FILE_FAILED", `Cannot read what "${tmpdir()}" holds`);
      at += bytesRead;
      yield chunk.subarray(0, bytesRead);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

async function onDisk<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw new Failure("FILE_FAILED", `Cannot gather ${what} in "${tmpdir()}"`, {
      cause,
      hint: "Free some space there, or set TMPDIR to a larger disk.",
    });
  }
}
