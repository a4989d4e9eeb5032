/**
 * Listing and planning over an archive of two years, which is made up: names and objects are
 * made when they are asked for.
 *
 *     npm run bench -- plan [--days 730] [--unmerged]
 *
 * Pieces of an hour each, and of the last hour pieces of ten seconds; with `--unmerged`, pieces of ten
 * seconds all the way: 6.3 million. A set a day. What a store takes to answer is not in it.
 */
import { parseArgs } from "node:util";
import { formatSetManifest, type SetManifest } from "../src/archive/backup-set.ts";
import { readCatalogue } from "../src/archive/catalogue.ts";
import {
  lineName,
  parsePieceName,
  pieceObject,
  setName,
  setObject,
} from "../src/archive/layout.ts";
import { LogBlocks } from "../src/archive/object/log-blocks.ts";
import { ObjectReader } from "../src/archive/object/object-reader.ts";
import { ObjectWriter } from "../src/archive/object/object-writer.ts";
import { type LogOptions, LogScanner } from "../src/codec/aof/log-scanner.ts";
import { LogWriter } from "../src/codec/aof/writer.ts";
import { planRestore } from "../src/recovery/plan.ts";
import type { ArchiveView } from "../src/recovery/restore-locate.ts";
import { parseTarget } from "../src/recovery/target.ts";
import { median } from "./measure.ts";

const { values } = parseArgs({
  options: { days: { type: "string", default: "730" }, unmerged: { type: "boolean" } },
});
const instance = "shop";
const replicationId = "0123456789abcdef0123456789abcdef01234567";
const startMs = 1_700_000_000_000;
const hourMs = 3_600_000;
const endMs = startMs + Number(values.days) * 24 * hourMs;
const line = lineName({ replicationId, offset: 0, ms: startMs });
/** Each piece has two position lines, and one record before each. */
const lines = 2;
const record = ["INCR", "counter"].map((word) => Buffer.from(word));
const recordBytes = 28;
const sha256 = "0".repeat(64);

type Names = { name: string; sizeBytes: number; modifiedMs: number };

function* pieceNames(): Generator<Names> {
  let number = 0;
  for (let fromMs = startMs; fromMs < endMs; number++) {
    const isMerged = !values.unmerged && fromMs < endMs - hourMs;
    const toMs = fromMs + (isMerged ? hourMs : 10_000);
    const piece = {
      firstSequence: number * lines,
      lastSequence: number * lines + lines - 1,
      fromOffset: number * lines * recordBytes,
      toOffset: (number + 1) * lines * recordBytes,
      ...{ fromMs, toMs, rawBytes: 0, sha256 },
    };
    yield { name: pieceObject(instance, line, piece), sizeBytes: 1000, modifiedMs: toMs };
    fromMs = toMs;
  }
}

/** A set stands where the piece of its time begins. */
const positions = new Map<string, { offset: number; ms: number }>();
let count = 0;
let nextSetMs = startMs;
for (const each of pieceNames()) {
  count++;
  const piece = parsePieceName(each.name.split("/")[4] ?? "");
  if (piece === undefined || piece.fromMs < nextSetMs) continue;
  const set = setName(piece.fromMs, "0000");
  positions.set(set, { offset: piece.fromOffset, ms: piece.fromMs });
  nextSetMs += 24 * hourMs;
}
/** In byte order; nothing is held but the one that is being given. */
const store = {
  async *list(): AsyncGenerator<Names> {
    yield* pieceNames();
    for (const set of positions.keys()) {
      for (const part of ["keep", "manifest", "snapshot", "verified"] as const) {
        yield { name: setObject(instance, set, part), sizeBytes: 1000, modifiedMs: 0 };
      }
    }
  },
};

/** The object of a piece, as its name tells it. */
async function makePiece(object: string): Promise<Uint8Array> {
  const piece = parsePieceName(object.split("/")[4] ?? "");
  if (piece === undefined) throw new Error(`No piece: ${object}`);
  const { firstSequence, fromOffset, fromMs, toMs } = piece;
  const position = { replicationId, offset: fromOffset, ms: fromMs, dataCrc: 0 };
  const after = firstSequence === 0 ? undefined : { ...position, sequence: firstSequence - 1 };
  const options = after === undefined ? {} : ({ after } satisfies LogOptions);
  const writer = new LogWriter(options);
  for (let i = 1; i <= lines; i++) {
    writer.record(record);
    const offset = fromOffset + i * recordBytes;
    writer.seal({ replicationId, offset }, fromMs + ((toMs - fromMs) * i) / lines);
  }
  const object_ = new ObjectWriter(new LogBlocks(options));
  return Buffer.concat(await Array.fromAsync(object_.bytes([writer.take()])));
}

let opened = 0;
const view: ArchiveView = {
  async openObject(object) {
    opened++;
    const bytes = await makePiece(object);
    return await ObjectReader.open({
      name: object,
      sizeBytes: bytes.length,
      async *read(start, end) {
        yield bytes.subarray(start, end);
      },
    });
  },
  async readSmall(object) {
    const set = object.split("/")[3] ?? "";
    const { offset, ms } = positions.get(set) as { offset: number; ms: number };
    return formatSetManifest({
      ...{ format: 1, set, instance, kind: "automatic", position: { replicationId, offset }, ms },
      ...{ startedMs: ms, endedMs: ms, database: 0, writer: "bench" },
      source: { name: "bench", role: "master", version: "" },
      cost: {
        ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
        ...{ p99BeforeMs: null, p99DuringMs: null },
      },
      snapshot: {
        ...{ sizeBytes: 0, sha256, rawBytes: 0, rawSha256: sha256, magic: "REDIS0011", keys: 0 },
      },
    } satisfies SetManifest);
  },
};

// Loads what the first run would have to load.
new LogScanner().push(new Uint8Array(0));
globalThis.gc?.();
const before = process.memoryUsage().rss;
const seconds: { list: number; plan: number }[] = [];
let peak = 0;
for (let round = 0; round < 5; round++) {
  const start = performance.now();
  const catalogue = await readCatalogue(store as never, instance);
  const listed = performance.now();
  const middle = new Date(startMs + (endMs - startMs) * 0.61 + 1234).toISOString();
  for (const text of [middle, "latest", `@01:${Math.floor(count / 3) * recordBytes}`]) {
    const result = await planRestore(view, catalogue, parseTarget(text, endMs));
    if (result.kind !== "plan") throw new Error(`${text}: ${JSON.stringify(result.found)}`);
  }
  seconds.push({ list: listed - start, plan: (performance.now() - listed) / 3 });
  // One that plans does it once: what further rounds leave to the collector is not counted.
  if (round === 0) peak = process.memoryUsage().rss;
}
const of = (pick: (each: (typeof seconds)[number]) => number) => median(seconds.map(pick));
console.log(
  `${count + 4 * positions.size} names: listing ${of(({ list }) => list).toFixed(0)} ms, ` +
    `a plan ${of(({ plan }) => plan).toFixed(1)} ms with ${(opened / 15).toFixed(1)} indexes read; ` +
    `memory ${(peak / 1e6).toFixed(0)} MB, of which the program is ${(before / 1e6).toFixed(0)} MB`,
);
