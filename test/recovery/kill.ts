/**
 * Kills `tidemark restore` at any moment, and looks at what it leaves.
 *
 * WHY. A restore is run when things are bad already, on machines that may go down again. What it has
 * half done must not be taken for the data: by a server that is started on the folder, or by whoever
 * uses the server that was restored to.
 *
 * INVARIANTS that each round proves
 *
 *   1. A folder has its data under the names that servers look for only when all of it is there, byte
 *      for byte what a restore that was not disturbed writes. Until then a server starts empty on it.
 *   2. A server has the marker, or nothing yet, or what it had before, or all that it should have.
 *   3. The next run of the same command makes it whole, and leaves nothing else: no marker, no file
 *      beside the data, none in the folder for temporary ones.
 *
 * What is right is what the source said of itself at that position or time.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Site } from "../cli/daemon.ts";
import { tidemark } from "../cli/tidemark.ts";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import { type Random, randomFrom, writeForOld } from "../record/workload.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type RunningServer, startServer } from "../support/servers.ts";

export type KillFacts = {
  /** Killed while it ran; it had ended before. */
  kills: number;
  late: number;
  folder: { nothing: number; incomplete: number; complete: number };
  server: {
    untouched: number;
    incomplete: number;
    complete: number;
    /** Run again before anybody looked. */
    unseen: number;
  };
  /** By phase of the marker. */
  phases: Record<string, number>;
  resumed: number;
  refused: number;
};

export type KillOptions = {
  readonly rounds: number;
  readonly seed: number;
  /** How much is restored: 1 is some 100 MB. */
  readonly scale: number;
  readonly report?: (text: string) => void;
};

type Target = { readonly at: string; readonly digest: string };
type Shape = "appendonlydir" | "appendonly.aof";
type Outcome = { readonly status: number | null; readonly stdout: string; readonly stderr: string };
type Pace = { totalMs: number; workMs: number };

const id = "redis-8.0";
const marker = "tidemark:restore";
const bursts = 8;
/** Longer than the clocks of source and recorder can differ in what they say of a batch. */
const quietMs = 120;
const pollMs = 3;
const writers = 4;

export async function killRounds(options: KillOptions): Promise<KillFacts> {
  const { rounds, seed, report } = options;
  const random = randomFrom(seed);
  using folder = temporaryFolder();
  const archive = await fillArchive(folder.path, options, random);
  report?.(`the archive is filled: ${JSON.stringify(archive.facts)}`);
  const port = await freePort();
  await using server = await startServer(id, { conf: { port } });
  const bed = new KillBed({ ...archive, server, port, random, folder: folder.path });
  for (let round = 0; round < rounds; round++) {
    const isFolder = random() < 0.5;
    const startedMs = performance.now();
    try {
      const what = isFolder ? await bed.intoFolder() : await bed.intoServer();
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      report?.(`${round + 1}: ${what}, ${seconds} s`);
    } catch (error) {
      const place = isFolder ? "folder" : "server";
      throw new Error(`Round ${round + 1} of seed ${seed}, into a ${place}`, { cause: error });
    }
  }
  return bed.facts;
}

type Archive = { readonly site: Site; readonly targets: readonly Target[]; readonly facts: object };

