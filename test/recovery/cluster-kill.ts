/**
 * Kills `tidemark restore` of a cluster at any moment: into a cluster, into folders, and into one that it starts.
 *
 * INVARIANTS that each round proves
 *
 *   1. A master that was restored to has a marker, or what it had before, or all that it should have.
 *   2. Folders are called `shards` only when all of them are whole; until then nothing is called so.
 *   3. Servers that it started end with it.
 *   4. The next run of the same command makes it whole, and leaves nothing else: no marker, nothing in
 *      the folder for temporary ones.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { putSlots } from "../../src/archive/cluster-slots.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { tidemark } from "../cli/tidemark.ts";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import { ClusterNodes, type Node } from "../record/cluster-nodes.ts";
import { type Random, randomFrom } from "../record/workload.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { findServer, type ServerId } from "../support/servers.ts";
import {
  ClusterBed,
  ClusterClient,
  type Clustered,
  clusterName,
  moveInSteps,
  readAll,
} from "./clustered.ts";

export type ClusterKillFacts = {
  kills: number;
  late: number;
  /** Of masters, as they were found. */
  marked: number;
  before: number;
  whole: number;
  resumed: number;
  folders: Record<string, number>;
  runs: number;
};

export type ClusterKillOptions = {
  readonly rounds: number;
  readonly seed: number;
  /** Beside those that clients read at the moments. */
  readonly moreKeys: number;
  readonly report?: (text: string) => void;
};

const id: ServerId = "redis-8.0";
const markerPattern = "tidemark:restore*";
const pollMs = 3;
/** About what it takes to write the folders. */
const folderMs = 400;

export async function clusterKillRounds(options: ClusterKillOptions): Promise<ClusterKillFacts> {
  const { rounds, seed, moreKeys, report } = options;
  const random = randomFrom(seed);
  using folder = temporaryFolder();
  const clustered = await recordMore(seed, moreKeys);
  const repository = join(folder.path, "repository");
  await store(clustered, repository);
  await using cluster = await ClusterNodes.start(id, 2);
  const bed = new KillBed({
    clustered,
    repository,
    cluster,
    random,
    folder: folder.path,
    moreKeys,
  });
  await bed.prepare();
  report?.("prepared");
  for (let round = 0; round < rounds; round++) {
    const chance = random();
    const way = chance < 0.7 ? "intoCluster" : chance < 0.85 ? "intoFolders" : "andRun";
    try {
      report?.(`${round + 1}: ${await bed[way]()}`);
    } catch (error) {
      throw new Error(`Round ${round + 1} of seed ${seed}, ${way}`, { cause: error });
    }
  }
  return bed.facts;
}

async function recordMore(seed: number, moreKeys: number): Promise<Clustered> {
  await using bed = await ClusterBed.start(id, seed);
  const [a, b] = bed.cluster.nodes as [Node, Node];
  await bed.fill();
  await bed.fillMore(moreKeys);
  bed.write();
  await bed.checkpoint("before anything moves");
  const seen = bed.changesSeen;
  await moveInSteps(bed, a, b, await bed.slotsOf(a, 2));
  await bed.seesAnother(seen);
  return await bed.finish();
}

async function store({ objects, changes }: Clustered, path: string): Promise<void> {
  const made = await tidemark("init", path);
  assert.equal(made.status, 0, made.stderr);
  const directory = new DirectoryStore(path);
  for (const [name, bytes] of objects) await directory.put(name, bytes);
  for (const change of changes) await putSlots(directory, clusterName, change);
}

type BedOptions = {
  readonly clustered: Clustered;
  readonly repository: string;
  readonly cluster: ClusterNodes;
  readonly random: Random;
  readonly folder: string;
  readonly moreKeys: number;
};

type Outcome = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

class KillBed {
  readonly facts: ClusterKillFacts = {
    ...{ kills: 0, late: 0, marked: 0, before: 0, whole: 0, resumed: 0, folders: {}, runs: 0 },
  };
  readonly #bed: BedOptions;
  readonly #masters: readonly Node[];
  readonly #scratch: string;
  /** By moment, what each master has when it was restored. */
  readonly #whole: string[][] = [];
  #held: readonly string[] = [];
  #tookMs = 0;
  #workMs = 0;

