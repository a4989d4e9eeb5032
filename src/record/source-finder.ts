/**
 * Finds the server to follow, and says when it should be left for another.
 *
 *   find()    ask who is who ─► choose ─► ask the chosen one itself ─► follow it
 *                                 ▲               │ not there, another role, behind
 *                                 └─ avoid it ◄───┘
 *   watch()   ask who is who, again and again, until there is something better
 *
 * WHY ASK THE CHOSEN ONE. Sentinels and the nodes of a cluster tell what they heard last. A replica that
 * was restarted is an empty master until a Sentinel sees it; one that was given to another shard has
 * that one's data; one that has less than the log would send everything again. Each of them answers a
 * replica all the same, and the log would end with a gap, or go on with the data of somebody else.
 *
 * INVARIANTS
 *
 *   1. A server is followed only in the role in which it was chosen, and as a replica only where it has
 *      come as far as the log. In a cluster it has to count itself to the shard, and may have been promoted
 *      since; under Sentinel it has to be a replica of the master that the Sentinels name.
 *   2. A server that failed is avoided, longer each time, but only for another one: where none is left
 *      it is given again.
 *   3. A stream that works is left only for a server that is there, and for a better one not more
 *      often than every `returnEveryMs`.
 *   4. A replica that is followed and promoted is gone on with until its promotion is known: another
 *      replica may still be with the old master, and have writes from it that are about to be lost.
 *   5. Where nobody says who is who any more, what was known last is gone on with.
 *
 * Nobody reports failures: a server that is to be found again right after it was found has failed.
 *
 * REJECTED. Leaving a replica as soon as its link to its master is down: in a failover all of them lose
 * it for a moment, and are back with nothing lost; moving would take a session more.
 */
import assert from "node:assert/strict";
import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { type Endpoint, formatEndpoint } from "../link/address.ts";
import { Connection, type ConnectOptions } from "../link/connection.ts";
import {
  type Choice,
  chooseSource,
  clusterInstances,
  type Info,
  type Instance,
  isBehind,
  type Member,
} from "../link/instance.ts";
import { readInfo, type Topology } from "../link/topology.ts";
import type { Source } from "./recorder.ts";

export type SourceFinderOptions = {
  readonly topology: Pick<Topology, "kind" | "intervalMs" | "read">;
  /** Of several shards the one to follow; where it is not given there must be only one. */
  readonly key?: string | undefined;
  readonly prefer?: "replica" | "master" | undefined;
  readonly connect: Pick<ConnectOptions, "credentials" | "tls">;
  /** Up to where there is a log: a replica that has less is no source for it. */
  readonly position?: () => Position | undefined;
  /** Milliseconds that never go back. */
  readonly now?: () => number;
};

/** A server that is needed again so soon after it was found has failed. */
const goodSessionMs = 10_000;
const firstAvoidMs = 5000;
const longestAvoidMs = 5 * 60_000;
/** What is down or not listed for so long is left. */
const patienceMs = 10_000;
/** A session is ended for a better server at most so often. */
const returnEveryMs = 3 * 60_000;
/** How long a replica is given to receive what the log has. */
const catchUpMs = 2000;
const catchUpPollMs = 50;
const connectTimeoutMs = 3000;
const replyTimeoutMs = 3000;

type Penalty = { readonly count: number; readonly untilMs: number };

export class SourceFinder {
  readonly #options: SourceFinderOptions;
  readonly #now: () => number;
  readonly #penalties = new Map<string, Penalty>();
  #known: Instance | undefined;
  #current: Endpoint | undefined;
  /** In which role it was chosen. */
  #role: Member["role"] = "master";
  #foundAtMs = Number.NEGATIVE_INFINITY;
  /** When a session was last ended for a better server. */
  #returnedAtMs = Number.NEGATIVE_INFINITY;
  #wasLeft = false;

  constructor(options: SourceFinderOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** The server to follow now. @throws Failure where there is none; it is worth trying again */
  async find(signal?: AbortSignal): Promise<Source> {
    this.#judgeLast();
    const instance = await this.#findInstance();
    const tried = new Set<string>();
    let first: Failure | undefined;
    for (;;) {
      let choice: Choice;
      try {
        choice = this.#choose(instance, tried);
      } catch (cause) {
        throw first ?? cause;
      }
      try {
        if (await this.#isPromoted(choice, signal)) {
          const endpoint = this.#current as Endpoint;
          return this.#found(endpoint, "master", "it was followed, and is promoted");
        }
        await this.#check(choice, instance, signal);
      } catch (cause) {
        if (!(cause instanceof Failure) || signal?.aborted === true) throw cause;
        this.#punish(choice.endpoint);
        tried.add(formatEndpoint(choice.endpoint));
        first ??= cause;
        continue;
      }
      const why = first ? `${choice.why}; ${first.message}` : choice.why;
      return this.#found(choice.endpoint, choice.role, why);
    }
  }

  #found(endpoint: Endpoint, role: Member["role"], why: string): Source {
    this.#current = endpoint;
    this.#role = role;
    this.#foundAtMs = this.#now();
    return { endpoint, why };
  }

