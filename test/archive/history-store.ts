/** A store that has what a history lists: sets at the positions of their times, and pieces with their lines. */
import { formatSetManifest } from "../../src/archive/backup-set.ts";
import type { Catalogue, Piece } from "../../src/archive/catalogue.ts";
import { parseSetName } from "../../src/archive/layout.ts";
import { LogBlocks } from "../../src/archive/object/log-blocks.ts";
import { ObjectWriter } from "../../src/archive/object/object-writer.ts";
import type { Position } from "../../src/codec/aof/annotation.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { catalogueOf, type History } from "./histories.ts";
import { MemoryStore } from "./memory-store.ts";

/** `positionOf` of a set, by its name; else it is where the log was at its time. */
export async function storeOf(
  { objects }: Pick<History, "objects">,
  positionOf?: (set: string) => Position | undefined,
): Promise<MemoryStore> {
  const store = new MemoryStore();
  const catalogue = catalogueOf(objects);
  for (const { name, sizeBytes, modifiedMs } of objects) {
    const [, , , set = ""] = name.split("/");
    const isManifest = name.endsWith("/manifest.json");
    const position = positionOf?.(set) ?? positionAt(catalogue, parseSetName(set) ?? 0);
    const bytes = isManifest ? manifestOf(name, sizeBytes, position) : new Uint8Array(sizeBytes);
    store.objects.set(name, { bytes, modifiedMs });
  }
  for (const { idPrefix, runs, covered } of catalogue.lines) {
    for (const piece of [...covered, ...runs.flatMap(({ pieces }) => pieces)]) {
      const bytes = await pieceBytes(piece, idOf(idPrefix));
      store.objects.set(piece.object, { bytes, modifiedMs: piece.toMs });
    }
  }
  return store;
}

/** Of a line, by what its name has of it. */
export function idOf(idPrefix: string): string {
  return idPrefix.repeat(5);
}

function positionAt({ lines }: Catalogue, ms: number): Position {
  for (const { runs, idPrefix } of lines) {
    for (const { pieces } of runs) {
      const piece = pieces.find(({ fromMs, toMs }) => ms >= fromMs && ms <= toMs);
      const isEnd = piece?.toMs === ms;
      const offset = isEnd ? piece.toOffset : piece?.fromOffset;
      if (offset !== undefined) return { replicationId: idOf(idPrefix), offset };
    }
  }
  return { replicationId: "e".repeat(40), offset: 0 };
}

async function pieceBytes(piece: Piece, replicationId: string): Promise<Uint8Array> {
  const { firstSequence, lastSequence, fromOffset, toOffset, fromMs, toMs } = piece;
  const base = { replicationId, offset: fromOffset, ms: fromMs };
  const isFirst = firstSequence === 0;
  const after = isFirst ? undefined : { ...base, sequence: firstSequence - 1, dataCrc: 0 };
  const writer = new LogWriter(after && { after });
  if (isFirst) writer.seal(base, fromMs);
  for (let sequence = firstSequence + Number(isFirst); sequence <= lastSequence; sequence++) {
    const isLast = sequence === lastSequence;
    writer.seal({ replicationId, offset: isLast ? toOffset : fromOffset }, isLast ? toMs : fromMs);
  }
  const object = new ObjectWriter(new LogBlocks(after && { after }));
  const chunks = await Array.fromAsync(object.bytes([Uint8Array.from(writer.take())]));
  return Uint8Array.from(Buffer.concat(chunks));
}

/** Of a snapshot of that size. */
export function manifestOf(object: string, sizeBytes: number, position: Position): Uint8Array {
  const [, of = "", , set = ""] = object.split("/");
  const sum = "0".repeat(64);
  return formatSetManifest({
    ...{ format: 1, set, instance: of, kind: "automatic", ms: 0, startedMs: 0, endedMs: 0 },
    position,
    database: null,
    source: { name: "", role: "master", version: "" },
    cost: {
      ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
      ...{ p99BeforeMs: null, p99DuringMs: null },
    },
    snapshot: { sizeBytes, sha256: sum, rawBytes: 1, rawSha256: sum, magic: null, keys: null },
    writer: "test",
  });
}
