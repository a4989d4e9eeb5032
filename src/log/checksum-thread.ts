/**
 * The checksum of an RDB file, summed up by another thread while the file is read here.
 *
 * WHY. Where values are passed over, the CRC-64 costs more than all the rest. The thread reads most of
 * the file a second time, which the page cache makes cheap, so no bytes go from thread to thread;
 * the first part is left to the reader, which would else be done before the thread is.
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

/** Of the file; found by measuring a walk that passes over values, and one that does not. */
const readersShare = 0.2;

type Span = { readonly path: string; readonly start: number; readonly end: number };
type Task = Span & { readonly purpose: string };

export class ChecksumThread implements AsyncDisposable {
  readonly #span: Span;
  readonly #worker: Worker;
  readonly #result: Promise<bigint>;

  constructor(path: string, fileBytes: number) {
    const start = Math.floor(fileBytes * readersShare);
    this.#span = { path, start, end: fileBytes - checksumBytes };
    const task: Task = { purpose, ...this.#span };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: task });
    const { promise, resolve, reject } = Promise.withResolvers<bigint>();
    this.#worker.once("message", resolve);
    this.#worker.once("error", reject);
    // What goes wrong is told to whoever asks for the sum, if anybody does.
    promise.catch(() => {});
    this.#result = promise;
  }

  /** Where the bytes start that are summed here. */
  get start(): number {
    return this.#span.start;
  }

  /** The sum of the bytes from `start` to `end`; 0 where there are none. @throws Failure FILE_FAILED */
  async sum(end: number): Promise<bigint> {
    const { path } = this.#span;
    try {
      return end === this.#span.end ? await this.#result : sumFile({ ...this.#span, end });
    } catch (cause) {
      throw fileFailure("read", path, cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

function sumFile({ path, start, end }: Span): bigint {
  const crc = new Crc64();
  const chunk = crc64Input();
  const fd = openSync(path, "r");
  try {
    for (let at = start; at < end; ) {
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
  parentPort?.postMessage(sumFile(workerData as Task));
}
