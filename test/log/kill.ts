/** Kills a process that appends to a spool, and looks whether all is there that it acknowledged. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Slice } from "../../src/base/bytes.ts";
import { RecordScanner } from "../../src/codec/aof/framing.ts";
import type { FsyncPolicy } from "../../src/log/spool.ts";
import { Spool } from "../../src/log/spool.ts";
import type { Random } from "../../src/log/testing.ts";
import { temporaryFolder } from "../support/folder.ts";
import { baseOffset, batchAt } from "./numbered.ts";

const program = new URL("./appender.ts", import.meta.url).pathname;

/** `rounds` times in one folder. Returns how many bytes came to be in the spool. */
export async function killRounds(
  random: Random,
  rounds: number,
  fsync: FsyncPolicy,
): Promise<number> {
  using dir = temporaryFolder();
  let last = baseOffset;
  for (let round = 0; round < rounds; round++) {
    const acknowledged = await runAndKill(dir.path, fsync, random.below(60));
    assert.ok(acknowledged.position === 0 || acknowledged.position === last, "It goes on there");
    await using spool = await Spool.open(dir.path);
    if (spool.position === undefined) continue;
    assert.ok(
      spool.position.offset >= acknowledged.durable,
      `${JSON.stringify(acknowledged)} is there`,
    );
    last = spool.position.offset;
    verify(spool, last);
  }
  return last;
}

/** Each record once, in order, up to the position. */
function verify(spool: Spool, end: number): void {
  const scanner = new RecordScanner();
  const slice = new Slice();
  const found: Uint8Array[] = [];
  for (const { path } of spool.generation?.segments ?? []) {
    scanner.push(readFileSync(path));
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record" || (scanner.argument(0, slice) && slice.latin1() === "SELECT"))
        continue;
      if (scanner.raw(slice)) found.push(slice.copy());
    }
  }
  const expected: Uint8Array[] = [];
  for (let at = baseOffset; at < end; ) {
    const bytes = batchAt(at);
    expected.push(bytes);
    at += bytes.length;
  }
  assert.ok(Buffer.concat(found).equals(Buffer.concat(expected)), "All is there, once");
}

/** What it said before it was killed, `afterLines` lines after it began to write. */
async function runAndKill(
  folder: string,
  fsync: FsyncPolicy,
  afterLines: number,
): Promise<{ position: number; durable: number }> {
  const child = spawn(process.execPath, [program, folder, fsync], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  let lines = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
    lines += chunk.filter((byte) => byte === 10).length;
    if (lines > afterLines) kill(child);
  });
  await once(child, "close");
  // What it said while it was being killed counts too: it is in the pipe.
  const numbers = (word: string) =>
    [...said.matchAll(new RegExp(`${word} (\\d+)\n`, "g"))].map((match) => Number(match[1]));
  return { position: numbers("position").at(-1) ?? 0, durable: numbers("durable").at(-1) ?? 0 };
}

function kill(child: ChildProcess): void {
  child.kill("SIGKILL");
}
