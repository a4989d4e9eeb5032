/**
 * How fast a set and the log behind it are restored: to a folder, and to a running server.
 *
 *     npm run bench -- restore [--megabytes 1000] [--server redis-server]
 *
 * Half of the raw bytes are a snapshot, half a log: sessions of some 150 bytes of JSON, as in the
 * benchmark of the archive; the repository is a file in memory's place, read as one of a store. Beside
 * the folder: writing and syncing the same bytes. Beside the server, over TCP: `redis-cli --pipe` with the
 * same data as commands, the better one of two ways, SET.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  createWriteStream,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { formatSetManifest, type SetManifest } from "../src/archive/backup-set.ts";
import { CatalogueBuilder } from "../src/archive/catalogue.ts";
import { lineName, pieceObject, setName, setObject } from "../src/archive/layout.ts";
import { LogBlocks } from "../src/archive/object/log-blocks.ts";
import { ObjectReader } from "../src/archive/object/object-reader.ts";
import { ObjectWriter } from "../src/archive/object/object-writer.ts";
import { RdbBlocks } from "../src/archive/object/rdb-blocks.ts";
import { Slice } from "../src/base/bytes.ts";
import { LogWriter } from "../src/codec/aof/writer.ts";
import { RdbWriter } from "../src/codec/rdb/writer.ts";
import { RespEncoder } from "../src/codec/resp/encode.ts";
import { parseAddress } from "../src/link/address.ts";
import { planRestore } from "../src/recovery/plan.ts";
import { restoreToFolder } from "../src/recovery/restore-folder.ts";
import type { ArchiveView } from "../src/recovery/restore-locate.ts";
import { restoreToServer } from "../src/recovery/restore-server.ts";
import { freePort } from "../test/link/ports.ts";

const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "1000" },
    server: { type: "string" },
    cli: { type: "string" },
    /** Of the processes that it starts: what was prepared, and what to do with it. */
    state: { type: "string" },
    to: { type: "string" },
  },
});
const half = (Number(values.megabytes) * 1e6) / 2;
const replicationId = "0123456789abcdef0123456789abcdef01234567";
const startMs = 1_795_000_000_000;
const instance = "shop";
const at = { replicationId, offset: 0, ms: startMs };

let state = 2463534242;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 1) % below;
}

function session(id: number): string {
  return JSON.stringify({
    user: id,
    token: (random(2 ** 30) * 2 ** 20).toString(16),
    page: ["home", "search", "cart", "checkout"][random(4)],
    cart: Array.from({ length: random(4) }, () => random(20_000)),
    seenAt: startMs + id * 3,
    ip: `10.${random(256)}.${random(256)}.${random(256)}`,
  });
}

const keyOf = (id: number) => `session:${String(id).padStart(8, "0")}`;
const chunkBytes = 256 * 1024;
let keys = 0;
let records = 0;

function* snapshot(commands: (key: string, value: string) => void): Generator<Uint8Array> {
  const writer = new RdbWriter("redis:7.0");
  const [key, value] = [new Slice(), new Slice()];
  writer.database(0);
  for (let bytes = 0; bytes < half; keys++) {
    const [name, text] = [keyOf(keys), session(keys)];
    key.setLatin1(name);
    value.setLatin1(text);
    writer.key(key).string(value);
    commands(name, text);
    if (writer.pendingBytes < chunkBytes) continue;
    bytes += writer.pendingBytes;
    yield Uint8Array.from(writer.take());
  }
  writer.finish();
  yield Uint8Array.from(writer.take());
}

let offset = 0;
function* log(commands: (key: string, value: string) => void): Generator<Uint8Array> {
  const writer = new LogWriter();
  writer.seal(at, startMs);
  writer.select(0);
  for (let bytes = 0; bytes < half; ) {
    for (let i = 0; i < 1000; i++, records++) {
      const [key, value] = [keyOf(random(keys)), session(records)];
      writer.record(["SET", key, value].map((word) => Buffer.from(word)));
      commands(key, value);
    }
    offset = bytes + writer.length;
    writer.seal({ replicationId, offset }, startMs + records);
    const taken = Uint8Array.from(writer.take());
    bytes += taken.length;
    yield taken;
  }
}

const folder = mkdtempSync(join(tmpdir(), "tidemark-bench-"));
/** Where each object lies. */
const objects = new Map<string, { path: string; sizeBytes: number }>();
const small = new Map<string, Uint8Array>();

let stored = 0;

async function store(writer: ObjectWriter<never>, chunks: Iterable<Uint8Array>): Promise<string> {
  const path = join(folder, `object-${stored++}`);
  await pipeline(writer.bytes(chunks), createWriteStream(path));
  return path;
}

const view: ArchiveView = {
  async openObject(object, sizeBytes) {
    const fd = openSync((objects.get(object) as { path: string }).path, "r");
    return await ObjectReader.open({
      name: object,
      sizeBytes,
      async *read(start, end) {
        for (let from = start; from < end; from += 2 ** 20) {
          const bytes = new Uint8Array(Math.min(2 ** 20, end - from));
          readSync(fd, bytes, 0, bytes.length, from);
          yield bytes;
        }
      },
    });
  },
  readSmall: async (object) => small.get(object) as Uint8Array,
};

