/**
 * `tidemark/rdb`: reads and writes RDB files, and DUMP payloads, of every version of Redis and Valkey.
 *
 * Read: a cursor over chunks of any size. A value is decoded, skipped or taken as it stands.
 *
 *     import { RdbReader } from "tidemark/rdb";
 *     const reader = new RdbReader();
 *     for await (const chunk of createReadStream("dump.rdb")) {
 *       reader.push(chunk);
 *       for (let event = reader.next(); event; event = reader.next()) {
 *         if (event === "key") console.log(reader.key.latin1(), reader.layout.type);
 *         if (event === "string") console.log(reader.parts.first.length);
 *       }
 *     }
 *     reader.finish();
 *
 * Write: for a named server, which then loads the file.
 *
 *     import { RdbWriter } from "tidemark/rdb";
 *     const writer = new RdbWriter("redis:7.2");
 *     writer.database(0);
 *     writer.key(key, { expireAtMs }).string(value);
 *     writer.finish();
 *     await writeFile("new.rdb", writer.take());
 *
 * Bytes are borrowed unless it says otherwise: a `Slice` is valid until the next call, `copy()`
 * keeps what it points at. What can go wrong is thrown as `Failure`, with a `code` and an `offset`.
 */
export { Slice } from "./base/bytes.ts";
export { type ErrorCode, Failure } from "./base/errors.ts";
export { CommandWriter } from "./codec/rdb/commands.ts";
export { crc64 } from "./codec/rdb/crc64.ts";
export { createDumpPayload, encodeDump, encodeFunctionDump } from "./codec/rdb/dump.ts";
export type { KeyHead, KeySink } from "./codec/rdb/key-sink.ts";
export type { Layout } from "./codec/rdb/layout.ts";
export * from "./codec/rdb/model.ts";
export type { Parts, RdbEvent } from "./codec/rdb/parts.ts";
export { RdbReader, type RdbReaderOptions } from "./codec/rdb/reader.ts";
export { RdbTranscoder } from "./codec/rdb/transcode.ts";
export { RdbWriter, type WriterOptions } from "./codec/rdb/writer.ts";
