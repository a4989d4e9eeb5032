/**
 * Commands by the million to one server, of whose replies only errors are looked at.
 *
 * WHY not `Connection`: it gives a promise and a value for each reply, which costs more than making the
 * command. Here replies are counted, in place; what is sent and not answered is bounded by bytes.
 *
 * INVARIANTS
 *
 *   1. No error reply is missed, also none inside the array that EXEC answers with: `allows` is asked
 *      about each, in order, and the first one that it does not allow ends the pipeline.
 *   2. When `drain()` has returned, all commands so far have been answered, and well.
 *   3. What was sent when an error came is executed all the same. When `settle()` has returned, the server has
 *      done with it, or the connection is lost.
 *   4. Memory: `windowBytes` of commands that are under way, beside what the caller holds.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import type { Endpoint } from "../link/address.ts";
import type { ConnectOptions } from "../link/connection.ts";
import { refusal } from "../link/refusal.ts";
import { Wire } from "../link/wire.ts";

export type PipelineOptions = ConnectOptions & {
  /** What CLIENT LIST shows it as. */
  readonly clientName?: string;
  /** Whether an error is one that may be; `number` counts all commands from 0. Default: none may. */
  readonly allows?: (error: string, number: number) => boolean;
};

const windowBytes = 4 * 2 ** 20;
/** A command may take long: FLUSHALL of a large instance, say. */
const longestSilenceMs = 10 * 60 * 1000;
const readBufferBytes = 64 * 1024;

type Sent = { readonly commands: number; readonly bytes: number };

export class Pipeline implements AsyncDisposable {
  readonly #wire: Wire;
  readonly #inbox: Inbox;
  /** What has been sent and not been answered, in order: numbers count from the first command on. */
  readonly #sent: Sent[] = [];
  #commands = 0;
  #unansweredBytes = 0;

  private constructor(wire: Wire, inbox: Inbox) {
    this.#wire = wire;
    this.#inbox = inbox;
  }

  /** Connects and logs in. @throws Failure as `Connection.open()` */
  static async open(endpoint: Endpoint, options: PipelineOptions = {}): Promise<Pipeline> {
    const { credentials, database = 0, signal } = options;
    const password = await credentials?.password.reveal(signal);
    const inbox = new Inbox();
    const wire = await Wire.open(endpoint, inbox, { readBufferBytes, ...options });
    const pipeline = new Pipeline(wire, inbox);
    try {
      const encoder = new RespEncoder();
      if (password !== undefined) {
        const user = credentials?.user;
        encoder.command("AUTH", ...(user === undefined ? [] : [user]), password);
        await pipeline.send([encoder.take()], 1);
      }
      if (options.clientName !== undefined) {
        encoder.command("CLIENT", "SETNAME", options.clientName);
        await pipeline.send([encoder.take()], 1);
      }
      if (database !== 0) {
        encoder.command("SELECT", database);
        await pipeline.send([encoder.take()], 1);
      }
      await pipeline.drain();
      inbox.begin(options.allows ?? (() => false));
      pipeline.#commands = 0;
      return pipeline;
    } catch (cause) {
      await pipeline[Symbol.asyncDispose]();
      throw cause;
    }
  }

  get name(): string {
    return this.#wire.name;
  }

  /** Commands so far. */
  get commands(): number {
    return this.#commands;
  }

  /** The error that has ended it, where it was one. */
  get refused(): string | undefined {
    return this.#inbox.refused;
  }

  /** Commands that were answered before anything went wrong. */
  get good(): number {
    return this.#inbox.good;
  }

