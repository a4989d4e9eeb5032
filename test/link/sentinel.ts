import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findServer, type ServerId } from "../support/servers.ts";
import { freePort } from "./ports.ts";

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A Sentinel that watches one master on this machine, alone. */
export class Sentinel implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #folder: string;

  private constructor(child: ChildProcess, ended: Promise<void>, port: number, folder: string) {
    this.#child = child;
    this.#ended = ended;
    this.port = port;
    this.#folder = folder;
  }

  static async start(id: ServerId, name: string, masterPort: number): Promise<Sentinel> {
    const program = findServer(id);
    if (program === undefined) throw new Error(`No server ${id}`);
    const [port, folder] = [await freePort(), mkdtempSync(join(tmpdir(), "tidemark-sentinel-"))];
    const lines = [
      `port ${port}`,
      `dir ${folder}`,
      `sentinel monitor ${name} 127.0.0.1 ${masterPort} 1`,
      `sentinel down-after-milliseconds ${name} 1000`,
      `sentinel failover-timeout ${name} 5000`,
    ];
    const conf = join(folder, "sentinel.conf");
    writeFileSync(conf, `${lines.join("\n")}\n`);
    const child = spawn(program.bin.server, [conf, "--sentinel"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    running.add(child);
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    child.once("close", () => {
      running.delete(child);
      end();
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let log = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      log += chunk.toString("latin1");
      if (log.includes("+monitor")) resolve();
    });
    child.once("close", () => reject(new Error(`The Sentinel ended: ${log}`)));
    const sentinel = new Sentinel(child, ended, port, folder);
    await promise;
    return sentinel;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
