/**
 * A real cluster with a real recorder, which is written to while its slots move, and what its clients read
 * at some moments.
 *
 * At a checkpoint all writers are quiet, and every key that they ever wrote is read as a client reads it,
 * following MOVED and ASK. Between checkpoints the slots go on moving; so some of the moments are when a
 * slot has moved by half, has moved and the move was not seen yet, or is being copied as a whole.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Catalogue } from "../../src/archive/catalogue.ts";
import { type SlotsChange, shardInstance, slotsObject } from "../../src/archive/cluster-slots.ts";
import { findManifest, readAppendOnlyDir } from "../../src/log/append-only-dir.ts";
import { parseOwnershipChange } from "../../src/record/cluster-file.ts";
import { askAnyStatus } from "../../src/record/status.ts";
import type { ClusterView } from "../../src/recovery/cluster-plan.ts";
import { until } from "../link/until.ts";
import { ClusterNodes, type Node } from "../record/cluster-nodes.ts";
import { Recording } from "../record/recording.ts";
import { type Random, randomFrom } from "../record/workload.ts";
import type { Argument, Client, Reply } from "../support/client.ts";
import { temporaryFolder } from "../support/folder.ts";
import type { ServerId } from "../support/servers.ts";
import { Archived, positionLines } from "./archived.ts";

export const clusterName = "shop";

/** By key, its type, value and expiry in one line. */
export type Contents = ReadonlyMap<string, string>;

export type ClusterMoment = {
  readonly what: string;
  readonly ms: number;
  readonly contents: Contents;
};

export type Clustered = {
  readonly view: ClusterView;
  readonly changes: readonly SlotsChange[];
  readonly moments: readonly ClusterMoment[];
  /** All objects, by name. */
  readonly objects: ReadonlyMap<string, Uint8Array>;
};

const tagCount = 60;
const keysPerTag = 25;
/** Longer than the clocks of source and recorder differ in what they say of a batch. */
const quietMs = 150;
const farMs = 4_000_000_000_000;
const maxSends = 200;

/** Follows MOVED and ASK, with connections of its own. */
export class ClusterClient {
  readonly #clients: ReadonlyMap<number, Client>;
  readonly #homes = new Map<number, number>();

  private constructor(clients: ReadonlyMap<number, Client>) {
    this.#clients = clients;
  }

  static async open(nodes: readonly Pick<Node, "port" | "server">[]): Promise<ClusterClient> {
    const clients = new Map<number, Client>();
    for (const { port, server } of nodes) clients.set(port, await server.connect());
    return new ClusterClient(clients);
  }