  /**
   * Sends encoded commands in parts, which are the pipeline's from now on. Waits while too much is under way.
   *
   * @throws Failure what ended it: a refusal, or the loss of the connection
   */
  async send(parts: readonly Uint8Array[], commands: number): Promise<void> {
    if (this.#inbox.failure) throw this.#inbox.failure;
    if (commands === 0) return;
    let bytes = 0;
    for (const part of parts) {
      bytes += part.length;
      if (part.length > 0) this.#wire.write(part);
    }
    this.#commands += commands;
    this.#unansweredBytes += bytes;
    this.#sent.push({ commands: this.#commands, bytes });
    this.#settle();
    // What the kernel did not take goes out between two turns only: a server must not wait for the next part.
    if (this.#wire.unsentBytes > 0) await nextTurn();
    while (this.#unansweredBytes > windowBytes) {
      await this.#inbox.until((this.#sent[0] as Sent).commands, longestSilenceMs);
      this.#settle();
    }
  }

  /** Waits until all is answered. @throws Failure as `send()` */
  async drain(): Promise<void> {
    await this.#inbox.until(this.#commands, longestSilenceMs);
    this.#settle();
  }

  /** Waits until the server has done with all that was sent, whatever it says. False: it was lost before. */
  async settle(): Promise<boolean> {
    return await this.#inbox.settled(this.#commands, longestSilenceMs);
  }

  #settle(): void {
    while (this.#sent.length > 0 && (this.#sent[0] as Sent).commands <= this.#inbox.answered) {
      this.#unansweredBytes -= (this.#sent.shift() as Sent).bytes;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const message = `Cannot go on with ${this.name}: the connection was closed on this side`;
    this.#wire.close(new Failure("ABORTED", message));
  }
}

class Inbox {
  failure: Failure | undefined;
  /** The error that it was ended by, if it was one. */
  refused: string | undefined;
  #isSettling = false;
  readonly #replies = new ReplyCounter();
  #allows: (error: string, number: number) => boolean = () => false;
  #isLoggingIn = true;
  #wanted = 0;
  #waiting: PromiseWithResolvers<void> | undefined;
  #begun = 0;
  #good: number | undefined;
  #isLost = false;

  /** Behind the login, numbers start again. */
  begin(allows: (error: string, number: number) => boolean): void {
    this.#allows = allows;
    this.#isLoggingIn = false;
    this.#begun = this.#replies.count;
  }

  get answered(): number {
    return this.#replies.count - this.#begun;
  }

  get good(): number {
    return this.#good ?? this.answered;
  }

  receive(chunk: Uint8Array): boolean {
    try {
      this.#replies.push(chunk, this.#take);
    } catch (cause) {
      this.lose(cause as Failure);
      return false;
    }
    const isRefused = this.failure !== undefined && !this.#isSettling;
    if (this.#waiting !== undefined && (isRefused || this.answered >= this.#wanted)) {
      this.#waiting.resolve();
      this.#waiting = undefined;
    }
    return true;
  }

  readonly #take = (error: string): void => {
    // Behind the first one, the rest is only counted.
    if (this.failure !== undefined || this.#allows(error, this.answered)) return;
    if (this.#isLoggingIn) throw refusal("AUTH", "the server", error);
    this.#good = this.answered;
    this.refused = error;
    this.failure = new Failure("SERVER_FAILED", `Cannot restore: the server says "${error}"`, {
      hint: "What was restored so far is marked as incomplete.",
    });
  };

  lose(failure: Failure): void {
    this.#isLost = true;
    this.#good ??= this.answered;
    this.failure ??= failure;
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  async until(count: number, silenceMs: number): Promise<void> {
    if (this.failure === undefined && this.answered < count) await this.#wait(count, silenceMs);
    if (this.failure) throw this.failure;
  }

  /** Whether all was answered, be it with errors. */
  async settled(count: number, silenceMs: number): Promise<boolean> {
    this.#isSettling = true;
    if (!this.#isLost && this.answered < count) await this.#wait(count, silenceMs);
    return !this.#isLost;
  }

  async #wait(count: number, silenceMs: number): Promise<void> {
    this.#wanted = count;
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    const late = setTimeout(() => {
      const message = `Cannot restore: the server was silent for ${silenceMs / 1000} s`;
      this.lose(new Failure("SERVER_LOST", message));
    }, silenceMs);
    try {
      await promise;
    } finally {
      clearTimeout(late);
    }
  }
}

const LF = 10;
const ARRAY = 42;
const PLUS = 43;
const MINUS = 45;
const COLON = 58;
const BULK = 36;
const maxErrorBytes = 1000;
const maxNesting = 64;

/** Counts whole replies (RESP2), in chunks cut anywhere, and shows the errors among them. */
export class ReplyCounter {
  count = 0;
  /** Bytes of a string and its line end that are still to come. */
  #skip = 0;
  /** The line that is being read: its first byte, and, where it is looked at, what follows. */
  #type = 0;
  #line: number[] = [];
  /** How many items are missing in each array that is open. */
  readonly #open: number[] = [];

  /** @throws Failure PROTOCOL_ERROR */
  push(chunk: Uint8Array, onError: (text: string) => void): void {
    const end = chunk.length;
    for (let at = 0; at < end; ) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, end - at);
        this.#skip -= step;
        at += step;
        if (this.#skip === 0) this.#complete();
        continue;
      }
      if (this.#type === 0) this.#type = chunk[at++] as number;
      const isKept = this.#type !== PLUS && this.#type !== COLON;
      while (at < end && chunk[at] !== LF) {
        if (isKept && this.#line.length < maxErrorBytes) this.#line.push(chunk[at] as number);
        at++;
      }
      if (at === end) return;
      at++;
      this.#endLine(onError);
    }
  }

  #endLine(onError: (text: string) => void): void {
    const type = this.#type;
    this.#type = 0;
    if (type === PLUS || type === COLON) {
      this.#complete();
      return;
    }
    const text = toLatin1(Uint8Array.from(this.#line)).trimEnd();
    this.#line = [];
    if (type === MINUS) {
      onError(text);
      this.#complete();
      return;
    }
    const size = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isNaN(size) || (type !== BULK && type !== ARRAY)) {
      const found = JSON.stringify(String.fromCharCode(type) + text.slice(0, 40));
      throw new Failure("PROTOCOL_ERROR", `Cannot understand the server: it says ${found}`);
    }
    if (size < 0 || (type === ARRAY && size === 0)) this.#complete();
    else if (type === BULK) this.#skip = size + 2;
    else if (this.#open.push(size) > maxNesting) {
      throw new Failure("PROTOCOL_ERROR", "Cannot understand the server: a reply is too deep");
    }
  }

  #complete(): void {
    const open = this.#open;
    while (open.length > 0) {
      const left = (open[open.length - 1] as number) - 1;
      open[open.length - 1] = left;
      if (left > 0) return;
      open.pop();
    }
    this.count++;
  }
}