/** Records a source that is written to in bursts; what it held between them are the targets. */
async function fillArchive(
  folder: string,
  { scale }: KillOptions,
  random: Random,
): Promise<Archive> {
  const conf = { "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1 };
  await using source = await startServer(id, { conf: { ...conf, "repl-backlog-size": "64mb" } });
  await writeForOld(source.client, 3000, random);
  await source.call("SELECT", 5);
  // Two marks' worth: a restore can go on behind some of them.
  await source.call("DEBUG", "POPULATE", Math.ceil(450_000 * scale), "many", 32);
  await source.call("SELECT", 0);
  const repository = join(folder, "repository");
  const site = new Site(folder, source.socketPath, "segment_size: 4MB", repository);
  const made = await tidemark("init", repository);
  assert.equal(made.status, 0, made.stderr);
  await using daemon = site.up();
  await daemon.told("archive verified");
  const targets: Target[] = [];
  for (let burst = 0; burst < bursts; burst++) {
    await writeBurst(source, scale, random);
    await sleep(quietMs);
    const { target } = await observe(source, random);
    await sleep(quietMs);
    targets.push(target);
    if (burst !== 4) continue;
    const { status, stderr } = await site.run("backup", "db1");
    assert.equal(status, 0, stderr);
  }
  // A time can be restored when something behind it is archived.
  await source.call("SET", "behind", "all");
  const { offset: last } = await observe(source, random);
  await until("all is archived", async () => {
    const status = await site.json("status", "db1");
    return status.instances[0]?.live?.archive?.shippedOffset >= last;
  });
  await daemon.stop("SIGTERM");
  return { site, targets, facts: { targets: targets.length, logBytes: last } };
}

async function writeBurst(source: RunningServer, scale: number, random: Random): Promise<void> {
  const write = async (numbers: Random) => {
    await using client = await source.connect();
    for (let done = 0; done < 8000 * scale; done += 500) await writeForOld(client, 500, numbers);
  };
  const count = async (numbers: Random) => {
    await using client = await source.connect();
    await client.call("SELECT", 6);
    const value = Buffer.alloc(2000);
    for (let done = 0; done < 3000 * scale; done += 200) {
      const commands = Array.from({ length: 200 }, () => {
        for (let i = 0; i < value.length; i++) value[i] = Math.floor(numbers() * 256);
        // Done twice or not at all, these show.
        return [
          ["APPEND", `grows:${Math.floor(numbers() * 200)}`, Buffer.from(value)],
          ["INCR", "counter"],
          ["RPUSH", "list", String(done)],
        ];
      });
      await client.pipeline(commands.flat());
    }
  };
  const seeded = () => randomFrom(Math.floor(random() * 2 ** 31));
  await Promise.all([count(seeded()), ...Array.from({ length: writers }, () => write(seeded()))]);
}

/** What the source holds, named by its position or its time. */
async function observe(
  { client }: RunningServer,
  random: Random,
): Promise<{ target: Target; offset: number }> {
  const digest = String(await client.call("DEBUG", "DIGEST"));
  const info = String(await client.call("INFO", "replication"));
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, "m").exec(info)?.[1];
  const [seconds, micros] = ((await client.call("TIME")) as unknown[]).map(Number);
  const time = new Date((seconds as number) * 1000 + Math.floor((micros as number) / 1000));
  const offset = Number(field("master_repl_offset"));
  const position = `@${field("master_replid")}:${offset}`;
  return { target: { at: random() < 0.5 ? position : time.toISOString(), digest }, offset };
}

type BedOptions = Archive & {
  readonly server: RunningServer;
  readonly port: number;
  readonly random: Random;
  readonly folder: string;
};

class KillBed {
  readonly facts: KillFacts = {
    ...{ kills: 0, late: 0, phases: {}, resumed: 0, refused: 0 },
    folder: { nothing: 0, incomplete: 0, complete: 0 },
    server: { untouched: 0, incomplete: 0, complete: 0, unseen: 0 },
  };
  readonly #bed: BedOptions;
  readonly #random: Random;
  /** Where the program makes its temporary folders. */
  readonly #scratch: string;
  /** What a restore that is left alone writes, by target and shape. */
  readonly #whole = new Map<string, string>();
  readonly #paces = new Map<string, Pace>();
  /** What the server holds. */
  #held: Target | undefined;

