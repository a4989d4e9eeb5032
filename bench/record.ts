/**
 * A recorder beside a stock replica: what the source still does, what following it costs, and lag.
 *
 *     npm run bench -- record [--server redis-8.0] [--rounds 5] [--seconds 8] [--only 64|1024|bytes|sync]
 *
 * `--folder` is where followers write: a disk that others use, or that is slower than the source writes,
 * is what is measured then.
 *
 * One source, written to by `redis-benchmark -P 16` as fast as it can, with a follower attached: a
 * replica of the same version with `appendonly yes`, or a recorder with the same policy (everysec).
 * They take turns. Told are medians of the ratios of neighbours in time:
 *
 *   throughput   the source's commands per second, recorder to replica (1 or more is wanted)
 *   CPU          the follower's user and system time per million commands, recorder to replica
 *   lag          how long after the source an offset was on the recorder's disk, at worst
 *
 * Then a steady 220 MB/s; and the first synchronization of 2 GB, for memory.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { askStatus } from "../src/record/status.ts";
import { freePort } from "../test/link/ports.ts";
import { type RunningServer, type ServerId, startServer } from "../test/support/servers.ts";
import { median } from "./measure.ts";

const { values } = parseArgs({
  options: {
    server: { type: "string", default: "redis-8.0" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "8" },
    only: { type: "string", default: "all" },
    folder: { type: "string", default: tmpdir() },
  },
});
const id = values.server as ServerId;
const rounds = Number(values.rounds);
const benchmark = new URL(
  `../.cache/servers/bin/${id.replace("-", "-benchmark-")}`,
  import.meta.url,
).pathname;
const paced = new URL("../.cache/servers/bin/valkey-benchmark-9", import.meta.url).pathname;
const main = new URL("../dist/cli/main.js", import.meta.url).pathname;
if (!existsSync(main)) throw new Error("Build first: npm run build");

const sampleMs = 50;
/** A follower that is so late is lost: it was cut off, and starts anew. */
const patienceMs = 10_000;
const ticksPerSecond = 100;

type Follower = {
  readonly pid: number;
  /** The offset that it has on disk. */
  readonly offset: () => Promise<number>;
  readonly gaps: () => Promise<number>;
  readonly stop: () => Promise<void>;
};

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function peakMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

async function replicaOf(port: number, folder: string): Promise<Follower> {
  const conf = { port: 0, replicaof: `127.0.0.1 ${port}`, appendonly: "yes", save: '""' };
  const replica = await startServer(id, { dir: folder, conf });
  const field = async (name: string) => {
    const info = String(await replica.call("INFO", "replication"));
    return new RegExp(`${name}:(\\S+)`).exec(info)?.[1];
  };
  while ((await field("master_link_status")) !== "up") await sleep(sampleMs);
  return {
    pid: replica.pid,
    offset: async () => Number(await field("slave_repl_offset")),
    gaps: async () => 0,
    stop: () => replica.stop(),
  };
}

