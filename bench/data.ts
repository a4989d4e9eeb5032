/** Data sets that the benchmarks measure on, made once and kept in `.cache/bench`. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Slice } from "../src/base/bytes.ts";
import { OutputFile } from "../src/log/output-file.ts";
import { RdbWriter } from "../src/rdb.ts";

const folder = new URL("../.cache/bench/", import.meta.url).pathname;
const valueBytes = 64;

/**
 * An RDB with `keys` strings of 64 printable random bytes, as `redis-benchmark -d 64` makes them:
 * 84 bytes a key, nothing to compress. The same bytes every time.
 */
export function stringsRdb(keys: number): string {
  const path = join(folder, `strings-${keys}.rdb`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  using file = OutputFile.create(path);
  const writer = new RdbWriter("redis:8", { ctimeSeconds: 0 });
  const key = new Slice();
  const value = new Slice();
  const random = xorshift(keys);
  writer.database(0, { keys, expires: 0 });
  for (let i = 0; i < keys; i++) {
    key.setLatin1(`key:${String(i).padStart(12, "0")}`);
    const bytes = value.reserve(valueBytes);
    for (let at = 0; at < valueBytes; at++) bytes[at] = 48 + (random() & 63);
    writer.key(key).string(value);
    if (writer.pendingBytes > 1 << 20) file.write(writer.take());
  }
  writer.finish();
  file.write(writer.take());
  file.publish();
  return path;
}

function xorshift(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 7;
  };
}
