/**
 * One instance, as `tidemark up` runs it.
 *
 *   source ──► Recorder ──► Spool ──► Archiver ──► repository
 *                             │           │
 *              record.sock ◄──┴───────────┤ status
 *              control.sock ──► BackupLoop┘ sets by the policy and by hand, expiry
 *
 * WHY TWO HALVES. The recorder must run while the storage is away, and the archive be finished while
 * the source is: so each is begun again by itself, and what joins them is the spool alone.
 *
 * INVARIANTS
 *
 *   1. The spool is open for as long as anything here runs; it is flushed and closed last.
 *   2. Nothing is written into the repository without the lease.
 *   3. When the signal is given, all of it ends within some seconds, whatever the storage does. What is on
 *      disk then is durable, and what was shipped is complete; the next start goes on from there.
 */
import type { SetManifest } from "../archive/backup-set.ts";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { makeFolder } from "../base/make-folder.ts";
import { Topology } from "../link/topology.ts";
import { systemDisk } from "../log/disk.ts";
import { fileFailure } from "../log/input-file.ts";
import { Spool } from "../log/spool.ts";
import { isClusterFolder } from "../record/cluster-file.ts";
import { Recorder, type RecorderEvent } from "../record/recorder.ts";
import { SourceFinder } from "../record/source-finder.ts";
import { describeStatus, type Status, StatusSocket } from "../record/status.ts";
import { Archive, type ArchiveEvent, type ArchiveStatus } from "./archive.ts";
import type { InstanceConfig } from "./config.ts";
import { ControlSocket, type Request } from "./control.ts";
import type { Turns } from "./supervise.ts";

/** What `record.sock` says of an instance that is archived as well. */
export type InstanceStatus = Status & {
  readonly instance: string;
  readonly archive: ArchiveStatus;
};

export type InstanceEvent = RecorderEvent | ArchiveEvent;

export type InstanceOptions = {
  readonly config: InstanceConfig;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly steal: boolean;
  readonly onEvent: (event: InstanceEvent) => void;
};

/** What was received last is shipped before it ends, if the storage is quick. */
export const lastShippingMs = 1000;
const tellEveryMs = 200;

/** Until the signal is given. @throws Failure where it cannot be begun: it is worth trying again */
export async function runInstance(options: InstanceOptions, signal: AbortSignal): Promise<void> {
  const { config, clock, onEvent } = options;
  const { address, connect, follow, fsync, segmentBytes, segmentMs } = config;
  await makeSpoolFolder(config);
  if (await isClusterFolder(systemDisk, config.spool)) {
    throw wrongSpool(config, "it has the spools of a cluster");
  }
  let recorder: Recorder | undefined;
  let archive: Archive | undefined;
  await using spool = await Spool.open(config.spool, {
    ...{ fsync, segmentBytes, segmentMs, clock, ownerName: "tidemark up" },
    onChange: () => recorder?.spoolChanged(),
  });
  const ended = new AbortController();
  await using topology = new Topology(address, { ...connect, signal: ended.signal });
  const position = () => (spool.state.kind === "ready" ? spool.position : undefined);
  const finder = new SourceFinder({ topology, prefer: follow, connect, position });
  recorder = new Recorder({
    findSource: (until) => finder.find(until),
    ...{ connect, spool, clock, onEvent },
  });
  archive = new Archive({ ...options, spool, recorder, topology });
  const [recording, archiving] = [recorder, archive];
  const status = (): InstanceStatus => ({
    ...describeStatus(recording, spool),
    instance: config.name,
    archive: archiving.status,
  });
  await using _status = await StatusSocket.open(config.spool, status);
  await using _control = await ControlSocket.open(config.spool, (request, onProgress) =>
    serve(archiving, request, onProgress),
  );
  const archived = archiving.run(ended.signal);
  try {
    await recording.run(signal);
    await spool.flush();
    await archiving.shipLast(lastShippingMs);
  } finally {
    ended.abort(new Failure("ABORTED", "The instance is ended"));
    await archived;
  }
}

/** @throws Failure FILE_MISSING, FILE_FAILED */
export async function makeSpoolFolder({ spool }: InstanceConfig): Promise<void> {
  try {
    await makeFolder(spool, 0o700);
  } catch (cause) {
    throw fileFailure("make", spool, cause);
  }
}

export function wrongSpool({ name, spool }: InstanceConfig, found: string): Failure {
  return new Failure("FILE_EXISTS", `Cannot record ${name} into "${spool}": ${found}`, {
    hint: "Give it another spool.",
  });
}

async function serve(
  archive: Archive,
  request: Request,
  onProgress: (progress: unknown) => void,
): Promise<SetManifest> {
  if (request.shard !== undefined) {
    throw new Failure("USAGE", `Cannot take a set of shard ${request.shard}: it is no cluster`);
  }
  return await takeAsked(archive, request, onProgress);
}

/** Takes a set that somebody has asked for. @throws Failure */
export async function takeAsked(
  archive: Archive,
  { note, keep }: Request,
  onProgress: (progress: unknown) => void,
): Promise<SetManifest> {
  let toldMs = Number.NEGATIVE_INFINITY;
  return await archive.take(
    { kind: "manual", ...(note !== undefined && { note }), ...(keep && { keep }) },
    // It is told of every chunk; nobody watches that closely.
    (progress) => {
      if (performance.now() - toldMs < tellEveryMs) return;
      toldMs = performance.now();
      onProgress(progress);
    },
  );
}
