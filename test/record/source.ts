import { mkdirSync } from "node:fs";
import type { Client } from "../support/client.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";

type Options = NonNullable<Parameters<typeof startServer>[1]>;

/** A server with a port of its own, which comes back there with its files after it has ended. */
export class Source implements AsyncDisposable {
  readonly id: ServerId;
  readonly #options: Options;
  #server: RunningServer;

  private constructor(id: ServerId, options: Options, server: RunningServer) {
    this.id = id;
    this.#options = options;
    this.#server = server;
  }

  static async start(
    id: ServerId,
    dir: string,
    settings: Readonly<Record<string, string | number>>,
  ): Promise<Source> {
    mkdirSync(dir);
    const options = {
      dir,
      conf: {
        bind: "127.0.0.1",
        "repl-diskless-sync-delay": 0,
        // No bytes in the stream but those of the workload.
        "repl-ping-replica-period": 3600,
        ...settings,
      },
    };
    return new Source(id, options, await startServer(id, options));
  }

  get server(): RunningServer {
    return this.#server;
  }

  get client(): Client {
    return this.#server.client;
  }

  async info(section: string, field: string): Promise<string> {
    const text = String(await this.client.call("INFO", section));
    return new RegExp(`^${field}:(.*)\r$`, "m").exec(text)?.[1] ?? "";
  }

  async restart(how: "shutdown" | "kill"): Promise<void> {
    if (how === "shutdown") {
      await using other = await this.#server.connect();
      // It closes the connection instead of answering.
      const answer = await other.ask("SHUTDOWN", "SAVE").catch(() => undefined);
      if (answer !== undefined) throw new Error(`No SHUTDOWN: ${String(answer)}`);
    }
    await this.#server.stop("SIGKILL");
    this.#server = await startServer(this.id, this.#options);
  }

  /** Stops it for a while, as a machine does that swaps. */
  freeze(): void {
    process.kill(this.#server.pid, "SIGSTOP");
  }

  thaw(): void {
    process.kill(this.#server.pid, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
  }
}
