/**
 * A server that does what a script says: it answers when it likes, in pieces of any size, and hangs
 * up anywhere. It knows no protocol beyond the form of a command.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import type { Endpoint } from "../../src/link/address.ts";
import { temporaryFolder } from "../support/folder.ts";

export type Script = (peer: Peer) => Promise<void>;

export class FakeServer implements AsyncDisposable {
  readonly endpoint: Endpoint;
  readonly #server: Server;
  readonly #folder: Disposable;
  readonly #sockets = new Set<Socket>();
  readonly #running: Promise<void>[] = [];
  connections = 0;

  private constructor(server: Server, endpoint: Endpoint, folder: Disposable) {
    this.#server = server;
    this.endpoint = endpoint;
    this.#folder = folder;
  }

  /** Runs the script for each client; with `tls` on a port, else on a Unix socket. */
  static async start(script: Script, tls?: TlsOptions): Promise<FakeServer> {
    const folder = temporaryFolder();
    const path = join(folder.path, "s");
    const server = tls ? createTlsServer(tls) : createServer();
    server.listen(tls ? { host: "127.0.0.1", port: 0 } : { path });
    await once(server, "listening");
    const address = server.address();
    const endpoint = typeof address === "string" ? { path } : { host: "127.0.0.1", port: 0 };
    if ("port" in endpoint && typeof address === "object") endpoint.port = address?.port ?? 0;
    const fake = new FakeServer(server, endpoint, folder);
    server.on("connection", (socket: Socket) => fake.#sockets.add(socket));
    server.on(tls ? "secureConnection" : "connection", (socket: Socket) => {
      fake.#running.push(fake.#run(socket, script));
    });
    return fake;
  }

  async #run(socket: Socket, script: Script): Promise<void> {
    this.connections++;
    const peer = new Peer(socket);
    try {
      await script(peer);
    } catch (error) {
      // That is how most scripts end.
      if (error !== hungUp) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await Promise.all(this.#running);
    this.#folder[Symbol.dispose]();
  }
}

const hungUp = new Error("The client hung up");

/** The other side of one connection. */
export class Peer {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake?.();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#wake?.();
    });
  }

  /** The next command of the client, as texts. */
  async command(): Promise<string[]> {
    const [, count = "0"] = await this.#line(/^\*(\d+)\r\n/);
    const args: string[] = [];
    for (let left = Number(count); left > 0; left--) {
      await this.#line(/^\$\d+\r\n/);
      const [, arg = ""] = await this.#line(/^([^\r]*)\r\n/);
      args.push(arg);
    }
    return args;
  }

  async #line(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#received.toString("latin1"));
      if (match) {
        this.#received = this.#received.subarray(match[0].length);
        return match;
      }
      if (this.#isClosed) throw hungUp;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** Sends bytes in pieces of these sizes, over and over; each is read before the next is sent. */
  async write(bytes: Uint8Array | string, sizes: readonly number[] = []): Promise<void> {
    const all = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
    const pieces = sizes.length === 0 ? [all.length] : sizes;
    for (let at = 0, piece = 0; at < all.length; piece++) {
      const size = pieces[piece % pieces.length] as number;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.socket.write(all.subarray(at, at + size), () => resolve());
      this.socket.once("close", resolve);
      await promise;
      this.socket.off("close", resolve);
      if (this.#isClosed) throw hungUp;
      await nextTurn();
      at += size;
    }
  }

  hangUp(): void {
    this.socket.destroySoon();
  }

  /** Resolves when the client has gone. */
  async gone(): Promise<void> {
    if (!this.#isClosed) await once(this.socket, "close");
  }
}
