/**
 * What servers say about who is master of what, as values; and which of them to follow.
 *
 * WHY APART from topology.ts, which asks: all decisions are here, pure, and are tested as tables.
 *
 * An instance is one data set: a server with its replicas, or a shard of a cluster. Master and
 * replicas have the same bytes at the same offsets under the same id, so that whoever follows the
 * instance may go from one to the other with its position.
 *
 * INVARIANTS
 *
 *   1. A replica without a port is somebody's recorder, perhaps our own: it is no member.
 *   2. A shard keeps its key while its slots, its master and its replicas change.
 *   3. What is followed stays followed while it is up and of the wanted role.
 */
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import type { Reply } from "../codec/resp/reply.ts";
import { type Endpoint, formatEndpoint, type HostPort } from "./address.ts";
import { itemsOf, numberOf, recordOf, textOf } from "./reply-values.ts";

export type Member = {
  readonly endpoint: Endpoint;
  readonly role: "master" | "replica";
  /** Whether it serves: in touch with its master, where it is a replica. */
  readonly isUp: boolean;
  /** How far it has come, where that is known. */
  readonly offset?: number | undefined;
};

export type Instance = {
  /** Names it as long as it lives. */
  readonly key: string;
  readonly members: readonly Member[];
  /** Of a cluster's shard: the ids of its nodes, the master's first, and its slots. */
  readonly nodes?: readonly string[];
  readonly slots?: readonly SlotRange[];
};

export type SlotRange = readonly [first: number, last: number];

/** What INFO says, its fields by name. */
export type Info = ReadonlyMap<string, string>;

/** A replica that was silent for longer has lost its master, or is stuck. */
const maxLagSeconds = 15;

export function parseInfo(text: string): Info {
  const fields = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, value] = /^([^#:][^:]*):(.*)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) fields.set(name, value);
  }
  return fields;
}

/** Product and version, "redis 8.0.2"; "" where INFO does not say. */
export function productOf(info: Info): string {
  // Valkey tells under Redis's name the version that it is compatible with.
  const valkey = info.get("valkey_version");
  const redis = info.get("redis_version");
  return valkey !== undefined ? `valkey ${valkey}` : redis !== undefined ? `redis ${redis}` : "";
}

/** A single server, and what it knows of the others. */
export function standaloneInstance(info: Info, endpoint: Endpoint): Instance {
  const key = formatEndpoint(endpoint);
  const offset = numberOf(info.get("master_repl_offset"));
  if (info.get("role") !== "slave") {
    const replicas = [...info].flatMap(([name, value]) =>
      /^slave\d+$/.test(name) ? replicaOf(value) : [],
    );
    return { key, members: [{ endpoint, role: "master", isUp: true, offset }, ...replicas] };
  }
  const isUp = info.get("master_link_status") === "up";
  const self: Member = { endpoint, role: "replica", isUp, offset };
  const master = hostPort(info.get("master_host"), info.get("master_port"));
  const masters: Member[] = master ? [{ endpoint: master, role: "master", isUp: true }] : [];
  return { key, members: [...masters, self] };
}

/** A replica's line of a master's INFO: `ip=127.0.0.1,port=6380,state=online,offset=70,lag=0`. */
function replicaOf(line: string): Member[] {
  const fields = new Map(line.split(",").map((part) => split(part, "=")));
  const endpoint = hostPort(fields.get("ip"), fields.get("port"));
  if (endpoint === undefined) return [];
  const lag = numberOf(fields.get("lag"));
  const isUp = fields.get("state") === "online" && lag !== undefined && lag <= maxLagSeconds;
  return [{ endpoint, role: "replica", isUp, offset: numberOf(fields.get("offset")) }];
}

/** A master by its name; the replies to GET-MASTER-ADDR-BY-NAME and REPLICAS of a Sentinel. */
export function sentinelInstance(name: string, master: Reply, replicas: Reply): Instance {
  if (master.type === "null") {
    throw new Failure(
      "USAGE",
      `Cannot find the master "${name}": the Sentinel knows none so named`,
      {
        hint: "SENTINEL MASTERS lists the names. Write it as sentinel://host1,host2/name.",
      },
    );
  }
  const [host, port] = itemsOf(master).map(textOf);
  const endpoint = hostPort(host, port);
  if (endpoint === undefined) {
    throw new Failure("PROTOCOL_ERROR", `Cannot find the master "${name}": it has no address`);
  }
  const members = itemsOf(replicas).flatMap((reply): Member[] => {
    const fields = recordOf(reply);
    const place = hostPort(fields.get("ip"), fields.get("port"));
    if (place === undefined) return [];
    const flags = (fields.get("flags") ?? "").split(",");
    const isCut = flags.some((flag) => /^(s_down|o_down|disconnected)$/.test(flag));
    const isUp = !isCut && fields.get("master-link-status") === "ok";
    const offset = numberOf(fields.get("slave-repl-offset"));
    return [{ endpoint: place, role: "replica", isUp, offset }];
  });
  return { key: name, members: [{ endpoint, role: "master", isUp: true }, ...members] };
}

