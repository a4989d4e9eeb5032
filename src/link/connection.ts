import { connect, type Socket } from "node:net";
import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { type Argument, RespEncoder } from "../codec/resp/encode.ts";
import { type Reply, ReplyParser } from "../codec/resp/reply.ts";

type Waiting = {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (failure: Failure) => void;
};

/** A connection to a server, on which commands may be sent before earlier ones are answered. */
export class Connection implements Disposable {
  readonly #socket: Socket;
  readonly #parser = new ReplyParser();
  readonly #waiting: Waiting[] = [];
  #failure: Failure | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("error", (cause) => this.#fail(cause));
    socket.on("close", () => this.#fail());
  }

  /** @throws Failure SERVER_FAILED */
  static async open(path: string): Promise<Connection> {
    const socket = connect(path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once("connect", resolve);
    socket.once("error", reject);
    try {
      await promise;
    } catch (cause) {
      throw new Failure("SERVER_FAILED", `Cannot connect to "${path}"`, { cause });
    }
    socket.off("error", reject);
    return new Connection(socket);
  }

  /** Sends a command. An error reply is a reply. @throws Failure where the connection is lost */
  async call(...args: readonly Argument[]): Promise<Reply> {
    if (this.#failure) throw this.#failure;
    const encoder = new RespEncoder();
    encoder.command(...args);
    this.#socket.write(encoder.take());
    return await new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#parser.push(chunk);
      for (let reply = this.#parser.next(); reply; reply = this.#parser.next()) {
        this.#waiting.shift()?.resolve(reply);
      }
    } catch (cause) {
      this.#fail(cause);
    }
  }

  #fail(cause?: unknown): void {
    this.#failure ??=
      cause instanceof Failure
        ? cause
        : new Failure("SERVER_FAILED", "Cannot talk to the server: the connection is lost", {
            cause,
          });
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** The text of an error reply, or undefined. */
export function errorText(reply: Reply): string | undefined {
  return reply.type === "error" || reply.type === "bulkError" ? toLatin1(reply.bytes) : undefined;
}
