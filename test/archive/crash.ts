/** Kills a process that archives, again and again, and looks whether all is there in the end, once. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { initRepository, openRepository } from "../../src/archive/repository.ts";
import { systemDisk } from "../../src/log/disk.ts";
import { Spool } from "../../src/log/spool.ts";
import type { Random } from "../../src/log/testing.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { temporaryFolder } from "../support/folder.ts";
import { acquire, archiverOf, keepIn, keeping, readKept, verifyArchive } from "./shipping.ts";

const program = new URL("./crash-child.ts", import.meta.url).pathname;
const verifyEvery = 10;

export type CrashFacts = {
  kills: number;
  /** What the processes said that they did. */
  pieces: number;
  bases: number;
  tidied: number;
  discarded: number;
  rebased: number;
  lines: number;
  bytes: number;
};

export async function crashRounds(random: Random, rounds: number): Promise<CrashFacts> {
  using dir = temporaryFolder();
  const facts = {
    kills: 0,
    pieces: 0,
    bases: 0,
    tidied: 0,
    discarded: 0,
    rebased: 0,
    lines: 0,
    bytes: 0,
  };
  await initRepository(new DirectoryStore(join(dir.path, "repository")));
  for (let round = 1; round <= rounds; round++) {
    await runAndKill(dir.path, random, facts);
    if (round % verifyEvery === 0 || round === rounds) await finish(dir.path, facts);
  }
  return facts;
}

/** Ends somewhere behind a line that it has said. */
async function runAndKill(folder: string, random: Random, facts: CrashFacts): Promise<void> {
  const child = spawn(process.execPath, [program, folder, `${random.below(2 ** 31)}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const afterLines = random.below(60);
  const delayMs = random.below(6);
  let said = "";
  let isEnding = false;
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
    if (isEnding || said.split("\n").length <= afterLines) return;
    isEnding = true;
    setTimeout(() => child.kill("SIGKILL"), delayMs);
  });
  const [, signal] = await once(child, "close");
  assert.equal(signal, "SIGKILL", "It does not end by itself");
  const count = (word: string) => said.split("\n").filter((line) => line === word).length;
  assert.equal(count("stuck") + count("trouble"), 0, said);
  facts.kills++;
  facts.pieces += count("piece");
  facts.bases += count("base");
  facts.tidied += count("tidied");
  facts.discarded += count("discarded");
  facts.rebased += count("rebased");
}

/** Ships what is left, and compares. */
async function finish(folder: string, facts: CrashFacts): Promise<void> {
  const repository = await openRepository(new DirectoryStore(join(folder, "repository")));
  await using spool = await Spool.open(join(folder, "spool"));
  await using lease = await acquire(repository);
  const keep = keepIn(join(folder, "kept"));
  const temporary = join(folder, "spool", "archive");
  const archiver = archiverOf({
    ...{ repository, lease, temporaryFolder: temporary },
    spool: keeping(spool, systemDisk, keep),
  });
  await archiver.shipNow();
  await archiver.verifyBases(new AbortController().signal);
  assert.equal(archiver.status.trouble, undefined);
  const kept = readKept(join(folder, "kept"));
  const { lines } = await verifyArchive(repository, { spool, disk: systemDisk, kept });
  facts.lines = lines.length;
  const pieces = lines.flatMap(({ runs }) => runs.flatMap((run) => run.pieces));
  facts.bytes = pieces.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
  assert.ok(!existsSync(temporary) || readdirSync(temporary).length === 0);
}
