/**
 * What a recorder says of itself, and the socket in the spool on which it says it.
 *
 * Whoever connects to `record.sock` gets one line of JSON and the end: no protocol, so that
 * `nc -U record.sock` is a client too.
 */
import { rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import type { Gap } from "../log/gap-list.ts";
import type { Spool } from "../log/spool.ts";
import type { Recorder } from "./recorder.ts";

const socketName = "record.sock";
const maxStatusBytes = 16 * 1024 * 1024;
const connectTimeoutMs = 5000;

/** Version 1 of what `tidemark status --json` prints. Times are Unix milliseconds. */
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
  /** The time of the last batch that is written, by the source's clock. */
  readonly writtenAtMs: number | null;
  readonly skewMs: number;
  readonly skewUncertaintyMs: number | null;
  readonly snapshotBytes: number | null;
  readonly segments: number;
  readonly gaps: readonly Gap[];
};

export function describeStatus(recorder: Recorder, spool: Spool): Status {
  const { state, receivedOffset, source, sourceVersion } = recorder;
  const { skewMs, uncertaintyMs } = recorder.sourceClock.skew;
  const { written, synced } = spool;
  const isStreaming = state.kind === "streaming";
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
    lagBytes: isStreaming && written ? receivedOffset - written.offset : 0,
    writtenAtMs: written?.ms ?? null,
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
  static async open(folder: string, status: () => Status): Promise<StatusSocket> {
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

/** Asks the recorder of a spool. @throws Failure SERVER_UNREACHABLE where none runs */
export async function askStatus(folder: string): Promise<Status> {
  const path = join(folder, socketName);
  const socket = connect(path);
  socket.setTimeout(connectTimeoutMs, () => socket.destroy(new Error("no answer in time")));
  let text = "";
  try {
    for await (const chunk of socket) {
      text += String(chunk);
      if (text.length > maxStatusBytes) break;
    }
    return JSON.parse(text) as Status;
  } catch (cause) {
    throw new Failure("SERVER_UNREACHABLE", `Cannot ask the recorder of "${folder}"`, {
      cause,
      hint: "Is it the folder of a recorder that runs?",
    });
  }
}
