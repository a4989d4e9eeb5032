/** A cluster of real servers on this machine, made in a second or two. */
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import type { Argument, Client } from "../support/client.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";

const slotCount = 16_384;

/** A replica gives up after five seconds. */
const electionMs = 5200;

/** Nodes list a replica once its offset is known and not 0: that takes a PING. */
const quick = {
  "repl-diskless-sync-delay": 0,
  "repl-ping-replica-period": 1,
  "cluster-enabled": "yes",
  "cluster-node-timeout": 3000,
  databases: 1,
};

export type Node = {
  readonly server: RunningServer;
  /** A connection for `call()` alone: what it asks for the next command is for that one. */
  readonly client: Client;
  readonly port: number;
  readonly id: string;
};

export class ClusterNodes implements AsyncDisposable {
  readonly #id: ServerId;
  readonly #stack = new AsyncDisposableStack();
  readonly nodes: Node[] = [];

  private constructor(id: ServerId) {
    this.#id = id;
  }

  /** So many masters with the slots shared out, then as many replicas, one of each. */
  static async start(id: ServerId, masters: number): Promise<ClusterNodes> {
    const cluster = new ClusterNodes(id);
    try {
      await Promise.all(Array.from({ length: masters * 2 }, () => cluster.#launch()));
      await cluster.#join(masters);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #launch(): Promise<Node> {
    const port = await freePort();
    const server = this.#stack.use(
      await startServer(this.#id, { conf: { ...quick, port, bind: "127.0.0.1" } }),
    );
    const client = await server.connect();
    const node = { server, client, port, id: String(await server.call("CLUSTER", "MYID")) };
    this.nodes.push(node);
    return node;
  }

  async #join(masters: number): Promise<void> {
    const [first] = this.nodes as [Node];
    for (const [index, { server }] of this.nodes.entries()) {
      // Nodes with the same epoch settle that later, and may undo a takeover by it.
      await server.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
      if (index > 0)
        await first.server.call("CLUSTER", "MEET", "127.0.0.1", this.nodes[index]?.port ?? 0);
      if (index >= masters) continue;
      const from = Math.floor((slotCount * index) / masters);
      const to = Math.floor((slotCount * (index + 1)) / masters);
      const slots = Array.from({ length: to - from }, (_, i) => from + i);
      await server.call("CLUSTER", "ADDSLOTS", ...slots);
    }
    await this.#allKnow(...this.nodes.map(({ id }) => id));
    for (let i = masters; i < this.nodes.length; i++) {
      await this.replicate(this.nodes[i] as Node, this.nodes[i - masters] as Node);
    }
    await this.isOk();
  }

  async #allKnow(...ids: string[]): Promise<void> {
    for (const { server } of this.nodes) {
      await until("the nodes know each other", async () => {
        const nodes = String(await server.call("CLUSTER", "NODES"));
        return ids.every((id) => nodes.includes(id)) && !nodes.includes("handshake");
      });
    }
  }

  async replicate(replica: Node, master: Node): Promise<void> {
    await replica.server.call("CLUSTER", "REPLICATE", master.id);
    await until("the replica is in touch", async () => {
      return /master_link_status:up/.test(String(await replica.server.call("INFO", "replication")));
    });
  }

  /** All nodes think that all slots are served. */
  async isOk(): Promise<void> {
    for (const { server } of this.nodes) {
      await until("the cluster is up", async () => {
        const info = String(await server.call("CLUSTER", "INFO"));
        return /cluster_state:ok/.test(info) && /cluster_slots_assigned:16384/.test(info);
      });
    }
  }

  /** A new node without slots, that all know. */
  async add(): Promise<Node> {
    const node = await this.#launch();
    await this.nodes[0]?.server.call("CLUSTER", "MEET", "127.0.0.1", node.port);
    await this.#allKnow(node.id);
    await this.isOk();
    return node;
  }

  /**
   * Moves slots with their keys as `redis-cli --cluster reshard` does; `meanwhile` runs when the keys
   * are on their way. Slots change hands without an election, and would disturb one.
   */
  async move(
    slots: readonly number[],
    from: Node,
    to: Node,
    meanwhile?: () => Promise<void>,
  ): Promise<void> {
    for (const slot of slots) {
      await to.server.call("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id);
      await from.server.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id);
      for (;;) {
        const keys = (await from.server.call("CLUSTER", "GETKEYSINSLOT", slot, 20)) as Buffer[];
        if (keys.length === 0) break;
        const place = ["127.0.0.1", to.port, "", 0, 5000, "REPLACE", "KEYS"];
        await from.server.call("MIGRATE", ...place, ...keys);
      }
      await meanwhile?.();
      // The target first: were the source to crash in between, nobody would have the slot.
      for (const { server } of [to, from]) {
        await server.call("CLUSTER", "SETSLOT", slot, "NODE", to.id);
      }
      // The others hear of it; those that are masters are told, to be quicker.
      for (const { server } of this.nodes) {
        await server.client.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id);
      }
    }
  }

  /** Has a replica take over. An election may fail while slots change hands: then it is asked again. */
  async failover({ server }: Node): Promise<void> {
    let askedAtMs = Number.NEGATIVE_INFINITY;
    await until("the replica is master", async () => {
      if (/role:master/.test(String(await server.call("INFO", "replication")))) return true;
      if (performance.now() - askedAtMs > electionMs) {
        await server.client.ask("CLUSTER", "FAILOVER");
        askedAtMs = performance.now();
      }
      return false;
    });
  }

  /** The master that a node takes for the owner of a slot. */
  async owner(slot: number): Promise<Node> {
    const ranges = (await this.nodes[0]?.server.call("CLUSTER", "SLOTS")) as [
      number,
      number,
      [Buffer, number],
    ][];
    const port = ranges.find(([first, last]) => first <= slot && slot <= last)?.[2][1];
    return this.nodes.find((node) => node.port === port) as Node;
  }

  /** Sends a command to whichever node has the key; follows where it is sent on to. */
  async call(...args: Argument[]): Promise<void> {
    let node = this.nodes[0] as Node;
    let isAsking = false;
    for (let tries = 0; tries < 200; tries++) {
      if (isAsking) await node.client.call("ASKING");
      const error = await node.client.ask(...args);
      if (!(error instanceof Error)) return;
      const [, kind, port] = /^(MOVED|ASK) \d+ \S*:(\d+)/.exec(error.message) ?? [];
      isAsking = kind === "ASK";
      const next = this.nodes.find((each) => each.port === Number(port));
      if (next) node = next;
      else if (/^(TRYAGAIN|CLUSTERDOWN)/.test(error.message)) await sleep(20);
      else throw error;
    }
    throw new Error("The cluster sends on and on");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
