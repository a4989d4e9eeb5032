/**
 * Whether WAIT and WAITAOF on a source tell the truth about a recorder's disk.
 *
 * Clients write keys, each its own, and have each confirmed by `WAIT 1 0` or `WAITAOF 0 1 0`. At some
 * moment the recorder gets a `kill -9`. Every confirmation that a client ever saw has to be true: the
 * write is in the spool as it lies there, before the last position line, where the next recorder goes
 * on from. That one follows at once, into the same spool, under the next clients.
 *
 * A check that has never failed proves little. So there is a recorder that acknowledges too early:
 * what it has received, and not what is on disk. It has to be found out.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Slice } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogScanner } from "../../src/codec/aof/log-scanner.ts";
import { type Manifest, parseManifest } from "../../src/codec/aof/manifest.ts";
import { spoolPaths } from "../../src/log/spool-files.ts";
import { askStatus } from "../../src/record/status.ts";
import { freePort } from "../link/ports.ts";
import { checkout } from "../support/checkout.ts";
import type { Client } from "../support/client.ts";
import { temporaryFolder } from "../support/folder.ts";
import type { ServerId } from "../support/servers.ts";
import { Source } from "./source.ts";
import type { Random } from "./workload.ts";

export type HonestyFacts = {
  readonly kills: number;
  /** Writes that were confirmed. */
  readonly confirmed: number;
  /** Kills after which all that was confirmed is there. */
  readonly honest: number;
  /** Some of the writes that are not there, for people. */
  readonly missing: readonly string[];
};

export type HonestyOptions = {
  readonly kills: number;
  readonly random: Random;
  /** Takes the recorder that acknowledges too early. */
  readonly isHasty?: boolean;
};

const clientCount = 6;
const longestMs = 60;
const patienceMs = 20_000;

/** Kills recorders of one source into one spool, again and again. */
export async function testHonesty(
  id: ServerId,
  { kills, random, isHasty = false }: HonestyOptions,
): Promise<HonestyFacts> {
  using folder = temporaryFolder();
  const port = await freePort();
  await using source = await Source.start(id, join(folder.path, "source"), { port });
  const spool = join(folder.path, "spool");
  const log = new SpoolReader(spool);
  const facts = { kills, confirmed: 0, honest: 0, missing: [] as string[] };
  for (let kill = 0; kill < kills; kill++) {
    const recorder = startRecorder(port, spool, isHasty);
    try {
      // Of a first base, the log has nothing.
      if (kill === 0) await streaming(spool, recorder);
      const confirmed = await writeAndKill(source, recorder, { name: `k${kill}`, random });
      const found = log.readOn();
      const missing = confirmed.filter((key) => !found.has(key));
      facts.confirmed += confirmed.length;
      if (missing.length === 0) facts.honest++;
      facts.missing.push(...missing.slice(0, 3));
    } finally {
      recorder.kill("SIGKILL");
    }
  }
  return facts;
}

function startRecorder(port: number, spool: string, isHasty: boolean): ChildProcess {
  const main = join(checkout, "src/cli/main.ts");
  const flags = ["--fsync", "always", "--follow", "master", "--segment-mb", "1"];
  const args = [main, "record", `redis://127.0.0.1:${port}`, spool, ...flags];
  const before = isHasty ? ["--import", `data:text/javascript,${encodeURIComponent(haste)}`] : [];
  return spawn(process.execPath, [...before, ...args], { stdio: "ignore" });
}

/** Makes a recorder acknowledge what it has received. */
const haste = `
  import { Spool } from "${pathToFileURL(join(checkout, "src/log/spool.ts")).href}";
  const received = { get() { return this.position; } };
  const receivedOffset = { get() { return this.position?.offset; } };
  Object.defineProperties(Spool.prototype, { synced: received, durableOffset: receivedOffset });
`;

async function streaming(spool: string, recorder: ChildProcess): Promise<void> {
  for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(10)) {
    const status = await askStatus(spool).catch(() => undefined);
    if (status && status.process === recorder.pid && status.state === "streaming") return;
  }
  throw new Error("The recorder does not get to the stream");
}

