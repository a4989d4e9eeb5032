import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { crc64, joinCrc64 } from "../codec/rdb/crc64.ts";
import { ChecksumThread } from "./checksum-thread.ts";

const bytes = new Uint8Array(300_000).map((_, i) => (i * 7) ^ (i >> 8));

async function withFile(use: (path: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-"));
  try {
    const path = join(folder, "file");
    writeFileSync(path, bytes);
    await use(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("sum() and the sum of what is before its start are that of all", async () => {
  await withFile(async (path) => {
    await using thread = new ChecksumThread(path, bytes.length);
    // Where an RDB ends that fills the file, one that does not, and one before the thread's part.
    for (const end of [bytes.length - 8, bytes.length - 5000, thread.start - 1]) {
      const first = crc64(bytes, 0, Math.min(thread.start, end));
      const rest = await thread.sum(end);
      assert.equal(joinCrc64(first, rest, Math.max(0, end - thread.start)), crc64(bytes, 0, end));
    }
  });
});

test("sum() says that the file cannot be read", async () => {
  await using thread = new ChecksumThread("/nowhere/at/all", bytes.length);
  await assert.rejects(thread.sum(bytes.length - 8), { code: "FILE_MISSING" });
});
