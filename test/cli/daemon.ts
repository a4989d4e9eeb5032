import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { checkout } from "../support/checkout.ts";
import { type Outcome, tidemark } from "./tidemark.ts";

/** A folder with a configuration of one instance, "db1", and what is run in it. */
export class Site {
  readonly folder: string;
  readonly config: string;

  constructor(folder: string, socketPath: string, more = "", repository = "./repository") {
    this.folder = folder;
    this.config = join(folder, "tidemark.yaml");
    const lines = [
      `repositories: {main: {address: ${JSON.stringify(repository)}}}`,
      `instances:\n  db1:\n    source: unix://${socketPath}\n    archive_interval: 1s`,
      ...(more === "" ? [] : [more.replaceAll(/^/gm, "    ")]),
    ];
    writeFileSync(this.config, `${lines.join("\n")}\n`);
  }

  /** A command with `--config`, as a user types it. */
  run(...args: string[]): Promise<Outcome> {
    return tidemark(...args, "--config", this.config);
  }

  /** What a command prints as JSON. Throws what it says where it fails. */
  async json(...args: string[]) {
    const { status, stdout, stderr } = await this.run(...args, "--json");
    if (status !== 0) throw new Error(`${args.join(" ")}: status ${status}: ${stderr}`);
    return JSON.parse(stdout);
  }

  up(): Daemon {
    return new Daemon(this.config);
  }
}

/** `tidemark up`, killed at the latest when it is disposed of. */
export class Daemon implements AsyncDisposable {
  readonly #child;
  readonly #ended: Promise<unknown>;
  readonly #lines: string[] = [];
  #heard = Promise.withResolvers<void>();

  constructor(config: string) {
    const main = join(checkout, "src/cli/main.ts");
    const args = [main, "up", "--config", config];
    this.#child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "pipe"] });
    this.#ended = once(this.#child, "close");
    createInterface({ input: this.#child.stderr }).on("line", (line) => {
      this.#lines.push(line);
      this.#heard.resolve();
      this.#heard = Promise.withResolvers();
    });
  }

  /** Resolves when it has told of such an event, with its line. */
  async told(event: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.#lines.map(parse).find((line) => line["event"] === event);
      if (found !== undefined) return found;
      const { promise } = this.#heard;
      const hasEnded = await Promise.race([promise, this.#ended.then(() => true)]);
      if (hasEnded === true)
        throw new Error(`It ended without "${event}": ${this.#lines.join("\n")}`);
    }
  }

  /** Sends a signal, and resolves when it has ended. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
  }
}

function parse(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
