/**
 * The data at the moment of a plan, as one snapshot: that of a set as it is, or what a scratch server
 * makes of a set and the log behind it.
 */
import { createServer } from "node:net";
import { join } from "node:path";
import { toLatin1 } from "../base/bytes.ts";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { findManifest, readAppendOnlyDir } from "../log/append-only-dir.ts";
import { InputFile } from "../log/input-file.ts";
import type { Plan } from "./plan-result.ts";
import { holdFields, releaseFields } from "./restore-fields.ts";
import { restoreToFolder } from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";
import type { OnProgress } from "./restore-progress.ts";
import { openSnapshot, type Snapshot } from "./restore-snapshot.ts";
import { ScratchFolder } from "./scratch-folder.ts";
import { type ReplaySource, ScratchServer } from "./scratch-server.ts";

export type DataOptions = {
  /** A stock server that replays the log, where there is one: of the version that wrote it, or later. */
  readonly server?: string | undefined;
  /** Whether the instance is a shard of a cluster: its log is replayed in cluster mode. */
  readonly isShard?: boolean;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** A snapshot that needs what is disposed of with it. */
export type HeldSnapshot = Snapshot & AsyncDisposable;

/** @throws Failure SERVER_NEEDED where a log has to be replayed and no server is named */
export async function openData(
  view: ArchiveView,
  plan: Plan,
  options: DataOptions = {},
): Promise<HeldSnapshot> {
  if (plan.log === undefined) {
    return { ...(await openSnapshot(view, plan)), [Symbol.asyncDispose]: async () => {} };
  }
  if (options.server === undefined) throw serverNeeded();
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await ScratchFolder.open(systemClock.now()));
  const dir = join(folder.path, "data");
  const { isShard = false, onProgress, signal } = options;
  const { target } = await restoreToFolder(view, plan, dir, { onProgress, signal });
  const source: ReplaySource =
    target === "redis:6.0"
      ? { kind: "aof", path: join(dir, "appendonly.aof") }
      : { kind: "appendonlydir", log: readAppendOnlyDir(findManifest(dir)) };
  const isHeld =
    source.kind === "appendonlydir" && (await holdFields(source.log, fileSnapshot, signal));
  const scratch = ScratchServer.start(options.server, source, {
    parent: folder.path,
    clusterPort: isShard ? await freeBusPort() : undefined,
  });
  stack.use(scratch);
  const written = await scratch.snapshot(signal);
  const path = isHeld ? await releaseFields(written, fileSnapshot(written)) : written;
  const held = stack.move();
  return { ...fileSnapshot(path), [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** One that is free now, and has 10,000 below it another that may be one. */
async function freeBusPort(): Promise<number> {
  for (;;) {
    const server = createServer();
    const listening = Promise.withResolvers<void>();
    server.once("error", listening.reject);
    server.listen(0, "127.0.0.1", listening.resolve);
    await listening.promise;
    const address = server.address();
    const closed = Promise.withResolvers<void>();
    server.close(() => closed.resolve());
    await closed.promise;
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    if (port > 11_024) return port;
  }
}

/** For all shards of a cluster. @throws Failure SERVER_NEEDED */
export function mustHaveServer(plans: readonly Plan[], server: string | undefined): void {
  if (server !== undefined || plans.every(({ log }) => log === undefined)) return;
  const { code, message } = serverNeeded();
  throw new Failure(code, message, {
    hint: "Name a stock server with --server PATH; --to-dir and --run do without.",
  });
}

function serverNeeded(): Failure {
  const found = "what a log amounts to, beside the whole of it, is known only by a replay";
  return new Failure("SERVER_NEEDED", `Cannot restore to a moment between two sets: ${found}`, {
    hint: "Name a stock server with --server PATH, or restore a set: --at set:NAME.",
  });
}

function fileSnapshot(path: string): Snapshot {
  using file = InputFile.open(path);
  const magic = /^(REDIS\d{4}|VALKEY\d{3})/.exec(toLatin1(file.head(9)))?.[0] ?? null;
  return {
    name: `"${path}"`,
    rawBytes: file.stats.size,
    magic,
    keys: null,
    bytes: () => read(path),
  };
}

async function* read(path: string): AsyncGenerator<Uint8Array> {
  using file = InputFile.open(path);
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) yield Uint8Array.from(chunk);
}
