import { createServer } from "node:net";

/** Below the range from which systems take ports for outgoing connections, and bus ports above. */
const firstPort = 15_000;
const span = 7000;
let next = firstPort + ((process.pid * 37) % span);

/** A TCP port on which nothing listens, and nothing on the one 10,000 above: a cluster's bus. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = next;
    next = firstPort + ((next + 1 - firstPort) % span);
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<boolean>();
  server.once("error", () => resolve(false));
  server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  return await promise;
}
