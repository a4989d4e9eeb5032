/**
 * Restores into a folder, starts a stock server there, and looks whether it has what it should have.
 *
 * WHY the program is asked for its version first. An older server, or one of the other family, says that it
 * cannot load a file when all of it has been written; one before 7.0 does not even find `appendonlydir`, and
 * starts empty.
 *
 * INVARIANTS
 *
 *   1. Until it has loaded all, the server ends with this program (watched-process.ts).
 *   2. Where it does not, nothing of it is left: the folder was empty before.
 */
import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Failure } from "../base/errors.ts";
import type { Target } from "../codec/rdb/model.ts";
import { capabilities } from "../codec/rdb/target.ts";
import { Connection } from "../link/connection.ts";
import { parseInfo } from "../link/instance.ts";
import { textOf } from "../link/reply-values.ts";
import type { Plan } from "./plan-result.ts";
import { type FolderOptions, type RestoredFolder, restoreToFolder } from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { targetOfServer } from "./restore-nodes.ts";
import {
  changesNothing,
  isLoadable,
  openSnapshot,
  type Snapshot,
  targetOfMagic,
} from "./restore-snapshot.ts";
import { type Loader, loaderOf } from "./server-needs.ts";
import { spawnWatched } from "./watched-process.ts";

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
  const { name, target, loader } = await checkProgram(program);
  const snapshot = options.snapshot ?? (await openSnapshot(view, plan));
  mustLoad({ program: name, can: target, snapshot }, options);
  await checkPort(port);
  const isNew = !existsSync(folder);
  const restored = await restoreToFolder(view, plan, folder, { ...options, snapshot, loader });
  const args = ["--port", String(port), ...restored.serverArguments, ...serverArguments];
  const { child: process, release } = spawnWatched(program, args, { cwd: folder });
  const said = new Said(process);
  try {
    const { version, keys } = await untilLoaded(process, port, said, signal);
    release();
    process.unref();
    return { ...restored, process, port, version, keysLoaded: keys };
  } catch (error) {
    release();
    if (process.exitCode === null && process.signalCode === null) {
      process.kill("SIGKILL");
      await once(process, "exit");
    }
    // It was empty: whatever is there is of this restore, and would be in the way of the next one.
    for (const each of await readdir(folder)) {
      await rm(join(folder, each), { recursive: true, force: true });
    }
    if (isNew) await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

type Program = { readonly name: string; readonly target: Target; readonly loader: Loader };

/** What a program says of itself. @throws Failure */
export async function checkProgram(program: string): Promise<Program> {
  let said: string;
  try {
    said = (await promisify(execFile)(program, ["--version"])).stdout;
  } catch (cause) {
    throw new Failure("SERVER_FAILED", `Cannot run "${program}": ${whyNot(cause)}`, {
      cause,
      hint: "Name a redis-server or valkey-server.",
    });
  }
  const [, family = "", version = ""] = /^(redis|valkey).*?\bv=(\d+\.\d+\.\d+)/i.exec(said) ?? [];
  if (version === "") {
    const found = JSON.stringify(said.slice(0, 80));
    throw new Failure("SERVER_FAILED", `Cannot use "${program}" as a server: it says ${found}`, {
      hint: "Name a redis-server or valkey-server.",
    });
  }
  const info = new Map([[`${family.toLowerCase()}_version`, version]]);
  const name = `${family} ${version}`;
  const loader = { name, ...loaderOf(family.toLowerCase(), version) };
  return { name, target: targetOfServer(info), loader };
}

function whyNot(cause: unknown): string {
  const { code, signal } = cause as { code?: string | number | null; signal?: string | null };
  if (code === "ENOENT") return "there is no such program";
  if (code === "EACCES") return "it is no program, or may not be run";
  if (typeof code === "number") return `asked for its version, it ended with status ${code}`;
  return `asked for its version, it ended with ${signal ?? code ?? "an error"}`;
}

/** @throws Failure TARGET_CANNOT_HOLD where a server of that kind would not start on what is written */
function mustLoad(
  { program, can, snapshot }: { program: string; can: Target; snapshot: Snapshot },
  { target = targetOfMagic(snapshot.magic), pipe = {} }: FolderOptions,
): void {
  const isCopied = isLoadable(snapshot.magic, target) && changesNothing(pipe);
  const magic = isCopied ? snapshot.magic : capabilities[target].header;
  const finds = can !== "redis:6.0" || target === "redis:6.0";
  if (magic === null || (finds && isLoadable(magic, can))) return;
  const found = `what is restored needs ${target} or later`;
  throw new Failure("TARGET_CANNOT_HOLD", `Cannot run ${program} on it: ${found}`, {
    hint: `Name another server, or have it written for this one: --target ${can}, perhaps with --lossy.`,
  });
}

/** @throws Failure */
export async function checkPort(port: number): Promise<void> {
  try {
    await using _ = await Connection.open({ host: "127.0.0.1", port });
  } catch (error) {
    if (error instanceof Failure && error.code === "SERVER_UNREACHABLE") return;
    throw error;
  }
  throw new Failure(
    "USAGE",
    `Cannot start a server on port ${port}: something listens there already`,
    {
      hint: `Choose another --port; to restore into what is there: --to redis://127.0.0.1:${port}.`,
    },
  );
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
      const message = `Cannot start a server on what was restored: ${said.end}; it said:\n${said.text}`;
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
  end = "it has ended";

  constructor(process: ChildProcess) {
    const keep = (chunk: Buffer) => {
      this.text = (this.text + chunk.toString("latin1")).slice(-maxLogBytes);
    };
    process.stdout?.on("data", keep);
    process.stderr?.on("data", keep);
    process.once("error", (error) => keep(Buffer.from(error.message)));
    process.once("exit", (status, signal) => {
      this.end = signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`;
      this.hasEnded = true;
    });
  }
}
