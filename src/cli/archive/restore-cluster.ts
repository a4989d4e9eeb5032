/**
 * The command `restore` for a cluster: one plan over all shards, done in one of the three ways.
 *
 * WHY IT IS SAID how many keys were found where they should not be: of slots that were on their way, the logs
 * of two shards have keys, and which of them count is a rule (recovery/cluster-rules.ts). What the rule left
 * out, and what it let in without knowing, whoever restores can look into.
 */
import { resolve } from "node:path";
import type { SetManifest } from "../../archive/backup-set.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { formatAddress, parseAddress } from "../../link/address.ts";
import { restoreClusterToFolders } from "../../recovery/cluster-folder.ts";
import type { ClusterPlan } from "../../recovery/cluster-plan.ts";
import { restoreAndRunCluster } from "../../recovery/cluster-run.ts";
import type { RestoreProgress } from "../../recovery/restore-progress.ts";
import type { RestoredServer } from "../../recovery/restore-request.ts";
import { restoreClusterToServer } from "../../recovery/restore-server.ts";
import { changesNothing } from "../../recovery/restore-snapshot.ts";
import { formatVersions } from "../../recovery/server-needs.ts";
import { readConnect } from "../connect.ts";
import { readKeyChoice, readPrefix, readSelection, readTtl } from "../key-choice.ts";
import { LiveLine } from "../render/live-line.ts";
import { formatBytes, plural } from "../render/text.ts";
import type { ClusterPlace } from "./place.ts";
import { clusterViewOf, describeLosses, describeProgress, describeServers } from "./plan.ts";
import {
  type Done,
  describeSkipped,
  mustNotHave,
  type RestoreFlags,
  readPort,
  type Way,
} from "./restore.ts";
import { describeUndo, takeSafetySets } from "./safety-set.ts";

type ToRestore = {
  readonly place: ClusterPlace;
  readonly plan: ClusterPlan;
  readonly flags: RestoreFlags & { readonly signal: AbortSignal };
};

export const clusterWays: Readonly<Record<Way, (what: ToRestore) => Promise<Done>>> = {
  folder: intoFolders,
  server: intoServer,
  run: andRun,
};

async function intoFolders({ place, plan, flags }: ToRestore): Promise<Done> {
  const choice = readKeyChoice(flags, { fromMs: plan.ms, nowMs: systemClock.now() });
  if (!changesNothing(choice)) {
    const found = "a folder has the log as it was recorded, with every key";
    throw new Failure("USAGE", `Cannot choose keys or expiries: ${found}`, {
      hint: "`restore --to cluster://…` and `--run` can.",
    });
  }
  using line = new LiveLine();
  const folder = resolve(flags.toDir ?? ".");
  const restored = await restoreClusterToFolders(clusterViewOf(place), plan, folder, {
    ...{ target: flags.target, lossy: flags.lossy === true },
    ...(flags.port !== undefined && { port: readPort(flags.port) }),
    ...tellOn(line, flags),
  });
  line.clear();
  const { shards, commands, rawBytes, least, dropped, notes } = restored;
  const servers = formatVersions(least);
  const size = formatBytes(rawBytes);
  return {
    fields: { folder, rawBytes, servers, shards, commands, dropped: [...dropped], notes },
    lines: [
      `Restored into ${folder}: ${plural(shards.length, "shard")}, ${size}, ${describeServers(servers)}`,
      ...describeLosses({ dropped, notes }),
      "  start the servers and join them, with these or other ports:",
      ...commands.map((command) => `    ${command}`),
    ],
  };
}

async function intoServer({ place, plan, flags }: ToRestore): Promise<Done> {
  const address = parseAddress(flags.to ?? "");
  const connect = readConnect(address, flags);
  const taken: SetManifest[] = [];
  using line = new LiveLine();
  const instance = place.cluster;
  const restored = await restoreClusterToServer(clusterViewOf(place), plan, address, {
    ...keyOptions(flags),
    ...{ connect, overwrite: flags.overwrite === true, server: flags.server },
    ...(flags.conflict && { conflict: flags.conflict }),
    ...(flags.safety && {
      safety: async () => {
        line.show("taking safety sets of what is there");
        const { repository } = place;
        taken.push(
          ...(await takeSafetySets({ repository, instance }, address, connect, flags.signal)),
        );
      },
    }),
    ...tellOn(line, flags),
  });
  line.clear();
  const where = formatAddress(address);
  const safety = taken.map(({ set }) => set);
  return {
    fields: { ...fieldsOf(restored), safety },
    lines: [
      `Restored to ${where}: ${plural(restored.keys, "key")} of ${plural(plan.shards.length, "shard")}`,
      ...describeKeys(restored),
      ...describeUndo(instance, safety, where),
    ],
  };
}

async function andRun({ place, plan, flags }: ToRestore): Promise<Done> {
  mustNotHave(flags, ["target"], "with --run, of a cluster");
  const port = readPort(flags.port);
  const folder = resolve(flags.dir ?? `${place.cluster}-${port}`);
  using line = new LiveLine();
  const running = await restoreAndRunCluster(clusterViewOf(place), plan, folder, {
    ...keyOptions(flags),
    ...{ program: flags.run ?? "", port },
    ...tellOn(line, flags),
  });
  line.clear();
  // The servers live on; what they say would else keep this program.
  for (const { process: child } of running.nodes) {
    child.stdout?.destroy();
    child.stderr?.destroy();
    child.stdio[3]?.destroy();
  }
  const { keysLoaded, version } = running;
  const nodes = running.nodes.map(({ key, port: own, process: child }) => {
    return { shard: key, port: own, pid: child.pid ?? null };
  });
  const ports = nodes.map((node) => node.port).join(", ");
  return {
    fields: { ...fieldsOf(running), folder, version, keysLoaded, nodes },
    lines: [
      `Restored, and running as a cluster on ports ${ports}: ${plural(keysLoaded, "key")}, version ${version}`,
      ...describeKeys(running),
      `  its data are in ${folder}`,
    ],
  };
}

function keyOptions(flags: RestoreFlags) {
  const prefix = readPrefix(flags);
  return {
    selection: readSelection(flags),
    ...(prefix && { prefix }),
    ttl: readTtl(flags.ttl, systemClock.now()),
    lossy: flags.lossy === true,
  };
}

function tellOn(line: LiveLine, { signal }: ToRestore["flags"]) {
  const onProgress = (progress: RestoreProgress) => line.show(describeProgress(progress));
  return { onProgress, signal };
}

function fieldsOf(restored: RestoredServer) {
  const { servers, keys, skipped, skippedLibraries, leftovers, unsettled } = restored;
  const { isResumed, dropped, notes } = restored;
  const counts = { keys, skipped, skippedLibraries, leftovers, unsettled };
  return { servers, ...counts, isResumed, notes, dropped: [...dropped] };
}

function describeKeys(restored: RestoredServer): string[] {
  const { isResumed, leftovers, unsettled, dropped, notes } = restored;
  const left = `${plural(leftovers, "key")} of slots that their shards had no more`;
  const found = `${plural(unsettled, "key")} of slots that their shards did not have`;
  return [
    ...(isResumed ? ["  it went on with a restore that was cut off"] : []),
    ...describeSkipped(restored),
    ...(leftovers > 0 ? [`  not restored: ${left}`] : []),
    ...(unsettled > 0 ? [`  note: ${found}, restored where the owner had no such key`] : []),
    ...describeLosses({ dropped, notes }),
  ];
}
