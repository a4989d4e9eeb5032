/**
 * A running server that loads one RDB after another and says what it holds.
 *
 * WHY AS A REPLICA, of a master that is not there: a master drops what has expired when it loads a
 * file, and then neither DEBUG DIGEST nor a new SAVE tell of it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ReplyError } from "../support/client.ts";
import type { Line } from "../support/dump.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";

/** What a server holds, in the three ways that it can be asked. */
export type Testimony = {
  readonly lines: readonly Line[];
  readonly digest: string;
  /** The RDB that it saves. */
  readonly saved: Uint8Array;
};

export class Judge implements AsyncDisposable {
  readonly id: ServerId;
  #server: RunningServer | undefined;
  loads = 0;

  constructor(id: ServerId) {
    this.id = id;
  }

  /** What it holds after loading the file, or what it says where it refuses that. */
  async ask(file: Uint8Array): Promise<Testimony | string> {
    const server = await this.#running();
    writeFileSync(join(server.dir, "dump.rdb"), file);
    this.loads++;
    try {
      const reply = await server.client.ask("DEBUG", "RELOAD", "NOSAVE");
      if (reply instanceof ReplyError) return await this.#refusal(reply.message);
      const digest = await server.debugDigest();
      await server.call("SAVE");
      const saved = readFileSync(join(server.dir, "dump.rdb"));
      return { lines: await server.dump(), digest, saved };
    } catch (error) {
      // Redis 6.0 ends when a file is damaged, or falls over what it loaded of it.
      return await this.#refusal(`it went away: ${String(error)}`);
    }
  }

  /** What is left in memory is undefined: the next file gets another server. */
  async #refusal(found: string): Promise<string> {
    const said = this.#server?.log.trim().split("\n").slice(-3).join(" | ");
    await this.#server?.stop();
    this.#server = undefined;
    return `${found}: ${said}`;
  }

  async #running(): Promise<RunningServer> {
    this.#server ??= await startServer(this.id, { conf: this.#conf });
    return this.#server;
  }

  get #conf(): Record<string, string | number> {
    // Where a server checks packed values only when it is told to, it is told to.
    const canBeTold = this.id !== "redis-6.0" && this.id !== "valkey-9";
    return {
      databases: 1024,
      replicaof: "127.0.0.1 1",
      ...(canBeTold ? { "sanitize-dump-payload": "yes" } : {}),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.stop();
  }
}
