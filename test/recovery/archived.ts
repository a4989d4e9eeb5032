/** An archive in memory, made of raw logs and snapshots, cut into pieces as a test wants them. */
import { createHash } from "node:crypto";
import { formatSetManifest, type SetManifest } from "../../src/archive/backup-set.ts";
import { type Catalogue, CatalogueBuilder } from "../../src/archive/catalogue.ts";
import {
  lineName,
  type Moment,
  pieceObject,
  setName,
  setObject,
} from "../../src/archive/layout.ts";
import { LogBlocks } from "../../src/archive/object/log-blocks.ts";
import { ObjectReader } from "../../src/archive/object/object-reader.ts";
import { ObjectWriter } from "../../src/archive/object/object-writer.ts";
import { RdbBlocks } from "../../src/archive/object/rdb-blocks.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogScanner } from "../../src/codec/aof/log-scanner.ts";
import type { ArchiveView } from "../../src/recovery/restore-locate.ts";

export class Archived {
  readonly objects = new Map<string, Uint8Array>();
  readonly #instance: string;
  /** How many objects were opened. */
  opened = 0;
  #sets = 0;

  constructor(instance = "shop") {
    this.#instance = instance;
  }

  get view(): ArchiveView {
    return {
      openObject: async (object, sizeBytes) => {
        this.opened++;
        const read = (start: number, end: number) => chunksOf(this.#get(object), start, end);
        return await ObjectReader.open({ name: `"${object}"`, sizeBytes, read });
      },
      readSmall: async (object) => this.#get(object),
    };
  }

  get catalogue(): Catalogue {
    const builder = new CatalogueBuilder(this.#instance);
    for (const name of [...this.objects.keys()].sort()) {
      builder.add({ name, sizeBytes: this.#get(name).length, modifiedMs: 0 });
    }
    return builder.finish();
  }

  #get(object: string): Uint8Array {
    const bytes = this.objects.get(object);
    if (bytes === undefined) throw new Error(`No object "${object}"`);
    return bytes;
  }

  /**
   * Stores a log as one line. `cutAfter` says for each position line whether a piece ends there;
   * blocks are of about `blockBytes`.
   */
  async addLog(
    log: Uint8Array,
    base: Moment,
    {
      cutAfter = () => false,
      blockBytes = 4096,
    }: { cutAfter?: (line: PositionLine) => boolean; blockBytes?: number } = {},
  ): Promise<string> {
    const line = lineName(base);
    let from: Moment | PositionLine = base;
    let after: PositionLine | undefined;
    let start = 0;
    let firstSequence = 0;
    const lines = positionLines(log);
    for (const [i, { end, position }] of lines.entries()) {
      if (i < lines.length - 1 && !cutAfter(position)) continue;
      const raw = log.subarray(start, end);
      const writer = new ObjectWriter(new LogBlocks({ blockBytes, ...(after && { after }) }));
      const object = Buffer.concat(await Array.fromAsync(writer.bytes([raw])));
      const name = pieceObject(this.#instance, line, {
        firstSequence,
        lastSequence: position.sequence,
        fromOffset: from.offset,
        toOffset: position.offset,
        fromMs: from.ms,
        toMs: position.ms,
        rawBytes: raw.length,
        sha256: writer.summary.sha256,
      });
      this.objects.set(name, object);
      start = end;
      firstSequence = position.sequence + 1;
      from = position;
      after = position;
    }
    return line;
  }

  async addSet(
    rdb: Uint8Array,
    at: Moment,
    options: { kind?: SetManifest["kind"]; isVerified?: boolean; database?: number } = {},
  ): Promise<string> {
    const set = setName(at.ms, (this.#sets++).toString(16).padStart(4, "0"));
    const writer = new ObjectWriter(new RdbBlocks({ blockBytes: 8192 }));
    const object = Buffer.concat(await Array.fromAsync(writer.bytes([rdb])));
    const { index, sha256, sizeBytes } = writer.summary;
    const { replicationId, offset, ms } = at;
    const manifest: SetManifest = {
      format: 1,
      set,
      instance: this.#instance,
      kind: options.kind ?? "automatic",
      position: { replicationId, offset },
      ms,
      startedMs: ms,
      endedMs: ms,
      database: options.database ?? null,
      source: { name: "test", role: "master", version: "" },
      cost: {
        preparedMs: 0,
        transferredMs: 0,
        forkMicros: null,
        copyOnWriteBytes: null,
        p99BeforeMs: null,
        p99DuringMs: null,
      },
      snapshot: {
        sizeBytes,
        sha256,
        rawBytes: rdb.length,
        rawSha256: createHash("sha256").update(rdb).digest("hex"),
        magic: index.magic,
        keys: index.keys,
      },
      writer: "test",
    };
    this.objects.set(setObject(this.#instance, set, "snapshot"), object);
    this.objects.set(setObject(this.#instance, set, "manifest"), formatSetManifest(manifest));
    if (options.isVerified ?? true) {
      this.objects.set(setObject(this.#instance, set, "verified"), Buffer.from("{}"));
    }
    return set;
  }
}

/** Where each position line of a log ends. */
export function positionLines(log: Uint8Array): { end: number; position: PositionLine }[] {
  const scanner = new LogScanner();
  const lines: { end: number; position: PositionLine }[] = [];
  scanner.push(log);
  for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
    if (item !== "position") continue;
    lines.push({ end: scanner.scanner.end, position: scanner.position as PositionLine });
  }
  return lines;
}

async function* chunksOf(bytes: Uint8Array, start: number, end: number) {
  const size = 1 + ((end - start) >> 1);
  for (let at = start; at < end; at += size) yield bytes.slice(at, Math.min(end, at + size));
}
