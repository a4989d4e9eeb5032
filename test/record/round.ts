/**
 * One round: a source under random writes, a recorder that is killed and cut off meanwhile, and in the
 * end a stock server that is started on the spool and must hold what the source holds.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askStatus, type Status } from "../../src/record/status.ts";
import { freePort } from "../link/ports.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";
import { Proxy } from "./proxy.ts";
import { randomFrom, writeRandomly } from "./workload.ts";

/** Which server reads the spool of which source: its own version, and 7.0 that of a 6.x. */
export const readers: Readonly<Record<string, ServerId>> = {
  "redis-6.0": "redis-7.0",
  "redis-7.0": "redis-7.0",
  "redis-8.0": "redis-8.0",
  "valkey-8.1": "valkey-8.1",
  "valkey-9": "valkey-9",
};

export type RoundFacts = { readonly kills: number; readonly cuts: number; readonly gaps: number };

const phases = 5;
const batches = 20;
const writingMs = 100;
const patienceMs = 30_000;

export async function runRound(id: ServerId, seed: number): Promise<RoundFacts> {
  const random = randomFrom(seed);
  using folder = temporaryFolder();
  const port = await freePort();
  const proxyPort = await freePort();
  await using source = await startSource(id, port, join(folder.path, "source"));
  await using _proxy = await Proxy.open(proxyPort, port);
  const proxy = _proxy;
  const spool = join(folder.path, "spool");
  const fsync = (["always", "everysec", "no"] as const)[Math.floor(random() * 3)] ?? "everysec";
  const start = () => startRecorder(`redis://127.0.0.1:${proxyPort}`, spool, fsync);
  let recorder = start();
  let kills = 0;
  let cuts = 0;
  try {
    await writeRandomly(source.client, 300, random);
    for (let phase = 0; phase < phases; phase++) {
      await streaming(spool);
      const writing = writeForAWhile(source, random);
      const what = random();
      if (what < 0.5) {
        await sleep(random() * writingMs);
        await kill(recorder);
        kills++;
        recorder = start();
      } else if (what < 0.9) {
        proxy.cutAfter(Math.floor(random() * 20_000));
        cuts++;
      }
      await writing;
    }
    const status = await caughtUp(source, spool);
    recorder.kill("SIGTERM");
    await once(recorder, "exit");
    await compare(id, source, join(spool, "appendonlydir"));
    return { kills, cuts, gaps: status.gaps.length };
  } finally {
    recorder.kill("SIGKILL");
  }
}

async function startSource(id: ServerId, port: number, dir: string): Promise<RunningServer> {
  mkdirSync(dir);
  return await startServer(id, {
    dir,
    conf: {
      port,
      bind: "127.0.0.1",
      "repl-diskless-sync-delay": 0,
      "repl-ping-replica-period": 3600,
      "repl-backlog-size": "16mb",
    },
  });
}

function startRecorder(address: string, spool: string, fsync: string): ChildProcess {
  const args = [join(checkout, "src/cli/main.ts"), "record", address, spool, "--fsync", fsync];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000);
  });
  child.on("exit", (code) => {
    if (code !== null && code !== 0) console.error(`The recorder ended with ${code}: ${said}`);
  });
  return child;
}

async function kill(recorder: ChildProcess): Promise<void> {
  const gone =
    recorder.exitCode === null && recorder.signalCode === null ? once(recorder, "exit") : null;
  recorder.kill("SIGKILL");
  await gone;
}

/** Batches with pauses between them, so that a kill may come before, in or after any of them. */
async function writeForAWhile(source: RunningServer, random: () => number): Promise<void> {
  for (let i = 0; i < batches; i++) {
    await writeRandomly(source.client, 60, random);
    await sleep(writingMs / batches);
  }
}

async function streaming(spool: string): Promise<void> {
  for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(20)) {
    const status = await askStatus(spool).catch(() => undefined);
    if (status?.state === "streaming") return;
  }
  throw new Error("The recorder does not get to the stream");
}

/** Waits until all that the source has sent is on disk. */
async function caughtUp(source: RunningServer, spool: string): Promise<Status> {
  const end = performance.now() + patienceMs;
  let last: Status | undefined;
  while (performance.now() < end) {
    const info = String(await source.call("INFO", "replication"));
    const offset = Number(/master_repl_offset:(\d+)/.exec(info)?.[1]);
    last = await askStatus(spool).catch(() => undefined);
    if (last?.state === "streaming" && last.writtenOffset === offset) return last;
    await sleep(50);
  }
  throw new Error(`The recorder does not catch up: ${JSON.stringify(last)}`);
}

/** A stock server on a copy of the log must hold what the source holds. */
async function compare(id: ServerId, source: RunningServer, log: string): Promise<void> {
  using folder = temporaryFolder();
  cpSync(log, join(folder.path, "appendonlydir"), { recursive: true });
  await using reader = await startServer(readers[id] ?? id, {
    dir: folder.path,
    conf: { appendonly: "yes", "aof-load-truncated": "no" },
  });
  assert.equal(await reader.debugDigest(), await source.debugDigest());
}
