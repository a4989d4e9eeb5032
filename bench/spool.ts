/**
 * How fast a spool takes what a source sends, beside the same bytes written and synced bare.
 *
 * The bare side writes the batches as they are, one `write` each, in the thread pool as the spool
 * does, and syncs each second (or after each write): no framing, no checksums, no position lines.
 * Both sides see the same commands, in batches of the sizes that sockets give.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type FsyncPolicy, Spool } from "../src/log/spool.ts";
import { median } from "./measure.ts";

const rounds = 5;
const replicationId = "0123456789abcdef0123456789abcdef01234567";
const [folder = "."] = process.argv.slice(2);

type Result = { readonly seconds: number; readonly cpuSeconds: number };

/** `SET` with a 16-byte key and a value of 64 bytes: 108 bytes a command. */
function makeBatch(size: number): { readonly bytes: Uint8Array; readonly commands: number } {
  const value = "v".repeat(64);
  let text = "";
  let commands = 0;
  while (text.length < size) {
    const key = `key:${String(commands++).padStart(12, "0")}`;
    text += `*3\r\n$3\r\nSET\r\n$16\r\n${key}\r\n$64\r\n${value}\r\n`;
  }
  return { bytes: Buffer.from(text, "latin1"), commands };
}

async function viaSpool(bytes: Uint8Array, count: number, fsync: FsyncPolicy): Promise<Result> {
  const dir = mkdtempSync(join(folder, "spool-"));
  try {
    await using spool = await Spool.open(dir, { fsync });
    const base = await spool.beginBase({ replicationId, offset: 0, ms: 1, database: 0 }, "none");
    await base.commit();
    return await timed(async () => {
      let offset = 0;
      for (let i = 0; i < count; i++) {
        const startOffset = offset;
        offset += bytes.length;
        const batch = { replicationId, startOffset, offset, ms: i, database: 0 };
        if (!spool.append(bytes, batch)) await spool.room();
        spool.tick();
        // As sockets do: a batch a turn of the event loop.
        await new Promise(setImmediate);
      }
      await spool.flush();
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function bare(bytes: Uint8Array, count: number, fsync: FsyncPolicy): Promise<Result> {
  const dir = mkdtempSync(join(folder, "spool-"));
  try {
    await using file = await open(join(dir, "log"), "w");
    return await timed(async () => {
      let syncedAt = performance.now();
      let syncing: Promise<void> | undefined;
      for (let i = 0; i < count; i++) {
        await file.write(bytes, 0, bytes.length, i * bytes.length);
        if (fsync === "always") await file.datasync();
        else if (fsync === "everysec" && performance.now() - syncedAt >= 1000) {
          await syncing;
          syncedAt = performance.now();
          syncing = file.datasync();
        }
      }
      await syncing;
      await file.datasync();
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function timed(run: () => Promise<void>): Promise<Result> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await run();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, cpuSeconds: (user + system) / 1e6 };
}

for (const [fsync, megabytes] of [
  ["no", 512],
  ["everysec", 512],
  ["always", 64],
] as const) {
  for (const size of [16 * 1024, 64 * 1024]) {
    const { bytes, commands } = makeBatch(size);
    const count = Math.ceil((megabytes * 1e6) / bytes.length);
    const results: [Result, Result][] = [];
    for (let round = 0; round < rounds; round++) {
      results.push([await viaSpool(bytes, count, fsync), await bare(bytes, count, fsync)]);
    }
    const speed = (side: 0 | 1) =>
      median(results.map((pair) => (count * bytes.length) / 1e6 / pair[side].seconds));
    const cpu = (side: 0 | 1) =>
      median(results.map((pair) => pair[side].cpuSeconds / ((count * commands) / 1e6)));
    const ratio = median(results.map(([ours, theirs]) => theirs.seconds / ours.seconds));
    console.log(
      `${fsync.padEnd(8)} ${String(size / 1024).padStart(3)} KB batches: ` +
        `spool ${speed(0).toFixed(0)} MB/s, bare ${speed(1).toFixed(0)} MB/s, ${ratio.toFixed(2)}x; ` +
        `CPU a million commands: spool ${cpu(0).toFixed(3)} s, bare ${cpu(1).toFixed(3)} s`,
    );
  }
}
