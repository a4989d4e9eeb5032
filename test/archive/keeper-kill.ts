/** Kills a process that takes sets and lets them expire, and looks whether the catalogue is right. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readCatalogue, windowsOf } from "../../src/archive/catalogue.ts";
import { openRepository } from "../../src/archive/repository.ts";
import { verifyAll } from "../../src/archive/verify.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { Random } from "../../src/log/testing.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { temporaryFolder } from "../support/folder.ts";
import { instance } from "./filled.ts";

const program = new URL("./keeper.ts", import.meta.url).pathname;

export type KillCounts = { sets: number; expiries: number; inSet: number; inExpiry: number };

/** `rounds` times in one folder. Tells what was done, and in what it was killed. */
export async function keeperRounds(random: Random, rounds: number): Promise<KillCounts> {
  using folder = temporaryFolder();
  const counts: KillCounts = { sets: 0, expiries: 0, inSet: 0, inExpiry: 0 };
  for (let round = 0; round < rounds; round++) {
    const said = await runAndKill(folder.path, random);
    const last = said.at(-1);
    counts.sets += said.filter((word) => word.startsWith("good")).length;
    counts.expiries += said.filter((word) => word === "expired").length;
    if (last === "set") counts.inSet++;
    if (last === "expire") counts.inExpiry++;
    await check(folder.path, said);
  }
  return counts;
}

async function check(folder: string, said: readonly string[]): Promise<void> {
  await using store = new DirectoryStore(folder);
  const repository = await openRepository(store);
  const catalogue = await readCatalogue(store, instance);
  assert.deepEqual(catalogue.unknown, []);
  const { sets, log } = await verifyAll(repository, instance, {
    ...{ clock: systemClock, records: false },
  });
  // Whole, and of what was said to be good all is there but what has expired.
  assert.ok(sets.every(({ isGood }) => isGood));
  const newest = said.findLast((word) => word.startsWith("good"))?.slice(5);
  if (newest !== undefined) {
    assert.ok(catalogue.sets.some(({ name, isVerified }) => name === newest && isVerified));
  }
  assert.deepEqual([log.findings, log.holes], [[], []]);
  // Each line is replayed from its set: of what has not expired, windows are whole days.
  for (const { fromMs, toMs } of windowsOf(catalogue)) assert.ok(toMs >= fromMs);
  // What a killed expiry leaves goes with the next one, and so it does not gather.
  assert.ok(catalogue.sets.length < 20 && catalogue.unfinished.size <= 4);
}

/** What it said before it was killed: some lines after it began, and a little later. */
async function runAndKill(folder: string, random: Random): Promise<string[]> {
  const child = spawn(process.execPath, [program, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const afterLines = random.below(14);
  const laterMs = random.below(12);
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
    if (said.split("\n").length <= afterLines + 1) return;
    setTimeout(() => child.kill("SIGKILL"), laterMs);
  });
  const [, signal] = await once(child, "close");
  assert.equal(signal, "SIGKILL", "It goes on until it is killed");
  return said.split("\n").filter((line) => line !== "");
}
