/**
 * Asks who is master of what: one server, Sentinels, or the nodes of a cluster.
 *
 * WHY BY ASKING again and again, and not by the messages of Sentinels: messages are missed while a
 * connection is down, one more permission is needed for them, and after each of them everything must be
 * asked anyway. A promotion is noticed first by the link that breaks; `read()` then says where to go.
 *
 * INVARIANTS
 *
 *   1. Whoever answered last is asked first; the addresses that the user gave are never forgotten,
 *      and in a cluster all nodes that were seen are asked as well.
 *   2. One question is under way at a time: whoever asks meanwhile gets its answer.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import { type Address, type Endpoint, formatAddress, formatEndpoint } from "./address.ts";
import { Connection, type ConnectOptions, errorText } from "./connection.ts";
import {
  clusterInstances,
  compareInstances,
  type Info,
  type Instance,
  keepKeys,
  parseInfo,
  sentinelInstance,
  standaloneInstance,
} from "./instance.ts";
import { textOf } from "./reply-values.ts";
import type { Credentials } from "./secret.ts";

export type TopologyOptions = Omit<ConnectOptions, "database" | "readBufferBytes"> & {
  /** For the Sentinels, where those ask for a login; that of the servers is not used for them. */
  readonly sentinelCredentials?: Credentials | undefined;
  /** What was known before: shards keep their keys. */
  readonly known?: readonly Instance[] | undefined;
};

export type WatchOptions = {
  readonly intervalMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Nobody could be asked; it is tried again. */
  readonly onFailure?: (failure: Failure) => void;
};

/** A change and what it consists of, in words. */
export type TopologyChange = {
  readonly instances: readonly Instance[];
  readonly changes: readonly string[];
};

/** How often to ask: a Sentinel tells of a failover that is over, the others of slow changes. */
const intervals = { server: 10_000, sentinel: 1000, cluster: 5000 } as const;
const connectTimeoutMs = 3000;
const replyTimeoutMs = 3000;

export class Topology implements AsyncDisposable {
  readonly #address: Address;
  readonly #options: TopologyOptions;
  #connection: { readonly endpoint: Endpoint; readonly link: Connection } | undefined;
  #known: readonly Instance[];
  #reading: Promise<readonly Instance[]> | undefined;
  #answeredAtMs = Number.NEGATIVE_INFINITY;

  constructor(address: Address, options: TopologyOptions = {}) {
    this.#address = address;
    this.#options = options;
    this.#known = options.known ?? [];
  }

  get kind(): Address["kind"] {
    return this.#address.kind;
  }

  /** How often it is worth asking. */
  get intervalMs(): number {
    return intervals[this.#address.kind];
  }

  /**
   * What there is now; or what there was `maxAgeMs` ago at most.
   *
   * @throws Failure of the first that was asked, where nobody answers
   */
  async read({ maxAgeMs = 0 } = {}): Promise<readonly Instance[]> {
    if (performance.now() - this.#answeredAtMs < maxAgeMs) return this.#known;
    this.#reading ??= this.#readNow();
    return await this.#reading;
  }

  async #readNow(): Promise<readonly Instance[]> {
    try {
      return await this.#askAll();
    } finally {
      this.#reading = undefined;
    }
  }

  async #askAll(): Promise<readonly Instance[]> {
    let first: unknown;
    const last = this.#connection?.endpoint;
    for (const endpoint of this.#candidates(last)) {
      try {
        this.#known = keepKeys(this.#known, await this.#askAgain(endpoint));
        this.#answeredAtMs = performance.now();
        return this.#known;
      } catch (cause) {
        await this[Symbol.asyncDispose]();
        first ??= cause;
        if (!isWorthAnother(cause)) throw cause;
      }
    }
    throw first;
  }

