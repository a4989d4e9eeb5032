/**
 * What the commands of a log amount to, found by a stock server that replays them.
 *
 * The server is started on a private copy of the log, in a temporary folder, on a Unix socket that
 * nobody else can reach; it is asked for a snapshot, and goes away with its folder.
 *
 * WHY AS A REPLICA. A master deletes what has expired as soon as it has loaded its log; a replica
 * leaves that to its master. So the server is told to follow a master that is not there, and the
 * snapshot holds every key and field that the log does, expired or not.
 *
 * WHY IN CLUSTER MODE, for a shard. Its log may tell that all keys of a slot were removed (CLUSTER
 * FLUSHSLOT, TRIMSLOTS); a server that is not in cluster mode passes over it, and the keys would come
 * back. `replicaof` is refused in that mode, so the server finds in its nodes.conf that it is a replica
 * of a master that is not there. Its bus listens on this machine only, for the time of the replay.
 *
 * It ends with this program, however that ends, and its folder goes with it (watched-process.ts).
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import { Connection, errorText } from "../link/connection.ts";
import type { AppendOnlyDir } from "../log/append-only-dir.ts";
import { fileFailure } from "../log/input-file.ts";
import { spawnWatched, type WatchedProcess } from "./watched-process.ts";

/** A log in files of its own, or in one. */
export type ReplaySource =
  | { readonly kind: "appendonlydir"; readonly log: AppendOnlyDir }
  | { readonly kind: "aof"; readonly path: string };

export type ScratchOptions = {
  /** Of a shard of a cluster: a port on which nothing listens yet, for the bus. */
  readonly clusterPort?: number | undefined;
  /** Where its folder is made; by default where temporary ones are. */
  readonly parent?: string | undefined;
};

/** What is kept of the server's own log, to say why it failed. */
const maxLogLines = 20;
const pollMs = 20;
/** SAVE answers when all is written. */
const longestSaveMs = 24 * 60 * 60 * 1000;
/** Nothing listens there: see above. */
const noMaster = ["127.0.0.1", "1"];
/** Clients have the port that is so much below that of the bus, where a server cannot do without one. */
const busDistance = 10_000;
type Version = { readonly major: number; readonly isValkey: boolean };

export class ScratchServer implements Disposable {
  readonly #folder: string;
  readonly #process: WatchedProcess;
  readonly #log: string[] = [];
  #hasEnded = false;