  async call(tag: number, ...args: Argument[]): Promise<Reply> {
    let port = this.#homes.get(tag) ?? ([...this.#clients.keys()][0] as number);
    let isAsking = false;
    for (let sends = 0; sends < maxSends; sends++) {
      const client = this.#clients.get(port) as Client;
      const asking = isAsking ? client.ask("ASKING") : Promise.resolve("OK");
      const sending = client.ask(...args);
      await asking;
      const reply: Reply = await sending;
      if (!(reply instanceof Error)) {
        if (!isAsking) this.#homes.set(tag, port);
        return reply;
      }
      const [, kind, to]: string[] = /^(MOVED|ASK) \d+ \S*:(\d+)/.exec(reply.message) ?? [];
      isAsking = kind === "ASK";
      if (to !== undefined) port = Number(to);
      else if (/^(TRYAGAIN|CLUSTERDOWN)/.test(reply.message)) await sleep(5);
      else throw reply;
    }
    throw new Error("The cluster sends on and on");
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

function keyOf(tag: number, number: number): string {
  return `{t${tag}}:${number}`;
}

/** What it reads, key by key, of a tag. `call` sends a command where the key is. */
async function readTag(
  tag: number,
  call: (...args: Argument[]) => Promise<Reply>,
): Promise<[string, string][]> {
  const found = await Promise.all(
    Array.from({ length: keysPerTag }, async (_, i): Promise<[string, string] | undefined> => {
      const key = keyOf(tag, i);
      const type = i % 3 === 1 ? "list" : "string";
      const value = type === "list" ? await call("LRANGE", key, 0, -1) : await call("GET", key);
      if (value === null || (Array.isArray(value) && value.length === 0)) return undefined;
      const expiry = await call("PEXPIRETIME", key);
      return [key, `${type} ${[value].flat().map(String).join(",")} ${String(expiry)}`];
    }),
  );
  return found.filter((each) => each !== undefined);
}

export async function readAll(
  call: (tag: number, ...args: Argument[]) => Promise<Reply>,
): Promise<Contents> {
  const tags = Array.from({ length: tagCount }, (_, tag) => tag);
  const all = await Promise.all(tags.map((tag) => readTag(tag, (...args) => call(tag, ...args))));
  return new Map(all.flat());
}

export class ClusterBed implements AsyncDisposable {
  readonly cluster: ClusterNodes;
  readonly moments: ClusterMoment[] = [];
  readonly #random: Random;
  readonly #folder;
  #recording: Recording | undefined;
  #writing: { readonly stop: AbortController; readonly ended: Promise<void> } | undefined;

  private constructor(cluster: ClusterNodes, seed: number) {
    this.cluster = cluster;
    this.#random = randomFrom(seed);
    this.#folder = temporaryFolder();
  }

  static async start(id: ServerId, seed: number): Promise<ClusterBed> {
    const bed = new ClusterBed(await ClusterNodes.start(id, 3), seed);
    try {
      const ports = bed.cluster.nodes.map(({ port }) => `127.0.0.1:${port}`);
      const spool = join(bed.#folder.path, "spool");
      bed.#recording = new Recording(`cluster://${ports.join(",")}`, spool);
      await bed.#follows(3);
      return bed;
    } catch (error) {
      await bed[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #follows(count: number): Promise<void> {
    const { spool } = this.#recording as Recording;
    await until(`${count} shards are followed`, async () => {
      const status = await askAnyStatus(spool).catch(() => undefined);
      const shards = status && "shards" in status ? status.shards : [];
      return shards.length === count && shards.every((s) => s.status?.state === "streaming");
    });
  }

  /** Writes so many keys that no client reads: for size. */
  async fillMore(count: number): Promise<void> {
    const client = await ClusterClient.open(this.cluster.nodes);
    const each = 100;
    for (let i = 0; i < count; i += each) {
      const tag = (i / each) % tagCount;
      const words = Array.from({ length: Math.min(each, count - i) }, (_, j) => {
        return [`{t${tag}}:more:${i + j}`, `value ${i + j}`];
      });
      await client.call(tag, "MSET", ...words.flat());
    }
    client.close();
  }

  /** Has all keys written once. */
  async fill(): Promise<void> {
    const client = await ClusterClient.open(this.cluster.nodes);
    for (let tag = 0; tag < tagCount; tag++) {
      for (let i = 0; i < keysPerTag; i++) {
        await client.call(tag, i % 3 === 1 ? "RPUSH" : "SET", keyOf(tag, i), "first");
      }
    }
    client.close();
  }

  write(): void {
    if (this.#writing) return;
    const stop = new AbortController();
    this.#writing = { stop, ended: this.#write(stop.signal) };
  }

  async #write(signal: AbortSignal): Promise<void> {
    const random = this.#random;
    const below = (count: number) => Math.floor(random() * count);
    const client = await ClusterClient.open(this.cluster.nodes);
    const writer = async (own: number) => {
      for (let i = 0; !signal.aborted; i++) {
        const tag = below(tagCount / 4) * 4 + own;
        const number = below(keysPerTag);
        const key = keyOf(tag, number);
        const kind = below(10);
        if (kind === 0) await client.call(tag, "DEL", key);
        else if (number % 3 === 1) await client.call(tag, "RPUSH", key, `${own}.${i}`);
        else if (kind === 1) await client.call(tag, "SET", key, i, "PXAT", farMs + below(1000));
        else await client.call(tag, "SET", key, `v${own}.${i}`);
        if (i % 10 === 0) await sleep(1);
      }
    };
    await Promise.all([0, 1, 2, 3].map(writer));
    client.close();
  }

  async pause(): Promise<void> {
    this.#writing?.stop.abort();
    await this.#writing?.ended;
    this.#writing = undefined;
  }

  /** Has the writers pause, reads everything, and has them go on. */
  async checkpoint(what: string): Promise<void> {
    await this.pause();
    await sleep(quietMs);
    const client = await ClusterClient.open(this.cluster.nodes);
    const contents = await readAll((tag, ...args) => client.call(tag, ...args));
    client.close();
    // oxlint-disable-next-line no-restricted-properties -- why: the sources have the same clock
    this.moments.push({ what, ms: Date.now(), contents });
    await sleep(quietMs);
    this.write();
  }

  /** Slots with keys, of those that a node owns. */
  async slotsOf(node: Node, count: number): Promise<number[]> {
    const slots = new Set<number>();
    for (let tag = 0; tag < tagCount && slots.size < count; tag++) {
      const slot = Number(await node.server.call("CLUSTER", "KEYSLOT", keyOf(tag, 0)));
      if ((await this.cluster.owner(slot)) === node) slots.add(slot);
    }
    assert.equal(slots.size, count);
    return [...slots];
  }

  async tells(what: RegExp, count = 1): Promise<void> {
    const path = join((this.#recording as Recording).spool, "slots.jsonl");
    await until(`${what} is seen`, () => {
      const lines = readFileSync(path, "utf8").trimEnd().split("\n");
      return Promise.resolve(lines.filter((line) => what.test(line)).length >= count);
    });
  }

  get changesSeen(): number {
    const path = join((this.#recording as Recording).spool, "slots.jsonl");
    return readFileSync(path, "utf8").trimEnd().split("\n").length;
  }

  /** Until another change of slots was noted. */
  async seesAnother(before: number): Promise<void> {
    await until("the change is seen", () => Promise.resolve(this.changesSeen > before));
  }

  /** Waits until all is recorded, and makes an archive of it. */
  async finish(): Promise<Clustered> {
    // What is stamped behind the last moment, in each shard.
    this.write();
    await sleep(2 * quietMs);
    await this.pause();
    await sleep(2 * quietMs);
    const recording = this.#recording as Recording;
    assert.equal(await recording.end(), 0, recording.said);
    const all = new Map<string, Archived>();
    const shards = join(recording.spool, "shards");
    for (const key of readdirSync(shards)) {
      const name = shardInstance(clusterName, key);
      all.set(name, await archive(name, join(shards, key), this.#random));
    }
    const changes = readFileSync(join(recording.spool, "slots.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => parseOwnershipChange(line, "slots.jsonl"));
    const objects = new Map([...all.values()].flatMap((each) => [...each.objects]));
    return { view: viewOf(all, changes), changes, moments: this.moments, objects };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause();
    await this.#recording?.[Symbol.asyncDispose]();
    await this.cluster[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
  }
}

async function archive(name: string, spool: string, random: Random): Promise<Archived> {
  const { files } = readAppendOnlyDir(findManifest(spool));
  const [base, ...segments] = files.map(({ path }) => Uint8Array.from(readFileSync(path)));
  const log = Buffer.concat(segments);
  const first = positionLines(log)[0]?.position;
  assert.ok(base !== undefined && first !== undefined, "The spool has a log");
  const archived = new Archived(name);
  await archived.addLog(log, first, { blockBytes: 20_000, cutAfter: () => random() < 0.01 });
  await archived.addSet(base, first, { kind: "base" });
  return archived;
}

/** A view of a cluster's archives, in memory. */
export function viewOf(
  all: ReadonlyMap<string, Archived>,
  changes: readonly SlotsChange[],
): ClusterView {
  const of = (object: string): Archived => {
    const archived = [...all].find(([name]) => object.startsWith(`instances/${name}/`))?.[1];
    assert.ok(archived, object);
    return archived;
  };
  const byName = new Map(changes.map((each) => [slotsObject(clusterName, each), each]));
  return {
    openObject: async (object, sizeBytes) => await of(object).view.openObject(object, sizeBytes),
    readSmall: async (object, maxBytes) => await of(object).view.readSmall(object, maxBytes),
    listSlots: async () => [...byName.keys()].sort(),
    readSlots: async (object) => byName.get(object) as SlotsChange,
    readCatalogue: async (name): Promise<Catalogue> =>
      all.get(name)?.catalogue ?? new Archived(name).catalogue,
  };
}

/**
 * Moves slots as `redis-cli --cluster reshard` does, with checkpoints where half of the keys are over, where all
 * are, and where the slots have changed hands and nobody may have seen it yet.
 */
export async function moveInSteps(bed: ClusterBed, from: Node, to: Node, slots: readonly number[]) {
  const { cluster } = bed;
  for (const slot of slots) {
    await to.server.call("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id);
    await from.server.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id);
  }
  await bed.checkpoint("slots are opened");
  await migrate(slots, from, to, 12);
  await bed.checkpoint("some keys of each slot are over");
  await migrate(slots, from, to, Number.POSITIVE_INFINITY);
  await bed.checkpoint("all keys are over");
  for (const slot of slots) {
    for (const { server } of [to, from])
      await server.call("CLUSTER", "SETSLOT", slot, "NODE", to.id);
    for (const { server } of cluster.nodes) {
      await server.client.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id);
    }
  }
  await bed.checkpoint("slots have changed hands");
}

async function migrate(slots: readonly number[], from: Node, to: Node, most: number) {
  for (const slot of slots) {
    for (let left = most; left > 0; left -= 6) {
      const keys = (await from.server.call("CLUSTER", "GETKEYSINSLOT", slot, 6)) as Buffer[];
      if (keys.length === 0) break;
      const place = ["127.0.0.1", to.port, "", 0, 5000, "KEYS"];
      await from.server.call("MIGRATE", ...place, ...keys);
    }
  }
}

/** In Valkey 9: a slot is copied as a whole, and held right before it changes hands. */
export async function moveAtOnce(bed: ClusterBed, from: Node, to: Node, slots: readonly number[]) {
  for (const { server } of [from, to])
    await server.call("DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 1);
  const ranges = slots.flatMap((slot) => ["SLOTSRANGE", slot, slot, "NODE", to.id]);
  await from.server.call("CLUSTER", "MIGRATESLOTS", ...ranges);
  await bed.checkpoint("a slot is being copied");
  await bed.checkpoint("a slot is still being copied");
  for (const { server } of [from, to])
    await server.call("DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", 0);
  await until("the slots have moved", async () => {
    const [newest] = (await from.server.call("CLUSTER", "GETSLOTMIGRATIONS")) as Buffer[][];
    return newest?.some((field) => String(field) === "success");
  });
  await bed.checkpoint("a slot has moved as a whole");
}