/** Stores the set and the log, and writes the same as commands for `redis-cli --pipe`. */
async function prepare(commandFile: string): Promise<void> {
  const out = createWriteStream(commandFile);
  const encoder = new RespEncoder();
  const command = (key: string, value: string) => {
    encoder.command("SET", key, value);
    if (encoder.length > chunkBytes) out.write(encoder.take());
  };
  const rdbWriter = new ObjectWriter(new RdbBlocks());
  const set = setName(startMs, "0000");
  const rdbPath = await store(rdbWriter as never, snapshot(command));
  const logWriter = new ObjectWriter(new LogBlocks());
  const logPath = await store(logWriter as never, log(command));
  out.end(encoder.take());
  await once(out, "close");
  const rdb = rdbWriter.summary;
  objects.set(setObject(instance, set, "snapshot"), { path: rdbPath, sizeBytes: rdb.sizeBytes });
  const { index } = logWriter.summary;
  const piece = pieceObject(instance, lineName(at), {
    firstSequence: 0,
    lastSequence: index.last?.sequence ?? 0,
    ...{ fromOffset: 0, toOffset: offset, fromMs: startMs, toMs: startMs + records },
    ...{ rawBytes: index.rawBytes, sha256: logWriter.summary.sha256 },
  });
  objects.set(piece, { path: logPath, sizeBytes: logWriter.summary.sizeBytes });
  const manifest: SetManifest = {
    ...{ format: 1, set, instance, kind: "base", position: { replicationId, offset: 0 } },
    ...{ ms: startMs, startedMs: startMs, endedMs: startMs, database: 0, writer: "bench" },
    source: { name: "bench", role: "master", version: "" },
    cost: {
      ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
      ...{ p99BeforeMs: null, p99DuringMs: null },
    },
    snapshot: {
      ...{ sizeBytes: rdb.sizeBytes, sha256: rdb.sha256, rawBytes: rdb.index.rawBytes },
      ...{ rawSha256: rdb.index.rawSha256, magic: rdb.index.magic, keys },
    },
  };
  small.set(setObject(instance, set, "manifest"), formatSetManifest(manifest));
  small.set(setObject(instance, set, "verified"), Buffer.from("{}"));
}

async function planAll() {
  const builder = new CatalogueBuilder(instance);
  const sizes = new Map([...small].map(([name, bytes]) => [name, bytes.length]));
  for (const [name, { sizeBytes }] of objects) sizes.set(name, sizeBytes);
  for (const name of [...sizes.keys()].sort()) {
    builder.add({ name, sizeBytes: sizes.get(name) as number, modifiedMs: 0 });
  }
  const result = await planRestore(view, builder.finish(), { kind: "latest" });
  if (result.kind !== "plan") throw new Error(result.found);
  return result.plan;
}

type State = {
  readonly objects: [string, { path: string; sizeBytes: number }][];
  readonly small: [string, string][];
};

type Result = { readonly seconds: number; readonly cpu: number; readonly peak: number };

/** Restores in a process of its own, whose memory is then only what that takes. */
async function restoreIn(path: string, to: string): Promise<Result> {
  const args = [import.meta.filename, "--state", path, "--to", to];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  await once(child, "exit");
  return JSON.parse(said) as Result;
}

async function restoreHere(path: string, to: string): Promise<void> {
  const state = JSON.parse(readFileSync(path, "utf8")) as State;
  for (const [name, object] of state.objects) objects.set(name, object);
  for (const [name, text] of state.small) small.set(name, Buffer.from(text));
  const plan = await planAll();
  const before = process.cpuUsage();
  const start = performance.now();
  if (to.startsWith("/")) await restoreToFolder(view, plan, to);
  else await restoreToServer(view, plan, parseAddress(to));
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(before);
  const peak = process.resourceUsage().maxRSS / 1024;
  console.log(JSON.stringify({ seconds, cpu: (user + system) / 1e6, peak } satisfies Result));
}

async function withServer(run: (port: string) => Promise<void>): Promise<void> {
  const port = String(await freePort());
  const settings = ["--port", port, "--save", "", "--dir", folder];
  const child = spawn(values.server as string, settings, { stdio: "ignore" });
  try {
    const cli = ["-p", port, "PING"];
    while (spawnSync(values.cli as string, cli).stdout?.toString() !== "PONG\n") await sleep(20);
    await run(port);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
}

async function main(): Promise<void> {
  const commandFile = join(folder, "commands");
  const state = join(folder, "state.json");
  await prepare(commandFile);
  const plain: State = {
    objects: [...objects],
    small: [...small].map(([name, bytes]) => [name, Buffer.from(bytes).toString()]),
  };
  writeFileSync(state, JSON.stringify(plain));
  const megabytes = (await planAll()).rawBytes / 1e6;
  console.log(`${megabytes.toFixed(0)} MB raw: ${keys} keys, ${records} records of the log`);
  const show = (name: string, { seconds, cpu, peak }: Result) =>
    console.log(
      `${name}  ${seconds.toFixed(2)} s, ${(megabytes / seconds).toFixed(0)} MB/s, ` +
        `${(cpu / (megabytes / 1000)).toFixed(2)} CPU s/GB, peak ${peak.toFixed(0)} MB`,
    );
  for (let round = 0; round < rounds; round++) {
    const dir = join(folder, "data");
    show("folder", await restoreIn(state, dir));
    rmSync(dir, { recursive: true });
  }
  if (values.server === undefined || values.cli === undefined) return;
  for (let round = 0; round < rounds; round++) {
    await withServer(async (port) =>
      show("server", await restoreIn(state, `redis://127.0.0.1:${port}`)),
    );
    await withServer(async (port) => {
      const start = performance.now();
      const stdio = [openSync(commandFile, "r"), "ignore", "inherit"] as const;
      const child = spawn(values.cli as string, ["-p", port, "--pipe"], { stdio: [...stdio] });
      await once(child, "exit");
      console.log(`--pipe  ${((performance.now() - start) / 1000).toFixed(2)} s`);
    });
  }
}

const rounds = 3;
try {
  if (values.state !== undefined) await restoreHere(values.state, values.to ?? "");
  else await main();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
