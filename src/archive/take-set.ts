/**
 * Takes a backup set: a snapshot into the repository, with its manifest, and read back.
 *
 *   snapshot ──► snapshot.rdb.zst ──► [keep.json] ──► manifest.json ──► read it all ──► verified.json
 *                                                     the set is there                 it is good
 *
 * WHY in this order. Whatever ends it, there is no set, or a whole one; a set that is to be kept is never
 * there without its mark; and none is called good before all of it came back.
 *
 * INVARIANTS
 *
 *   1. The lease is looked at right before the manifest is written: who has lost it makes no set.
 *   2. One at a time for an instance in this process, and, by the lease, everywhere. The second one is
 *      told what runs. A base comes from the spool and costs the source nothing, so it may run beside.
 *   3. An RDB that is damaged already as it comes is no backup: there is no manifest. One that is not
 *      understood (of a newer server, of a module) is, and the manifest has no count of its keys.
 *   4. What was left of a set that did not come to be is removed: at once where that can be done, else by
 *      the next one, a day later, when nobody can be at it any more.
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import type { Abortable } from "../store/store.ts";
import { formatKeepMark, formatSetManifest, type SetManifest } from "./backup-set.ts";
import { readCatalogue } from "./catalogue.ts";
import { setName, setObject } from "./layout.ts";
import type { RdbIndex } from "./object/index-format.ts";
import { type ObjectSummary, ObjectWriter } from "./object/object-writer.ts";
import { RdbBlocks } from "./object/rdb-blocks.ts";
import { type Repository, writerOptions } from "./repository.ts";
import { leftoversOf } from "./retention.ts";
import { verifySet, verifySnapshot } from "./verify.ts";
import type { VerifyProgress } from "./verify-progress.ts";

/** A snapshot that has begun to come. */
export type OpenSnapshot = AsyncDisposable & {
  readonly position: Position;
  /** The source's time there. */
  readonly ms: number;
  /** The database that its stream has selected there, where that is known. */
  readonly database: number | null;
  readonly source: SetManifest["source"];
  /** The RDB. Chunks may be borrowed until the next one is asked for. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Asked for when all chunks were taken. */
  readonly cost: SetManifest["cost"];
};

/** What takes a snapshot when it is its turn. */
export type SnapshotSource = (signal: AbortSignal | undefined) => Promise<OpenSnapshot>;

/** Says whether this process is still the one that may write. */
export type WriterGuard = {
  /** @throws Failure where it is not */
  readonly check: () => Promise<void>;
};

export type TakeProgress =
  | { readonly phase: "preparing" }
  | { readonly phase: "uploading"; readonly set: string; readonly rawBytes: number }
  | { readonly phase: "verifying"; readonly set: string; readonly progress: VerifyProgress };

export type TakeSetOptions = Abortable & {
  readonly kind: SetManifest["kind"];
  readonly note?: string | undefined;
  readonly keep?: boolean | undefined;
  readonly clock: Clock;
  readonly lease: WriterGuard;
  /** Program and version, for the manifest. */
  readonly writer?: string | undefined;
  readonly onProgress?: ((progress: TakeProgress) => void) | undefined;
};

export type RunningSet = {
  readonly kind: SetManifest["kind"];
  readonly startedMs: number;
  /** Undefined until its snapshot has begun. */
  set: string | undefined;
};

/** By repository and instance. */
const running = new Map<string, Set<RunningSet>>();

/** What is being taken of an instance by this process. */
export function runningSets({ id }: Repository, instance: string): readonly RunningSet[] {
  return [...(running.get(`${id}/${instance}`) ?? [])];
}

/**
 * Takes a set, and returns when it was found good.
 *
 * @throws Failure SERVER_BUSY where one is being taken; DATA_CORRUPT where what was stored does not come
 *   back as it was: then the set is there, and not called good; of the source, the store, the lease
 */
export async function takeSet(
  repository: Repository,
  instance: string,
  source: SnapshotSource,
  options: TakeSetOptions,
): Promise<SetManifest> {
  const mine = enter(repository, instance, options);
  try {
    await removeLeftovers(repository, instance, options);
    const manifest = await storeSet(repository, instance, source, { ...options, mine });
    await proveSet(repository, instance, manifest.set, options);
    return manifest;
  } finally {
    leave(repository, instance, mine);
  }
}

function enter(repository: Repository, instance: string, options: TakeSetOptions): RunningSet {
  const key = `${repository.id}/${instance}`;
  const sets = running.get(key) ?? new Set();
  const other = [...sets].find(({ kind }) => kind !== "base" && options.kind !== "base");
  if (other !== undefined) {
    const since = new Date(other.startedMs).toISOString();
    const what = other.set === undefined ? `a set (${other.kind})` : `set ${other.set}`;
    throw new Failure(
      "SERVER_BUSY",
      `Cannot back up ${instance}: ${what} is being taken since ${since}`,
      { hint: "Wait until it is done; nothing was changed." },
    );
  }
  const mine = { kind: options.kind, startedMs: options.clock.now(), set: undefined };
  running.set(key, sets.add(mine));
  return mine;
}

function leave(repository: Repository, instance: string, mine: RunningSet): void {
  const key = `${repository.id}/${instance}`;
  const sets = running.get(key);
  sets?.delete(mine);
  if (sets?.size === 0) running.delete(key);
}

type StoreOptions = TakeSetOptions & { readonly mine: RunningSet };

