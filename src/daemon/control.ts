/**
 * Asking a running `tidemark up` to do something: a socket in the spool of each instance, or cluster.
 *
 * WHY. Who holds the lease of an instance is the only one that writes its history, so `tidemark backup`
 * beside a running daemon has to ask it. A socket in a folder that only its owner reads needs no
 * password and no port.
 *
 * FORMAT, version 1. The client sends a line of JSON, a `Request`. The daemon answers with lines: any number
 * of `{"progress": …}`, then one of `{"done": …}`, `{"failure": {code, message, hint}}`, and the end. What is done
 * is a manifest; of all shards of a cluster, an array of them.
 *
 * INVARIANTS
 *
 *   1. What was asked for goes on when the client goes away: it belongs to the daemon.
 *   2. A request is at most `maxRequestBytes` and comes within `requestTimeoutMs`; there are at most
 *      `maxClients`.
 *   3. The spool is locked while its socket is there: one that is found at the start is a stale one.
 */
import { chmodSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { type ErrorCode, exitStatuses, Failure } from "../base/errors.ts";

const socketName = "control.sock";
const maxRequestBytes = 64 * 1024;
const requestTimeoutMs = 5000;
const maxClients = 16;

const request = z.strictObject({
  do: z.literal("backup"),
  note: z.string().max(10_000).optional(),
  keep: z.boolean().optional(),
  /** Of a cluster: of this shard alone, by its key. */
  shard: z.string().max(100).optional(),
});

export type Request = z.infer<typeof request>;

/** Does what is asked for, and tells how far it is. The result is sent as JSON. @throws Failure */
export type Serve = (request: Request, onProgress: (progress: unknown) => void) => Promise<unknown>;

const reply = z.union([
  z.strictObject({ progress: z.unknown() }),
  z.strictObject({ done: z.unknown() }),
  z.strictObject({
    failure: z.strictObject({ code: z.string(), message: z.string(), hint: z.string() }),
  }),
]);
type Reply = z.infer<typeof reply>;

export class ControlSocket implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens until it is disposed of. The spool's lock is held. @throws Failure FILE_FAILED */
  static async open(folder: string, serve: Serve): Promise<ControlSocket> {
    const path = join(folder, socketName);
    rmSync(path, { force: true });
    const server = createServer({ allowHalfOpen: true });
    server.maxConnections = maxClients;
    const control = new ControlSocket(server);
    const listening = Promise.withResolvers<void>();
    server.on("connection", (socket) => control.#accept(socket, serve));
    server.once("error", listening.reject);
    server.listen(path, listening.resolve);
    try {
      await listening.promise;
      chmodSync(path, 0o600);
    } catch (cause) {
      throw new Failure("FILE_FAILED", `Cannot listen on "${path}"`, { cause });
    }
    return control;
  }

  #accept(socket: Socket, serve: Serve): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(requestTimeoutMs, () => socket.destroy());
    let text = "";
    const take = (chunk: Buffer) => {
      text += chunk.toString("utf8");
      if (text.length > maxRequestBytes) socket.destroy();
      if (!text.includes("\n")) return;
      socket.off("data", take);
      socket.resume();
      socket.setTimeout(0);
      answer(socket, text, serve).catch((error) => socket.destroy(error as Error));
    };
    socket.on("data", take);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    for (const socket of this.#sockets) socket.destroy();
    await closed.promise;
  }
}

async function answer(socket: Socket, text: string, serve: Serve): Promise<void> {
  const send = (value: Reply) => {
    if (socket.writable) socket.write(`${JSON.stringify(value)}\n`);
  };
  try {
    const asked = parseRequest(text);
    send({ done: await serve(asked, (progress) => send({ progress })) });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { code, message, hint } = error;
    send({ failure: { code, message, hint } });
  } finally {
    socket.end();
  }
}

function parseRequest(text: string): Request {
  try {
    return request.parse(JSON.parse(text));
  } catch (cause) {
    throw new Failure("USAGE", "Cannot do what was asked for: it is no known request", {
      cause,
      hint: "Use the same version of Tidemark for `up` and for this command.",
    });
  }
}

/**
 * Asks the daemon that has the spool. Undefined where none runs.
 *
 * The signal ends the waiting; what was asked for goes on.
 *
 * @throws Failure as the daemon says it; SERVER_LOST where it went away meanwhile, or the signal said so
 */
export async function askDaemon(
  folder: string,
  asked: Request,
  onProgress: (progress: unknown) => void = () => {},
  signal?: AbortSignal,
): Promise<{ readonly done: unknown } | undefined> {
  const path = join(folder, socketName);
  const socket = connect({ path, ...(signal && { signal }) });
  const opened = Promise.withResolvers<boolean>();
  socket.once("connect", () => opened.resolve(true));
  socket.once("error", () => opened.resolve(false));
  const isOpen = await opened.promise;
  signal?.throwIfAborted();
  if (!isOpen) return undefined;
  socket.on("error", () => {});
  socket.write(`${JSON.stringify(asked)}\n`);
  try {
    for await (const line of createInterface({ input: socket })) {
      const value = reply.parse(JSON.parse(line));
      if ("failure" in value) throw toFailure(value.failure);
      if ("done" in value) return value;
      onProgress(value.progress);
    }
  } finally {
    socket.destroy();
  }
  throw new Failure(
    "SERVER_LOST",
    `Cannot tell what became of it: the daemon of "${folder}" ended`,
    {
      hint: "Look into its log; `tidemark backups` says what there is.",
    },
  );
}

const codes = new Set<string>(exitStatuses.map(([, code]) => code));

function toFailure({ code, message, hint }: { code: string; message: string; hint: string }) {
  const known = codes.has(code) ? (code as ErrorCode) : "SERVER_FAILED";
  return new Failure(known, message, { hint });
}
