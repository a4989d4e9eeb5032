/**
 * The servers that a restore writes to: one, or all masters of a cluster.
 *
 * WHY CLUSTER SLOTS is asked of the server itself, also where a single address was given: a node of a cluster
 * refuses most keys, and whoever names one means all of it.
 *
 * INVARIANTS
 *
 *   1. A server that is loading, or that is a replica, is refused before anything is written.
 *   2. Nobody else restores to it at the same time, as far as CLIENT LIST tells.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import type { Target } from "../codec/rdb/model.ts";
import { type Address, type Endpoint, formatEndpoint } from "../link/address.ts";
import { Connection, type ConnectOptions, errorText } from "../link/connection.ts";
import { clusterInstances, type Info, parseInfo, type SlotRange } from "../link/instance.ts";
import { refusal } from "../link/refusal.ts";
import { itemsOf, textOf } from "../link/reply-values.ts";
import { Topology } from "../link/topology.ts";
import { versionOf } from "./restore-expiries.ts";
import { Lane } from "./restore-keys.ts";
import { beginning, markerName } from "./restore-marker.ts";
import { keyInSlots } from "./restore-slots.ts";

/** A master. */
export type Node = {
  readonly endpoint: Endpoint;
  readonly control: Connection;
  readonly info: Info;
  /** Undefined: it is no node of a cluster. */
  readonly slots: readonly SlotRange[] | undefined;
  readonly marker: string;
  readonly lane: Lane;
};

type NodeOptions = {
  readonly connect?: Pick<ConnectOptions, "credentials" | "tls"> | undefined;
  readonly signal?: AbortSignal | undefined;
};

const patienceMs = 10 * 60 * 1000;
/** What CLIENT LIST shows of a restore. */
export const clientName = "tidemark-restore";
/** So long another one may take to be gone. */
const othersPatienceMs = 30_000;
const othersPollMs = 250;

/** The masters that have the data. */
export async function openNodes(
  address: Address,
  { connect = {}, signal }: NodeOptions,
  stack: AsyncDisposableStack,
): Promise<Node[]> {
  const open = async (endpoint: Endpoint) =>
    stack.use(await Connection.open(endpoint, { ...connect, signal, replyTimeoutMs: patienceMs }));
  const first = await findFirst(address, { ...connect, signal });
  const control = await open(first);
  const info = await readInfo(control);
  if (info.get("redis_mode") === "sentinel" || info.get("server_mode") === "sentinel") {
    const name = formatEndpoint(first);
    throw new Failure("USAGE", `Cannot restore into ${name}: it is a Sentinel`, {
      hint: `Write sentinel://${name}/NAME, with the name that it has for the master.`,
    });
  }
  if (info.get("cluster_enabled") !== "1") {
    return [nodeOf({ endpoint: first, control, info, slots: undefined })];
  }
  const shards = clusterInstances(await control.ask("CLUSTER", "SLOTS"), first);
  const nodes: Node[] = [];
  for (const { members, slots = [] } of shards) {
    const endpoint = members.find(({ role }) => role === "master")?.endpoint;
    if (endpoint === undefined) throw new Failure("SERVER_BUSY", "Cannot find a shard's master");
    const link = await open(endpoint);
    nodes.push(nodeOf({ endpoint, control: link, info: await readInfo(link), slots }));
  }
  if (nodes.length > 0) return nodes;
  const message = `Cannot restore into ${formatEndpoint(first)}: its cluster has no slots`;
  throw new Failure("SERVER_BUSY", message, { hint: "Share them out first." });
}

async function findFirst(
  address: Address,
  options: Pick<ConnectOptions, "credentials" | "tls" | "signal">,
): Promise<Endpoint> {
  if (address.kind === "server") return address.endpoint;
  await using topology = new Topology(address, options);
  for (const { members } of await topology.read()) {
    const master = members.find(({ role }) => role === "master");
    if (master !== undefined) return master.endpoint;
  }
  throw new Failure("SERVER_BUSY", "Cannot restore: there is no master now");
}

function nodeOf(node: Omit<Node, "marker" | "lane">): Node {
  const marker = node.slots === undefined ? markerName : keyInSlots(markerName, node.slots);
  return { ...node, marker, lane: new Lane() };
}

async function readInfo(connection: Connection): Promise<Info> {
  return parseInfo(textOf(await connection.ask("INFO")) ?? "");
}

/** What a server of some version takes. */
export function targetOfServer(info: Info): Target {
  const version = versionOf(info);
  if (info.has("valkey_version")) return version >= 9 ? "valkey:9" : "valkey:8";
  if (version >= 8) return "redis:8";
  if (version >= 7.04) return "redis:7.4";
  if (version >= 7.02) return "redis:7.2";
  return version >= 7 ? "redis:7.0" : "redis:6.0";
}

