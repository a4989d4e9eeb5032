/** Logs that are made up, with the data that they amount to. */

import assert from "node:assert/strict";
import { Slice } from "../../src/base/bytes.ts";
import { isReplicationId, type PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogScanner } from "../../src/codec/aof/log-scanner.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { RdbWriter } from "../../src/codec/rdb/writer.ts";

export const replicationId = "0123456789abcdef0123456789abcdef01234567";

/** Of a log: where each unit ends in the file, at which offset and time, and how many there are. */
export type Unit = { readonly end: number; readonly offset: number; readonly ms: number };

export type SyntheticLog = {
  readonly bytes: Uint8Array;
  /** The record bytes of each unit, in order. */
  readonly units: readonly Unit[];
  readonly lines: readonly PositionLine[];
};

export type Shape = {
  readonly startOffset: number;
  readonly startMs: number;
  /** For each batch: records of so many units each, how many bytes of PINGs stand before, ms later. */
  readonly batches: readonly {
    readonly units: readonly number[];
    readonly silent: number;
    readonly laterMs: number;
  }[];
  readonly id?: string;
  readonly database?: number;
};

/** Each record is `INCR n:I`, so that how often which one was replayed can be told. */
export function makeLog({
  startOffset,
  startMs,
  batches,
  id = replicationId,
  database = 0,
}: Shape): SyntheticLog {
  assert(isReplicationId(id));
  const writer = new LogWriter();
  const units: Unit[] = [];
  const parts: Uint8Array[] = [];
  let written = 0;
  const take = () => {
    const bytes = Uint8Array.from(writer.take());
    parts.push(bytes);
    written += bytes.length;
  };
  let offset = startOffset;
  let ms = startMs;
  writer.seal({ replicationId: id, offset }, ms);
  writer.select(database);
  writer.seal({ replicationId: id, offset }, ms);
  take();
  let number = 0;
  for (const batch of batches) {
    offset += batch.silent;
    ms += batch.laterMs;
    const first = units.length;
    for (const records of batch.units) {
      const before = written;
      if (records > 1) writer.begin();
      for (let i = 0; i < records; i++) {
        writer.record(["INCR", `n:${number++}`].map((word) => Buffer.from(word)));
      }
      if (records > 1) writer.end();
      take();
      offset += written - before;
      units.push({ end: written, offset, ms: 0 });
    }
    for (let i = first; i < units.length; i++) units[i] = { ...(units[i] as Unit), ms };
    writer.seal({ replicationId: id, offset }, ms);
    take();
  }
  const bytes = Buffer.concat(parts);
  return { bytes, units, lines: linesOf(bytes) };
}

function linesOf(bytes: Uint8Array): PositionLine[] {
  const log = new LogScanner();
  const lines: PositionLine[] = [];
  log.push(bytes);
  for (let item = log.next(); item !== "more"; item = log.next()) {
    if (item === "position") lines.push(log.position as PositionLine);
  }
  return lines;
}

/** The second words of the records between, but for SELECT, MULTI and EXEC. */
export function namesIn(log: Uint8Array): string[] {
  const text = Buffer.from(log).toString("latin1");
  return [...text.matchAll(/\$\d+\r\n(n:\d+)\r\n/g)].map(([, name]) => name as string);
}

/** A snapshot of some keys. */
export function makeRdb(keys: number): Uint8Array {
  const writer = new RdbWriter("redis:7.0", { ctimeSeconds: 0 });
  const [key, value] = [new Slice(), new Slice()];
  writer.database(0);
  for (let i = 0; i < keys; i++) {
    key.setLatin1(`key:${i}`);
    value.setLatin1(`value ${i}`);
    writer.key(key).string(value);
  }
  writer.finish();
  return Uint8Array.from(writer.take());
}
