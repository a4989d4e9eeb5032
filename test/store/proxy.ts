/** A bad way to a storage: it answers for it, loses requests and answers, and cuts both in the middle. */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  request as sendRequest,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { Random } from "../../src/store/retry.ts";

export const faults = [
  /** "Slow down", and the storage hears nothing of it. */
  "refuse",
  /** A web server's page instead of XML. */
  "html",
  /** Half of the request arrives. */
  "cut-request",
  /** It is done, and no answer comes. */
  "lose-answer",
  /** It is done, and the answer is an error. */
  "fail-after",
  /** Half of the answer comes. */
  "cut-answer",
  /** All is right, and late. */
  "delay",
] as const;
export type Fault = (typeof faults)[number];

export class FaultProxy implements AsyncDisposable {
  readonly endpoint: string;
  /** How likely something goes wrong. */
  chance = 0;
  /** What happens to requests that a function picks out; "pass" is nothing. */
  choose: ((request: IncomingMessage) => Fault | "pass" | undefined) | undefined;
  readonly seen: Partial<Record<Fault, number>> = {};
  /** The kinds still to come before they are dealt anew, so that a short run meets all of them. */
  #deck: Fault[] = [];
  readonly #server: Server;
  readonly #target: number;
  readonly #random: Random;

  private constructor(server: Server, target: number, random: Random) {
    this.#server = server;
    this.#target = target;
    this.#random = random;
    this.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async open(target: number, random: Random): Promise<FaultProxy> {
    const server = createServer((request, response) => proxy.#pass(request, response));
    const { promise, resolve } = Promise.withResolvers<void>();
    server.listen(0, "127.0.0.1", resolve);
    await promise;
    const proxy = new FaultProxy(server, target, random);
    return proxy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }

  #fault(request: IncomingMessage): Fault | "pass" {
    const chosen =
      this.choose?.(request) ?? (this.#random.chance(this.chance) ? this.#deal() : "pass");
    if (chosen !== "pass") this.seen[chosen] = (this.seen[chosen] ?? 0) + 1;
    return chosen;
  }

  #deal(): Fault {
    if (this.#deck.length === 0) this.#deck = [...faults];
    return this.#deck.splice(this.#random.below(this.#deck.length), 1)[0] as Fault;
  }

  #pass(request: IncomingMessage, response: ServerResponse): void {
    const fault = this.#fault(request);
    const cut = () => request.socket.destroy();
    request.on("error", () => {});
    if (fault === "refuse" || fault === "html") {
      request.resume();
      request.on("end", () => answer(response, fault));
      return;
    }
    // The signature covers the header Host, so all headers stay as they are.
    const { method, url, headers } = request;
    const away = sendRequest({ port: this.#target, host: "127.0.0.1", method, path: url, headers });
    away.on("error", cut);
    const size = Number(headers["content-length"] ?? 0);
    let passed = 0;
    request.on("data", (chunk: Buffer) => {
      passed += chunk.length;
      if (fault === "cut-request" && passed > size / 2) {
        away.destroy();
        cut();
      } else if (!away.write(chunk)) {
        request.pause();
        away.once("drain", () => request.resume());
      }
    });
    request.on("end", () => {
      if (fault === "cut-request") cut();
      if (fault === "cut-request") away.destroy();
      else away.end();
    });
    request.on("close", () => {
      if (!request.complete) away.destroy();
    });
    away.on("response", (reply) => this.#reply(reply, response, fault, cut));
  }

  #reply(reply: IncomingMessage, response: ServerResponse, fault: Fault | "pass", cut: () => void) {
    reply.on("error", cut);
    if (fault === "lose-answer" || fault === "fail-after") {
      reply.resume();
      reply.on("end", () => (fault === "fail-after" ? answer(response, fault) : cut()));
      return;
    }
    response.writeHead(reply.statusCode ?? 500, reply.rawHeaders);
    const size = Number(reply.headers["content-length"] ?? 0);
    let passed = 0;
    reply.on("data", (chunk: Buffer) => {
      passed += chunk.length;
      if (fault === "cut-answer" && passed > size / 2) {
        response.write(chunk.subarray(0, Math.floor(chunk.length / 2)), cut);
        reply.destroy();
      } else if (!response.write(chunk)) {
        reply.pause();
        response.once("drain", () => reply.resume());
      }
    });
    reply.on("end", () => {
      if (fault === "cut-answer") cut();
      else if (fault === "delay") setTimeout(() => response.end(), 1 + this.#random.below(30));
      else response.end();
    });
  }
}

function answer(response: ServerResponse, fault: "refuse" | "html" | "fail-after"): void {
  if (fault === "html") {
    response.writeHead(502, { "content-type": "text/html" });
    response.end("<html><head><title>502 Bad Gateway</title></head><body>nginx<hr></body></html>");
    return;
  }
  const [status, code] = fault === "refuse" ? [503, "SlowDown"] : [500, "InternalError"];
  response.writeHead(status as number, { "content-type": "application/xml" });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
}
