/** Restores into a folder, starts a stock server there, and looks whether it has what it should have. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Failure } from "../base/errors.ts";
import { Connection } from "../link/connection.ts";
import { parseInfo } from "../link/instance.ts";
import { textOf } from "../link/reply-values.ts";
import type { Plan } from "./plan.ts";
import { type FolderOptions, type RestoredFolder, restoreToFolder } from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";

export type RunOptions = FolderOptions & {
  readonly program: string;
  readonly port: number;
  /** Further arguments for the server, as on its own command line. */
  readonly serverArguments?: readonly string[];
};

/** A server that has loaded what was restored. It goes on when this program ends. */
export type RunningRestored = RestoredFolder & {
  readonly process: ChildProcess;
  readonly port: number;
  readonly version: string;
  /** In all databases. */
  readonly keysLoaded: number;
};

const pollMs = 20;
const maxLogBytes = 4000;

/** @throws Failure as `restoreToFolder()`; SERVER_FAILED with what the server said */
export async function restoreAndRun(
  view: ArchiveView,
  plan: Plan,
  folder: string,
  options: RunOptions,
): Promise<RunningRestored> {
  const { program, port, serverArguments = [], signal } = options;
  // A program that is none, or a port that is taken, is found out before gigabytes are written.
  await checkProgram(program);
  await checkPort(port);
  const restored = await restoreToFolder(view, plan, folder, options);
  const args = ["--port", String(port), ...restored.serverArguments, ...serverArguments];
  const process = spawn(program, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const said = new Said(process);
  try {
    const { version, keys } = await untilLoaded(process, port, said, signal);
    process.unref();
    return { ...restored, process, port, version, keysLoaded: keys };
  } catch (error) {
    if (process.exitCode === null && process.signalCode === null) {
      process.kill("SIGKILL");
      await once(process, "exit");
    }
    throw error;
  }
}

/** @throws Failure */
export async function checkProgram(program: string): Promise<void> {
  try {
    await promisify(execFile)(program, ["--version"]);
  } catch (cause) {
    throw new Failure("SERVER_FAILED", `Cannot run "${program}"`, {
      cause,
      hint: "Name a redis-server or valkey-server.",
    });
  }
}

/** @throws Failure */
export async function checkPort(port: number): Promise<void> {
  try {
    await using _ = await Connection.open({ host: "127.0.0.1", port });
  } catch (error) {
    if (error instanceof Failure && error.code === "SERVER_UNREACHABLE") return;
    throw error;
  }
  throw new Failure("USAGE", `Cannot start a server on port ${port}: one is there already`);
}

/** Waits until a server has loaded its data. @throws Failure SERVER_FAILED with what it said */
export async function untilLoaded(
  process: ChildProcess,
  port: number,
  said: Said,
  signal: AbortSignal | undefined,
): Promise<{ version: string; keys: number }> {
  for (;;) {
    signal?.throwIfAborted();
    if (said.hasEnded) {
      const message = `Cannot start a server on what was restored; it said:\n${said.text}`;
      throw new Failure("SERVER_FAILED", message);
    }
    const loaded = await ask(port, process.pid);
    if (loaded !== undefined) return loaded;
    await sleep(pollMs);
  }
}

/** Undefined while it loads, or is not there. */
async function ask(
  port: number,
  pid: number | undefined,
): Promise<{ version: string; keys: number } | undefined> {
  try {
    await using connection = await Connection.open({ host: "127.0.0.1", port });
    const info = parseInfo(textOf(await connection.ask("INFO")) ?? "");
    if (info.get("loading") !== "0" || info.get("process_id") !== String(pid)) return undefined;
    await connection.ask("PING");
    const counts = [...info].map(([name, line]) =>
      /^db\d+$/.test(name) ? Number(/keys=(\d+)/.exec(line)?.[1]) : 0,
    );
    const version = info.get("valkey_version") ?? info.get("redis_version") ?? "";
    return { version, keys: counts.reduce((sum, count) => sum + count, 0) };
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/** The end of what a process writes. */
export class Said {
  text = "";
  hasEnded = false;

  constructor(process: ChildProcess) {
    const keep = (chunk: Buffer) => {
      this.text = (this.text + chunk.toString("latin1")).slice(-maxLogBytes);
    };
    process.stdout?.on("data", keep);
    process.stderr?.on("data", keep);
    process.once("error", (error) => keep(Buffer.from(error.message)));
    process.once("exit", () => {
      this.hasEnded = true;
    });
  }
}