async function storeSet(
  repository: Repository,
  instance: string,
  source: SnapshotSource,
  options: StoreOptions,
): Promise<SetManifest> {
  const { mine, signal } = options;
  options.onProgress?.({ phase: "preparing" });
  await using snapshot = await source(signal);
  const set = setName(snapshot.ms, randomBytes(2).toString("hex"));
  mine.set = set;
  try {
    const summary = await upload(repository, instance, snapshot, { ...options, set });
    const manifest = describe(instance, snapshot, { ...options, set }, summary);
    await commit(repository, manifest, options);
    return manifest;
  } catch (error) {
    await removeQuietly(repository, instance, set);
    throw error;
  }
}

type NamedOptions = StoreOptions & { readonly set: string };

async function upload(
  repository: Repository,
  instance: string,
  snapshot: OpenSnapshot,
  options: NamedOptions,
): Promise<ObjectSummary<RdbIndex>> {
  const { store } = repository;
  const { set, signal, writer: program } = options;
  const writer = new ObjectWriter(new RdbBlocks(), {
    ...writerOptions(repository),
    ...(program === undefined ? {} : { writer: program }),
  });
  const name = setObject(instance, set, "snapshot");
  await store.upload(name, writer.bytes(counted(snapshot.chunks, options)), { signal });
  const { summary } = writer;
  if (summary.index.rdbBytes === summary.index.rawBytes) return summary;
  // Not known here, or damaged when it came? Rare enough to be read back for that.
  const object = { name, sizeBytes: summary.sizeBytes };
  const { findings } = await verifySnapshot(repository, object, undefined, { signal });
  const [finding] = findings;
  if (finding === undefined) return summary;
  throw new Failure("DATA_CORRUPT", `Cannot back up ${instance}: ${finding.found}`, {
    hint: "The snapshot was damaged when it came; look into the log of the server.",
  });
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  { set, onProgress }: NamedOptions,
): AsyncGenerator<Uint8Array> {
  let rawBytes = 0;
  for await (const chunk of chunks) {
    rawBytes += chunk.length;
    onProgress?.({ phase: "uploading", set, rawBytes });
    yield chunk;
  }
}

function describe(
  instance: string,
  { position, ms, database, source, cost }: OpenSnapshot,
  { set, kind, note, clock, mine, writer = "tidemark" }: NamedOptions,
  { index, sha256, sizeBytes }: ObjectSummary<RdbIndex>,
): SetManifest {
  const { replicationId, offset } = position;
  const { rawBytes, rawSha256, magic, keys } = index;
  return {
    format: 1,
    set,
    instance,
    kind,
    ...(note === undefined ? {} : { note }),
    position: { replicationId, offset },
    ms,
    startedMs: mine.startedMs,
    endedMs: Math.max(clock.now(), mine.startedMs),
    database,
    source,
    cost,
    snapshot: { sizeBytes, sha256, rawBytes, rawSha256, magic, keys },
    writer,
  };
}

async function commit(
  repository: Repository,
  manifest: SetManifest,
  { keep = false, note, clock, lease, signal }: TakeSetOptions,
): Promise<void> {
  const { instance, set } = manifest;
  await lease.check();
  if (keep) await keepSet(repository, instance, set, { clock, note, signal });
  const name = setObject(instance, set, "manifest");
  const bytes = formatSetManifest(manifest);
  const outcome = await repository.store.put(name, bytes, { ifAbsent: true, signal });
  if (outcome === "created") return;
  throw new Failure("FILE_EXISTS", `Cannot write "${name}": there is one`, {
    hint: "Take the set again.",
  });
}

async function proveSet(
  repository: Repository,
  instance: string,
  set: string,
  { clock, signal, onProgress }: TakeSetOptions,
): Promise<void> {
  const tell = (progress: VerifyProgress) => onProgress?.({ phase: "verifying", set, progress });
  const result = await verifySet(repository, instance, set, { clock, signal, onProgress: tell });
  if (result.isGood) return;
  const found = result.findings[0]?.found ?? "it is not good";
  throw new Failure("DATA_CORRUPT", `Cannot rely on set ${set} of ${instance}: ${found}`, {
    hint: "It is not called good, and stays to be looked at; take another one.",
  });
}

/** There is a failure to be told already, and the next set comes by here too. */
async function removeQuietly(repository: Repository, instance: string, set: string): Promise<void> {
  const objects = (["manifest", "keep", "snapshot"] as const).map((part) =>
    setObject(instance, set, part),
  );
  try {
    for (const object of objects) await repository.store.delete([object]);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
  }
}

async function removeLeftovers(
  repository: Repository,
  instance: string,
  { clock, lease, signal }: TakeSetOptions,
): Promise<void> {
  if (!repository.abilities.deletes) return;
  const options = signal === undefined ? {} : { signal };
  const catalogue = await readCatalogue(repository.store, instance, options);
  const names = leftoversOf(catalogue, clock.now()).map(({ name }) => name);
  if (names.length === 0) return;
  await lease.check();
  await repository.store.delete(names, options);
}

export type KeepOptions = Abortable & {
  readonly clock: Clock;
  readonly note?: string | undefined;
};

/** Has a set stay, whatever the policy says. Its name is not looked up. */
export async function keepSet(
  { store }: Pick<Repository, "store">,
  instance: string,
  set: string,
  { clock, note, signal }: KeepOptions,
): Promise<void> {
  const more = note === undefined ? {} : { note };
  const bytes = formatKeepMark({ format: 1, set, ms: clock.now(), ...more });
  await store.put(setObject(instance, set, "keep"), bytes, { signal });
}

/** Leaves a set to the policy again. */
export async function releaseSet(
  { store }: Pick<Repository, "store">,
  instance: string,
  set: string,
  { signal }: Abortable = {},
): Promise<void> {
  await store.delete([setObject(instance, set, "keep")], { signal });
}