  private constructor(folder: string, process: WatchedProcess) {
    this.#folder = folder;
    this.#process = process;
    const { child } = process;
    const keep = (chunk: Buffer) => {
      this.#log.push(...chunk.toString("latin1").split("\n").filter(Boolean));
      this.#log.splice(0, this.#log.length - maxLogLines);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    child.on("exit", () => {
      this.#hasEnded = true;
    });
    child.on("error", (error) => {
      this.#log.push(error.message);
      this.#hasEnded = true;
    });
  }

  /** @throws Failure SERVER_FAILED, FILE_FAILED */
  static start(
    program: string,
    source: ReplaySource,
    { clusterPort, parent }: ScratchOptions = {},
  ): ScratchServer {
    const version = readVersion(program);
    const folder = mkdtempSync(parent ? join(parent, "r-") : join(tmpdir(), "tidemark-replay-"));
    try {
      const settings = {
        ...copySource(source, folder, program, version.major),
        ...commonSettings(folder),
        ...(clusterPort === undefined
          ? { port: "0", replicaof: noMaster }
          : clusterSettings(folder, clusterPort, version)),
      };
      const args = Object.entries(settings).flatMap(([name, value]) => [
        `--${name}`,
        ...(typeof value === "string" ? [value] : value),
      ]);
      const process = spawnWatched(program, args, { cwd: folder, removes: folder });
      return new ScratchServer(folder, process);
    } catch (cause) {
      rmSync(folder, { recursive: true, force: true });
      throw cause;
    }
  }

  /**
   * Waits until the log is loaded, and has it written as an RDB. Returns the file's path. A signal ends the
   * server, which may take hours for that.
   */
  async snapshot(signal?: AbortSignal): Promise<string> {
    const stop = () => this.#process.child.kill("SIGKILL");
    signal?.throwIfAborted();
    signal?.addEventListener("abort", stop);
    try {
      return await this.#snapshot();
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  async #snapshot(): Promise<string> {
    await using connection = await this.#connect();
    for (;;) {
      const error = errorText(await this.#ask(connection, "PING"));
      if (error === undefined) break;
      if (!error.startsWith("LOADING")) throw this.#failure(error);
      await sleep(pollMs);
    }
    const error = errorText(await this.#ask(connection, "SAVE"));
    if (error !== undefined) throw this.#failure(error);
    return join(this.#folder, "dump.rdb");
  }

  async #connect(): Promise<Connection> {
    for (;;) {
      if (this.#hasEnded) throw this.#failure("it has ended");
      try {
        const path = join(this.#folder, "socket");
        return await Connection.open({ path }, { replyTimeoutMs: longestSaveMs });
      } catch {
        // The socket is made a moment after the process, and that is all there is to wait for.
        await sleep(pollMs);
      }
    }
  }

  async #ask(connection: Connection, command: string) {
    try {
      return await connection.call(command);
    } catch (cause) {
      // A server that refuses the log says why in its own words, then leaves.
      for (let left = 50; left > 0 && !this.#hasEnded; left--) await sleep(pollMs);
      throw this.#failure("it went away", cause);
    }
  }

  #failure(found: string, cause?: unknown): Failure {
    const said = this.#log.join("\n  ");
    return new Failure(
      "SERVER_FAILED",
      `Cannot replay the log: ${found}; the server said:\n  ${said}`,
      {
        cause,
      },
    );
  }

  [Symbol.dispose](): void {
    this.#process.release();
    this.#process.child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function commonSettings(folder: string): Record<string, string | readonly string[]> {
  return {
    dir: folder,
    unixsocket: join(folder, "socket"),
    appendonly: "yes",
    // A torn tail is for `tidemark check --repair` to cut, with a copy and a word about it.
    "aof-load-truncated": "no",
    "auto-aof-rewrite-percentage": "0",
    save: "",
    dbfilename: "dump.rdb",
    databases: "1024",
    daemonize: "no",
    logfile: "",
  };
}

/** Makes it a replica in a cluster of which it knows one node, its master, and that is not there. */
function clusterSettings(
  folder: string,
  clusterPort: number,
  { major, isValkey }: Version,
): Record<string, string> {
  const [own, master] = [randomBytes(20).toString("hex"), randomBytes(20).toString("hex")];
  const [host, port] = noMaster;
  const nodes = [
    `${own} 127.0.0.1:0@0 myself,slave ${master} 0 0 1 connected`,
    `${master} ${host}:${port}@${port} master - 0 0 1 disconnected`,
    "vars currentEpoch 1 lastVoteEpoch 0",
  ];
  writeFileSync(join(folder, "nodes.conf"), `${nodes.join("\n")}\n`);
  const bus =
    major >= 7
      ? { port: "0", "cluster-port": String(clusterPort) }
      : { port: String(clusterPort - busDistance) };
  return {
    ...bus,
    bind: "127.0.0.1",
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    "cluster-replica-no-failover": "yes",
    ...(isValkey && major >= 9 && { "cluster-databases": "1024" }),
  };
}

/** Copies the log as the server wants to find it; returns the settings that name it. */
function copySource(
  source: ReplaySource,
  folder: string,
  program: string,
  version: number,
): Record<string, string> {
  if (source.kind === "aof") {
    copy(source.path, join(folder, "appendonly.aof"));
    return { appendfilename: "appendonly.aof" };
  }
  if (version < 7) {
    throw new Failure(
      "SERVER_FAILED",
      `Cannot replay a log of several files with "${program}": it is older than 7.0`,
      { hint: "Name a server of version 7.0 or later with --server." },
    );
  }
  const { log } = source;
  const name = basename(log.manifestPath, ".manifest");
  const target = join(folder, "log");
  mkdirSync(target);
  copy(log.manifestPath, join(target, `${name}.manifest`));
  for (const file of log.files) copy(file.path, join(target, file.name));
  return { appenddirname: "log", appendfilename: name };
}

function copy(from: string, to: string): void {
  try {
    copyFileSync(from, to, constants.COPYFILE_FICLONE);
  } catch (cause) {
    throw fileFailure("copy", from, cause);
  }
}

/** What the program says of itself. */
function readVersion(program: string): Version {
  let said: string;
  try {
    said = execFileSync(program, ["--version"], { encoding: "utf8" });
  } catch (cause) {
    throw new Failure("SERVER_FAILED", `Cannot run "${program}"`, {
      cause,
      hint: "Name a redis-server or valkey-server with --server.",
    });
  }
  const version = /\bv=(\d+)\./.exec(said)?.[1];
  if (version === undefined) {
    const found = JSON.stringify(said.slice(0, 80));
    throw new Failure("SERVER_FAILED", `Cannot use "${program}" as a server: it says ${found}`);
  }
  return { major: Number(version), isValkey: /^valkey/i.test(said) };
}
