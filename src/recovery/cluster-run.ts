/**
 * Starts a cluster of stock servers on this machine, and restores all shards of a cluster into it.
 *
 * WHY they are started empty, and not on folders with the logs: whose copy of a key counts while slots
 * move is known only when all keys of a shard are (cluster-rules.ts), and no server does that by itself. So
 * they get the same as any cluster that runs, and what is there in the end has no slot that is half moved.
 *
 * INVARIANTS
 *
 *   1. Until all is there, the folders are in `shards.incomplete`, each server has the marker of a restore,
 *      and all of them end with this program.
 *   2. They are let go, and go on, when all of them agree on who has which slots and have the keys that were sent.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import { parseAddress } from "../link/address.ts";
import { Connection } from "../link/connection.ts";
import { parseInfo } from "../link/instance.ts";
import { textOf } from "../link/reply-values.ts";
import { systemDisk, writeSmall } from "../log/disk.ts";
import {
  beginShards,
  type ClusterNode,
  checkPorts,
  clusterArguments,
  nodesConf,
  nodesOf,
  publishShards,
} from "./cluster-folder.ts";
import type { ClusterPlan } from "./cluster-plan.ts";
import type { ArchiveView } from "./restore-locate.ts";
import type { RestoredServer, ServerOptions } from "./restore-request.ts";
import { checkPort, checkProgram, Said, untilLoaded } from "./restore-run.ts";
import { restoreClusterToServer } from "./restore-server.ts";
import { spawnWatched, type WatchedProcess } from "./watched-process.ts";

export type ClusterRunOptions = Omit<
  ServerOptions,
  "connect" | "overwrite" | "conflict" | "safety" | "server"
> & {
  readonly program: string;
  /** Of the first server; the others' follow. */
  readonly port: number;
  readonly serverArguments?: readonly string[];
};

export type RunningCluster = RestoredServer & {
  readonly folder: string;
  readonly version: string;
  readonly nodes: readonly {
    readonly key: string;
    readonly port: number;
    readonly process: ChildProcess;
  }[];
  readonly keysLoaded: number;
};

type Started = ClusterNode & { readonly watched: WatchedProcess; readonly said: Said };

const pollMs = 50;
/** Nodes agree within seconds, once each has heard of all others. */
const patienceMs = 60_000;

/** @throws Failure SERVER_FAILED with what a server said; as `restoreClusterToServer()` */
export async function restoreAndRunCluster(
  view: ArchiveView,
  plan: ClusterPlan,
  folder: string,
  options: ClusterRunOptions,
): Promise<RunningCluster> {
  const { program, port, serverArguments = [], signal } = options;
  const nodes = nodesOf(plan, port);
  checkPorts(port, nodes.length);
  await checkProgram(program);
  for (const node of nodes) await checkPort(node.port);
  const isNew = !existsSync(folder);
  const path = await beginShards(systemDisk, folder);
  const started: Started[] = [];
  try {
    for (const [number, node] of nodes.entries()) {
      const cwd = join(path, node.key);
      await systemDisk.makeFolder(cwd);
      await writeSmall(systemDisk, join(cwd, "nodes.conf"), nodesConf(nodes, number));
      const args = ["--port", String(node.port), ...clusterArguments, ...serverArguments];
      const watched = spawnWatched(program, ["--dir", cwd, ...args], { cwd });
      started.push({ ...node, watched, said: new Said(watched.child) });
    }
    let version = "";
    for (const { watched, port: own, said } of started) {
      ({ version } = await untilLoaded(watched.child, own, said, signal));
    }
    await untilOk(started, signal);
    const seeds = nodes.map((node) => `127.0.0.1:${node.port}`).join(",");
    const address = parseAddress(`cluster://${seeds}`);
    const restored = await restoreClusterToServer(view, plan, address, {
      ...options,
      server: program,
    });
    const keysLoaded = await countKeys(nodes);
    checkCount(restored.keys, keysLoaded);
    await publishShards(systemDisk, folder);
    for (const { watched } of started) letGo(watched);
    const running = started.map(({ key, port: own, watched }) => {
      return { key, port: own, process: watched.child };
    });
    return { ...restored, folder, version, nodes: running, keysLoaded };
  } catch (error) {
    for (const { watched } of started) await end(watched);
    // What is not whole is of this restore; it was not there before.
    await rm(path, { recursive: true, force: true });
    if (isNew) await systemDisk.removeFolder(folder);
    throw error;
  }
}

/** A key may have expired meanwhile; none can have come. */
function checkCount(sent: number, loaded: number): void {
  if (loaded <= sent) return;
  const found = `${loaded} keys are there, and ${sent} were restored`;
  throw new Failure("SERVER_FAILED", `Cannot trust what was restored: ${found}`);
}

function letGo({ child, release }: WatchedProcess): void {
  release();
  child.unref();
}

async function end({ child, release }: WatchedProcess): Promise<void> {
  release();
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** Until each node says that all slots are served. */
async function untilOk(nodes: readonly Started[], signal: AbortSignal | undefined): Promise<void> {
  const end = performance.now() + patienceMs;
  for (const { port, said } of nodes) {
    await using connection = await Connection.open({ host: "127.0.0.1", port });
    for (;;) {
      const info = parseInfo(textOf(await connection.ask("CLUSTER", "INFO")) ?? "");
      if (info.get("cluster_state") === "ok") break;
      if (performance.now() > end) {
        const state = `the node on port ${port} says "${info.get("cluster_state")}"`;
        throw new Failure(
          "SERVER_FAILED",
          `Cannot form a cluster: ${state}; it said:\n${said.text}`,
        );
      }
      await sleep(pollMs, undefined, { signal });
    }
  }
}

async function countKeys(nodes: readonly ClusterNode[]): Promise<number> {
  let keys = 0;
  for (const { port } of nodes) {
    await using connection = await Connection.open({ host: "127.0.0.1", port });
    const info = parseInfo(textOf(await connection.ask("INFO", "keyspace")) ?? "");
    for (const [name, line] of info) {
      if (/^db\d+$/.test(name)) keys += Number(/keys=(\d+)/.exec(line)?.[1]);
    }
  }
  return keys;
}
