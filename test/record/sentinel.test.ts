/** An instance under Sentinel is recorded through a planned failover, and one that nobody planned. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseAddress } from "../../src/link/address.ts";
import { Connection } from "../../src/link/connection.ts";
import { Topology } from "../../src/link/topology.ts";
import { freePort } from "../link/ports.ts";
import { Sentinel } from "../link/sentinel.ts";
import { until } from "../link/until.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  startServer,
} from "../support/servers.ts";
import { digestOfSpool } from "./cluster-digests.ts";
import { Recording } from "./recording.ts";

const pingPeriod = "repl-ping-replica-period";

/** A master and two replicas, each of which can be killed and come back with its data. */
class Group implements AsyncDisposable {
  readonly #id: ServerId;
  readonly #folder = temporaryFolder();
  readonly servers = new Map<number, RunningServer>();

  constructor(id: ServerId) {
    this.#id = id;
  }

  async start(port: number, master?: number, priority = 100): Promise<RunningServer> {
    const dir = join(this.#folder.path, String(port));
    mkdirSync(dir, { recursive: true });
    const conf = {
      ...{ port, bind: "127.0.0.1", "repl-diskless-sync-delay": 0, [pingPeriod]: 3600 },
      "replica-priority": priority,
      ...(master !== undefined && { replicaof: `127.0.0.1 ${master}` }),
    };
    const server = await startServer(this.#id, { dir, conf });
    this.servers.set(port, server);
    if (master !== undefined) await this.inTouch(port);
    return server;
  }

  /** INFO, over a connection of its own: a Sentinel cuts the clients of whatever it promotes. */
  async info(port: number): Promise<string> {
    try {
      await using client = await (this.servers.get(port) as RunningServer).connect();
      return String(await client.call("INFO", "replication"));
    } catch {
      return "";
    }
  }

  async offset(port: number): Promise<number> {
    return await until("the server tells its offset", async () => {
      return Number(/master_repl_offset:(\d+)/.exec(await this.info(port))?.[1] ?? 0) || false;
    });
  }

  async inTouch(port: number): Promise<void> {
    await until("the replica is in touch", async () => {
      return /master_link_status:up/.test(await this.info(port));
    });
  }

  async master(): Promise<number> {
    for (const port of this.servers.keys()) {
      if (/role:master/.test(await this.info(port))) return port;
    }
    return 0;
  }

  async call(port: number, ...args: string[]): Promise<void> {
    await using client = await (this.servers.get(port) as RunningServer).connect();
    await client.call(...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.servers.values()) await server[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
  }
}

/** Writes to whoever is master, as a client does that asks again after each failure. */
async function write(group: Group, signal: AbortSignal): Promise<void> {
  for (let i = 0; !signal.aborted; ) {
    try {
      await using client = await (
        group.servers.get(await group.master()) as RunningServer
      ).connect();
      for (; !signal.aborted; i++) {
        await client.call("SET", `key:${i % 1000}`, `v${i}`);
        await client.call("RPUSH", "list", `v${i}`);
        if (i % 10 === 0) await sleep(1);
      }
    } catch {
      await sleep(20);
    }
  }
}

async function ask(sentinel: Sentinel, ...args: string[]): Promise<boolean> {
  await using client = await Connection.open({ host: "127.0.0.1", port: sentinel.port });
  return (await client.call("SENTINEL", ...args)).type !== "error";
}

async function masterOf(sentinel: Sentinel): Promise<number> {
  const address = parseAddress(`sentinel://127.0.0.1:${sentinel.port}/main`);
  await using topology = new Topology(address);
  const [instance] = await topology.read();
  const endpoint = instance?.members[0]?.endpoint;
  return endpoint && "port" in endpoint ? endpoint.port : 0;
}

suite("A recorder under Sentinel", { concurrency: 2 }, () => {
  for (const id of ["redis-7.0", "valkey-9"] as const) {
    test(`${id}: goes with the instance when the one it follows is promoted, and when the master dies`, {
      skip: missingServers(id),
    }, async (context) => {
      using folder = temporaryFolder();
      await using group = new Group(id);
      const ports = [await freePort(), await freePort(), await freePort()] as const;
      const [first, ...others] = ports;
      await group.start(first);
      // Of two that are equally far the recorder takes the first by name, and Sentinel this one.
      const [second = 0] = others.map(String).toSorted().map(Number);
      for (const port of others) await group.start(port, first, port === second ? 1 : 100);
      await using stack = new AsyncDisposableStack();
      const sentinels: Sentinel[] = [];
      for (let i = 0; i < 3; i++)
        sentinels.push(stack.use(await Sentinel.start(id, "main", first)));
      const [sentinel] = sentinels as [Sentinel];
      for (const each of sentinels) {
        await until("the Sentinels know each other", () => ask(each, "CKQUORUM", "main"));
        // The next failover may begin after twice this time.
        await ask(each, "SET", "main", "failover-timeout", "3000", "quorum", "2");
      }
      const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",");
      const spool = join(folder.path, "spool");
      await using recording = new Recording(`sentinel://${hosts}/main`, spool);
      const stop = new AbortController();
      let followed = 0;
      let gaps: number[] = [];
      const goneOn = async (what: string) => {
        const master = await until(
          "there is a master",
          async () => (await group.master()) || false,
        );
        const offset = await group.offset(master);
        const status = await recording.until(({ state, writtenOffset }) => {
          return state === "streaming" && (writtenOffset ?? 0) >= offset;
        });
        followed = Number(/\d+$/.exec(status.source)?.[0]);
        gaps = [...gaps, status.gaps.length];
        context.diagnostic(`${what}: follows ${followed === master ? "the master" : "a replica"}`);
        return master;
      };
      await goneOn("at first");
      const writing = write(group, stop.signal);
      try {
        assert.equal(followed, second, "a replica is preferred");
        // A master that is being replaced sends these to whoever still follows it.
        for (const port of ports) await group.call(port, "CONFIG", "SET", pingPeriod, "1");
        await until("the failover begins", () => ask(sentinel, "FAILOVER", "main"));
        const promoted = followed;
        await until("it is promoted", async () => (await group.master()) === promoted);
        await until("the old master is a replica", async () => {
          return /role:slave/.test(await group.info(first));
        });
        await group.inTouch(first);
        await goneOn("after a planned failover");
        await group.servers.get(promoted)?.stop("SIGKILL");
        group.servers.delete(promoted);
        const next = await until("another is promoted", async () => {
          return (await group.master()) || false;
        });
        assert.notEqual(next, promoted);
        for (const each of sentinels) {
          await until("all Sentinels know it", async () => (await masterOf(each)) === next);
        }
        await group.start(promoted, next);
        await goneOn("after the master died");
      } finally {
        stop.abort();
        await writing;
      }
      const last = await goneOn("in the end");
      assert.equal(await recording.end(), 0, recording.said);
      context.diagnostic(`gaps: ${gaps.join(", ")}`);
      assert.equal(gaps[1], 0, "a planned failover costs no gap");
      await using again = await (group.servers.get(last) as RunningServer).connect();
      assert.equal(await digestOfSpool(id, spool), String(await again.call("DEBUG", "DIGEST")));
    });
  }
});
