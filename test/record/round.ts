/**
 * One round: a source under writes, of which every command that it knows is one; a recorder; and what may
 * happen to either of them and to the network between. In the end a stock server is started on the
 * spool, and must hold what the source holds.
 *
 * WHY GAPS ARE COUNTED. A recorder that took a new base each time would pass any comparison at the end.
 * So each event says whether a gap is to come of it, and after each one the spool must have as many as
 * that. A gap is expected where the source has lost what the recorder has, or the source's backlog no
 * longer has what the recorder needs; and nowhere else.
 */
import assert from "node:assert/strict";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askStatus, type Status } from "../../src/record/status.ts";
import { freePort } from "../link/ports.ts";
import { compareDumps } from "../support/compare.ts";
import { dumpServer, isLibrary, type Line } from "../support/dump.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";
import { type Break, Proxy } from "./proxy.ts";
import { Recording } from "./recording.ts";
import { Source } from "./source.ts";
import { type Random, randomFrom, Workload } from "./workload.ts";

/** Which server reads the spool of which source: its own version, and 7.0 that of a 6.x. */
export const readers: Readonly<Record<string, ServerId>> = {
  "redis-6.0": "redis-7.0",
  "redis-7.0": "redis-7.0",
  "redis-8.0": "redis-8.0",
  "valkey-8.1": "valkey-8.1",
  "valkey-9": "valkey-9",
};

/** What happens in one phase, and how often of 100. */
const chances = {
  kill: 22,
  cut: 22,
  slow: 8,
  "freeze source": 8,
  "freeze recorder": 4,
  restart: 12,
  crash: 10,
  outrun: 10,
  nothing: 4,
} as const;
export type Event = keyof typeof chances;
const events = Object.keys(chances) as Event[];

export type RoundFacts = Readonly<Record<Event, number>> & {
  /** Times that the network broke, in a transfer or in the stream. */
  readonly breaks: number;
  /** Each of them expected. */
  readonly gaps: number;
  /** Examples of `every-command.ts` that were run. */
  readonly examples: number;
};

const phases = 5;
/** A recorder that has lost its source again and again waits for up to 30 s, and may then wait once more. */
const patienceMs = 75_000;
const backlogBytes = 64 * 1024 * 1024;
const smallBacklogBytes = 16 * 1024;

export async function runRound(id: ServerId, seed: number): Promise<RoundFacts> {
  await using round = await Round.begin(id, seed);
  try {
    await round.run();
  } catch (cause) {
    throw new Error(`After ${round.history.join(", ")}: ${String(cause)}`, { cause });
  }
  return round.facts;
}

