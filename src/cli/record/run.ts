/** The command `record`: spools, recorders, and somebody to tell what happens. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { type Address, parseAddress } from "../../link/address.ts";
import { printAcl } from "../../link/permissions.ts";
import { Topology } from "../../link/topology.ts";
import { systemDisk } from "../../log/disk.ts";
import { type FsyncPolicy, Spool } from "../../log/spool.ts";
import { type ClusterEvent, ClusterRecorder } from "../../record/cluster.ts";
import { ClusterFile, isClusterFolder } from "../../record/cluster-file.ts";
import { Recorder, type RecorderEvent } from "../../record/recorder.ts";
import { SourceFinder } from "../../record/source-finder.ts";
import { describeCluster, describeStatus, StatusSocket } from "../../record/status.ts";
import { type ConnectFlags, readConnect } from "../connect.ts";
import { untilStopped } from "../stop.ts";
import { StatusLine } from "./status-line.ts";

export type RecordFlags = ConnectFlags & {
  readonly fsync: FsyncPolicy;
  readonly segmentMb: string;
  readonly follow: string;
  readonly printAcl?: true;
};

/** A file of less is all header, one of more takes long to check after a crash. */
const segmentMbs = { least: 1, most: 16 * 1024 } as const;

export async function record(text: string, folder: string, flags: RecordFlags): Promise<void> {
  const address = parseAddress(text);
  if (flags.printAcl) {
    process.stdout.write(`${printAcl(address.kind, flags.user)}\n`);
    return;
  }
  const settings = {
    ...{ address, folder },
    prefer: readFollow(flags.follow),
    connect: readConnect(address, flags),
    fsync: flags.fsync,
    segmentBytes: readSegmentBytes(flags.segmentMb),
  };
  await systemDisk.makeFolder(folder);
  const recordOne = address.kind === "cluster" ? recordCluster : recordServer;
  await untilStopped((signal) => recordOne({ ...settings, signal }));
}

type Settings = {
  readonly address: Address;
  readonly folder: string;
  readonly prefer: "replica" | "master";
  readonly connect: ReturnType<typeof readConnect>;
  readonly fsync: FsyncPolicy;
  readonly segmentBytes: number;
  readonly signal: AbortSignal;
};

async function recordServer(settings: Settings): Promise<void> {
  const { address, folder, prefer, connect, fsync, segmentBytes, signal } = settings;
  if (await isClusterFolder(systemDisk, folder)) {
    throw wrongFolder(folder, "a server", "has the spools of a cluster");
  }
  let recorder: Recorder | undefined;
  await using spool = await Spool.open(folder, {
    ...{ fsync, segmentBytes },
    onChange: () => recorder?.spoolChanged(),
  });
  await using topology = new Topology(address, { ...connect, signal });
  const position = () => (spool.state.kind === "ready" ? spool.position : undefined);
  const finder = new SourceFinder({ topology, prefer, connect, position });
  recorder = new Recorder({
    findSource: (until) => finder.find(until),
    watchSource: (source, until) => finder.watch(source, until),
    ...{ connect, spool, clock: systemClock },
    onEvent: (event) => line.event(describeEvent(event)),
  });
  const running = recorder;
  const status = () => describeStatus(running, spool);
  using line = new StatusLine(status);
  await using _socket = await StatusSocket.open(folder, status);
  await running.run(signal);
  await spool.flush();
}

async function recordCluster(settings: Settings): Promise<void> {
  const { address, folder, signal, ...rest } = settings;
  if (existsSync(join(folder, "appendonlydir"))) {
    throw wrongFolder(folder, "a cluster", "is the spool of one server");
  }
  await using _lock = await systemDisk.lock(folder, "tidemark record");
  const file = await ClusterFile.open(systemDisk, folder);
  const known = file.known.flatMap(({ instance, isGone }) => (isGone ? [] : [instance]));
  await using topology = new Topology(address, { ...rest.connect, signal, known });
  const cluster = new ClusterRecorder({
    ...{ ...rest, folder, file, topology, clock: systemClock, disk: systemDisk },
    onEvent: (event) => line.event(describeEvent(event)),
  });
  const status = () => describeCluster(cluster);
  using line = new StatusLine(status);
  await using _socket = await StatusSocket.open(folder, status);
  await cluster.run(signal);
}

function wrongFolder(folder: string, what: string, found: string): Failure {
  return new Failure("FILE_EXISTS", `Cannot record ${what} into "${folder}": it ${found}`, {
    hint: "Choose another folder.",
  });
}

function readFollow(text: string): "replica" | "master" {
  if (text === "replica" || text === "master") return text;
  throw new Failure("USAGE", `Cannot follow "${text}": it is neither replica nor master`);
}

function readSegmentBytes(text: string): number {
  const size = Number(text);
  const { least, most } = segmentMbs;
  if (Number.isInteger(size) && size >= least && size <= most) return size * 2 ** 20;
  throw new Failure("USAGE", `Cannot use --segment-mb ${text}: give ${least} to ${most}`);
}

function describeEvent(event: RecorderEvent | ClusterEvent): { text: string; fields: object } {
  const { kind, ...rest } = event;
  const fields =
    "failure" in rest
      ? { event: kind, ...rest, failure: rest.failure.message, code: rest.failure.code }
      : { event: kind, ...rest };
  const details = Object.entries(fields)
    .filter(([name]) => name !== "event" && name !== "code")
    .map(
      ([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`,
    );
  return { text: `${kind}${details.length > 0 ? `, ${details.join(", ")}` : ""}`, fields };
}
