import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../../test/support/folder.ts";
import { tarHeader, writeTar } from "./tar.ts";

test("writeTar() writes what `tar` reads, whatever the sizes", async () => {
  using folder = temporaryFolder();
  const sizes = [0, 1, 511, 512, 513, 100_000];
  const files = sizes.map((size) => {
    const path = join(folder.path, `file-${size}`);
    writeFileSync(path, Buffer.alloc(size, size % 251));
    return { path, name: `out/file-${size}` };
  });
  let read = 0;
  const chunks = await Array.fromAsync(writeTar(files, (bytes) => (read += bytes)));
  const tar = join(folder.path, "all.tar");
  writeFileSync(tar, Buffer.concat(chunks));
  assert.equal(
    read,
    sizes.reduce((sum, size) => sum + size),
  );
  execFileSync("tar", ["-xf", tar, "-C", folder.path]);
  for (const { path, name } of files) {
    assert.deepEqual(readFileSync(join(folder.path, name)), readFileSync(path), name);
  }
});

test("tarHeader() says sizes that octal digits do not hold in binary", () => {
  const header = Buffer.from(tarHeader("large", 2 ** 40, 0));
  assert.equal(header[124], 0x80);
  assert.equal(header.readBigUInt64BE(128), 2n ** 40n);
});