  constructor(bed: BedOptions) {
    this.#bed = bed;
    this.#masters = bed.cluster.nodes.slice(0, 2);
    this.#scratch = join(bed.folder, "scratch");
    mkdirSync(this.#scratch);
  }

  /** Each moment is restored once undisturbed, and held against what clients read. */
  async prepare(): Promise<void> {
    for (const [moment, { what, contents }] of this.#bed.clustered.moments.entries()) {
      const startedMs = performance.now();
      const { child, ended } = this.#run(this.#clusterArguments(moment));
      while (child.exitCode === null && !(await this.#isMarked())) await sleep(pollMs);
      const begunMs = performance.now();
      const { status, stderr } = await ended;
      assert.equal(status, 0, stderr);
      this.#tookMs = performance.now() - startedMs;
      this.#workMs = performance.now() - begunMs;
      const client = await ClusterClient.open(this.#bed.cluster.nodes);
      assert.deepEqual(await readAll((tag, ...args) => client.call(tag, ...args)), contents, what);
      client.close();
      this.#whole.push(await this.#digests());
      this.#held = this.#whole.at(-1) ?? [];
    }
  }

  async intoCluster(): Promise<string> {
    const moment = this.#pickMoment();
    const args = this.#clusterArguments(moment);
    const whole = this.#whole[moment] as string[];
    await this.#runAndKill(args, () => this.#isMarked(), this.#workMs);
    const states = await this.#states(whole);
    const { status, stdout, stderr } = await this.#run(args).ended;
    assert.equal(status, 0, stderr);
    const { isResumed } = JSON.parse(stdout) as { isResumed: boolean };
    if (isResumed) this.facts.resumed++;
    assert.deepEqual(await this.#digests(), whole, "It is whole");
    for (const { server } of this.#masters) {
      assert.deepEqual(await server.call("KEYS", markerPattern), []);
    }
    this.#held = whole;
    this.#nothingIsLeft();
    return `into a cluster: ${states.join(", ")}${isResumed ? ", resumed" : ""}`;
  }

  /** What is there, told when nothing that was sent is still on its way. */
  async #states(whole: readonly string[]): Promise<string[]> {
    const states: string[] = [];
    for (const [i, { server }] of this.#masters.entries()) {
      await until("what it had sent is done", async () => {
        return !String(await server.call("CLIENT", "LIST")).includes("name=tidemark-restore");
      });
      const marks = (await server.call("KEYS", markerPattern)) as unknown[];
      const digest = await server.debugDigest();
      const state = marks.length > 0 ? "marked" : digest === this.#held[i] ? "before" : "whole";
      if (state === "whole") assert.equal(digest, whole[i], "Without a marker it is whole");
      this.facts[state]++;
      states.push(state);
    }
    return states;
  }

  async intoFolders(): Promise<string> {
    const parent = join(this.#bed.folder, "folders");
    const args = [...this.#arguments(this.#pickMoment()), "--to-dir", parent];
    await this.#runAndKill(args, async () => existsSync(parent), folderMs);
    const names = existsSync(parent) ? readdirSync(parent) : [];
    const state = names.join() || "nothing";
    assert.match(state, /^(nothing|shards|shards\.incomplete)$/);
    this.facts.folders[state] = (this.facts.folders[state] ?? 0) + 1;
    if (state !== "shards") {
      const { status, stderr } = await this.#run(args).ended;
      assert.equal(status, 0, stderr);
    }
    assert.deepEqual(readdirSync(parent), ["shards"]);
    const hash = hashOf(parent);
    rmSync(parent, { recursive: true });
    const { status, stderr } = await this.#run(args).ended;
    assert.equal(status, 0, stderr);
    assert.equal(hashOf(parent), hash, "It is what an undisturbed one writes");
    rmSync(parent, { recursive: true });
    return `into folders: ${state}`;
  }

  async andRun(): Promise<string> {
    const folder = join(this.#bed.folder, "run");
    const program = findServer(id)?.bin.server ?? "";
    let port = await freePort();
    while (port > 50_000) port = await freePort();
    const moment = this.#pickMoment();
    const args = [
      ...this.#arguments(moment),
      "--run",
      program,
      "--port",
      `${port}`,
      "--dir",
      folder,
    ];
    const hasBegun = async () => existsSync(folder);
    const wasKilled = await this.#runAndKill(args, hasBegun, this.#tookMs);
    this.facts.runs++;
    const ports = [0, 1, 2].map((i) => port + i);
    const isWhole = existsSync(join(folder, "shards"));
    if (!isWhole) {
      assert.ok(wasKilled);
      await until("its servers have ended", async () => {
        return !(await Promise.all(ports.map(isOpen))).includes(true);
      });
      const { status, stdout, stderr } = await this.#run(args).ended;
      assert.equal(status, 0, stderr);
      const { keysLoaded } = JSON.parse(stdout) as { keysLoaded: number };
      const { contents } = this.#bed.clustered.moments[moment] as { contents: { size: number } };
      assert.equal(keysLoaded, contents.size + this.#bed.moreKeys);
    }
    await Promise.all(ports.map(endServer));
    rmSync(folder, { recursive: true, force: true });
    return `run: ${isWhole ? "whole" : "not whole"}`;
  }

  async #isMarked(): Promise<boolean> {
    const [first] = this.#masters as [Node];
    return ((await first.server.call("KEYS", markerPattern)) as unknown[]).length > 0;
  }

  #pickMoment(): number {
    const others = this.#whole.keys().filter((i) => String(this.#whole[i]) !== String(this.#held));
    const all = [...others];
    return all[Math.floor(this.#bed.random() * all.length)] as number;
  }

  async #digests(): Promise<string[]> {
    return await Promise.all(this.#masters.map(({ server }) => server.debugDigest()));
  }

  /**
   * Kills it at some moment of all its time, or mostly of that since it began with what can be half done.
   * Returns whether it had not ended by then.
   */
  async #runAndKill(
    args: readonly string[],
    hasBegun: () => Promise<boolean>,
    workMs: number,
  ): Promise<boolean> {
    const { child, ended } = this.#run(args);
    if (this.#bed.random() < 0.8) {
      while (child.exitCode === null && !(await hasBegun())) await sleep(pollMs);
      await sleep(this.#bed.random() * workMs * 0.8);
    } else {
      await sleep(this.#bed.random() * this.#tookMs);
    }
    child.kill("SIGKILL");
    const { status, stderr } = await ended;
    assert.ok(status === null || status === 0, stderr);
    if (status === null) this.facts.kills++;
    else this.facts.late++;
    return status === null;
  }

  #arguments(moment: number): string[] {
    const { repository, clustered } = this.#bed;
    const at = new Date(clustered.moments[moment]?.ms ?? 0).toISOString();
    return ["restore", clusterName, "--repo", repository, "--at", at, "--json"];
  }

  #clusterArguments(moment: number): string[] {
    const to = `cluster://127.0.0.1:${this.#masters[0]?.port}`;
    const program = findServer(id)?.bin.server ?? "";
    const how = ["--overwrite", "--no-safety", "--server", program];
    return [...this.#arguments(moment), "--to", to, ...how];
  }

  /** But for a folder that had no lock yet when its maker was killed: it stays for a minute. */
  #nothingIsLeft(): void {
    for (const name of readdirSync(this.#scratch)) {
      assert.deepEqual(readdirSync(join(this.#scratch, name)), [], name);
    }
  }

  #run(args: readonly string[]): {
    readonly child: ChildProcess;
    readonly ended: Promise<Outcome>;
  } {
    const main = join(checkout, "src/cli/main.ts");
    const child = spawn(process.execPath, [main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: this.#scratch },
    });
    const closed = once(child, "close") as Promise<[status: number | null]>;
    const all = Promise.all([text(child.stdout), text(child.stderr), closed]);
    return {
      child,
      ended: all.then(([stdout, stderr, [status]]) => ({ status, stdout, stderr })),
    };
  }
}

async function endServer(port: number): Promise<void> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {});
  socket.end("SHUTDOWN NOSAVE\r\n");
  await once(socket, "close");
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect({ host: "127.0.0.1", port });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  const found = await promise;
  socket.destroy();
  return found;
}

/** Of all files, but for those with the ids that each restore gives its nodes. */
function hashOf(folder: string): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(folder, name);
    if (!statSync(path).isFile()) continue;
    const ids = /[0-9a-f]{40}/g;
    const content = readFileSync(path, "latin1");
    hash.update(name).update(path.endsWith("nodes.conf") ? content.replaceAll(ids, "") : content);
  }
  return hash.digest("hex");
}
