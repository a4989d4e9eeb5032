import { connect, createServer, type Server, type Socket } from "node:net";

/** A network between a recorder and its source, which breaks when it is told to. */
export class Proxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes from the source that still pass before all connections break. */
  #budget = Number.POSITIVE_INFINITY;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(port: number, target: number): Promise<Proxy> {
    const server = createServer((near) => proxy.#join(near, target));
    const proxy = new Proxy(server);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
    await promise;
    return proxy;
  }

  #join(near: Socket, target: number): void {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [[near, far] as const, [far, near] as const]) {
      this.#sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    near.on("data", (chunk) => far.write(chunk));
    far.on("data", (chunk: Buffer) => {
      const passed = chunk.subarray(0, this.#budget);
      this.#budget -= passed.length;
      near.write(passed);
      if (this.#budget <= 0) this.cut();
    });
  }

  /** Lets so many more bytes of the source pass, then breaks everything, in the middle of whatever. */
  cutAfter(bytes: number): void {
    this.#budget = bytes;
  }

  cut(): void {
    this.#budget = Number.POSITIVE_INFINITY;
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }
}
