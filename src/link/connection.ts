/**
 * A connection to a server, on which commands may be sent before earlier ones are answered.
 *
 * WHY. Everything that is asked of a server goes through here: logging in, topology, clocks, and the
 * handshake of a replica, which then takes the bytes behind the last reply over as they are.
 *
 * INVARIANTS
 *
 *   1. Replies belong to commands in the order of the commands.
 *   2. Whoever waits is told: by a reply, or by the failure that ended the connection.
 *   3. While a command waits for its reply, something comes at least every `replyTimeoutMs`, be it a
 *      newline: a server that prepares a snapshot sends those. Else the server is taken for lost.
 *   4. What was received and is not taken is at most one reply, or one chunk.
 *
 * What may grow without bound is what the caller sends without waiting; `maxUnanswered` bounds it.
 */
import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { type Argument, RespEncoder } from "../codec/resp/encode.ts";
import { type Reply, ReplyParser } from "../codec/resp/reply.ts";
import type { Endpoint } from "./address.ts";
import { refusal } from "./refusal.ts";
import type { Credentials } from "./secret.ts";
import { type Receiver, Wire, type WireOptions } from "./wire.ts";

export type ConnectOptions = WireOptions & {
  readonly credentials?: Credentials | undefined;
  readonly database?: number | undefined;
  readonly replyTimeoutMs?: number | undefined;
};

const defaultReplyTimeoutMs = 30_000;
const maxUnanswered = 100_000;

type Waiting = {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (failure: Failure) => void;
  /** What comes behind this reply is not parsed. */
  readonly isLast: boolean;
};

export class Connection implements AsyncDisposable {
  readonly #wire: Wire;
  readonly #inbox: Inbox;
  readonly #encoder = new RespEncoder();

  private constructor(wire: Wire, inbox: Inbox) {
    this.#wire = wire;
    this.#inbox = inbox;
  }

