/**
 * What a recorder says of itself, and the socket in the spool on which it says it.
 *
 * WHY A SOCKET. The truth about a recorder is in its process. Whoever connects to `record.sock` gets one
 * line of JSON and the end: no protocol, so that `nc -U record.sock` is a client too.
 *
 * FORMAT, version 1: a `Status`; of a cluster's recorder a `ClusterStatus`, which has `shards`. Fields are
 * added and never change their meaning. Times are Unix milliseconds.
 *
 * INVARIANTS
 *
 *   1. The spool is locked while its socket is there: one that is found at the start is a stale one.
 *   2. Whoever asks reads at most `maxStatusBytes`, and waits at most `connectTimeoutMs`.
 *
 * REJECTED. A file that is written now and then: it says nothing about whether the process still runs.
 */
import { rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { Gap } from "../log/gap-list.ts";
import type { Spool } from "../log/spool.ts";
import { type ClusterRecorder, formatSlots, type Shard } from "./cluster.ts";
import type { Recorder } from "./recorder.ts";

const socketName = "record.sock";
const maxStatusBytes = 16 * 1024 * 1024;
const connectTimeoutMs = 5000;

/** Version 1 of what `tidemark status --json` prints. */
export type Status = {
  readonly format: 1;
  readonly process: number;
  readonly source: string;
  readonly sourceVersion: string;
  /** connecting, syncing, streaming, waiting, stopped */
  readonly state: string;
  /** Why it waits, or what is wrong with the disk. */
  readonly trouble: string | null;
  readonly replicationId: string | null;
  /** Received from the source; on disk; on disk for good. */
  readonly receivedOffset: number;
  readonly writtenOffset: number | null;
  readonly syncedOffset: number | null;
  /** Received and not written yet. */
  readonly lagBytes: number;
  /** How old what is written is, where more has been received, or the source is not followed. */
  readonly lagMs: number;
  /** The times of the last batch that is written, and on disk for good, by the source's clock. */
  readonly writtenAtMs: number | null;
  readonly syncedAtMs: number | null;
  readonly skewMs: number;
  readonly skewUncertaintyMs: number | null;
  readonly snapshotBytes: number | null;
  readonly segments: number;
  readonly gaps: readonly Gap[];
};

/** Of the recorder of a cluster. */
export type ClusterStatus = {
  readonly format: 1;
  readonly process: number;
  readonly shards: readonly ShardStatus[];
};

export type ShardStatus = {
  readonly shard: string;
  /** As in `0-5460, 9000`. */
  readonly slots: string;
  /** Whether the cluster does not list it any more, so that it will be let go. */
  readonly isGone: boolean;
  /** Why it is not being recorded. */
  readonly trouble: string | null;
  /** Null while its spool is not open. */
  readonly status: Status | null;
};

export function describeCluster(cluster: ClusterRecorder): ClusterStatus {
  return { format: 1, process: process.pid, shards: cluster.shards.map(describeShard) };
}

function describeShard({ key, instance, running, failure, goneSinceMs }: Shard): ShardStatus {
  return {
    shard: key,
    slots: formatSlots(instance),
    isGone: goneSinceMs !== undefined,
    trouble: failure?.message ?? null,
    status: running ? describeStatus(running.recorder, running.spool) : null,
  };
}

export function describeStatus(recorder: Recorder, spool: Spool): Status {
  const { state, receivedOffset, source, sourceVersion } = recorder;
  const { skewMs, uncertaintyMs } = recorder.sourceClock.skew;
  const { written, synced } = spool;
  const lagBytes = state.kind === "streaming" && written ? receivedOffset - written.offset : 0;
  const isBehind = lagBytes > 0 || state.kind !== "streaming";
  return {
    format: 1,
    process: process.pid,
    source,
    sourceVersion,
    state: state.kind,
    trouble: troubleOf(recorder, spool),
    replicationId: spool.position?.replicationId ?? null,
    receivedOffset,
    writtenOffset: written?.offset ?? null,
    syncedOffset: synced?.offset ?? null,
    lagBytes,
    lagMs: isBehind && written ? Math.max(recorder.sourceClock.now() - written.ms, 0) : 0,
    writtenAtMs: written?.ms ?? null,
    syncedAtMs: synced?.ms ?? null,
    skewMs,
    skewUncertaintyMs: Number.isFinite(uncertaintyMs) ? uncertaintyMs : null,
    snapshotBytes: state.kind === "syncing" ? state.receivedBytes : null,
    segments: spool.generation?.segments.length ?? 0,
    gaps: spool.gaps,
  };
}

function troubleOf({ state }: Recorder, spool: Spool): string | null {
  if (spool.state.kind === "failing" || spool.state.kind === "damaged") {
    return spool.state.failure.message;
  }
  return state.kind === "waiting" ? state.failure.message : null;
}

/** Answers on the socket of a spool until it is disposed of. */
export class StatusSocket implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** The spool's lock is held: a socket that is there is a stale one. */
  static async open(folder: string, status: () => Status | ClusterStatus): Promise<StatusSocket> {
    const path = join(folder, socketName);
    rmSync(path, { force: true });
    const server = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.end(`${JSON.stringify(status())}\n`);
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(path, resolve);
    try {
      await promise;
    } catch (cause) {
      throw new Failure("FILE_FAILED", `Cannot listen on "${path}"`, { cause });
    }
    return new StatusSocket(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    await promise;
  }
}

/** Asks the recorder of one server. @throws Failure SERVER_UNREACHABLE where none runs */
export async function askStatus(folder: string): Promise<Status> {
  const status = await askAnyStatus(folder);
  if ("shards" in status) {
    throw new Failure("USAGE", `Cannot ask the recorder of "${folder}": it records a cluster`);
  }
  return status;
}

/** Asks the recorder of a folder. @throws Failure SERVER_UNREACHABLE where none runs */
export async function askAnyStatus(folder: string): Promise<Status | ClusterStatus> {
  const path = join(folder, socketName);
  const socket = connect(path);
  socket.setTimeout(connectTimeoutMs, () => socket.destroy(new Error("no answer in time")));
  let text = "";
  try {
    for await (const chunk of socket) {
      text += String(chunk);
      if (text.length > maxStatusBytes) break;
    }
    return JSON.parse(text) as Status | ClusterStatus;
  } catch (cause) {
    throw new Failure("SERVER_UNREACHABLE", `Cannot ask the recorder of "${folder}"`, {
      cause,
      hint: "Is it the folder of a recorder that runs?",
    });
  }
}