  /** What there is, then what there is after each change. @throws Failure as `read()`, at first */
  async *watch(options: WatchOptions = {}): AsyncGenerator<TopologyChange, void, void> {
    const { intervalMs = this.intervalMs, signal, onFailure } = options;
    let before = await this.read();
    yield { instances: before, changes: compareInstances([], before) };
    for (;;) {
      try {
        await sleep(intervalMs, undefined, signal && { signal });
      } catch {
        return;
      }
      try {
        const instances = await this.read();
        const changes = compareInstances(before, instances);
        before = instances;
        if (changes.length > 0) yield { instances, changes };
      } catch (cause) {
        if (!(cause instanceof Failure)) throw cause;
        if (cause.code === "ABORTED") return;
        onFailure?.(cause);
      }
    }
  }

  #candidates(last: Endpoint | undefined): Endpoint[] {
    const address = this.#address;
    const given =
      address.kind === "server"
        ? [address.endpoint]
        : address.kind === "sentinel"
          ? address.sentinels
          : address.seeds;
    const seen =
      address.kind === "cluster"
        ? this.#known.flatMap(({ members }) => members.map(({ endpoint }) => endpoint))
        : [];
    const all = [...(last ? [last] : []), ...given, ...seen];
    return [...new Map(all.map((endpoint) => [formatEndpoint(endpoint), endpoint])).values()];
  }

  /** A connection from before may have been lost since, which says nothing of the server. */
  async #askAgain(endpoint: Endpoint): Promise<Instance[]> {
    const isOld = this.#connection?.endpoint === endpoint;
    try {
      return await this.#ask(endpoint);
    } catch (cause) {
      if (!isOld || !(cause instanceof Failure) || cause.code !== "SERVER_LOST") throw cause;
      await this[Symbol.asyncDispose]();
      return await this.#ask(endpoint);
    }
  }

  async #ask(endpoint: Endpoint): Promise<Instance[]> {
    const link = await this.#connect(endpoint);
    const address = this.#address;
    switch (address.kind) {
      case "server":
        return [standaloneInstance(await readInfo(link), endpoint)];
      case "sentinel": {
        const name = address.master;
        const master = await link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name);
        if (master.type === "null") return [sentinelInstance(name, master, master)];
        return [sentinelInstance(name, master, await link.ask("SENTINEL", "REPLICAS", name))];
      }
      case "cluster": {
        const instances = clusterInstances(await link.ask("CLUSTER", "SLOTS"), endpoint);
        if (instances.length > 0) return instances;
        const message = `Cannot find the shards of ${formatAddress(address)}: no node has slots`;
        throw new Failure("SERVER_BUSY", message, { hint: "Is the cluster set up?" });
      }
    }
  }

  async #connect(endpoint: Endpoint): Promise<Connection> {
    if (this.#connection?.endpoint === endpoint) return this.#connection.link;
    await this[Symbol.asyncDispose]();
    const { credentials, sentinelCredentials, ...rest } = this.#options;
    const link = await Connection.open(endpoint, {
      connectTimeoutMs,
      replyTimeoutMs,
      ...rest,
      credentials: this.#address.kind === "sentinel" ? sentinelCredentials : credentials,
    });
    this.#connection = { endpoint, link };
    return link;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.link[Symbol.asyncDispose]();
    this.#connection = undefined;
  }
}

/** Whether another server may know better. */
function isWorthAnother(cause: unknown): boolean {
  return cause instanceof Failure && cause.code !== "ABORTED";
}

/** INFO of a server, of the sections that are about replication and about itself. */
export async function readInfo(connection: Connection): Promise<Info> {
  const replies = await Promise.all([
    connection.ask("INFO", "server"),
    connection.ask("INFO", "replication"),
  ]);
  return parseInfo(replies.map((reply) => textOf(reply) ?? "").join(""));
}

/** A section of INFO; empty for a user who may not ask. */
export async function askInfo(connection: Connection, section: string): Promise<Info> {
  const reply = await connection.call("INFO", section);
  return parseInfo(errorText(reply) === undefined ? (textOf(reply) ?? "") : "");
}
