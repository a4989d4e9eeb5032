/**
 * The data at the moment of a plan, as one snapshot: that of a set as it is, or what a scratch server
 * makes of a set and the log behind it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { findManifest, readAppendOnlyDir } from "../log/append-only-dir.ts";
import { InputFile } from "../log/input-file.ts";
import type { Plan } from "./plan.ts";
import { restoreToFolder } from "./restore-folder.ts";
import type { ArchiveView } from "./restore-locate.ts";
import type { OnProgress } from "./restore-progress.ts";
import { openSnapshot, type Snapshot } from "./restore-snapshot.ts";
import { type ReplaySource, ScratchServer } from "./scratch-server.ts";

export type DataOptions = {
  /** A stock server that replays the log, where there is one: of the version that wrote it, or later. */
  readonly server?: string | undefined;
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
  const folder = await mkdtemp(join(tmpdir(), "tidemark-restore-"));
  let scratch: ScratchServer | undefined;
  const release = async () => {
    scratch?.[Symbol.dispose]();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const dir = join(folder, "data");
    const { onProgress, signal } = options;
    const { target } = await restoreToFolder(view, plan, dir, { onProgress, signal });
    const source: ReplaySource =
      target === "redis:6.0"
        ? { kind: "aof", path: join(dir, "appendonly.aof") }
        : { kind: "appendonlydir", log: readAppendOnlyDir(findManifest(dir)) };
    scratch = ScratchServer.start(options.server, source);
    const path = await scratch.snapshot();
    return { ...fileSnapshot(path), [Symbol.asyncDispose]: release };
  } catch (error) {
    await release();
    throw error;
  }
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
