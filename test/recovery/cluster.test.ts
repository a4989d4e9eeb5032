/** Clusters that are brought back to one time, held against what their clients read then. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { parseAddress } from "../../src/link/address.ts";
import { restoreClusterToFolders } from "../../src/recovery/cluster-folder.ts";
import {
  type ClusterPlan,
  type ClusterView,
  planCluster,
} from "../../src/recovery/cluster-plan.ts";
import { restoreAndRunCluster } from "../../src/recovery/cluster-run.ts";
import { restoreClusterToServer } from "../../src/recovery/restore-server.ts";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import { ClusterNodes, type Node } from "../record/cluster-nodes.ts";
import { Client } from "../support/client.ts";
import { temporaryFolder } from "../support/folder.ts";
import { findServer, missingServers, type ServerId, startServer } from "../support/servers.ts";
import {
  ClusterBed,
  ClusterClient,
  type Clustered,
  type Contents,
  clusterName,
  moveAtOnce,
  moveInSteps,
  readAll,
} from "./clustered.ts";

// oxlint-disable-next-line no-restricted-properties -- why: each run takes another one, and says which
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

async function planAt(view: ClusterView, ms: number): Promise<ClusterPlan> {
  const result = await planCluster(view, clusterName, { kind: "time", ms });
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: ClusterPlan }).plan;
}

function assertSame(found: Contents, wanted: Contents, what: string): void {
  const missing = [...wanted.keys()].filter((key) => !found.has(key));
  const extra = [...found.keys()].filter((key) => !wanted.has(key));
  const other = [...wanted].filter(([key, value]) => found.has(key) && found.get(key) !== value);
  const shown = other.map(([key, value]) => `${key}: ${found.get(key)} is not ${value}`);
  assert.deepEqual({ missing, extra, other: shown }, { missing: [], extra: [], other: [] }, what);
}

async function recordCluster(id: ServerId): Promise<Clustered> {
  await using bed = await ClusterBed.start(id, seed);
  const [a, b, c] = bed.cluster.nodes as [Node, Node, Node];
  await bed.fill();
  bed.write();
  await bed.checkpoint("before anything moves");
  let seen = bed.changesSeen;
  await moveInSteps(bed, a, b, await bed.slotsOf(a, 3));
  await bed.seesAnother(seen);
  await bed.checkpoint("the change was seen");
  seen = bed.changesSeen;
  // Away again, and others: of each shard, what came back is told from what was there.
  await moveInSteps(bed, b, a, await bed.slotsOf(b, 3));
  if (id === "valkey-9") await moveAtOnce(bed, c, a, (await bed.slotsOf(c, 2)).slice(0, 1));
  await bed.seesAnother(seen);
  await bed.checkpoint("all was seen");
  return await bed.finish();
}

/** Everything that a cluster has, and how many keys that is. */
async function contentsOf(
  nodes: readonly Pick<Node, "server" | "port">[],
  mayHaveCopies = false,
): Promise<Contents> {
  const client = await ClusterClient.open(nodes);
  const contents = await readAll((tag, ...args) => client.call(tag, ...args));
  client.close();
  let keys = 0;
  for (const { server } of nodes) {
    const isMaster = /role:master/.test(String(await server.call("INFO", "replication")));
    if (isMaster) keys += Number(await server.call("DBSIZE"));
  }
  const isRight = mayHaveCopies ? keys >= contents.size : keys === contents.size;
  assert.ok(isRight, `There are no other keys: ${keys} of ${contents.size}`);
  return contents;
}

/** What a test asks a server that it has not started. */
async function serverAt(socketPath: string): Promise<Node["server"]> {
  const client = await Client.connect(socketPath);
  const connect = () => Client.connect(socketPath);
  const call = (...args: Parameters<Client["call"]>) => client.call(...args);
  return { client, connect, call } as unknown as Node["server"];
}

/** Each of them takes seconds, until the nodes have heard of each other. */
function isWorthFolders({ what }: { readonly what: string }, i: number): boolean {
  return i < 5 ? /some keys|all keys|changed hands/.test(what) : /copied|as a whole/.test(what);
}

/** A row of ports that were free a moment ago, with room above for those of the bus. */
async function freePorts(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (port < 50_000) return port;
  }
}