/** @throws Failure where a restore must not write to it */
export function checkNode({ info, endpoint }: Node): void {
  const name = formatEndpoint(endpoint);
  if (info.get("loading") === "1") {
    throw new Failure("SERVER_BUSY", `Cannot restore into ${name}: it is loading its data`);
  }
  if (info.get("role") !== "master") {
    throw new Failure("USAGE", `Cannot restore into ${name}: it is a replica`, {
      hint: "Name its master.",
    });
  }
}

/**
 * Makes sure that no other restore writes to a server: one that is under way, or one that was killed and
 * whose commands still arrive from something in between. A user who may not use CLIENT is believed.
 * Returns whether connections can be named, so that another restore sees them.
 *
 * @throws Failure SERVER_BUSY
 */
export async function waitForOthers(
  { control, endpoint }: Node,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const named = await control.call("CLIENT", "SETNAME", clientName);
  if (errorText(named) !== undefined) return false;
  const own = textOf(await control.ask("CLIENT", "ID"));
  for (const end = performance.now() + othersPatienceMs; ; ) {
    const list = await control.call("CLIENT", "LIST");
    const lines = errorText(list) === undefined ? (textOf(list) ?? "").split("\n") : [];
    const isOther = (line: string) =>
      line.includes(` name=${clientName} `) && !line.startsWith(`id=${own} `);
    if (!lines.some(isOther)) return true;
    if (performance.now() > end) {
      const found = "another restore is connected";
      throw new Failure(
        "SERVER_BUSY",
        `Cannot restore into ${formatEndpoint(endpoint)}: ${found}`,
        {
          hint: `Wait until it has ended, or end it: CLIENT LIST shows it as ${clientName}.`,
        },
      );
    }
    await sleep(othersPollMs, undefined, { signal });
  }
}

/** What a server has that a restore, perhaps of libraries too, would be put among; undefined where it is empty. */
export async function whatIsThere(
  { control, info }: Node,
  hasLibraries: boolean,
): Promise<string | undefined> {
  if ([...info.keys()].some((name) => /^db\d+$/.test(name))) return "keys";
  if (!hasLibraries || versionOf(info) < 7) return undefined;
  const libraries = await control.call("FUNCTION", "LIST");
  // A user who may not ask may not restore any either.
  if (errorText(libraries) !== undefined || itemsOf(libraries).length === 0) return undefined;
  return "function libraries";
}

/** Empties a server and marks it in one step: without the mark, an empty one would look whole. */
export async function emptyNode({ control, info, marker }: Node, mark: string): Promise<void> {
  const commands = [
    ["MULTI"],
    ["FLUSHALL"],
    ...(versionOf(info) >= 7 ? [["FUNCTION", "FLUSH"]] : []),
    ["SET", marker, mark],
    ["EXEC"],
  ];
  const replies = await Promise.all(commands.map((args) => control.ask(...args)));
  for (const reply of itemsOf(replies.at(-1))) {
    const error = errorText(reply);
    if (error !== undefined) throw refusal("EXEC", control.name, error);
  }
}

/**
 * Makes sure that servers have all that was sent. One that has evicted keys stays marked, as having nothing
 * that could be gone on with.
 *
 * @throws Failure SERVER_FAILED
 */
export async function mustNotHaveEvicted(nodes: readonly Node[]): Promise<void> {
  for (const { control, marker, endpoint, info } of nodes) {
    const now = await readInfo(control);
    const count = (of: Info) => Number(of.get("evicted_keys") ?? 0);
    const evicted = count(now) - count(info);
    if (evicted <= 0) continue;
    await control.ask("SET", marker, JSON.stringify({ plan: "evicted", ...beginning }));
    const keys = evicted === 1 ? "1 key" : `${evicted} keys`;
    const found = `it has evicted ${keys} meanwhile, its maxmemory is too small`;
    throw new Failure(
      "SERVER_FAILED",
      `Cannot restore into ${formatEndpoint(endpoint)}: ${found}`,
      {
        hint: `Raise maxmemory, or set maxmemory-policy noeviction, and restore again with --overwrite; the key "${marker}" says that it is incomplete.`,
      },
    );
  }
}

/** The lane of whoever has a slot. */
export function laneBySlot(nodes: readonly Node[]): (slot: number) => Lane {
  const lanes: Lane[] = [];
  for (const { slots = [], lane } of nodes) {
    for (const [first, last] of slots) for (let i = first; i <= last; i++) lanes[i] = lane;
  }
  return (slot) => {
    const lane = lanes[slot];
    if (lane !== undefined) return lane;
    throw new Failure("SERVER_BUSY", `Cannot restore: no node of the cluster has slot ${slot}`);
  };
}