async function recorderOf(port: number, folder: string): Promise<Follower> {
  const args = [main, "record", `redis://127.0.0.1:${port}`, folder];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: "ignore" });
  const status = () => askStatus(folder).catch(() => undefined);
  while ((await status())?.state !== "streaming") await sleep(sampleMs);
  return {
    pid: child.pid as number,
    offset: async () => (await status())?.writtenOffset ?? 0,
    gaps: async () => (await status())?.gaps.length ?? 0,
    stop: async () => {
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

type Figures = {
  readonly commandsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly cpuPerMillion: number;
  readonly worstLagMs: number;
  readonly peakMb: number;
  readonly gaps: number;
};

async function load(
  source: RunningServer,
  port: number,
  size: number,
  follower: Follower,
  perSecond?: number,
) {
  const startCpu = cpuSeconds(follower.pid);
  const startOffset = await source.replicationOffset();
  const startMs = performance.now();
  const args = [
    "-p",
    `${port}`,
    "-t",
    "set",
    "-P",
    "16",
    "-d",
    `${size}`,
    "-r",
    `${Math.floor(2e8 / (size + 100))}`,
    "-q",
  ];
  // Only Valkey's program can write at a given rate.
  const [program, rate] = perSecond ? [paced, ["--rps", `${perSecond}`]] : [benchmark, []];
  const writer = spawn(program, [...args, ...rate, "-n", "1000000000"], { stdio: "ignore" });
  const end = startMs + Number(values.seconds) * 1000;
  let worstLagMs = 0;
  const stats = async () =>
    Number(/total_commands_processed:(\d+)/.exec(String(await source.call("INFO", "stats")))?.[1]);
  const before = await stats();
  while (performance.now() < end) worstLagMs = Math.max(worstLagMs, await lag(source, follower));
  const commands = (await stats()) - before;
  const seconds = (performance.now() - startMs) / 1000;
  const bytes = (await source.replicationOffset()) - startOffset;
  writer.kill("SIGKILL");
  await once(writer, "exit");
  worstLagMs = Math.max(worstLagMs, await lag(source, follower));
  const figures: Figures = {
    commandsPerSecond: commands / seconds,
    bytesPerSecond: bytes / seconds,
    cpuPerMillion: (cpuSeconds(follower.pid) - startCpu) / (commands / 1e6),
    worstLagMs,
    peakMb: peakMb(follower.pid),
    gaps: await follower.gaps(),
  };
  return figures;
}

/** How long it takes until what the source has now is on the follower's disk. */
async function lag(source: RunningServer, follower: Follower): Promise<number> {
  const target = await source.replicationOffset();
  const startMs = performance.now();
  while ((await follower.offset()) < target) {
    await sleep(5);
    if (performance.now() - startMs > patienceMs) return Number.POSITIVE_INFINITY;
  }
  const lagMs = performance.now() - startMs;
  await sleep(sampleMs);
  return lagMs;
}

async function withFollower<T>(
  kind: "replica" | "recorder",
  run: (source: RunningServer, port: number, follower: Follower) => Promise<T>,
  prepare: (source: RunningServer) => Promise<unknown> = async () => {},
): Promise<T> {
  const folder = mkdtempSync(join(values.folder, "tidemark-bench-"));
  const port = await freePort();
  const conf = { port, bind: "127.0.0.1", "repl-diskless-sync-delay": 0 };
  const source = await startServer(id, { conf });
  try {
    await prepare(source);
    const follower = await (kind === "replica" ? replicaOf : recorderOf)(port, folder);
    try {
      return await run(source, port, follower);
    } finally {
      await follower.stop();
    }
  } finally {
    await source.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function show(name: string, f: Figures): void {
  const parts = [
    name.padEnd(9),
    `${(f.commandsPerSecond / 1000).toFixed(0)} k commands/s`,
    `${(f.bytesPerSecond / 1e6).toFixed(0)} MB/s`,
    `${f.cpuPerMillion.toFixed(2)} s CPU per million`,
    `lag ${f.worstLagMs.toFixed(0)} ms`,
    `${f.peakMb.toFixed(0)} MB`,
    `${f.gaps} gaps`,
  ];
  console.log(parts.join("  "));
}

async function compare(size: number): Promise<void> {
  console.log(`${id}, -P 16 -d ${size}`);
  const ratios: { speed: number; cpu: number }[] = [];
  let worstLagMs = 0;
  for (let round = 0; round < rounds; round++) {
    const run = (kind: "replica" | "recorder") =>
      withFollower(kind, (source, port, follower) => load(source, port, size, follower));
    const replica = await run("replica");
    const recorder = await run("recorder");
    show("replica", replica);
    show("recorder", recorder);
    ratios.push({
      speed: recorder.commandsPerSecond / replica.commandsPerSecond,
      cpu: recorder.cpuPerMillion / replica.cpuPerMillion,
    });
    worstLagMs = Math.max(worstLagMs, recorder.worstLagMs);
  }
  console.log(`  throughput of the source  ${median(ratios.map(({ speed }) => speed)).toFixed(2)}`);
  console.log(`  CPU of the follower       ${median(ratios.map(({ cpu }) => cpu)).toFixed(2)}`);
  console.log(`  lag of the recorder       ${worstLagMs.toFixed(0)} ms at worst`);
}

const wants = (part: string) => values.only === "all" || values.only === part;
if (wants("64")) await compare(64);
if (wants("1024")) await compare(1024);
if (wants("bytes")) {
  console.log(`${id}, 220 MB/s of values of 4 KiB, the recorder alone`);
  const rate = Math.ceil(220e6 / 4150);
  const figures = await withFollower("recorder", (source, port, follower) =>
    load(source, port, 4096, follower, rate),
  );
  show("recorder", figures);
}
if (wants("sync")) {
  console.log(`${id}, first synchronization`);
  await withFollower(
    "recorder",
    async (source, _port, follower) => {
      const info = String(await source.call("INFO", "memory"));
      const mb = Number(/used_memory:(\d+)/.exec(info)?.[1]) / 1e6;
      console.log(`recorder  ${peakMb(follower.pid).toFixed(0)} MB, source ${mb.toFixed(0)} MB`);
    },
    (source) => source.call("DEBUG", "POPULATE", "1900000", "key", "1000"),
  );
}
