/**
 * Restores into a folder that a stock server starts on.
 *
 *   7.0 and later   DIR/appendonlydir/   a base RDB, one increment with the log, the manifest
 *   6.x             DIR/appendonly.aof   the RDB with the records of the log behind it
 *
 * WHY the log is not replayed here: the server does it when it starts, as after any restart of its
 * own. So a restore costs what reading and writing the bytes costs, and what is in the folder is
 * what was recorded, byte for byte, to the cut.
 *
 * INVARIANTS
 *
 *   1. Until all is written and synced, its name ends in `.incomplete`, by which no server finds it.
 *      The last step is one rename. What a restore that failed or was stopped has made is removed by itself;
 *      where it was killed, by the next one.
 *   2. Nothing that is in the folder is replaced or removed.
 *   3. The log starts with the SELECT of the database that is selected at its first record.
 *   4. What is said of servers holds for the log too. A target that does not know all of it is refused: of a log
 *      nothing can be left out. That is known when it was read, so where it has a file of its own, it comes first.
 */
import { strict as assert } from "node:assert";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { fileNames, formatManifest } from "../codec/aof/manifest.ts";
import type { Target } from "../codec/rdb/model.ts";
import { capabilities } from "../codec/rdb/target.ts";
import { BaseFile } from "../log/base-file.ts";
import { type Disk, systemDisk, writeSmall } from "../log/disk.ts";
import type { KeyPipeOptions } from "./key-pipe.ts";
import { readLog } from "./log-reader.ts";
import type { Plan } from "./plan-result.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { OldRecords } from "./restore-old-records.ts";
import { type OnProgress, ProgressCounter } from "./restore-progress.ts";
import {
  changesNothing,
  isTakenOver,
  openSnapshot,
  type Rewritten,
  rewriteSnapshot,
  type Snapshot,
  targetOfMagic,
} from "./restore-snapshot.ts";
import {
  formatVersions,
  type Loader,
  loaderOfTarget,
  ServerNeeds,
  type Versions,
  versionsOfTarget,
} from "./server-needs.ts";

export type FolderOptions = {
  /** Servers that have to load it; by default the oldest that load the snapshot as it is. */
  readonly target?: Target | undefined;
  /** A server that will load it. */
  readonly loader?: Loader | undefined;
  /** Drop and count what the target cannot hold. */
  readonly lossy?: boolean;
  /** Of a plan without a log only: one cannot be chosen from without a replay. */
  readonly pipe?: KeyPipeOptions;
  /** Taken for that of the plan's set: see `restore-data.ts`. */
  readonly snapshot?: Snapshot;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly disk?: Disk;
};

export type RestoredFolder = {
  readonly folder: string;
  /** What the snapshot in it was written for: it says which files there are. */
  readonly target: Target;
  /** From which versions on servers load all of it. */
  readonly least: Versions;
  /** Arguments for a server, and the whole line for people. */
  readonly serverArguments: readonly string[];
  readonly command: string;
  readonly rawBytes: number;
  /** In the snapshot; null where they were not counted. */
  readonly keys: number | null;
  readonly dropped: ReadonlyMap<string, number>;
  readonly notes: readonly string[];
};

const logName = "appendonly.aof";
const logFolder = "appendonlydir";
const mark = ".incomplete";
/** Names of commands in a message. */
const maxShown = 10;

/** @throws Failure FILE_EXISTS where something is there; DATA_CORRUPT; TARGET_CANNOT_HOLD; FILE_FAILED */
export async function restoreToFolder(
  view: ArchiveView,
  plan: Plan,
  folder: string,
  options: FolderOptions = {},
): Promise<RestoredFolder> {
  const { pipe = {}, disk = systemDisk } = options;
  assert(plan.log === undefined || changesNothing(pipe), "A log is not chosen from");
  const snapshot = options.snapshot ?? (await openSnapshot(view, plan));
  const target = options.target ?? targetOfMagic(snapshot.magic);
  const isSingle = target === "redis:6.0";
  const isNew = !existsSync(folder);
  await beginFolder(disk, folder);
  const job = new FolderJob(view, plan, snapshot, {
    ...{ ...options, pipe, disk, target },
    isNamed: options.target !== undefined,
  });
  let rewritten: Rewritten | undefined;
  try {
    rewritten = isSingle ? await job.writeFile(folder) : await job.writeFolder(folder);
  } catch (error) {
    await discard(disk, folder, isNew);
    throw error;
  }
  const libraries = rewritten?.counts.libraries ?? 0;
  if (libraries > 0) job.notes.push(librariesLeftOut);
  job.noteNeeds();
  const args = ["--dir", folder, "--appendonly", "yes"];
  const program = capabilities[target].family === "valkey" ? "valkey-server" : "redis-server";
  return {
    folder,
    target,
    least: job.least(),
    serverArguments: args,
    command: [program, ...args.map(quoteArgument)].join(" "),
    rawBytes: plan.rawBytes,
    keys: rewritten === undefined ? snapshot.keys : rewritten.counts.written,
    dropped: withLibraries(rewritten),
    notes: job.notes,
  };
}