type Killing = { readonly name: string; readonly random: Random };

/** The keys whose writes were confirmed, in whatever way, until the recorder was gone. */
async function writeAndKill(
  source: Source,
  recorder: ChildProcess,
  { name, random }: Killing,
): Promise<string[]> {
  const confirmed: string[] = [];
  const { promise: first, resolve: isFirst } = Promise.withResolvers<void>();
  const canWaitAof = ["redis-8.0", "valkey-8.1", "valkey-9"].includes(source.id);
  const clients = await Promise.all(
    Array.from({ length: clientCount }, () => source.server.connect()),
  );
  const writing = clients.map(async (client, i) => {
    const question = canWaitAof && i % 2 === 0 ? ["WAITAOF", 0, 1, 0] : ["WAIT", 1, 0];
    // The recorder's end is the end of waiting: then the connection is closed, and asking fails.
    await writeConfirmed(client, { name: `${name}:${i}`, question, confirmed, isFirst });
  });
  const late = setTimeout(() => recorder.kill("SIGKILL"), patienceMs);
  const gone = once(recorder, "exit");
  await Promise.race([first, gone]);
  clearTimeout(late);
  await sleep(random() * longestMs);
  recorder.kill("SIGKILL");
  await gone;
  for (const client of clients) client.close();
  await Promise.all(writing);
  assert.ok(confirmed.length > 0, "Something was confirmed before the kill");
  return confirmed;
}

type Writing = {
  readonly name: string;
  readonly question: readonly (string | number)[];
  readonly confirmed: string[];
  readonly isFirst: () => void;
};

async function writeConfirmed(client: Client, writing: Writing): Promise<void> {
  const { name, question, confirmed, isFirst } = writing;
  try {
    for (let i = 0; ; i++) {
      const key = `${name}:${i}`;
      const [, reply] = await client.pipeline([["SET", key, "x".repeat(i % 200)], question]);
      const count = Array.isArray(reply) ? reply[1] : reply;
      if (!(Number(count) >= 1)) continue;
      confirmed.push(key);
      isFirst();
    }
  } catch (error) {
    if (!(error instanceof Error) || !/closed the connection/.test(error.message)) throw error;
  }
}

/** Reads on in the log of a spool, as far as a recorder would go on from it. */
class SpoolReader {
  readonly #folder: string;
  #base = "";
  #file = "";
  #end = 0;
  #position: PositionLine | undefined;

  constructor(spool: string) {
    this.#folder = spoolPaths(spool).log;
  }

  /** The keys that were set since the last call. */
  readOn(): Set<string> {
    const { base, increments } = this.#manifest();
    this.#base ||= base?.file ?? "";
    assert.equal(base?.file, this.#base, "No new base was taken");
    const names = increments.map(({ file }) => file);
    const keys = new Set<string>();
    for (const name of names.slice(Math.max(0, names.indexOf(this.#file)))) {
      if (name !== this.#file) this.#end = 0;
      this.#file = name;
      this.#readFile(name, keys);
    }
    return keys;
  }

  #manifest(): Manifest {
    return parseManifest(readFileSync(join(this.#folder, "appendonly.aof.manifest")));
  }

  #readFile(name: string, keys: Set<string>): void {
    const after = this.#position ? { after: this.#position } : {};
    const scanner = new LogScanner({ offset: this.#end, ...after });
    scanner.push(readFileSync(join(this.#folder, name)).subarray(this.#end));
    const slice = new Slice();
    let batch: string[] = [];
    try {
      for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
        if (item === "record" && scanner.scanner.argc === 3 && scanner.scanner.argument(1, slice)) {
          batch.push(slice.latin1());
        }
        if (item !== "position") continue;
        for (const key of batch) keys.add(key);
        batch = [];
      }
    } catch (error) {
      // What is torn is cut off by the next recorder; a crash of a process tears nothing else.
      if (!(error instanceof Failure)) throw error;
    }
    this.#end = scanner.sealedEnd;
    this.#position = scanner.position;
  }
}
