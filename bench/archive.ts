/**
 * What archiving a log and a snapshot costs, how small they get, and how fast they come back.
 *
 *     npm run bench -- archive [--megabytes 512] [--level N] [--random]
 *
 * The log is that of a shop: four of eight commands SET a session of some 150 bytes of JSON, two HSET
 * fields of a user, one INCRs a counter of a page, one ZADDs to a ranking. Names are drawn from
 * 500,000 users, the first ones more often, and each thousand or so commands a position line follows,
 * as a recorder writes it. With `--random`, values are 64 random characters of a set of 64, as
 * `redis-benchmark -d 64` makes them: the worst case, which no compressor makes small. The snapshot
 * has a session of such JSON for each of its keys.
 *
 * Beside it, in the same run: zstd of the whole file as one frame at level 3, in a thread of the pool.
 */
import { createHash } from "node:crypto";
import { parseArgs, promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import type { ObjectIndex } from "../src/archive/object/index-format.ts";
import { LogBlocks } from "../src/archive/object/log-blocks.ts";
import { ObjectReader } from "../src/archive/object/object-reader.ts";
import { type BlockCutter, ObjectWriter } from "../src/archive/object/object-writer.ts";
import { RdbBlocks } from "../src/archive/object/rdb-blocks.ts";
import { Slice } from "../src/base/bytes.ts";
import { LogWriter } from "../src/codec/aof/writer.ts";
import { RdbWriter } from "../src/rdb.ts";
import { median } from "./measure.ts";

const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "512" },
    level: { type: "string" },
    rounds: { type: "string", default: "3" },
    random: { type: "boolean", default: false },
  },
});
const size = Number(values.megabytes) * 1e6;
const options = values.level === undefined ? {} : { level: Number(values.level) };
const chunkBytes = 256 * 1024;

let state = 2463534242;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 1) % below;
}

const hex = (digits: number) => {
  let text = "";
  while (text.length < digits) text += random(0x1000_0000).toString(16).padStart(7, "0");
  return text.slice(0, digits);
};
const noise = () => Array.from({ length: 64 }, () => String.fromCharCode(48 + random(64))).join("");
/** The first users come more often. */
const user = () => random(1 + random(500_000));
const pages = ["home", "search", "cart", "checkout", "product", "help"];

function session(id: number, at: number): string {
  if (values.random) return noise();
  return JSON.stringify({
    user: id,
    token: hex(16),
    page: pages[random(pages.length)],
    cart: Array.from({ length: random(4) }, () => random(20_000)),
    total: random(100_000) / 100,
    seenAt: 1_795_328_997_000 + at * 3,
    ip: `10.${random(256)}.${random(256)}.${random(256)}`,
  });
}

function commandOf(i: number): string[] {
  const id = user();
  switch (i % 8) {
    case 1:
    case 5:
      return ["HSET", `user:${id}`, "lastPage", `/p/${random(20_000)}`, "visits", `${random(900)}`];
    case 3:
      return ["INCR", `hits:${pages[random(pages.length)]}:${random(20_000)}`];
    case 7:
      return ["ZADD", `ranking:${random(50)}`, `${random(100_000)}`, `user:${id}`];
    default:
      return ["SET", `session:${String(id).padStart(8, "0")}`, session(id, i)];
  }
}

/** Kept in pieces: what is measured is not a disk. */
function makeLog(): Uint8Array[] {
  const writer = new LogWriter();
  const pieces: Uint8Array[] = [];
  const place = { replicationId: "0123456789abcdef0123456789abcdef01234567", offset: 0 };
  let bytes = 0;
  for (let i = 0; bytes < size; i++) {
    writer.record(commandOf(i).map((word) => Buffer.from(word)));
    if (i % 1000 !== 999) continue;
    writer.seal({ ...place, offset: bytes }, 1_795_328_997_000 + i);
    pieces.push(Buffer.from(writer.take()));
    bytes += pieces.at(-1)?.length ?? 0;
  }
  return pieces;
}