/**
 * The shards of a cluster, from the reply to CLUSTER SLOTS, which all versions know. It lists no
 * master without slots, which has no data, and no replica that has failed. `asked` is where it was
 * asked: a node that does not know its own address means that one.
 */
export function clusterInstances(reply: Reply, asked: Endpoint): Instance[] {
  type Shard = { nodes: string[]; members: Member[]; slots: SlotRange[] };
  const shards = new Map<string, Shard>();
  for (const range of itemsOf(reply)) {
    const [first, last, ...nodes] = itemsOf(range);
    const slots: SlotRange = [numberOf(textOf(first)) ?? 0, numberOf(textOf(last)) ?? 0];
    const parsed = nodes.map((node) => nodeOf(node, asked));
    const id = parsed[0]?.id ?? "";
    const known = shards.get(id);
    if (known) {
      known.slots.push(slots);
      continue;
    }
    const members = parsed.flatMap(({ endpoint }, index): Member[] => {
      const role = index === 0 ? "master" : "replica";
      return endpoint ? [{ endpoint, role, isUp: true }] : [];
    });
    shards.set(id, { nodes: parsed.map((node) => node.id), members, slots: [slots] });
  }
  return [...shards].map(([id, shard]) => ({ key: id, ...shard }));
}

function nodeOf(reply: Reply, asked: Endpoint): { id: string; endpoint: Endpoint | undefined } {
  const [host, port, id] = itemsOf(reply).slice(0, 3).map(textOf);
  const isUnknown = host === undefined || host === "" || host === "?";
  const own = "host" in asked ? asked.host : "localhost";
  return { id: id ?? "", endpoint: hostPort(isUnknown ? own : host, port) };
}

function hostPort(host: string | undefined, port: string | undefined): HostPort | undefined {
  const number = numberOf(port);
  if (host === undefined || host === "" || number === undefined) return undefined;
  return number >= 1 && number <= 65535 ? { host, port: number } : undefined;
}

