/**
 * A byte stream to a server: TCP, TLS or a Unix socket, open from `open()` to `close()`.
 *
 * WHY NOT a Node stream as it is. A replica link reads for days at up to the speed of the network. A
 * `Readable` allocates each chunk, and hands it on through a queue; here plain sockets read into one
 * buffer, over and over, and the receiver says whether it wants more. The first reader is thus the
 * only one, and what it does not take stays in the kernel, where TCP slows the sender down.
 *
 * INVARIANTS
 *
 *   1. After `receive()` has returned false nothing is received until `resume()`.
 *   2. `lose()` is called once, at the end, whatever the reason; nothing is received after it.
 *   3. Bytes given to `receive()` are borrowed until it returns true, or `resume()` is called.
 *
 * REJECTED. The same read buffer for TLS: its layer may deliver several pieces before it notices
 * that it was told to stop, each over the other. There the stream's own queue holds what is too much.
 */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Failure } from "../base/errors.ts";
import { type Endpoint, formatEndpoint } from "./address.ts";
import { readTlsOptions, type TlsOptions, tlsFailure } from "./tls.ts";

export type WireOptions = {
  readonly tls?: TlsOptions | undefined;
  /** For all of it: finding the address, connecting, TLS. */
  readonly connectTimeoutMs?: number | undefined;
  readonly readBufferBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
};

export interface Receiver {
  /** False: no more until `resume()`. */
  receive(chunk: Uint8Array): boolean;
  lose(failure: Failure): void;
}

const defaultConnectTimeoutMs = 10_000;
const defaultReadBufferBytes = 64 * 1024;
/** A peer that vanished without a word is found out, also where nothing is being sent. */
const keepAliveMs = 15_000;

export class Wire {
  /** The endpoint, for messages. */
  readonly name: string;
  readonly #receiver: Receiver;
  #socket: Socket | undefined;
  #signal: AbortSignal | undefined;
  #isTls = false;
  #hasReceived = false;
  #isLost = false;

  private constructor(name: string, receiver: Receiver) {
    this.name = name;
    this.#receiver = receiver;
  }