function makeRdb(): Uint8Array[] {
  const writer = new RdbWriter("redis:7.0", { ctimeSeconds: 0 });
  const pieces: Uint8Array[] = [];
  const [key, value] = [new Slice(), new Slice()];
  writer.database(0);
  let bytes = 0;
  for (let i = 0; bytes < size; i++) {
    key.setLatin1(`session:${String(i).padStart(8, "0")}`);
    value.setLatin1(session(i, i));
    writer.key(key).string(value);
    if (writer.pendingBytes < chunkBytes) continue;
    pieces.push(Buffer.from(writer.take()));
    bytes += pieces.at(-1)?.length ?? 0;
  }
  writer.finish();
  pieces.push(Buffer.from(writer.take()));
  return pieces;
}

/** Seconds, and processor seconds of all threads. */
async function timed(run: () => Promise<void>): Promise<{ wall: number; cpu: number }> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await run();
  const { user: inUser, system } = process.cpuUsage(cpu);
  return { wall: (performance.now() - start) / 1000, cpu: (inUser + system) / 1e6 };
}

function* chunks(file: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < file.length; at += chunkBytes) yield file.subarray(at, at + chunkBytes);
}

async function measure<Index extends ObjectIndex>(
  name: string,
  pieces: Uint8Array[],
  open: () => BlockCutter<Index>,
): Promise<void> {
  const file = Buffer.concat(pieces);
  pieces.length = 0;
  const gigabytes = file.length / 1e9;
  const params = { [constants.ZSTD_c_compressionLevel]: 3 };
  let whole = 0;
  const object: Uint8Array[] = [];
  let writer = new ObjectWriter(open(), options);
  const results: { zstd: Timed; write: Timed; read: Timed }[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const zstd = await timed(async () => {
      whole = (await promisify(zstdCompress)(file, { params, chunkSize: 2 ** 20 })).length;
    });
    object.length = 0;
    writer = new ObjectWriter(open(), options);
    const write = await timed(async () => {
      for await (const bytes of writer.bytes(chunks(file))) {
        object.push(bytes);
      }
    });
    const stored = Buffer.concat(object);
    const source = {
      name: "object",
      sizeBytes: stored.length,
      async *read(start: number, end: number) {
        yield* chunks(stored.subarray(start, end));
      },
    };
    const sum = createHash("sha256");
    const read = await timed(async () => {
      const reader = await ObjectReader.open(source);
      for await (const bytes of reader.rawBytes()) if (round === 0) sum.update(bytes);
    });
    if (round === 0 && sum.digest("hex") !== createHash("sha256").update(file).digest("hex")) {
      throw new Error("What was read is not what was written");
    }
    results.push({ zstd, write, read });
  }
  const of = (pick: (result: (typeof results)[number]) => number) => median(results.map(pick));
  const { sizeBytes, index } = writer.summary;
  const filters = index.blocks.reduce((all, { filter }) => all + (filter?.bytes ?? 0), 0);
  const show = (value: number, digits = 2) => value.toFixed(digits);
  console.log(
    `${name}: ${show(gigabytes)} GB in ${index.blocks.length} blocks, level ${values.level ?? "chosen"}\n` +
      `  size    ${show(sizeBytes / file.length, 3)} of the file, ${show(sizeBytes / whole, 3)} of ` +
      `zstd -3 of the whole; key filters are ${show((100 * filters) / sizeBytes, 1)} %\n` +
      `  write   ${show(
        of(({ write }) => file.length / 1e6 / write.wall),
        0,
      )} MB/s, ` +
      `${show(of(({ write }) => write.cpu / gigabytes))} CPU s/GB: ` +
      `${show(of(({ write, zstd }) => write.cpu / zstd.cpu))} x that of zstd -3\n` +
      `  read    ${show(
        of(({ read }) => file.length / 1e6 / read.wall),
        0,
      )} MB/s, ` +
      `${show(of(({ read }) => read.cpu / gigabytes))} CPU s/GB\n` +
      `  zstd -3 ${show(
        of(({ zstd }) => file.length / 1e6 / zstd.wall),
        0,
      )} MB/s, ` +
      `${show(of(({ zstd }) => zstd.cpu / gigabytes))} CPU s/GB`,
  );
}

type Timed = { readonly wall: number; readonly cpu: number };

await measure("log", makeLog(), () => new LogBlocks());
await measure("snapshot", makeRdb(), () => new RdbBlocks());