function split(text: string, by: string): [string, string] {
  const at = text.indexOf(by);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/**
 * Gives shards the keys that they had before: to each the shard that has its master among its
 * nodes, else the one that had most of its slots. One that is new is named for its master.
 */
export function keepKeys(before: readonly Instance[], after: readonly Instance[]): Instance[] {
  const free = new Set(before);
  const take = (find: (old: Instance) => boolean) => {
    const old = [...free].find(find);
    if (old) free.delete(old);
    return old?.key;
  };
  const keys = after.map(({ nodes = [] }) => take((old) => old.nodes?.[0] === nodes[0]));
  // A replica was promoted, and stands before or behind its old master now.
  const known = after.map(
    ({ nodes = [] }, index) =>
      keys[index] ?? take((old) => old.nodes?.includes(nodes[0] ?? "") === true),
  );
  const taken = new Set(known);
  return after.map((instance, index) => {
    const most = countSlots(instance.slots ?? []) / 2;
    const shares = (old: Instance) => countShared(old.slots ?? [], instance.slots ?? []) > most;
    const key = known[index] ?? take(shares) ?? instance.key;
    // A master that left its shard may carry the key that the shard still has.
    const isTaken = known[index] === undefined && taken.has(key);
    taken.add(key);
    return { ...instance, key: isTaken ? `${key}-${instance.slots?.[0]?.[0] ?? 0}` : key };
  });
}

function countSlots(ranges: readonly SlotRange[]): number {
  return ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

function countShared(a: readonly SlotRange[], b: readonly SlotRange[]): number {
  let shared = 0;
  for (const [first, last] of a) {
    for (const [from, to] of b) {
      shared += Math.max(Math.min(last, to) - Math.max(first, from) + 1, 0);
    }
  }
  return shared;
}

/** What is new, in words, for whoever watches. */
export function compareInstances(
  before: readonly Instance[],
  after: readonly Instance[],
): string[] {
  const changes: string[] = [];
  const old = new Map(before.map((instance) => [instance.key, instance]));
  for (const instance of after) {
    const was = old.get(instance.key);
    old.delete(instance.key);
    if (was === undefined) {
      changes.push(`${instance.key} appeared`);
      continue;
    }
    const [from, to] = [masterOf(was), masterOf(instance)];
    if (from !== to) changes.push(`${instance.key}: the master is ${to}, and was ${from}`);
    if (replicasOf(was) !== replicasOf(instance)) {
      changes.push(`${instance.key}: the replicas are ${replicasOf(instance) || "none"}`);
    }
    if (String(was.slots) !== String(instance.slots)) {
      const ranges = instance.slots?.map((range) => range.join("-")).join(", ");
      changes.push(`${instance.key}: the slots are ${ranges}`);
    }
  }
  for (const key of old.keys()) changes.push(`${key} is gone`);
  return changes;
}

function masterOf({ members }: Instance): string {
  const master = members.find(({ role }) => role === "master");
  return master ? formatEndpoint(master.endpoint) : "unknown";
}

function replicasOf({ members }: Instance): string {
  const replicas = members.filter(({ role, isUp }) => role === "replica" && isUp);
  return replicas
    .map(({ endpoint }) => formatEndpoint(endpoint))
    .toSorted()
    .join(", ");
}

export type ChooseOptions = {
  /** "replica": one where there is any that is up, else the master. "master": no other. */
  readonly prefer?: "replica" | "master" | undefined;
  /** What is followed now. */
  readonly current?: Endpoint | undefined;
  /** What could not be reached lately, as `formatEndpoint()` names it. */
  readonly avoid?: ReadonlySet<string> | undefined;
};

export type Choice = {
  readonly endpoint: Endpoint;
  readonly role: Member["role"];
  readonly why: string;
};

/** Which member to follow, and why. @throws Failure SERVER_BUSY where there is none to follow now */
export function chooseSource(instance: Instance, options: ChooseOptions = {}): Choice {
  const { prefer = "replica", current, avoid = new Set() } = options;
  const isAvoided = (member: Member) => avoid.has(formatEndpoint(member.endpoint));
  const isCurrent = (member: Member) =>
    current !== undefined && formatEndpoint(member.endpoint) === formatEndpoint(current);
  const choice = ({ endpoint, role }: Member, why: string): Choice => ({ endpoint, role, why });
  const replicas = instance.members.filter(({ role }) => role === "replica");
  const usable = replicas.filter((member) => member.isUp && !isAvoided(member));
  const masters = instance.members.filter(({ role }) => role === "master");
  if (prefer === "replica") {
    const kept = usable.find(isCurrent);
    if (kept) return choice(kept, "the replica that is followed is up");
    const [best] = usable.toSorted(byProgress);
    if (best) return choice(best, "replicas are preferred, and it is the one furthest ahead");
  }
  const master = masters.find((member) => !isAvoided(member));
  if (master) return choice(master, whyMaster(prefer, replicas.length));
  const found = masters.length > 0 ? "the master cannot be reached" : "there is no master";
  throw new Failure(
    "SERVER_BUSY",
    `Cannot choose a server of ${instance.key} to follow: ${found}`,
    {
      hint: "It is looked for again; check the servers if this lasts.",
    },
  );
}

/**
 * Where to ask for the stream of a server that was promoted since.
 *
 * A master that is being replaced goes on sending PING, so whoever followed it is ahead of the
 * replica that takes over, by bytes that say nothing, and would get all of the data again. Where
 * nothing else stands behind the place at which the new history begins, that is the place to ask
 * from. `changedOffset` is the offset behind the last command that was no PING or REPLCONF.
 */
export function resumePosition(info: Info, position: Position, changedOffset: number): Position {
  const second = numberOf(info.get("second_repl_offset"));
  if (info.get("master_replid2") !== position.replicationId || second === undefined)
    return position;
  // It is the offset of the first byte that the two histories do not share.
  const shared = second - 1;
  const isAhead = position.offset > shared && changedOffset <= shared;
  return isAhead ? { ...position, offset: shared } : position;
}

/** Whether a replica has less of a history than `position`: asked from there, it would send all. */
export function isBehind(info: Info, { replicationId, offset }: Position): boolean {
  if (info.get("role") !== "slave" || info.get("master_replid") !== replicationId) return false;
  const own = numberOf(info.get("slave_repl_offset"));
  return own !== undefined && own < offset;
}

function byProgress(a: Member, b: Member): number {
  const [left, right] = [formatEndpoint(a.endpoint), formatEndpoint(b.endpoint)];
  return (b.offset ?? 0) - (a.offset ?? 0) || (left < right ? -1 : 1);
}

function whyMaster(prefer: "replica" | "master", replicas: number): string {
  if (prefer === "master") return "the master is asked for";
  return replicas === 0 ? "it has no replicas" : "none of its replicas is up and can be reached";
}