  /** @throws Failure SERVER_UNREACHABLE, SERVER_LOST, TLS_FAILED, FILE_MISSING, ABORTED */
  static async open(endpoint: Endpoint, receiver: Receiver, options: WireOptions): Promise<Wire> {
    const { tls, signal, connectTimeoutMs = defaultConnectTimeoutMs } = options;
    const wire = new Wire(formatEndpoint(endpoint), receiver);
    if (signal?.aborted) throw wire.#aborted(signal);
    const tlsOptions = tls && (await readTlsOptions(tls, signal));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => reject(wire.#aborted(signal));
    const late = setTimeout(() => {
      // Connected, and nobody answers the first words of TLS.
      const isPlain = tls !== undefined && wire.#socket?.connecting === false;
      const found = `no answer within ${connectTimeoutMs / 1000} s`;
      reject(wire.#unreachable(found, isPlain ? noTlsHint : network));
    }, connectTimeoutMs);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const socket = wire.#dial(endpoint, tlsOptions, options);
      socket.once(tls ? "secureConnect" : "connect", resolve);
      socket.once("error", (cause) => reject(wire.#connectFailure(cause)));
      socket.once("close", () =>
        reject(wire.#unreachable("it closes the connection", "Is it a port that speaks TLS?")),
      );
      await promise;
      wire.#begin(socket, signal);
      return wire;
    } catch (cause) {
      wire.#socket?.destroy();
      throw cause instanceof Failure ? cause : wire.#connectFailure(cause);
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", abort);
    }
  }

  #dial(endpoint: Endpoint, tls: object | undefined, options: WireOptions): Socket {
    if (tls !== undefined) {
      this.#isTls = true;
      this.#socket = connectTls({ ...endpoint, ...tls });
      return this.#socket;
    }
    const buffer = new Uint8Array(options.readBufferBytes ?? defaultReadBufferBytes);
    this.#socket = connect({
      ...endpoint,
      onread: { buffer, callback: (size) => this.#receive(buffer.subarray(0, size)) },
    });
    return this.#socket;
  }

  #begin(socket: Socket, signal: AbortSignal | undefined): void {
    socket.on("error", (cause) => this.#lose(this.#lossOf(cause)));
    // Not at once: over TLS an alert that says why may be read behind the end.
    socket.on("end", () => setImmediate(() => this.#lose(this.#lossOf(undefined))));
    socket.on("close", () => this.#lose(this.#lossOf(undefined)));
    socket.on("data", (chunk: Uint8Array) => {
      if (!this.#receive(chunk)) socket.pause();
    });
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** How many bytes wait for the server to take them. */
  get unsentBytes(): number {
    return this.#socket?.writableLength ?? 0;
  }

  /** Sends bytes, which are the wire's from now on. */
  write(bytes: Uint8Array): void {
    if (!this.#isLost) this.#socket?.write(bytes);
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** Ends it. The receiver loses it for this reason. */
  close(failure: Failure): void {
    this.#lose(failure);
  }

  #receive(chunk: Uint8Array): boolean {
    this.#hasReceived = true;
    return this.#isLost || this.#receiver.receive(chunk);
  }

  readonly #onAbort = (): void => this.#lose(this.#aborted(this.#signal));

  #lose(failure: Failure): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#socket?.destroy();
    this.#receiver.lose(failure);
  }

  #aborted(signal: AbortSignal | undefined): Failure {
    const message = `Cannot go on with ${this.name}: it was called off`;
    return new Failure("ABORTED", message, { cause: signal?.reason });
  }

  #unreachable(found: string, hint: string, cause?: unknown): Failure {
    const message = `Cannot connect to ${this.name}: ${found}`;
    return new Failure("SERVER_UNREACHABLE", message, { cause, hint });
  }

  #connectFailure(error: unknown): Failure {
    // Where a name has several addresses, and none of them answers.
    const cause = error instanceof AggregateError ? (error.errors[0] ?? error) : error;
    const aboutTls = tlsFailure("connect to", this.name, cause);
    if (aboutTls) return aboutTls;
    const { code = "", message } = cause as { code?: string; message: string };
    const [found, hint] = connectTroubles.get(code) ?? [message, "Check the address."];
    return this.#unreachable(found, hint, error);
  }

  #lossOf(cause: unknown): Failure {
    const aboutTls = cause === undefined ? cause : tlsFailure("talk to", this.name, cause);
    if (aboutTls) return aboutTls;
    const code = (cause as NodeJS.ErrnoException | undefined)?.code;
    const found =
      code === undefined ? "the server closed the connection" : `the connection broke (${code})`;
    return new Failure("SERVER_LOST", `Cannot talk to ${this.name}: ${found}`, {
      cause,
      ...(!this.#hasReceived && { hint: this.#isTls ? tlsHint : plainHint }),
    });
  }
}

// Why a server may hang up before it has said a word.
const tlsHint = "If the server wants a client certificate it trusts: --cert FILE --key FILE.";
const noTlsHint = "If the port speaks no TLS, write redis:// for rediss://.";
const plainHint = "If the port speaks TLS, write rediss:// for redis://.";

const isDown = "Check that the server runs, and that it listens on this address and port.";
const network = "Check the address, the network and firewalls in between.";

const connectTroubles: ReadonlyMap<string, readonly [found: string, hint: string]> = new Map([
  ["ECONNREFUSED", ["nothing listens there", isDown]],
  ["ENOENT", ["there is no such socket", "Check the path, and `unixsocket` on the server."]],
  ["EACCES", ["no permission for the socket", "Check `unixsocketperm` on the server."]],
  ["ENOTFOUND", ["no such host", "Check the name of the host."]],
  ["EAI_AGAIN", ["the name of the host cannot be looked up now", "Check the DNS server."]],
  ["ETIMEDOUT", ["no answer", network]],
  ["EHOSTUNREACH", ["no way to the host", network]],
  ["ENETUNREACH", ["no way to its network", network]],
  ["ECONNRESET", ["it closes the connection", "Is it a port that speaks TLS?"]],
]);