export const librariesLeftOut = "function libraries are not restored where keys are chosen";

/** What a target could not hold, and what was not chosen and belongs to no key. */
export function withLibraries(rewritten: Rewritten | undefined): ReadonlyMap<string, number> {
  const dropped = new Map<string, number>(rewritten?.dropped);
  const libraries = rewritten?.counts.libraries ?? 0;
  if (libraries > 0) dropped.set("function", libraries);
  return dropped;
}

/** Removes what is not whole; what keeps it from that has made the restore fail, and is told of that. */
async function discard(disk: Disk, folder: string, isNew: boolean): Promise<void> {
  try {
    await removeUnfinished(disk, folder, await disk.list(folder));
    if (isNew) await disk.removeFolder(folder);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
  }
}

/** @throws Failure FILE_EXISTS where something else has that name */
export function mustBeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== false) return;
  throw new Failure("FILE_EXISTS", `Cannot restore into "${folder}": it is no folder`, {
    hint: "Name one that is empty, or that is not there yet.",
  });
}

/** Makes the folder; removes what an interrupted restore left there, and refuses anything else. */
async function beginFolder(disk: Disk, folder: string): Promise<void> {
  mustBeFolder(folder);
  await disk.makeFolder(folder);
  const names = await disk.list(folder);
  const strange = names.find(
    (name) => name !== `${logFolder}${mark}` && name !== `${logName}${mark}`,
  );
  if (strange !== undefined) {
    const found = `it is not empty: it has "${strange}"`;
    throw new Failure("FILE_EXISTS", `Cannot restore into "${folder}": ${found}`, {
      hint: "Name one that is empty, or that is not there yet.",
    });
  }
  await removeUnfinished(disk, folder, names);
}

async function removeUnfinished(
  disk: Disk,
  folder: string,
  names: readonly string[],
): Promise<void> {
  await disk.remove(join(folder, `${logName}${mark}`));
  const left = join(folder, `${logFolder}${mark}`);
  if (!names.includes(`${logFolder}${mark}`)) return;
  for (const name of await disk.list(left)) await disk.remove(join(left, name));
  await disk.removeFolder(left);
}

type JobOptions = FolderOptions & {
  readonly pipe: KeyPipeOptions;
  readonly disk: Disk;
  readonly target: Target;
  /** Whether somebody asked for that target. */
  readonly isNamed: boolean;
};

class FolderJob {
  readonly notes: string[] = [];
  readonly #view: ArchiveView;
  readonly #plan: Plan;
  readonly #snapshot: Snapshot;
  readonly #options: JobOptions;
  readonly #progress: ProgressCounter;
  readonly #needs = new ServerNeeds();

  constructor(view: ArchiveView, plan: Plan, snapshot: Snapshot, options: JobOptions) {
    this.#view = view;
    this.#plan = plan;
    this.#snapshot = snapshot;
    this.#options = options;
    this.#progress = new ProgressCounter(plan.rawBytes, options.onProgress);
  }