  constructor(bed: BedOptions) {
    this.#bed = bed;
    this.#random = bed.random;
    this.#scratch = join(bed.folder, "scratch");
    mkdirSync(this.#scratch);
  }

  async intoFolder(): Promise<string> {
    const target = pick(this.#random, this.#bed.targets);
    const shape: Shape = this.#random() < 0.25 ? "appendonly.aof" : "appendonlydir";
    const whole = await this.#wholeOf(target, shape);
    const parent = join(this.#bed.folder, "killed");
    const folder = join(parent, "data");
    mkdirSync(parent);
    const args = folderArguments(target, shape, folder);
    const hasBegun = async () => existsSync(folder) && readdirSync(folder).length > 0;
    const seen: string[] = [];
    for (let kills = this.#random() < 0.3 ? 2 : 1; kills > 0; kills--) {
      const isFirst = seen.length === 0;
      await this.#runAndKill(args, shape, isFirst ? hasBegun : undefined);
      const state = folderState(folder, shape);
      seen.push(state);
      this.facts.folder[state]++;
      if (state === "complete") break;
      if (state === "incomplete") await this.#startsEmpty(folder);
    }
    const again = await this.#run(args);
    if (seen.at(-1) === "complete") {
      assert.notEqual(again.status, 0);
      assert.match(again.stderr, /Cannot restore into ".*": it is not empty: it has "appendonly/);
      this.facts.refused++;
    } else {
      assert.equal(again.status, 0, again.stderr);
    }
    assert.deepEqual(readdirSync(parent), ["data"]);
    assert.deepEqual(readdirSync(folder), [shape]);
    assert.deepEqual(readdirSync(this.#scratch), []);
    assert.equal(hashOf(join(folder, shape)), whole, "What is there is what it should be");
    if (this.#random() < 0.1) assert.equal(await digestOf(folder), target.digest);
    rmSync(parent, { recursive: true });
    return `${shape}, ${seen.join(", ")}`;
  }

  /** Restores it undisturbed once, and has a server say that it is right. */
  async #wholeOf(target: Target, shape: Shape): Promise<string> {
    const name = `${target.at} ${shape}`;
    const known = this.#whole.get(name);
    if (known !== undefined) return known;
    const folder = join(this.#bed.folder, "whole");
    const startedMs = performance.now();
    const running = this.#start(folderArguments(target, shape, folder));
    await running.until(async () => existsSync(folder));
    const begunMs = performance.now();
    const { status, stderr } = await running.ended;
    assert.equal(status, 0, stderr);
    this.#pace(shape, startedMs, begunMs);
    const hash = hashOf(join(folder, shape));
    assert.equal(await digestOf(folder), target.digest, `${name}, undisturbed`);
    rmSync(folder, { recursive: true });
    this.#whole.set(name, hash);
    return hash;
  }

  /** A stock server sees nothing of what is not complete. */
  async #startsEmpty(folder: string): Promise<void> {
    if (this.#random() < 0.7) return;
    const copy = join(this.#bed.folder, "copy");
    cpSync(folder, copy, { recursive: true });
    assert.match(await digestOf(copy), /^0+$/);
    rmSync(copy, { recursive: true });
  }

  async intoServer(): Promise<string> {
    const { targets, server } = this.#bed;
    const others = targets.filter(({ digest }) => digest !== this.#held?.digest);
    const target = pick(this.#random, others);
    const args = this.#serverArguments(target);
    if (!this.#paces.has("server")) await this.#watchServer(args, target);
    const hasBegun = async () => (await server.call("EXISTS", marker)) === 1;
    const seen: string[] = [];
    for (let kills = this.#random() < 0.3 ? 2 : 1; kills > 0; kills--) {
      const isFirst = seen.length === 0;
      const isUnseen = this.#random() < 0.3;
      await this.#runAndKill(args, "server", isFirst ? hasBegun : undefined);
      const state = isUnseen ? "unseen" : await this.#serverState(target);
      seen.push(state);
      this.facts.server[state]++;
      if (state === "complete") break;
    }
    const isMarked = seen.at(-1) === "incomplete";
    if (isMarked && this.#random() < 0.25) await this.#refusesAnother(target);
    const isPlain = isMarked && this.#random() < 0.3;
    const again = this.#start(isPlain ? args.filter((arg) => arg !== "--overwrite") : args);
    const { status, stdout, stderr } = await again.ended;
    assert.equal(status, 0, stderr);
    const { isResumed } = JSON.parse(stdout) as { isResumed: boolean };
    if (isResumed) this.facts.resumed++;
    if (seen.at(-1) !== "unseen") assert.equal(isResumed, isMarked);
    await this.#isRight(target, seen.join(", "));
    return `server, ${seen.join(", ")}`;
  }

  /** Once undisturbed: how long it takes. */
  async #watchServer(args: readonly string[], target: Target): Promise<void> {
    const { server } = this.#bed;
    const startedMs = performance.now();
    const running = this.#start(args);
    await running.until(async () => (await server.call("EXISTS", marker)) === 1);
    const begunMs = performance.now();
    const { status, stderr } = await running.ended;
    assert.equal(status, 0, stderr);
    this.#pace("server", startedMs, begunMs);
    await this.#isRight(target, "undisturbed");
    // What is there is another moment than the one that is restored next.
    await server.call("SET", "undisturbed", "1");
    this.#held = { at: "", digest: await server.debugDigest() };
  }

  async #isRight(target: Target, what: string): Promise<void> {
    const { server } = this.#bed;
    assert.deepEqual(await server.call("KEYS", "tidemark*"), []);
    assert.equal(await server.debugDigest(), target.digest, `${target.at}: ${what}`);
    assert.deepEqual(readdirSync(this.#scratch), []);
    this.#held = target;
  }

  async #serverState(target: Target): Promise<Exclude<keyof KillFacts["server"], "unseen">> {
    const { server } = this.#bed;
    await until("what it had sent is done", async () => {
      const clients = String(await server.call("CLIENT", "LIST"));
      return clients.trim().split("\n").length === 1;
    });
    const mark = await server.call("GET", marker);
    if (mark !== null) {
      const { phase } = JSON.parse(String(mark)) as { phase: string };
      this.facts.phases[phase] = (this.facts.phases[phase] ?? 0) + 1;
      return "incomplete";
    }
    const digest = await server.debugDigest();
    if (digest === target.digest) return "complete";
    if (digest === this.#held?.digest) return "untouched";
    const wasEmpty = this.#held === undefined && /^0+$/.test(digest);
    assert.ok(wasEmpty, "What has no marker is as it was, or whole");
    return "untouched";
  }

  /** The marker keeps others away. */
  async #refusesAnother(target: Target): Promise<void> {
    const other = pick(
      this.#random,
      this.#bed.targets.filter(({ at }) => at !== target.at),
    );
    const mark = String(await this.#bed.server.call("GET", marker));
    const args = this.#serverArguments(other).filter((arg) => arg !== "--overwrite");
    const { status, stderr } = await this.#run(args);
    assert.notEqual(status, 0);
    assert.match(stderr, /another restore into this server was cut off/);
    assert.equal(String(await this.#bed.server.call("GET", marker)), mark);
    this.facts.refused++;
  }

  /** Kills it at some moment: of all its time, or of that in which it does what can be half done. */
  async #runAndKill(
    args: readonly string[],
    kind: string,
    hasBegun: (() => Promise<boolean>) | undefined,
  ): Promise<void> {
    const { totalMs, workMs } = this.#paces.get(kind) as Pace;
    const running = this.#start(args);
    if (hasBegun !== undefined && this.#random() < 0.85) {
      await running.until(hasBegun);
      await sleep(this.#random() * workMs * 1.05);
    } else {
      await sleep(this.#random() * totalMs * 1.05);
    }
    running.kill();
    const { status, stderr } = await running.ended;
    if (status === null) this.facts.kills++;
    else this.facts.late++;
    assert.ok(status === null || status === 0, stderr);
  }

  #serverArguments({ at }: Target): string[] {
    const to = `redis://127.0.0.1:${this.#bed.port}`;
    const args = ["--at", at, "--to", to, "--overwrite", "--no-safety", "--json"];
    return ["restore", "db1", ...args];
  }

  #pace(kind: string, startedMs: number, begunMs: number): void {
    const now = performance.now();
    this.#paces.set(kind, { totalMs: now - startedMs, workMs: now - begunMs });
  }

  #run(args: readonly string[]): Promise<Outcome> {
    return this.#start(args).ended;
  }

  #start(args: readonly string[]): RunningRestore {
    return new RunningRestore([...args, "--config", this.#bed.site.config], this.#scratch);
  }
}

class RunningRestore {
  readonly ended: Promise<Outcome>;
  readonly #child;
  #hasEnded = false;

  constructor(args: readonly string[], scratch: string) {
    const main = join(checkout, "src/cli/main.ts");
    const child = spawn(process.execPath, [main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: scratch },
    });
    this.#child = child;
    child.once("exit", () => {
      this.#hasEnded = true;
    });
    this.ended = outcomeOf(child);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Until it is so, or the program has ended. */
  async until(isSo: () => Promise<boolean>): Promise<void> {
    while (!this.#hasEnded && !(await isSo())) await sleep(pollMs);
  }
}

async function outcomeOf(child: ReturnType<typeof spawn>): Promise<Outcome> {
  const { stdout: out, stderr: err } = child;
  assert.ok(out && err);
  const closed = once(child, "close") as Promise<[status: number | null]>;
  const [stdout, stderr, [status]] = await Promise.all([text(out), text(err), closed]);
  return { status, stdout, stderr };
}

function folderArguments({ at }: Target, shape: Shape, folder: string): string[] {
  const old = shape === "appendonly.aof" ? ["--target", "redis:6.0", "--lossy"] : [];
  return ["restore", "db1", "--at", at, "--to-dir", folder, ...old];
}

/** By what is called so, as a server looks for it. */
function folderState(folder: string, shape: Shape): keyof KillFacts["folder"] {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  if (names.length === 0) return "nothing";
  assert.equal(names.length, 1, names.join(", "));
  if (names[0] === shape) return "complete";
  assert.equal(names[0], `${shape}.incomplete`);
  return "incomplete";
}

/** Of a file, or of all in a folder with their names. */
function hashOf(path: string): string {
  const hash = createHash("sha256");
  if (path.endsWith(".aof")) return hash.update(readFileSync(path)).digest("hex");
  for (const name of readdirSync(path).sort()) {
    hash.update(`${name}\n`).update(readFileSync(join(path, name)));
  }
  return hash.digest("hex");
}

async function digestOf(dir: string): Promise<string> {
  const conf = { appendonly: "yes", "aof-load-truncated": "no" };
  await using reader = await startServer(id, { dir, conf });
  return await reader.debugDigest();
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}
