/** A repository with some of everything: two sets, and a log in pieces of several blocks. */
import {
  formatKeepMark,
  formatSetManifest,
  formatVerifiedMark,
  type SetManifest,
} from "../../src/archive/backup-set.ts";
import { lineName, pieceObject, setName, setObject } from "../../src/archive/layout.ts";
import { LogBlocks } from "../../src/archive/object/log-blocks.ts";
import { RdbBlocks } from "../../src/archive/object/rdb-blocks.ts";
import type { ObjectKey } from "../../src/archive/object/sealing.ts";
import type { Repository } from "../../src/archive/repository.ts";
import { fromLatin1, Slice } from "../../src/base/bytes.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { RdbWriter } from "../../src/codec/rdb/writer.ts";
import { MemoryStore, memoryRepository } from "./memory-store.ts";
import { writeObject } from "./objects.ts";

export const instance = "db";
export const replicationId = "0123456789abcdef0123456789abcdef01234567";
export const beganMs = Date.parse("2026-05-01T10:00:00Z");
const startOffset = 5000;
export const pieceMs = 60_000;
const blockBytes = 2000;

export type Filled = {
  readonly store: MemoryStore;
  readonly repository: Repository;
  readonly sets: readonly [base: string, automatic: string];
  /** Oldest first. */
  readonly pieces: readonly string[];
  /** The raw log. */
  readonly log: Uint8Array;
  readonly rdb: Uint8Array;
};

export async function fillRepository(key?: ObjectKey, pieceCount = 4): Promise<Filled> {
  const store = new MemoryStore();
  const repository = {
    ...memoryRepository(store),
    ...{ key, keys: (id: string) => (id === key?.id ? key.key : undefined) },
  };
  const rdb = makeRdb(300);
  const sets: [string, string] = [
    await addSet(repository, rdb, { ms: beganMs, kind: "base", offset: startOffset }),
    await addSet(repository, rdb, {
      ...{ ms: beganMs + 1.5 * pieceMs, kind: "automatic", offset: startOffset + 1 },
    }),
  ];
  const { pieces, log } = await addLog(repository, pieceCount);
  return { store, repository, sets, pieces, log, rdb };
}

export function makeRdb(keys: number, valueBytes = 30): Uint8Array {
  const writer = new RdbWriter("redis:7.0", { ctimeSeconds: 0 });
  const [name, value] = [new Slice(), new Slice()];
  writer.database(0);
  for (let i = 0; i < keys; i++) {
    name.setLatin1(`key:${i}`);
    value.setLatin1(String(Math.imul(i, 2654435761)).padEnd(valueBytes, String(i)));
    writer.key(name, {}).string(value);
  }
  writer.finish();
  return Buffer.from(writer.take());
}

type SetFacts = {
  readonly ms: number;
  readonly kind: SetManifest["kind"];
  readonly offset: number;
};

async function addSet(
  { store, key }: Repository,
  rdb: Uint8Array,
  { ms, kind, offset }: SetFacts,
): Promise<string> {
  const set = setName(ms, "00aa");
  const options = key === undefined ? {} : { key };
  const written = await writeObject(new RdbBlocks({ blockBytes }), [rdb], options);
  const { object, index, sha256, sizeBytes } = written;
  const { rawBytes, rawSha256, magic, keys } = index;
  await store.put(setObject(instance, set, "snapshot"), object);
  const manifest: SetManifest = {
    ...{ format: 1, set, instance, kind, note: "for a test", ms, startedMs: ms, endedMs: ms },
    position: { replicationId, offset },
    database: 0,
    source: { name: "127.0.0.1:6379", role: "master", version: "redis 7.0.15" },
    cost: {
      ...{ preparedMs: 1, transferredMs: 2, forkMicros: 3, copyOnWriteBytes: null },
      ...{ p99BeforeMs: 0.1, p99DuringMs: 0.2 },
    },
    snapshot: { sizeBytes, sha256, rawBytes, rawSha256, magic, keys },
    writer: "test",
  };
  await store.put(setObject(instance, set, "manifest"), formatSetManifest(manifest));
  const keep = formatKeepMark({ format: 1, set, ms });
  await store.put(setObject(instance, set, "keep"), keep);
  const verified = formatVerifiedMark({ format: 1, set, ms, what: "structure", sha256 });
  await store.put(setObject(instance, set, "verified"), verified);
  return set;
}

async function addLog(
  repository: Repository,
  count: number,
): Promise<{ readonly pieces: string[]; readonly log: Uint8Array }> {
  const writer = new LogWriter();
  const line = lineName({ replicationId, offset: startOffset, ms: beganMs });
  const pieces: string[] = [];
  const log: Uint8Array[] = [];
  let offset = startOffset;
  writer.seal({ replicationId, offset }, beganMs);
  let before: PositionLine | undefined;
  for (let number = 0; number < count; number++) {
    for (let batch = 0; batch < 20; batch++) {
      const size = writer.length;
      writer.select(batch % 2);
      for (let i = 0; i < 10; i++) {
        const args = ["SET", `key:${number}:${i}`, `value ${Math.imul(batch + i, 2654435761)}`];
        writer.record(args.map(fromLatin1));
      }
      offset += writer.length - size;
      writer.seal({ replicationId, offset }, beganMs + number * pieceMs + (batch + 1) * 3000);
    }
    const bytes = writer.take();
    log.push(bytes);
    pieces.push(await addPiece(repository, { line, bytes, before, last: writer.position }));
    before = writer.position;
  }
  return { pieces, log: Buffer.concat(log) };
}

type PieceParts = {
  readonly line: string;
  readonly bytes: Uint8Array;
  readonly before: PositionLine | undefined;
  readonly last: PositionLine | undefined;
};

export async function addPiece(
  { store, key }: Repository,
  { line, bytes, before, last }: PieceParts,
): Promise<string> {
  const options = key === undefined ? {} : { key };
  const cutter = new LogBlocks({ blockBytes, ...(before === undefined ? {} : { after: before }) });
  const { object, sha256, index } = await writeObject(cutter, [bytes], options);
  const first = index.blocks[0]?.first;
  const from = before ?? first;
  const name = pieceObject(instance, line, {
    ...{ firstSequence: first?.sequence ?? 0, lastSequence: last?.sequence ?? 0 },
    ...{ fromOffset: from?.offset ?? 0, toOffset: last?.offset ?? 0 },
    ...{ fromMs: from?.ms ?? 0, toMs: last?.ms ?? 0, rawBytes: bytes.length, sha256 },
  });
  await store.put(name, object);
  return name;
}

export function flipBit({ objects }: MemoryStore, name: string, bit: number): void {
  const found = objects.get(name);
  if (found === undefined) throw new Error(`There is no ${name}`);
  const bytes = new Uint8Array(found.bytes);
  bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
  objects.set(name, { ...found, bytes });
}