class Round implements AsyncDisposable {
  readonly #parts: Parts;
  /** The events, in order. */
  readonly history: Event[] = [];
  #recorder: Recording;
  #expectedGaps = 0;

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.#disturbTransfer();
    this.#recorder = this.#startRecorder();
  }

  static async begin(id: ServerId, seed: number): Promise<Round> {
    await using stack = new AsyncDisposableStack();
    const random = randomFrom(seed);
    const folder = stack.use(temporaryFolder());
    const port = await freePort();
    const dir = join(folder.path, "source");
    const source = stack.use(
      await Source.start(id, dir, {
        port,
        "repl-backlog-size": backlogBytes,
        "repl-diskless-sync": random() < 0.5 ? "yes" : "no",
      }),
    );
    const proxy = stack.use(await Proxy.open(await freePort(), port));
    const peerPort = await freePort();
    const conf = { port: peerPort, bind: "127.0.0.1" };
    stack.use(await startServer(id, { conf }));
    const workload = await Workload.plan(source, random, peerPort);
    await workload.write(300, 20);
    if (random() < 0.3) await workload.writeBig();
    const fsync = pick(random, ["always", "everysec", "no"]);
    const spool = join(folder.path, "spool");
    const kept = stack.move();
    return new Round({ stack: kept, random, source, dir, proxy, workload, fsync, spool });
  }

  get facts(): RoundFacts {
    const { workload, proxy } = this.#parts;
    const count = (event: Event) => this.history.filter((each) => each === event).length;
    return {
      ...(Object.fromEntries(events.map((event) => [event, count(event)])) as Record<
        Event,
        number
      >),
      breaks: proxy.breaks,
      gaps: this.#expectedGaps,
      examples: workload.runs,
    };
  }

  async run(): Promise<void> {
    const { random, workload, source, spool } = this.#parts;
    const examples = Math.floor(workload.left / (phases + 1));
    const bigPhase = Math.floor(random() * phases);
    if (random() < 0.3) await this.#happen("kill");
    await this.#caughtUp();
    for (let phase = 0; phase < phases; phase++) {
      const event = choose(random);
      const writing = this.#write(examples, phase === bigPhase);
      // Where the event fails, that is what is told.
      writing.catch(() => {});
      await this.#happen(event, writing);
      await writing;
      await this.#caughtUp(event);
    }
    await workload.settle();
    await this.#caughtUp("nothing");
    assert.equal(await this.#recorder.end("SIGTERM"), 0, this.#recorder.said);
    await compare(source, join(spool, "appendonlydir"));
  }

  async #write(examples: number, hasBig: boolean): Promise<void> {
    const { workload } = this.#parts;
    await workload.write(300, examples / 4);
    if (hasBig) await workload.writeBig();
    await workload.write(900, (examples * 3) / 4);
  }

  async #happen(event: Event, writing = Promise.resolve()): Promise<void> {
    const { random, source, proxy } = this.#parts;
    const moment = () => sleep(random() * 400);
    this.history.push(event);
    switch (event) {
      case "kill":
        await moment();
        return await this.#restartRecorder();
      case "cut":
        return proxy.cutAfter(Math.floor(random() * 100_000), this.#someBreak());
      case "slow":
        proxy.slow(1 + Math.floor(random() * 5), 1000);
        return;
      case "freeze source":
        await moment();
        source.freeze();
        await sleep(200 + random() * 1000);
        return source.thaw();
      case "freeze recorder":
        this.#recorder.process.kill("SIGSTOP");
        await writing;
        this.#recorder.process.kill("SIGCONT");
        return;
      case "restart":
        await moment();
        await source.restart("shutdown");
        // Before 7.0, a master forgets its history when it ends.
        if (source.id === "redis-6.0") this.#expectedGaps++;
        return;
      case "crash":
        return await this.#crash(writing);
      case "outrun":
        return await this.#outrun(writing);
      case "nothing":
    }
  }

  /** The source ends without notice, and comes back as it was some time ago, or empty. */
  async #crash(writing: Promise<void>): Promise<void> {
    const { random, source, workload, dir } = this.#parts;
    if (random() < 0.5) await source.client.call("SAVE");
    else rmSync(join(dir, "dump.rdb"), { force: true });
    await workload.writeMuch(100_000);
    await sleep(random() * 200);
    if (random() < 0.5) await writing;
    this.#expectedGaps++;
    this.#disturbTransfer();
    await source.restart("kill");
  }

  /** More is written while the recorder is away than the source's backlog holds. */
  async #outrun(writing: Promise<void>): Promise<void> {
    const { source, workload } = this.#parts;
    await writing;
    const { writtenOffset } = await this.#caughtUp();
    await this.#recorder.end("SIGKILL");
    await waitFor(
      () => "the source has seen it go",
      async () => {
        return (await source.info("replication", "connected_slaves")) === "0";
      },
    );
    await source.client.call("CONFIG", "SET", "repl-backlog-size", smallBacklogBytes);
    await workload.writeMuch(2_000_000);
    const first = Number(await source.info("replication", "repl_backlog_first_byte_offset"));
    assert.ok(first > Number(writtenOffset) + 1, `The backlog starts at ${first}`);
    this.#expectedGaps++;
    this.#disturbTransfer();
    this.#recorder = this.#startRecorder();
    await this.#caughtUp();
    await source.client.call("CONFIG", "SET", "repl-backlog-size", backlogBytes);
  }

  /** The next snapshot comes through as it should, or late, or not at the first attempt. */
  #disturbTransfer(): void {
    const { random, proxy } = this.#parts;
    const what = random();
    if (what < 0.5) proxy.cutAfter(Math.floor(random() * 30_000), this.#someBreak());
    else if (what < 0.7) proxy.slow(1 + Math.floor(random() * 5), 1000);
  }

  #someBreak(): Break {
    return pick(this.#parts.random, ["reset", "close"]);
  }

  #startRecorder(): Recording {
    const { proxy, spool, fsync } = this.#parts;
    return new Recording(`redis://127.0.0.1:${proxy.port}`, spool, ["--fsync", fsync]);
  }

  async #restartRecorder(): Promise<void> {
    await this.#recorder.end("SIGKILL");
    this.#recorder = this.#startRecorder();
  }

  /** Waits until all of the source's history is on disk; then the gaps have to be those expected. */
  async #caughtUp(after = "start" as Event | "start"): Promise<Status> {
    const { source, spool, proxy } = this.#parts;
    // A history that has just begun is known to the recorder by its first write.
    await source.client.call("SET", "caught up", "?");
    let status = undefined as Status | undefined;
    await waitFor(
      () => `the recorder has all: ${JSON.stringify(status)}, ${this.#recorder.said}`,
      async () => {
        const { pid, exitCode } = this.#recorder.process;
        assert.equal(exitCode, null, this.#recorder.said);
        // It changes with the first replica.
        const id = await source.info("replication", "master_replid");
        const offset = Number(await source.info("replication", "master_repl_offset"));
        const now = await askStatus(spool).catch(() => undefined);
        status = now;
        if (!now || now.process !== pid || now.state !== "streaming") return false;
        return now.replicationId === id && Number(now.writtenOffset) >= offset;
      },
    );
    assert.ok(status);
    proxy.heal();
    assert.equal(
      status.gaps.length,
      this.#expectedGaps,
      `Gaps after "${after}": ${JSON.stringify(status.gaps)}, ${this.#recorder.said}`,
    );
    return status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#recorder.end("SIGKILL");
    await this.#parts.stack.disposeAsync();
  }
}

