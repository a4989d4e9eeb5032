/**
 * Real Redis and Valkey servers, as the judges of what Tidemark reads and writes.
 *
 * `scripts/real-servers.sh` unpacks them into `.cache/servers`, or wherever `TIDEMARK_SERVERS`
 * says. Where one is missing, a test that needs it is skipped and says so; in CI (`CI=true`) that is
 * a failure, except for versions that Debian only has at times.
 *
 * A server listens on a Unix socket in its own folder and on no port, so that any number of tests
 * can run side by side. It logs to its standard output, which tells when it is ready: nothing here
 * waits for a time. It is killed when it is disposed of, and at the latest when the test process ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { checkout } from "./checkout.ts";
import { Client } from "./client.ts";
import { type Capabilities, dumpServer, type Line } from "./dump.ts";

/** The servers that wrote the fixtures. */
export const serverIds = ["redis-6.0", "redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const;
/** From suites where a version does not stay. */
export const optionalServerIds = ["redis-8.6"] as const;

export type FixtureServerId = (typeof serverIds)[number];
export type ServerId = FixtureServerId | (typeof optionalServerIds)[number];

export type ServerProgram = {
  readonly id: ServerId;
  readonly version: string;
  /** Absolute paths of its programs. */
  readonly bin: {
    readonly server: string;
    readonly cli: string;
    readonly benchmark: string;
    readonly "check-rdb": string;
    readonly "check-aof": string;
  };
  readonly can: Capabilities & { readonly multiPartAof: boolean; readonly debugFlag: boolean };
};

const folder = resolve(process.env["TIDEMARK_SERVERS"] ?? join(checkout, ".cache/servers"));
let known: Map<string, ServerProgram> | undefined;

/** The server, or undefined where it is not to be had. */
export function findServer(id: ServerId): ServerProgram | undefined {
  known ??= readPrograms();
  return known.get(id);
}

/**
 * Why a test that needs these servers cannot run here, or false: it goes into the test's `skip`.
 * Throws in CI, where every server that the fixtures need has to be there.
 */
export function missingServers(...ids: ServerId[]): string | false {
  const missing = ids.filter((id) => findServer(id) === undefined);
  if (missing.length === 0) return false;
  const reason = `${missing.join(", ")} not found in ${folder}: run scripts/real-servers.sh`;
  const mustBeThere = missing.some((id) => (serverIds as readonly string[]).includes(id));
  if (mustBeThere && inCi()) throw new Error(reason);
  return reason;
}

export type StartOptions = {
  /** The data folder. Where it is not given: a temporary one that is gone with the server. */
  readonly dir?: string;
  /** Settings as they stand in a configuration file, quotes included; lists repeat the setting. */
  readonly conf?: Readonly<Record<string, string | number | readonly string[]>>;
};

/** A server that would not start; `log` is all that it said. */
export class StartError extends Error {
  override readonly name = "StartError";
  readonly log: string;

  constructor(what: string, log: string) {
    super(`${what}: ${log.trim().split("\n").slice(-5).join(" | ")}`);
    this.log = log;
  }
}

export class RunningServer implements AsyncDisposable {
  readonly program: ServerProgram;
  readonly dir: string;
  readonly socketPath: string;
  readonly client: Client;
  readonly #process: ServerProcess;
  readonly #policy: string;

  constructor(process: ServerProcess, client: Client, settings: Settings) {
    this.program = settings.program;
    this.dir = settings.dir;
    this.socketPath = settings.socketPath;
    this.client = client;
    this.#process = process;
    this.#policy = settings.policy;
  }

  /** Sends one command over the server's own connection. Throws an error reply. */
  call(...args: Parameters<Client["call"]>): ReturnType<Client["call"]> {
    return this.client.call(...args);
  }

  /** Another connection. */
  connect(): Promise<Client> {
    return Client.connect(this.socketPath);
  }

  /** All that it holds, as canonical lines, with usage counters where its policy keeps them. */
  dump(): Promise<Line[]> {
    const usage = /lfu/.test(this.#policy) ? "freq" : /lru/.test(this.#policy) ? "idle" : "none";
    return dumpServer(this.client, this.program.can, usage);
  }

  /** DEBUG DIGEST: one number for all of the contents. */
  async debugDigest(): Promise<string> {
    return String(await this.client.call("DEBUG", "DIGEST"));
  }

  /** How far its history has come. */
  async replicationOffset(): Promise<number> {
    const info = String(await this.client.call("INFO", "replication"));
    return Number(/master_repl_offset:(\d+)/.exec(info)?.[1]);
  }

  get log(): string {
    return this.#process.log;
  }

  get pid(): number {
    return this.#process.child.pid as number;
  }

  /** Ends it: SIGTERM lets it save, SIGKILL does not. Resolves when it is gone. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): Promise<void> {
    this.client.close();
    this.#process.child.kill(signal);
    await this.#process.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Starts a server and resolves when it has loaded its data. Throws `StartError` when it refuses. */
export async function startServer(
  id: ServerId,
  options: StartOptions = {},
): Promise<RunningServer> {
  const program = findServer(id);
  if (program === undefined) throw new Error(missingServers(id) || `No server ${id}`);
  const settings = settle(program, options);
  const process = new ServerProcess(program, settings);
  try {
    await process.ready();
    return new RunningServer(process, await Client.connect(settings.socketPath), settings);
  } catch (error) {
    process.child.kill("SIGKILL");
    await process.ended;
    throw error;
  }
}

type Settings = {
  readonly program: ServerProgram;
  readonly dir: string;
  readonly ownsDir: boolean;
  readonly socketPath: string;
  readonly confPath: string;
  readonly policy: string;
};

/** Chooses the folder and writes the configuration file. */
function settle(program: ServerProgram, options: StartOptions): Settings {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), "tidemark-"));
  // Outside the data folder, where a test may count files; and short: sockets have 107 bytes.
  const control = mkdtempSync(join(tmpdir(), "tm-"));
  const socketPath = join(control, "s");
  const confPath = join(control, "c");
  const conf = {
    port: 0,
    unixsocket: socketPath,
    dir: JSON.stringify(dir),
    save: '""',
    databases: 16,
    ...(program.can.debugFlag ? { "enable-debug-command": "yes" } : {}),
    ...options.conf,
  };
  const lines = Object.entries(conf).flatMap(([name, values]) =>
    [values].flat().map((value) => `${name} ${value}\n`),
  );
  writeFileSync(confPath, lines.join(""));
  const policy = String(options.conf?.["maxmemory-policy"] ?? "");
  return { program, dir, ownsDir: options.dir === undefined, socketPath, confPath, policy };
}