  async writeFolder(folder: string): Promise<Rewritten | undefined> {
    const { disk } = this.#options;
    const path = join(folder, `${logFolder}${mark}`);
    await disk.makeFolder(path);
    const base = { file: fileNames.base(logName, 1, "rdb"), sequence: 1 };
    const increment = { file: fileNames.increment(logName, 1), sequence: 1 };
    await this.#writeTo(join(path, increment.file), async (out) => {
      for await (const bytes of this.#readLog()) await out.write(bytes);
    });
    const rewritten = await this.#writeTo(join(path, base.file), (out) => this.#writeBase(out));
    const manifest = formatManifest({ base, increments: [increment], history: [] });
    await writeSmall(disk, join(path, fileNames.manifest(logName)), manifest);
    await disk.syncFolder(path);
    await disk.rename(path, join(folder, logFolder));
    await disk.syncFolder(folder);
    this.#progress.begin("done");
    return rewritten;
  }

  async writeFile(folder: string): Promise<Rewritten | undefined> {
    const { disk } = this.#options;
    const path = join(folder, `${logName}${mark}`);
    const rewritten = await this.#writeTo(path, async (out) => {
      const found = await this.#writeBase(out);
      await this.#writeRecords(out);
      return found;
    });
    await disk.rename(path, join(folder, logName));
    await disk.syncFolder(folder);
    this.#progress.begin("done");
    return rewritten;
  }

  async #writeRecords(out: BaseFile): Promise<void> {
    const records = new OldRecords();
    for await (const bytes of this.#readLog()) await out.write(records.push(bytes));
    records.finish();
  }

  async #writeTo<T>(path: string, write: (out: BaseFile) => Promise<T>): Promise<T> {
    const out = await BaseFile.create(this.#options.disk, path);
    try {
      const result = await write(out);
      await out.finish();
      return result;
    } catch (error) {
      await out.remove();
      throw error;
    }
  }

  async #writeBase(out: BaseFile): Promise<Rewritten | undefined> {
    const { target, pipe, isNamed, lossy = false, signal } = this.#options;
    const snapshot = this.#snapshot;
    this.#progress.begin("snapshot");
    if (isTakenOver(snapshot.magic, target, { pipe, isNamed })) {
      for await (const bytes of snapshot.bytes()) {
        signal?.throwIfAborted();
        await out.write(bytes);
        this.#progress.add(bytes.length);
      }
      return undefined;
    }
    return await rewriteSnapshot(snapshot, target, {
      pipe,
      writer: { lossy, aofBase: true },
      write: (bytes) => out.write(bytes),
      onRead: (bytes, keys) => {
        signal?.throwIfAborted();
        this.#progress.keys = keys;
        this.#progress.add(bytes);
      },
    });
  }

  async *#readLog(): AsyncGenerator<Uint8Array> {
    const { log } = this.#plan;
    if (log === undefined) return;
    this.#progress.begin("log");
    const { signal } = this.#options;
    for await (const bytes of readLog(this.#view, log, { asFile: true, signal })) {
      this.#needs.push(bytes);
      yield bytes;
      this.#progress.add(bytes.length);
    }
    this.#mustBeKnown();
  }

  /** @throws Failure TARGET_CANNOT_HOLD where a server that was named does not know all of the log */
  #mustBeKnown(): void {
    const { target, isNamed, loader } = this.#options;
    for (const each of [isNamed ? loaderOfTarget(target) : undefined, loader]) {
      const missing = each === undefined ? [] : this.#needs.missing(each);
      if (missing.length === 0) continue;
      const shown = missing.slice(0, maxShown).join(", ");
      const more = missing.length > maxShown ? ` and ${missing.length - maxShown} more` : "";
      const message = `Cannot restore for ${each?.name}: the log has what it does not know: ${shown}${more}`;
      throw new Failure("TARGET_CANNOT_HOLD", message, { hint: this.#hintForNewer() });
    }
  }

  #hintForNewer(): string {
    const [first] = formatVersions(this.#needs.least(this.#snapshot.magic));
    const newer = first === undefined ? "Name a newer server" : `It takes ${first} or later`;
    return `${newer}. For an older one, have such a server replay it: \`tidemark download NAME --at T FILE.rdb --target … --server PATH\`.`;
  }

  /** From which versions on servers load what was written. */
  least(): Versions {
    const { target, isNamed, pipe } = this.#options;
    const { magic } = this.#snapshot;
    if (isNamed) return versionsOfTarget(target);
    const isSame = isTakenOver(magic, target, { pipe, isNamed });
    return this.#needs.least(isSame ? magic : capabilities[target].header);
  }

  /** What they may lack beside that. */
  noteNeeds(): void {
    const { isNamed } = this.#options;
    const { version } = this.#plan.set.manifest.source;
    if (!isNamed && this.least().redis < 800 && /^redis ([89]|\d\d)\./.test(version)) {
      this.notes.push(
        `the set is of ${version}: a server before 8 loads it where it has no vector sets`,
      );
    }
    const fields = this.#needs.missing({ name: "", family: "redis", version: 703 });
    if (fields.some((name) => name === "HPERSIST" || name === "HGETEX")) {
      this.notes.push(
        "the log has HPERSIST or HGETEX: Redis 8.0 loses the fields of hashes that these have kept, if it loads the log " +
          "when they would have expired; `--to`, and another server, do not",
      );
    }
    if (this.#needs.strange.length === 0) return;
    const names = this.#needs.strange.join(", ");
    this.notes.push(`the log has commands of modules, or that are not known here: ${names}`);
  }
}

export function quoteArgument(text: string): string {
  return /^[\w./:=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
