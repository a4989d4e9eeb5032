/**
 * A small RESP2 client, for tests to ask a real server with.
 *
 * WHY not the codec in `src`: a test that reads a server's answers with the code under test would
 * not see a fault that both share. This one is short enough to be checked by reading.
 *
 * Bulk strings arrive as `Buffer`, status lines as `string`, integers as `number` (as `bigint`
 * above 2^53), nulls as `null`. An error reply is thrown as `ReplyError`, or returned by `ask()`.
 */
import { connect as connectSocket, type Socket } from "node:net";

export type Argument = string | number | bigint | Uint8Array;
export type Reply = string | number | bigint | null | Buffer | ReplyError | Reply[];

export class ReplyError extends Error {
  override readonly name = "ReplyError";
}

export class Client implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #parser = new ReplyParser();
  readonly #waiting: PromiseWithResolvers<Reply>[] = [];
  #lost: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => this.#lose(error));
    socket.on("close", () => this.#lose(new Error("The server closed the connection")));
  }

  /** Connects to a Unix socket. */
  static async connect(path: string): Promise<Client> {
    const socket = connectSocket({ path });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once("connect", resolve);
    socket.once("error", reject);
    await promise;
    return new Client(socket);
  }

  /** Sends one command. Throws an error reply. */
  async call(...args: Argument[]): Promise<Reply> {
    const reply = await this.ask(...args);
    if (reply instanceof ReplyError) {
      throw new ReplyError(`${args.slice(0, 2).map(String).join(" ")}: ${reply.message}`);
    }
    return reply;
  }

  /** Sends one command. Returns an error reply. */
  ask(...args: Argument[]): Promise<Reply> {
    return this.send(encodeCommand(args));
  }

  /** Sends the bytes of one command as they are. */
  send(bytes: Uint8Array): Promise<Reply> {
    if (this.#lost) return Promise.reject(this.#lost);
    const waiting = Promise.withResolvers<Reply>();
    this.#waiting.push(waiting);
    this.#socket.write(bytes);
    return waiting.promise;
  }

  /** Sends many commands without waiting in between. Throws the first error reply. */
  async pipeline(commands: readonly (readonly Argument[])[]): Promise<Reply[]> {
    const replies: Reply[] = [];
    for (let at = 0; at < commands.length; at += 1000) {
      const part = commands.slice(at, at + 1000).map((args) => this.call(...args));
      replies.push(...(await Promise.all(part)));
    }
    return replies;
  }

  close(): void {
    this.#socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #receive(chunk: Buffer): void {
    try {
      for (const reply of this.#parser.push(chunk)) this.#waiting.shift()?.resolve(reply);
    } catch (error) {
      this.#lose(error as Error);
    }
  }

  #lose(error: Error): void {
    this.#lost ??= error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#socket.destroy();
  }
}

function encodeCommand(args: readonly Argument[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = arg instanceof Uint8Array ? arg : Buffer.from(String(arg));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

/** Collects bytes until whole replies are there. Nothing is parsed twice, however it is cut. */
class ReplyParser {
  #buffer = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  /** Bytes still to come before another attempt can succeed. */
  #missing = 0;
  #at = 0;
  /** The arrays that are not complete yet, from the outermost in. */
  readonly #open: { readonly items: Reply[]; readonly length: number }[] = [];

  push(chunk: Buffer): Reply[] {
    this.#chunks.push(chunk);
    this.#missing -= chunk.length;
    if (this.#missing > 0) return [];
    this.#buffer = Buffer.concat([this.#buffer.subarray(this.#at), ...this.#chunks]);
    this.#chunks = [];
    this.#missing = 0;
    this.#at = 0;
    const replies: Reply[] = [];
    for (;;) {
      const start = this.#at;
      const item = this.#item();
      if (item === undefined) {
        this.#at = start;
        return replies;
      }
      const reply = item === "array" ? undefined : this.#complete(item.value);
      if (reply !== undefined) replies.push(reply);
    }
  }

  /** A value; or "array", when one has been opened; or nothing, when it is not all there. */
  #item(): { readonly value: Reply } | "array" | undefined {
    const end = this.#buffer.indexOf("\r\n", this.#at, "latin1");
    if (end < 0) return undefined;
    const type = String.fromCharCode(this.#buffer[this.#at] as number);
    const line = this.#buffer.toString("latin1", this.#at + 1, end);
    const number = Number(line);
    this.#at = end + 2;
    switch (type) {
      case "+":
        return { value: line };
      case "-":
        return { value: new ReplyError(line) };
      case ":":
        return { value: Number.isSafeInteger(number) ? number : BigInt(line) };
      case "$":
        return number < 0 ? { value: null } : this.#bulk(number);
      case "*":
        if (number <= 0) return { value: number < 0 ? null : [] };
        this.#open.push({ items: [], length: number });
        return "array";
      default:
        throw new Error(`The server sent a reply of type "${type}"`);
    }
  }

  #bulk(size: number): { readonly value: Buffer } | undefined {
    const start = this.#at;
    const missing = start + size + 2 - this.#buffer.length;
    if (missing > 0) {
      this.#missing = missing;
      return undefined;
    }
    this.#at = start + size + 2;
    return { value: Buffer.from(this.#buffer.subarray(start, start + size)) };
  }

  /** Puts a value where it belongs. Returns it, or the array that it completes, as a reply. */
  #complete(value: Reply): Reply | undefined {
    for (;;) {
      const array = this.#open.at(-1);
      if (array === undefined) return value;
      array.items.push(value);
      if (array.items.length < array.length) return undefined;
      this.#open.pop();
      value = array.items;
    }
  }
}
