/**
 * What the commands of a log amount to, found by a stock server that replays them.
 *
 * The server is started on a private copy of the log, in a temporary folder, on a Unix socket that
 * nobody else can reach; it is asked for a snapshot, and goes away with its folder.
 *
 * WHY AS A REPLICA. A master deletes what has expired as soon as it has loaded its log; a replica
 * leaves that to its master. So the server is told to follow a master that is not there, and the
 * snapshot holds every key and field that the log does, expired or not.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { constants, copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import { Connection, errorText } from "../link/connection.ts";
import type { AppendOnlyDir } from "../log/append-only-dir.ts";
import { fileFailure } from "../log/input-file.ts";

/** A log in files of its own, or in one. */
export type ReplaySource =
  | { readonly kind: "appendonlydir"; readonly log: AppendOnlyDir }
  | { readonly kind: "aof"; readonly path: string };

/** What is kept of the server's own log, to say why it failed. */
const maxLogLines = 20;
const pollMs = 20;
/** SAVE answers when all is written. */
const longestSaveMs = 24 * 60 * 60 * 1000;
/** Nothing listens there: see above. */
const noMaster = ["127.0.0.1", "1"];

export class ScratchServer implements Disposable {
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #log: string[] = [];
  #hasEnded = false;

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.#process = process;
    const keep = (chunk: Buffer) => {
      this.#log.push(...chunk.toString("latin1").split("\n").filter(Boolean));
      this.#log.splice(0, this.#log.length - maxLogLines);
    };
    process.stdout?.on("data", keep);
    process.stderr?.on("data", keep);
    process.on("exit", () => {
      this.#hasEnded = true;
    });
    process.on("error", (error) => {
      this.#log.push(error.message);
      this.#hasEnded = true;
    });
  }

  /** @throws Failure SERVER_FAILED, FILE_FAILED */
  static start(program: string, source: ReplaySource): ScratchServer {
    const version = readVersion(program);
    const folder = mkdtempSync(join(tmpdir(), "tidemark-replay-"));
    try {
      const settings = copySource(source, folder, program, version);
      const args = Object.entries({ ...settings, ...commonSettings(folder) }).flatMap(
        ([name, value]) => [`--${name}`, ...(typeof value === "string" ? [value] : value)],
      );
      const stdio = ["ignore", "pipe", "pipe"] as const;
      return new ScratchServer(folder, spawn(program, args, { cwd: folder, stdio: [...stdio] }));
    } catch (cause) {
      rmSync(folder, { recursive: true, force: true });
      throw cause;
    }
  }

  /** Waits until the log is loaded, and has it written as an RDB. Returns the file's path. */
  async snapshot(): Promise<string> {
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
    this.#process.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function commonSettings(folder: string): Record<string, string | readonly string[]> {
  return {
    dir: folder,
    port: "0",
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
    replicaof: noMaster,
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

/** The major version that the program says it has. */
function readVersion(program: string): number {
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
  return Number(version);
}