  /**
   * Connects and logs in.
   *
   * @throws Failure SERVER_UNREACHABLE, SERVER_LOST, SERVER_BUSY, SERVER_DENIED, TLS_FAILED, ABORTED,
   * and what keeps a secret or a certificate from being read
   */
  static async open(endpoint: Endpoint, options: ConnectOptions = {}): Promise<Connection> {
    const { credentials, database = 0, signal } = options;
    const password = await credentials?.password.reveal(signal);
    const inbox = new Inbox(options.replyTimeoutMs ?? defaultReplyTimeoutMs);
    const wire = await Wire.open(endpoint, inbox, options);
    inbox.wire = wire;
    const connection = new Connection(wire, inbox);
    try {
      const user = credentials?.user;
      if (password !== undefined) {
        await connection.ask("AUTH", ...(user === undefined ? [] : [user]), password);
      }
      if (database !== 0) await connection.ask("SELECT", database);
      return connection;
    } catch (cause) {
      await connection[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** The endpoint, for messages. */
  get name(): string {
    return this.#wire.name;
  }

  get unsentBytes(): number {
    return this.#wire.unsentBytes;
  }

  /** Sends a command. An error reply is a reply. @throws Failure where the connection is lost */
  async call(...args: readonly Argument[]): Promise<Reply> {
    return await this.#exchange(args, false);
  }

  /** Sends a command. @throws Failure, also for an error reply: see `refusal()` */
  async ask(...args: readonly Argument[]): Promise<Reply> {
    const reply = await this.#exchange(args, false);
    const error = errorText(reply);
    if (error !== undefined) throw refusal(requestName(args), this.name, error);
    return reply;
  }

  /** Sends a command that is not answered. */
  send(...args: readonly Argument[]): void {
    this.#encoder.command(...args);
    this.#wire.write(this.#encoder.take());
  }

  /**
   * Sends the last command: what comes behind its reply is for `intake` and no replies any more.
   *
   * @throws Failure, also for an error reply
   */
  async handOver(...args: readonly Argument[]): Promise<{ reply: Reply; intake: Intake }> {
    const reply = await this.#exchange(args, true);
    const error = errorText(reply);
    if (error !== undefined) throw refusal(requestName(args), this.name, error);
    return { reply, intake: this.#inbox.intake as Intake };
  }

  async #exchange(args: readonly Argument[], isLast: boolean): Promise<Reply> {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    this.#inbox.expect({ resolve, reject, isLast });
    this.send(...args);
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const message = `Cannot go on with ${this.name}: the connection was closed on this side`;
    this.#wire.close(new Failure("ABORTED", message));
  }
}

/** What is received: replies first, and once the connection is handed over, bytes. */
class Inbox implements Receiver {
  wire: Wire | undefined;
  intake: Intake | undefined;
  readonly #parser = new ReplyParser();
  readonly #waiting: Waiting[] = [];
  readonly #timeoutMs: number;
  #late: NodeJS.Timeout | undefined;
  #failure: Failure | undefined;
  /** What the server said although nothing was asked: the reason why it then hangs up. */
  #unasked: string | undefined;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  expect(waiting: Waiting): void {
    if (this.#failure) throw this.#failure;
    if (this.#waiting.length === maxUnanswered) {
      const message = `Cannot send a command: ${maxUnanswered} are waiting for their replies`;
      throw new Failure("LIMIT_EXCEEDED", message);
    }
    if (this.#late === undefined) {
      this.#late = setTimeout(() => this.#expire(), this.#timeoutMs);
    } else if (this.#waiting.length === 0) {
      this.#late.refresh();
    }
    this.#waiting.push(waiting);
  }

  receive(chunk: Uint8Array): boolean {
    if (this.intake) return this.intake.receive(chunk);
    this.#late?.refresh();
    try {
      this.#parser.push(chunk);
      for (let reply = this.#parser.next(); reply; reply = this.#parser.next()) {
        const waiting = this.#waiting.shift();
        if (waiting === undefined) this.#unasked = errorText(reply);
        else waiting.resolve(reply);
        if (waiting?.isLast) return this.#handOver();
      }
    } catch (cause) {
      this.wire?.close(cause as Failure);
    }
    return true;
  }

  #handOver(): boolean {
    clearTimeout(this.#late);
    this.intake = new Intake(this.wire as Wire, this.#parser.takeRest(), this.#timeoutMs);
    return false;
  }

  lose(failure: Failure): void {
    clearTimeout(this.#late);
    const said = this.#unasked;
    const name = this.wire?.name ?? "the server";
    this.#failure = said === undefined ? failure : refusal("a command", name, said);
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
    this.intake?.lose(this.#failure);
  }

  #expire(): void {
    if (this.#waiting.length > 0) this.wire?.close(silence(this.wire.name, this.#timeoutMs));
  }
}

/**
 * The bytes of a connection that was handed over, a chunk at a time. The socket stands still from
 * one chunk until the next one is asked for: what is unread is in the kernel, and slows the server.
 */
export class Intake {
  readonly #wire: Wire;
  readonly #timeoutMs: number;
  readonly #late: NodeJS.Timeout;
  #chunk: Uint8Array | undefined;
  #waiting: PromiseWithResolvers<Uint8Array> | undefined;
  #failure: Failure | undefined;

  constructor(wire: Wire, first: Uint8Array, timeoutMs: number) {
    this.#wire = wire;
    this.#timeoutMs = timeoutMs;
    if (first.length > 0) this.#chunk = first;
    this.#late = setTimeout(() => this.#expire(), timeoutMs);
  }

  /**
   * The next chunk, never empty; borrowed until the next call.
   *
   * @throws Failure what ended the connection, when all that came before has been taken
   */
  next(): Promise<Uint8Array> {
    const chunk = this.#chunk;
    if (chunk !== undefined) {
      this.#chunk = undefined;
      return Promise.resolve(chunk);
    }
    if (this.#failure) return Promise.reject(this.#failure);
    this.#waiting = Promise.withResolvers();
    this.#late.refresh();
    this.#wire.resume();
    return this.#waiting.promise;
  }

  receive(chunk: Uint8Array): boolean {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) waiting.resolve(chunk);
    else this.#chunk = chunk;
    return false;
  }

  lose(failure: Failure): void {
    clearTimeout(this.#late);
    this.#failure = failure;
    this.#waiting?.reject(failure);
    this.#waiting = undefined;
  }

  /** A consumer that takes its time is no silence of the server. */
  #expire(): void {
    if (this.#waiting) this.#wire.close(silence(this.#wire.name, this.#timeoutMs));
  }
}

function silence(name: string, timeoutMs: number): Failure {
  return new Failure("SERVER_LOST", `Cannot talk to ${name}: silence for ${timeoutMs / 1000} s`, {
    hint: "Check that the server is not stuck, and the network in between.",
  });
}

/** The name of a command and of its subcommand, where it is one that has some. */
function requestName(args: readonly Argument[]): string {
  const [command, sub] = args.map(String);
  const hasSub = /^(CLUSTER|SENTINEL|ACL|CONFIG|CLIENT)$/i.test(command ?? "");
  return `${command}${hasSub ? ` ${sub}` : ""}`.toUpperCase();
}

/** The text of an error reply, or undefined. */
export function errorText(reply: Reply): string | undefined {
  return reply.type === "error" || reply.type === "bulkError" ? toLatin1(reply.bytes) : undefined;
}