/** Starts servers on the folders of shards, and waits until they are a cluster. */
async function contentsOfFolders(
  id: ServerId,
  view: ClusterView,
  plan: ClusterPlan,
  mayHaveCopies: boolean,
) {
  using folder = temporaryFolder();
  const restored = await restoreClusterToFolders(view, plan, folder.path, {
    port: await freePorts(),
  });
  assert.deepEqual(readdirSync(folder.path), ["shards"]);
  await using stack = new AsyncDisposableStack();
  const nodes: Pick<Node, "server" | "port">[] = [];
  for (const { folder: dir, port } of restored.shards) {
    const conf = { port, bind: "127.0.0.1", "cluster-enabled": "yes", appendonly: "yes" };
    nodes.push({ port, server: stack.use(await startServer(id, { dir, conf })) });
  }
  const [first, ...others] = nodes;
  for (const { port } of others) await first?.server.call("CLUSTER", "MEET", "127.0.0.1", port);
  for (const [i, { server }] of nodes.entries()) {
    await until("the cluster is up", async () => {
      return /cluster_state:ok/.test(String(await server.call("CLUSTER", "INFO")));
    });
    const [self] = String(await server.call("CLUSTER", "NODES"))
      .split("\n")
      .filter((line) => line.includes("myself"));
    const slots = restored.shards[i]?.slots.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`));
    const own = self
      ?.split(" ")
      .slice(8)
      .filter((text) => !text.startsWith("["));
    assert.deepEqual(own, slots, "It has exactly its slots");
  }
  return await contentsOf(nodes, mayHaveCopies);
}

suite("A cluster", { concurrency: 1 }, () => {
  for (const id of ["redis-7.0", "redis-8.0", "valkey-9"] as const) {
    test(`of ${id} is restored to what its clients read at a time (seed ${seed})`, {
      skip: missingServers(id),
    }, async (t) => {
      const { view, moments, changes } = await recordCluster(id);
      t.diagnostic(`${moments.length} moments, ${changes.length} changes of slots`);
      const program = findServer(id)?.bin.server;
      const options = { server: program, overwrite: true };

      await t.test("to one server, at each moment", async () => {
        await using server = await startServer(id);
        for (const { what, ms, contents } of moments) {
          const plan = await planAt(view, ms);
          const address = parseAddress(`unix://${server.socketPath}`);
          const restored = await restoreClusterToServer(view, plan, address, options);
          const found = await readAll((_, ...args) => server.client.call(...args));
          assertSame(found, contents, what);
          assert.equal(await server.call("DBSIZE"), contents.size, what);
          t.diagnostic(`${what}: ${JSON.stringify({ ...restored, dropped: 0, servers: 0 })}`);
        }
      });

      await t.test("among keys that are there, chosen and renamed", async () => {
        const { ms, contents } = moments[2] as (typeof moments)[0];
        const plan = await planAt(view, ms);
        await using server = await startServer(id);
        const { client } = server;
        const address = parseAddress(`unix://${server.socketPath}`);
        const restore = (more: Parameters<typeof restoreClusterToServer>[3]) =>
          restoreClusterToServer(view, plan, address, { server: program, ...more });
        const found = () => readAll((_, ...args) => client.call(...args));
        const mine = [...contents].find(([, value]) => value.startsWith("string"))?.[0] ?? "";
        await client.call("SET", mine, "mine");
        await client.call("SET", "other", "mine");
        await assert.rejects(restore({}), { code: "TARGET_NOT_EMPTY" });
        await assert.rejects(restore({ conflict: "skip", server: undefined }), {
          code: "SERVER_NEEDED",
        });
        await assert.rejects(restore({ conflict: "fail" }), {
          ...{ code: "TARGET_NOT_EMPTY", message: new RegExp(`key "${mine}"`) },
        });
        assert.equal(await client.call("DBSIZE"), 2, "nothing was restored");
        await restore({ conflict: "skip" });
        assertSame(
          await found(),
          new Map([...contents, [mine, (await found()).get(mine) ?? ""]]),
          "skip",
        );
        assert.equal(String(await client.call("GET", mine)), "mine");
        await restore({ conflict: "overwrite" });
        assertSame(await found(), contents, "overwrite");
        assert.equal(await client.call("DBSIZE"), contents.size + 1);
        await client.call("FLUSHALL");
        await client.call("SET", "other", "mine");
        await restore({ conflict: "fail" });
        assertSame(await found(), contents, "fail");
        assert.equal(await client.call("DBSIZE"), contents.size + 1);
        const chosen = [...contents.keys()].filter((key) => key.startsWith("{t1}"));
        const prefix = Buffer.from("old:");
        const { keys } = await restore({
          ...{ conflict: "overwrite", selection: { keys: ["{t1}*"] }, prefix },
        });
        assert.equal(keys, chosen.length);
        assert.equal(await client.call("EXISTS", ...chosen.map((key) => `old:${key}`)), keys);
      });

      await t.test("into folders, on which servers start as a cluster", async () => {
        for (const { what, ms, contents } of moments.filter(isWorthFolders)) {
          const mayHaveCopies = what.includes("being copied");
          const found = await contentsOfFolders(id, view, await planAt(view, ms), mayHaveCopies);
          assertSame(found, contents, what);
        }
      });

      await t.test("into a cluster that is started for it", async () => {
        assert.ok(program);
        using folder = temporaryFolder();
        const { what, ms, contents } = moments[2] as (typeof moments)[0];
        const run = await restoreAndRunCluster(view, await planAt(view, ms), folder.path, {
          ...{ program, port: await freePorts() },
          serverArguments: ["--bind", "127.0.0.1", "--unixsocket", "s"],
        });
        await using stack = new AsyncDisposableStack();
        for (const { process: child } of run.nodes) {
          stack.defer(async () => {
            child.kill("SIGKILL");
            if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
          });
        }
        assert.equal(run.keysLoaded, contents.size);
        const nodes = [];
        for (const { key, port } of run.nodes) {
          const socket = join(folder.path, "shards", key, "s");
          nodes.push({ port, server: await serverAt(socket) });
        }
        assertSame(await contentsOf(nodes), contents, what);
        for (const { server } of nodes) server.client.close();
      });

      for (const masters of id === "redis-8.0" ? [2, 5] : [3]) {
        await t.test(`to a cluster of ${masters}`, async () => {
          await using cluster = await ClusterNodes.start(id, masters);
          const address = parseAddress(`cluster://127.0.0.1:${cluster.nodes[0]?.port}`);
          for (const { what, ms, contents } of moments.slice(2, 4)) {
            const plan = await planAt(view, ms);
            await restoreClusterToServer(view, plan, address, options);
            assertSame(await contentsOf(cluster.nodes), contents, what);
          }
        });
      }
    });
  }
});
