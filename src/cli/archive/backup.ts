/** The command `backup`. */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { type SetManifest, setManifest } from "../../archive/backup-set.ts";
import { Lease } from "../../archive/lease.ts";
import { type TakeProgress, takeSet } from "../../archive/take-set.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { holderOf } from "../../daemon/archive.ts";
import { findConfig, type InstanceConfig, instanceOf } from "../../daemon/config.ts";
import { askDaemon } from "../../daemon/control.ts";
import { openConfigured } from "../../daemon/open-repository.ts";
import { Topology } from "../../link/topology.ts";
import { systemDisk } from "../../log/disk.ts";
import { takeSnapshot } from "../../record/snapshot.ts";
import { SourceFinder } from "../../record/source-finder.ts";
import { formatBytes, formatDuration, plural } from "../render/text.ts";
import { LiveLine } from "./live-line.ts";
import { nowhere } from "./place.ts";

export type BackupFlags = {
  readonly config?: string;
  readonly note?: string;
  readonly keep?: true;
  readonly json?: true;
};

export async function backup(name: string, flags: BackupFlags): Promise<void> {
  const config = findConfig(flags.config);
  if (config === undefined) throw nowhere();
  const instance = instanceOf(config, name);
  const { note, keep } = flags;
  const wishes = { ...(note !== undefined && { note }), ...(keep && { keep }) };
  using line = new LiveLine();
  const startedMs = performance.now();
  const tell = (progress: unknown) =>
    line.show(describe(progress as TakeProgress, performance.now() - startedMs));
  const asked = await askDaemon(instance.spool, { do: "backup", ...wishes }, tell);
  const manifest =
    asked === undefined ? await take(instance, wishes, tell) : setManifest.parse(asked.done);
  line.clear();
  const text = flags.json ? JSON.stringify(manifest, null, 2) : summarize(manifest);
  process.stdout.write(`${text}\n`);
}

type Wishes = { readonly note?: string; readonly keep?: boolean };

async function take(
  config: InstanceConfig,
  wishes: Wishes,
  onProgress: (progress: TakeProgress) => void,
): Promise<SetManifest> {
  const { name, address, connect, follow: prefer } = config;
  const stop = new AbortController();
  const { signal } = stop;
  const end = () => stop.abort(new Failure("ABORTED", "Cannot take the set: it was stopped"));
  for (const each of ["SIGTERM", "SIGINT"] as const) process.once(each, end);
  await using repository = await openConfigured(config.repository, { signal });
  await using spool = await lockSpool(config.spool);
  const owner = `tidemark backup on ${hostname()}`;
  const holder = spool === undefined ? undefined : holderOf(config.spool);
  await using lease = await Lease.acquire(repository, name, { owner, holder, signal });
  await using topology = new Topology(address, { ...connect, signal });
  const finder = new SourceFinder({ topology, prefer, connect });
  return await takeSet(
    repository,
    name,
    async (until) => {
      const { endpoint } = await finder.find(until);
      return await takeSnapshot(endpoint, { connect, clock: systemClock, signal: until });
    },
    { ...wishes, kind: "manual", clock: systemClock, lease, signal, onProgress },
  );
}

/**
 * Where there is a spool that nobody has open, its writer has ended, however: this command is then the
 * holder, and need not wait until the lease has run out.
 */
async function lockSpool(spool: string): Promise<AsyncDisposable | undefined> {
  if (!existsSync(spool)) return undefined;
  try {
    return await systemDisk.lock(spool, "tidemark backup");
  } catch (error) {
    if (error instanceof Failure && error.code === "FILE_EXISTS") return undefined;
    throw error;
  }
}

function describe(progress: TakeProgress, elapsedMs: number): string {
  switch (progress.phase) {
    case "preparing":
      return "waiting for the source's snapshot";
    case "uploading":
      return `storing  ${formatBytes(progress.rawBytes)}, for ${formatDuration(elapsedMs)}`;
    case "verifying": {
      const { bytes, totalBytes } = progress.progress;
      return `reading back  ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`;
    }
  }
}

function summarize(manifest: SetManifest): string {
  const { set, instance, snapshot, startedMs, endedMs, source } = manifest;
  const keys = snapshot.keys === null ? "" : `${plural(snapshot.keys, "key")}, `;
  const took = formatDuration(Math.max(endedMs - startedMs, 0));
  return [
    `${instance} ${set}`,
    `  ${keys}${formatBytes(snapshot.rawBytes)} raw, ${formatBytes(snapshot.sizeBytes)} stored, in ${took}`,
    `  from ${source.name} (${source.role}); all of it was read back and is good`,
  ].join("\n");
}