type Parts = {
  readonly stack: AsyncDisposableStack;
  readonly random: Random;
  readonly source: Source;
  readonly dir: string;
  readonly proxy: Proxy;
  readonly workload: Workload;
  readonly fsync: string;
  readonly spool: string;
};

function pick<T>(random: Random, items: readonly [T, ...T[]]): T {
  return items[Math.floor(random() * items.length)] as T;
}

function choose(random: Random): Event {
  let left = random() * 100;
  for (const event of events) {
    left -= chances[event];
    if (left < 0) return event;
  }
  return "nothing";
}

async function waitFor(what: () => string, isSo: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(15)) {
    if (await isSo()) return;
  }
  throw new Error(`It does not come true: ${what()}`);
}

/** A stock server on a copy of the log must hold what the source holds. */
async function compare(source: Source, log: string): Promise<void> {
  using folder = temporaryFolder();
  cpSync(log, join(folder.path, "appendonlydir"), { recursive: true });
  await using reader = await startServer(readers[source.id] ?? source.id, {
    dir: folder.path,
    conf: { appendonly: "yes", "aof-load-truncated": "no" },
  });
  const isOld = source.id === "redis-6.0";
  const { can } = source.server.program;
  const dump = async (server: RunningServer) =>
    (await dumpServer(server.client, can)).map(withoutUnsaid);
  const differences = compareDumps(await dump(source.server), await dump(reader), {
    withoutSeen: true,
    withoutStreamCounters: isOld,
    relativeExpiries: isOld,
  });
  assert.deepEqual(differences.slice(0, 5), [], `${differences.length} differences`);
  assert.equal(await reader.debugDigest(), await source.server.debugDigest());
}

/** Leaves out what servers do not tell their replicas: consumers that have nothing, entries read. */
function withoutUnsaid(line: Line): Line {
  if (isLibrary(line) || line.type !== "stream" || line.value === undefined) return line;
  for (const group of line.value.groups) {
    delete group.entriesRead;
    group.consumers = group.consumers.filter(({ pel }) => pel.length > 0);
  }
  return line;
}
