/** Who is master of what, asked of real servers, Sentinels and clusters, before and after changes. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatEndpoint, parseAddress } from "../../src/link/address.ts";
import { Connection } from "../../src/link/connection.ts";
import { chooseSource, type Instance, resumePosition } from "../../src/link/instance.ts";
import { readInfo, Topology } from "../../src/link/topology.ts";
import { missingServers, type RunningServer, startServer } from "../support/servers.ts";
import { Follower } from "./follower.ts";
import { freePort } from "./ports.ts";
import { Sentinel } from "./sentinel.ts";
import { until } from "./until.ts";

/** Nodes of a cluster list a replica when its offset is known, and not 0: it takes a PING at least. */
const quick = { "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1 };

/** The members that are up, the master first: `6379 6380`. */
function ports({ members }: Instance): string {
  const up = members.filter(({ isUp }) => isUp);
  const master = up.filter(({ role }) => role === "master");
  const replicas = up.filter(({ role }) => role === "replica");
  return [...master, ...replicas]
    .map(({ endpoint }) => ("port" in endpoint ? String(endpoint.port) : endpoint.path))
    .join(" ");
}

async function read(topology: Topology): Promise<Instance> {
  const [instance] = await topology.read();
  assert.ok(instance);
  return instance;
}

suite("Topology", { concurrency: true }, () => {
  for (const id of ["redis-6.0", "redis-7.0", "redis-8.0", "valkey-9"] as const) {
    test(`${id}: finds the replica of a server, not its recorder, and prefers it`, {
      skip: missingServers(id),
    }, async () => {
      const [a, b] = [await freePort(), await freePort()];
      await using master = await startServer(id, { conf: { ...quick, port: a } });
      await using recorder = await Follower.start({ host: "127.0.0.1", port: a });
      assert.equal(recorder.kind, "full");
      await using topology = new Topology(parseAddress(`redis://127.0.0.1:${a}`));
      assert.equal(ports(await read(topology)), String(a));
      const conf = { ...quick, port: b, replicaof: `127.0.0.1 ${a}` };
      await using replica = await startServer(id, { conf });
      const instance = await until("the replica is up", async () => {
        const found = await read(topology);
        return ports(found) === `${a} ${b}` && found;
      });
      assert.deepEqual(chooseSource(instance).endpoint, { host: "127.0.0.1", port: b });
      assert.deepEqual(chooseSource(instance, { prefer: "master" }).endpoint, {
        ...{ host: "127.0.0.1", port: a },
      });
      // Asked through the replica: its own path, which is not the one that the master knows.
      await using other = new Topology(parseAddress(`unix://${replica.socketPath}`));
      const choice = await until("the replica knows its master", async () => {
        const found = chooseSource(await read(other));
        return found.role === "replica" && found;
      });
      assert.deepEqual(choice.endpoint, { path: replica.socketPath });
      await master.stop();
      const lost = await until("the replica misses its master", async () => {
        const found = chooseSource(await read(other));
        return found.role === "master" && found;
      });
      assert.equal(formatEndpoint(lost.endpoint), `127.0.0.1:${a}`);
      await assert.rejects(topology.read(), { code: /SERVER_(LOST|UNREACHABLE)/ });
    });
  }

  for (const id of ["redis-7.0", "valkey-9"] as const) {
    test(`${id}: follows a failover of Sentinel, past one that is not there`, {
      skip: missingServers(id),
    }, async () => {
      const [a, b, nobody] = [await freePort(), await freePort(), await freePort()];
      await using master = await startServer(id, { conf: { ...quick, port: a } });
      await using replica = await startServer(id, {
        conf: { ...quick, port: b, replicaof: `127.0.0.1 ${a}` },
      });
      await until("the replica is in touch", async () => {
        return /master_link_status:up/.test(String(await replica.call("INFO", "replication")));
      });
      await master.call("SET", "k", "v");
      await using ofMaster = await Follower.start({ host: "127.0.0.1", port: a });
      await using ofReplica = await Follower.start({ host: "127.0.0.1", port: b });
      await until("the replica has the write", async () => {
        return ofReplica.position.offset >= ofMaster.start.offset;
      });
      await using sentinel = await Sentinel.start(id, "main", a);
      const address = `sentinel://127.0.0.1:${nobody},127.0.0.1:${sentinel.port}/main`;
      await using topology = new Topology(parseAddress(address));
      const stop = new AbortController();
      using _ = { [Symbol.dispose]: () => stop.abort() };
      const changes: string[] = [];
      const seen: string[] = [];
      const watching = (async () => {
        const watch = topology.watch({ intervalMs: 50, signal: stop.signal });
        for await (const change of watch) {
          changes.push(...change.changes);
          const [instance] = change.instances;
          if (instance) seen.push(ports(instance));
        }
      })();
      await until("the replica is listed", async () => seen.at(-1) === `${a} ${b}`);
      await using client = await Connection.open({ host: "127.0.0.1", port: sentinel.port });
      await until("the failover begins", async () => {
        return (await client.call("SENTINEL", "FAILOVER", "main")).type === "simple";
      });
      await until("the failover is over", async () => seen.at(-1)?.startsWith(String(b)));
      assert.ok(changes.includes(`main: the master is 127.0.0.1:${b}, and was 127.0.0.1:${a}`));
      // The recorder was listed by the Sentinel, and is not taken for a server to follow or promote.
      // A Sentinel cuts the clients of whatever it promotes.
      await using again = await replica.connect();
      assert.match(String(await again.call("INFO", "replication")), /role:master/);
      const promoted = { host: "127.0.0.1", port: b };
      await using connection = await Connection.open(promoted);
      for (const recorder of [ofReplica, ofMaster]) {
        assert.equal((await recorder.ended).code, "SERVER_LOST");
        // The old master went on with PING for a while.
        const { start, position } = recorder;
        const from = resumePosition(await readInfo(connection), position, start.offset);
        await using resumed = await Follower.start(promoted, {}, from);
        assert.equal(resumed.kind, "continue");
      }
      stop.abort();
      await watching;
      await using wrong = new Topology(parseAddress(address.replace("/main", "/other")));
      await assert.rejects(wrong.read(), { code: /USAGE|SERVER_UNREACHABLE/ });
      assert.ok(master.pid > 0);
    });
  }

  for (const id of ["redis-6.0", "redis-8.0", "valkey-9"] as const) {
    test(`${id}: finds the shards of a cluster, and keeps their keys through a failover and a move`, {
      skip: missingServers(id),
    }, async () => {
      const numbers = [await freePort(), await freePort(), await freePort()];
      const servers: RunningServer[] = [];
      await using stack = new AsyncDisposableStack();
      for (const port of numbers) {
        const conf = { ...quick, port, "cluster-enabled": "yes", "cluster-node-timeout": 2000 };
        servers.push(stack.use(await startServer(id, { conf: { ...conf, databases: 1 } })));
      }
      const [a, b, spare] = servers as [RunningServer, RunningServer, RunningServer];
      const range = (from: number, size: number) =>
        Array.from({ length: size }, (_, i) => from + i);
      await a.call("CLUSTER", "ADDSLOTS", ...range(0, 8192));
      await b.call("CLUSTER", "ADDSLOTS", ...range(8192, 8192));
      // Nodes with the same epoch settle that later, and may undo a takeover by it.
      for (const [index, server] of servers.entries()) {
        await server.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
      }
      for (const port of numbers.slice(1)) await a.call("CLUSTER", "MEET", "127.0.0.1", port);
      const idOf = async (server: RunningServer) => String(await server.call("CLUSTER", "MYID"));
      const first = await idOf(a);
      await until("the spare knows the first", async () => {
        return String(await spare.call("CLUSTER", "NODES")).includes(first);
      });
      await spare.call("CLUSTER", "REPLICATE", first);
      await using topology = new Topology(
        parseAddress(`cluster://127.0.0.1:${await freePort()},127.0.0.1:${numbers[1]}`),
      );
      const [pa, pb, ps] = numbers;
      const shards = async () => {
        const instances = await topology.read().catch(() => []);
        return instances
          .map((instance) => `${instance.key.slice(0, 6)} ${ports(instance)}`)
          .toSorted();
      };
      const second = await idOf(b);
      const [ka, kb] = [first.slice(0, 6), second.slice(0, 6)];
      const become = async (what: string, ...wanted: string[]) => {
        await until(what, async () => String(await shards()) === String(wanted.toSorted()));
      };
      await become("the replica is listed", `${ka} ${pa} ${ps}`, `${kb} ${pb}`);
      // A replica takes those slots over that it knows its master to have.
      await until("the replica knows all slots", async () => {
        return /cluster_slots_assigned:16384/.test(String(await spare.call("CLUSTER", "INFO")));
      });
      await spare.call("CLUSTER", "FAILOVER", "TAKEOVER");
      await become("the failover is seen", `${ka} ${ps} ${pa}`, `${kb} ${pb}`);
      const to = await idOf(spare);
      await spare.call("CLUSTER", "SETSLOT", 8192, "NODE", to);
      await b.call("CLUSTER", "SETSLOT", 8192, "NODE", to);
      await until("the move is seen", async () => {
        const instances = await topology.read();
        return instances.some(({ slots }) => slots?.some(([, last]) => last === 8192));
      });
      await become("the keys are kept", `${ka} ${ps} ${pa}`, `${kb} ${pb}`);
    });
  }
});
