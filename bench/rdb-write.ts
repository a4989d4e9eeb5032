/**
 * Writing an RDB file of 2.7 million keys with 64-byte values, beside `SAVE` of a Redis 8.0 that
 * holds the same keys. Both compress (in vain: the values are random text), sum, write and sync.
 *
 * The two take turns, so that a busy machine slows both. The server loads the file that was written
 * before, which also shows that it is sound.
 */
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Slice } from "../src/base/bytes.ts";
import { RdbWriter } from "../src/codec/rdb/writer.ts";
import { missingServers, startServer } from "../test/support/servers.ts";

const keys = 2_700_000;
const keyBytes = 16;
const valueBytes = 64;
const writeBytes = 1 << 20;
const rounds = 5;

/** Every key, one behind the other. */
function makeKeys(): Uint8Array {
  const bytes = Buffer.alloc(keys * keyBytes);
  for (let i = 0; i < keys; i++) {
    bytes.write(`key:${String(i).padStart(12, "0")}`, i * keyBytes, "latin1");
  }
  return bytes;
}

/** Printable bytes that don't repeat (xorshift), one value behind the other. */
function makeValues(): Uint8Array {
  const bytes = new Uint8Array(keys * valueBytes);
  let state = 0x2545f491;
  for (let i = 0; i < bytes.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = 33 + ((state >>> 8) % 94);
  }
  return bytes;
}

function writeFile(path: string, allKeys: Uint8Array, allValues: Uint8Array): void {
  const file = openSync(path, "w");
  const writer = new RdbWriter("redis:8", { ctimeSeconds: 0 });
  const key = new Slice();
  const value = new Slice();
  writer.database(0, { keys, expires: 0 });
  for (let i = 0; i < keys; i++) {
    key.set(allKeys, i * keyBytes, (i + 1) * keyBytes);
    value.set(allValues, i * valueBytes, (i + 1) * valueBytes);
    writer.key(key).string(value);
    if (writer.pendingBytes >= writeBytes) writeSync(file, writer.take());
  }
  writer.finish();
  writeSync(file, writer.take());
  fsyncSync(file);
  closeSync(file);
}

async function seconds(run: () => unknown): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1] as number;
}

const missing = missingServers("redis-8.0");
if (missing) throw new Error(missing);
const allKeys = makeKeys();
const allValues = makeValues();
const folder = mkdtempSync(join(tmpdir(), "tidemark-bench-"));
try {
  const path = join(folder, "dump.rdb");
  writeFile(path, allKeys, allValues);
  await using server = await startServer("redis-8.0", { dir: folder });
  if ((await server.call("DBSIZE")) !== keys) throw new Error("The server has other keys");
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    ours.push(await seconds(() => writeFile(join(folder, "ours.rdb"), allKeys, allValues)));
    theirs.push(await seconds(() => server.call("SAVE")));
  }
  const megabytes = (statSync(path).size / 1e6).toFixed(0);
  const [a, b] = [median(ours), median(theirs)];
  console.log(`${keys} keys, ${megabytes} MB, median of ${rounds}`);
  console.log(`RdbWriter         ${a.toFixed(2)} s`);
  console.log(`redis-server SAVE ${b.toFixed(2)} s, RdbWriter is ${(b / a).toFixed(2)}x as fast`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
