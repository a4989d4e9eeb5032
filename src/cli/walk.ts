import { setImmediate } from "node:timers/promises";
import { empty } from "../base/bytes.ts";
import type { RdbReader } from "../codec/rdb/reader.ts";
import { ChecksumThread } from "../log/checksum-thread.ts";
import type { InputFile } from "../log/input-file.ts";
import type { Progress } from "./render/progress.ts";

/** For so long the event loop is kept: a signal is answered, and output flows, in between. */
const sliceMs = 50;
/** From here on a thread saves more than it takes to start. */
const worthAThreadBytes = 32 * 2 ** 20;

export type RdbSink = {
  readonly reader: RdbReader;
  /** Takes events until the reader has no more. True: the end of the RDB was among them. */
  drain(): boolean;
};

export type LogSink = { push(chunk: Uint8Array): void };

/**
 * Reads a file from its start to its end: an RDB if it starts with one, and what stands behind it
 * or instead of it.
 *
 * @param openLog is called with the place where records start, if there are any bytes there
 * @throws Failure what the sinks throw, and that the RDB is cut off
 */
export async function walkFile(
  file: InputFile,
  rdb: RdbSink | undefined,
  openLog: (offset: number) => LogSink,
  progress: Progress,
  signal?: AbortSignal,
): Promise<void> {
  await using thread = summedElsewhere(file, rdb);
  let log: LogSink | undefined;
  let head = rdb;
  let freeAtMs = performance.now() + sliceMs;
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    let rest = chunk;
    if (head !== undefined) {
      head.reader.push(chunk);
      const isOver = head.drain();
      rest = isOver ? head.reader.rest() : empty;
      if (isOver) head = undefined;
    }
    if (rest.length > 0) {
      log ??= openLog(file.position - rest.length);
      log.push(rest);
    }
    progress.add(chunk.length);
    if (performance.now() < freeAtMs) continue;
    await setImmediate();
    signal?.throwIfAborted();
    freeAtMs = performance.now() + sliceMs;
  }
  head?.reader.finish();
  if (thread === undefined || rdb === undefined || rdb.reader.checksumAt === 0) return;
  rdb.reader.confirmChecksum(await thread.sum(rdb.reader.checksumAt));
}

/** A thread for the checksum pays where the file is large. */
function summedElsewhere(file: InputFile, rdb: RdbSink | undefined): ChecksumThread | undefined {
  if (rdb === undefined || file.stats.size < worthAThreadBytes) return undefined;
  const thread = new ChecksumThread(file.path, file.stats.size);
  rdb.reader.deferChecksum(thread.start);
  return thread;
}
