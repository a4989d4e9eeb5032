import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Slice } from "../../src/base/bytes.ts";
import { RdbWriter } from "../../src/rdb.ts";
import { temporaryFolder } from "../support/folder.ts";
import { tidemark } from "./tidemark.ts";

/** Large enough for its checksum to be left to a thread. */
function largeRdb(): Uint8Array {
  const writer = new RdbWriter("redis:7.0", { compress: false });
  const value = new Slice();
  value.reserve(1 << 20).fill(97);
  writer.database(0);
  for (let i = 0; i < 40; i++) writer.key(Buffer.from(`key:${i}`)).string(value);
  writer.finish();
  return writer.take();
}

test("check compares the checksum of a large file, in all of its parts", async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "large.rdb");
  writeFileSync(path, largeRdb());
  assert.equal((await tidemark("check", path)).status, 0);
  for (const share of [0.1, 0.5, 0.9]) {
    const bytes = readFileSync(path);
    const at = Math.floor(bytes.length * share);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    const damaged = join(folder.path, "damaged.rdb");
    writeFileSync(damaged, bytes);
    const { status, stdout } = await tidemark("check", damaged);
    assert.equal(status, 3);
    assert.match(stdout, /wrong checksum/);
  }
});