/** Removes what `settle()` made. */
function removeFolders(settings: Settings): void {
  rmSync(dirname(settings.socketPath), { recursive: true, force: true });
  if (settings.ownsDir) rmSync(settings.dir, { recursive: true, force: true });
}

const running = new Map<ChildProcess, Settings>();
const killAll = () => {
  for (const [child, settings] of running) {
    child.kill("SIGKILL");
    removeFolders(settings);
  }
};
process.on("exit", killAll);
// A handler keeps the signal from ending the process, so it is sent again.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    killAll();
    process.kill(process.pid, signal);
  });
}

class ServerProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  log = "";
  readonly #name: string;

  constructor(program: ServerProgram, settings: Settings) {
    this.#name = `${program.id} in ${settings.dir}`;
    this.child = spawn(program.bin.server, [settings.confPath], {
      cwd: settings.dir,
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.set(this.child, settings);
    const { promise, resolve: hasEnded } = Promise.withResolvers<void>();
    this.ended = promise;
    this.child.once("close", () => {
      running.delete(this.child);
      removeFolders(settings);
      hasEnded();
    });
  }

  /** Resolves when the server says that it takes connections, which it does once it has loaded. */
  async ready(): Promise<void> {
    const { promise, resolve: isReady, reject } = Promise.withResolvers<void>();
    const listen = (chunk: Buffer) => {
      this.log += chunk.toString("latin1");
      if (/ready to accept connections/i.test(this.log)) isReady();
    };
    this.child.stdout?.on("data", listen);
    this.child.stderr?.on("data", listen);
    const late = setTimeout(() => reject(new StartError(`${this.#name} hangs`, this.log)), 60_000);
    this.child.once("error", reject);
    this.child.once("close", (code, signal) =>
      reject(new StartError(`${this.#name} ended with ${signal ?? code}`, this.log)),
    );
    try {
      await promise;
    } finally {
      clearTimeout(late);
    }
  }
}

function inCi(): boolean {
  return /^(1|true)$/.test(process.env["CI"] ?? "");
}

type Manifest = { name: ServerId; version: string; bin: Record<string, string> }[];

function readPrograms(): Map<string, ServerProgram> {
  const manifest = join(folder, "servers.json");
  if (!existsSync(manifest)) return new Map();
  const entries = JSON.parse(readFileSync(manifest, "utf8")) as Manifest;
  const programs = entries.map(({ name, version, bin }): [string, ServerProgram] => {
    const paths = Object.entries(bin).map(([tool, path]) => [tool, resolve(folder, path)]);
    const program = {
      id: name,
      version,
      bin: Object.fromEntries(paths),
      can: canDo(name, version),
    };
    return [name, program];
  });
  return new Map(programs);
}

/** What this version has. Valkey's numbers go on from Redis 7.2, but for hash fields that expire. */
function canDo(id: ServerId, version: string): ServerProgram["can"] {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const since = (ma: number, mi: number) => major > ma || (major === ma && minor >= mi);
  return {
    functions: since(7, 0),
    pexpiretime: since(7, 0),
    multiPartAof: since(7, 0),
    debugFlag: since(7, 0),
    streamCounters: since(7, 0),
    activeTime: since(7, 2),
    hashFieldExpiry: id.startsWith("valkey") ? since(9, 0) : since(7, 4),
  };
}
