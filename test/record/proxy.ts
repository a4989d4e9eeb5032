import { connect, createServer, type Server, type Socket } from "node:net";

/** How a connection ends: by a reset, as when a machine vanishes, or as if the source had closed it. */
export type Break = "reset" | "close";

/** A network between a recorder and its source, which breaks when it is told to. */
export class Proxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes from the source that still pass before all connections break. */
  #budget = Number.POSITIVE_INFINITY;
  #break: Break = "reset";
  /** Times that all connections were broken. */
  breaks = 0;
  /** Each chunk from the source waits for so long. */
  #delayMs = 0;
  #stallMs = 0;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async open(port: number, target: number): Promise<Proxy> {
    const server = createServer({ allowHalfOpen: true }, (near) => proxy.#join(near, target));
    const proxy = new Proxy(server, port);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
    await promise;
    return proxy;
  }

  #join(near: Socket, target: number): void {
    const far = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    for (const [from, to] of [[near, far] as const, [far, near] as const]) {
      this.#sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        // What has come before is passed on first.
        if (from === near) to.destroy();
      });
    }
    near.on("data", (chunk) => far.write(chunk));
    near.on("end", () => far.end());
    far.on("end", () => this.#later(far, () => near.end()));
    far.on("data", (chunk: Buffer) => this.#later(far, () => this.#pass(near, chunk)));
  }

  /** Now, or after what the delay is. The order stays: a source is not read while its bytes wait. */
  #later(far: Socket, act: () => void): void {
    const delayMs = this.#delayMs + this.#stallMs;
    this.#stallMs = 0;
    if (delayMs === 0) return act();
    far.pause();
    setTimeout(() => {
      act();
      far.resume();
    }, delayMs);
  }

  #pass(near: Socket, chunk: Buffer): void {
    const passed = chunk.subarray(0, this.#budget);
    this.#budget -= passed.length;
    if (this.#budget > 0) {
      near.write(passed);
      return;
    }
    // What was passed has to get there, or a reset would take it away again.
    near.write(passed, () => this.cut());
    this.#budget = Number.POSITIVE_INFINITY;
  }

  /** Lets so many more bytes of the source pass, then breaks everything, in the middle of whatever. */
  cutAfter(bytes: number, how: Break): void {
    this.#budget = bytes;
    this.#break = how;
  }

  cut(): void {
    this.#budget = Number.POSITIVE_INFINITY;
    this.breaks++;
    for (const socket of this.#sockets) {
      if (this.#break === "close") socket.destroySoon();
      // A reset while it is being shut down fails in Node, and the process then never ends.
      else if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  /** Whatever was to break it does not, and nothing is slow any more. */
  heal(): void {
    this.#budget = Number.POSITIVE_INFINITY;
    this.slow(0);
  }

  /** From now on each chunk is late by `delayMs`; the next one by `stallMs` more. */
  slow(delayMs: number, stallMs = 0): void {
    this.#delayMs = delayMs;
    this.#stallMs = stallMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.heal();
    this.cut();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }
}
