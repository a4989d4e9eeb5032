/**
 * The checksum of an RDB file, summed up by another thread while the file is read here.
 *
 * WHY. Where values are passed over, the CRC-64 costs more than all the rest. The thread reads the
 * file a second time, which the page cache makes cheap, so no bytes go from thread to thread.
 *
 * The thread sums up to where an RDB that fills its file has its checksum: eight bytes before the
 * end. Should the RDB turn out to end elsewhere, `sum()` starts anew.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Crc64, crc64Input } from "../codec/rdb/crc64.ts";
import { fileFailure } from "./input-file.ts";

const checksumBytes = 8;
/** Marks this file's own threads: others may import it. */
const purpose = "tidemark checksum";

type Task = { readonly purpose: string; readonly path: string; readonly end: number };

export class ChecksumThread implements AsyncDisposable {
  readonly #path: string;
  readonly #end: number;
  readonly #worker: Worker;
  readonly #result: Promise<bigint>;

  constructor(path: string, fileBytes: number) {
    this.#path = path;
    this.#end = fileBytes - checksumBytes;
    const task: Task = { purpose, path, end: this.#end };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: task });
    const { promise, resolve, reject } = Promise.withResolvers<bigint>();
    this.#worker.once("message", resolve);
    this.#worker.once("error", reject);
    // What goes wrong is told to whoever asks for the sum, if anybody does.
    promise.catch(() => {});
    this.#result = promise;
  }

  /** The sum of the first `end` bytes. @throws Failure FILE_FAILED */
  async sum(end: number): Promise<bigint> {
    try {
      return end === this.#end ? await this.#result : sumFile(this.#path, end);
    } catch (cause) {
      throw fileFailure("read", this.#path, cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

function sumFile(path: string, end: number): bigint {
  const crc = new Crc64();
  const chunk = crc64Input();
  const fd = openSync(path, "r");
  try {
    for (let at = 0; at < end; ) {
      const size = readSync(fd, chunk, 0, Math.min(chunk.length, end - at), at);
      if (size === 0) break;
      crc.update(chunk, 0, size);
      at += size;
    }
  } finally {
    closeSync(fd);
  }
  return crc.value();
}

if (!isMainThread && (workerData as Task | null)?.purpose === purpose) {
  const { path, end } = workerData as Task;
  parentPort?.postMessage(sumFile(path, end));
}