  /** Whether a failover is under way that makes the replica that was followed the master. */
  async #isPromoted(choice: Choice, signal?: AbortSignal): Promise<boolean> {
    const { topology, connect, position } = this.#options;
    const [current, from] = [this.#current, position?.()];
    if (topology.kind !== "sentinel" || this.#role !== "replica" || !current || !from) return false;
    if (choice.role === "master" || isSame(choice.endpoint, current)) return false;
    try {
      const options = { ...connect, connectTimeoutMs, replyTimeoutMs, signal };
      await using connection = await Connection.open(current, options);
      const info = await readInfo(connection);
      return info.get("role") === "master" && info.get("master_replid2") === from.replicationId;
    } catch (cause) {
      if (!(cause instanceof Failure) || signal?.aborted) throw cause;
      return false;
    }
  }

  /**
   * Resolves with the reason when the server that is followed should be left and another one be looked
   * for; with nothing when the signal is given. To be called when it was found, once a session.
   */
  async watch(source: Source, signal: AbortSignal): Promise<Failure | undefined> {
    const { intervalMs } = this.#options.topology;
    let missedSinceMs: number | undefined;
    for (;;) {
      await sleep(intervalMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return undefined;
      try {
        const instance = await this.#look(intervalMs / 2);
        const member = findMember(instance, source.endpoint);
        if (member?.isUp === true) missedSinceMs = undefined;
        else missedSinceMs ??= this.#now();
        const isMissed = missedSinceMs !== undefined && this.#now() - missedSinceMs >= patienceMs;
        const next = this.#better(instance, member, isMissed ? source.endpoint : undefined);
        if (next === undefined || !(await this.#isThere(next, instance, signal))) continue;
        return this.#leave(source, member, isMissed);
      } catch (cause) {
        if (!(cause instanceof Failure)) throw cause;
      }
    }
  }

  async #look(maxAgeMs: number): Promise<Instance> {
    const { topology, key } = this.#options;
    this.#known = ownInstance(await topology.read({ maxAgeMs }), key);
    return this.#known;
  }

  /** A server that is better than the one that is followed; any, where that one is `lost`. */
  #better(instance: Instance, member: Member | undefined, lost?: Endpoint): Choice | undefined {
    const { prefer = "replica" } = this.#options;
    const avoid = this.#avoided();
    if (lost) avoid.add(formatEndpoint(lost));
    const choice = tryChoose(instance, { prefer, current: this.#current, avoid });
    if (choice === undefined || isSame(choice.endpoint, this.#current)) return undefined;
    if (lost) return choice;
    // Perhaps about to be up, and listed, again.
    if (member === undefined || !member.isUp) return undefined;
    if (member.role === prefer || choice.role !== prefer) return undefined;
    const isTooSoon = this.#now() - this.#returnedAtMs < returnEveryMs;
    return prefer === "replica" && isTooSoon ? undefined : choice;
  }

  async #isThere(choice: Choice, instance: Instance, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#check(choice, instance, signal);
      return true;
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause;
      if (!signal.aborted) this.#punish(choice.endpoint);
      return false;
    }
  }

  #leave({ endpoint }: Source, member: Member | undefined, isMissed: boolean): Failure {
    this.#wasLeft = true;
    if (isMissed) this.#punish(endpoint);
    else this.#returnedAtMs = this.#now();
    const found = !member
      ? "nobody lists it any more"
      : isMissed
        ? "it has lost its master"
        : member.role === "master"
          ? "it is the master, and a replica is up"
          : "it is not the master any more";
    return new Failure("SERVER_BUSY", `Cannot go on with ${formatEndpoint(endpoint)}: ${found}`);
  }

  /** What the end of the last session says about the server that it was with. */
  #judgeLast(): void {
    const current = this.#current;
    if (current === undefined || this.#wasLeft) {
      this.#wasLeft = false;
      return;
    }
    if (this.#now() - this.#foundAtMs < goodSessionMs) this.#punish(current);
    else this.#penalties.delete(formatEndpoint(current));
  }

  #punish(endpoint: Endpoint): void {
    const name = formatEndpoint(endpoint);
    const count = (this.#penalties.get(name)?.count ?? 0) + 1;
    const ms = Math.min(firstAvoidMs * 2 ** (count - 1), longestAvoidMs);
    this.#penalties.set(name, { count, untilMs: this.#now() + ms });
  }

  /** Those that failed lately. The others' failures are forgotten when they are as old again. */
  #avoided(): Set<string> {
    const now = this.#now();
    const avoided = new Set<string>();
    for (const [name, { untilMs }] of this.#penalties) {
      if (untilMs > now) avoided.add(name);
      else if (untilMs + longestAvoidMs < now) this.#penalties.delete(name);
    }
    return avoided;
  }

  /** Takes one that is avoided where no other is left: the one whose time is up first. */
  #choose(instance: Instance, tried: ReadonlySet<string>): Choice {
    const { prefer } = this.#options;
    const avoided = [...this.#avoided()].filter((name) => !tried.has(name));
    const until = (name: string) => this.#penalties.get(name)?.untilMs ?? 0;
    avoided.sort((a, b) => until(b) - until(a));
    for (;;) {
      const avoid = new Set([...tried, ...avoided]);
      try {
        return chooseSource(instance, { prefer, current: this.#current, avoid });
      } catch (cause) {
        if (avoided.pop() === undefined) throw cause;
      }
    }
  }

  /** What there is; where nobody can be asked, what there was. */
  async #findInstance(): Promise<Instance> {
    let instances: readonly Instance[];
    try {
      instances = await this.#options.topology.read();
    } catch (cause) {
      if (this.#known === undefined || !isUnasked(cause)) throw cause;
      return this.#known;
    }
    this.#known = ownInstance(instances, this.#options.key);
    return this.#known;
  }

  /** Asks the chosen server whether it is what it was taken for. @throws Failure */
  async #check({ endpoint, role }: Choice, instance: Instance, signal?: AbortSignal) {
    const { connect, topology } = this.#options;
    const from = this.#options.position?.();
    const options = { ...connect, connectTimeoutMs, replyTimeoutMs, signal };
    await using connection = await Connection.open(endpoint, options);
    const isCluster = topology.kind === "cluster";
    if (isCluster) {
      const view = clusterInstances(await connection.ask("CLUSTER", "SLOTS"), endpoint);
      checkShard(view, instance, endpoint);
    }
    const endMs = performance.now() + catchUpMs;
    for (;;) {
      const info = await readInfo(connection);
      const isPromoted = isCluster && info.get("role") === "master";
      if (!isPromoted) checkRole(info, role, connection.name);
      if (topology.kind === "sentinel") checkMaster(info, instance, connection.name);
      if (!from || !isBehind(info, from)) return;
      if (performance.now() > endMs) throw unfit(connection.name, "it is behind the log");
      await sleep(catchUpPollMs, undefined, signal && { signal }).catch(() => {});
      if (signal?.aborted) throw new Failure("ABORTED", "It was stopped while it chose a server");
    }
  }
}

/** Whether the failure is that of those who are asked, and says nothing about the instance. */
function isUnasked(cause: unknown): boolean {
  if (!(cause instanceof Failure)) return false;
  return /^(SERVER_UNREACHABLE|SERVER_LOST|SERVER_BUSY)$/.test(cause.code);
}

function ownInstance(instances: readonly Instance[], key: string | undefined): Instance {
  if (key !== undefined) {
    const own = instances.find((instance) => instance.key === key);
    if (own) return own;
    throw new Failure("SERVER_BUSY", `Cannot find shard ${key}: the cluster has it no more`);
  }
  const [instance, ...others] = instances;
  assert(instance !== undefined && others.length === 0, "One of several instances has a key");
  return instance;
}

function findMember({ members }: Instance, endpoint: Endpoint): Member | undefined {
  return members.find((member) => isSame(member.endpoint, endpoint));
}

function isSame(a: Endpoint, b: Endpoint | undefined): boolean {
  return b !== undefined && formatEndpoint(a) === formatEndpoint(b);
}

function tryChoose(...args: Parameters<typeof chooseSource>): Choice | undefined {
  try {
    return chooseSource(...args);
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    return undefined;
  }
}

function checkRole(info: Info, role: Member["role"], name: string): void {
  const found = info.get("role") === "slave" ? "replica" : "master";
  if (found !== role) throw unfit(name, `it is a ${found}, and not the ${role} it was taken for`);
}

/** In a failover a replica stays with the old master until a Sentinel tells it. */
function checkMaster(info: Info, { members }: Instance, name: string): void {
  const master = members.find((member) => member.role === "master")?.endpoint;
  const [host = "", port] = [info.get("master_host"), info.get("master_port")];
  if (port === undefined || master === undefined || !("host" in master)) return;
  // A name and an address may be of the same server.
  const isHost = host === master.host || isIP(host) === 0 || isIP(master.host) === 0;
  if (isHost && port === String(master.port)) return;
  throw unfit(name, `it is a replica of ${host}:${port}, which is not the master`);
}

/** A node that has changed shards knows that before the others do. */
function checkShard(view: readonly Instance[], wanted: Instance, endpoint: Endpoint): void {
  const own = view.find((instance) => findMember(instance, endpoint) !== undefined);
  const master = own?.nodes?.[0];
  if (master !== undefined && wanted.nodes?.includes(master) === true) return;
  throw unfit(formatEndpoint(endpoint), "it does not count itself to this shard");
}

function unfit(name: string, found: string): Failure {
  return new Failure("SERVER_BUSY", `Cannot follow ${name}: ${found}`);
}
