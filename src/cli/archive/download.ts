/** The command `download`. */
import { mkdtempSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdCompress } from "node:zlib";
import { systemClock } from "../../base/clock.ts";
import type { Target } from "../../codec/rdb/model.ts";
import { findManifest, readAppendOnlyDir } from "../../log/append-only-dir.ts";
import { OutputFile } from "../../log/output-file.ts";
import { expiriesFromMs, type Plan } from "../../recovery/plan-result.ts";
import { openData } from "../../recovery/restore-data.ts";
import { restoreToFolder } from "../../recovery/restore-folder.ts";
import { isTakenOver, rewriteSnapshot, targetOfMagic } from "../../recovery/restore-snapshot.ts";
import { formatVersions } from "../../recovery/server-needs.ts";
import { type KeyChoiceFlags, readKeyChoice } from "../key-choice.ts";
import { LiveLine } from "../render/live-line.ts";
import { Progress } from "../render/progress.ts";
import { formatBytes, plural } from "../render/text.ts";
import { mustNotBeTerminal, writeOutputSlowly } from "../standard-output.ts";
import { stoppable } from "../stop.ts";
import { findSet, type Place, Places } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";
import {
  describeLosses,
  describeProgress,
  describeServers,
  findPlan,
  mustNotChoose,
  notesOf,
  planToJson,
  viewOf,
} from "./plan.ts";
import { type TarFile, writeTar } from "./tar.ts";

export type DownloadFlags = PlaceFlags &
  KeyChoiceFlags & {
    readonly at?: string;
    readonly instance?: string;
    readonly target?: Target;
    readonly lossy?: true;
    readonly server?: string;
    readonly withoutSet?: readonly string[];
    readonly force?: true;
    readonly json?: true;
  };

type Downloaded = {
  readonly sizeBytes: number;
  readonly target: Target;
  /** From which on it is loaded: "redis:8", "valkey:9". */
  readonly servers: readonly string[];
  /** Null where nobody counted them. */
  readonly keys: number | null;
  readonly dropped: ReadonlyMap<string, number>;
  readonly notes: readonly string[];
  /** Of a folder: what starts a server on it. */
  readonly command?: string;
};

export async function download(what: string, out: string, flags: DownloadFlags): Promise<void> {
  if (out === "-") mustNotBeTerminal("an RDB");
  const left =
    out === "-" ? "What was written is not whole." : "Nothing of it was left; begin it anew.";
  await stoppable({ doing: "finish the download", left }, (signal) =>
    downloadNow(what, out, { ...flags, signal }),
  );
}

type Wishes = DownloadFlags & { readonly signal: AbortSignal };

async function downloadNow(what: string, out: string, flags: Wishes): Promise<void> {
  await using places = await Places.open(flags);
  const { place, at } = await choose(places, what, flags);
  const plan = await findPlan(place, at, flags);
  const write = out === "-" || /\.rdb$/i.test(out) ? toRdb : isTar(out) ? toTar : toFolder;
  const written = await write(place, plan, out, flags);
  const done = { ...written, notes: [...notesOf(plan), ...written.notes] };
  // The word "target" is the moment, of a plan.
  const { dropped, target: _, ...rest } = done;
  const lines = flags.json
    ? [JSON.stringify({ ...planToJson(plan), ...rest, out, dropped: [...dropped] }, null, 2)]
    : summarize(plan, out, done);
  // What was asked for on standard output is not mixed with words about it.
  (out === "-" ? process.stderr : process.stdout).write(`${lines.join("\n")}\n`);
}

async function choose(
  places: Places,
  what: string,
  { at, instance }: DownloadFlags,
): Promise<{ readonly place: Place; readonly at: string }> {
  if (at !== undefined) return { place: places.one(what), at };
  const { place, set } = await findSet(places, what, instance);
  return { place, at: `set:${set.name}` };
}

function isTar(out: string): boolean {
  return /\.tar(\.zst)?$/i.test(out);
}

function summarize({ instance, moment, set }: Plan, out: string, done: Downloaded): string[] {
  const { sizeBytes, servers, keys, dropped, notes } = done;
  const count = keys === null ? "" : `, ${plural(keys, "key")}`;
  return [
    `${out === "-" ? "standard output" : out}: ${instance} as it was at ${new Date(moment.ms).toISOString()}, from set ${set.name}`,
    `  ${formatBytes(sizeBytes)}${count}, ${describeServers(servers)}`,
    ...describeLosses({ dropped, notes }),
    ...(done.command === undefined ? [] : [`  start it with: ${done.command}`]),
  ];
}

/** A file, or standard output. */
type Output = Disposable & {
  readonly sizeBytes: number;
  readonly write: (bytes: Uint8Array) => Promise<void>;
  readonly publish: () => void;
};

function openOutput(out: string, { force, signal }: Wishes): Output {
  if (out !== "-") {
    const file = OutputFile.create(out, force === true);
    return {
      get sizeBytes() {
        return file.sizeBytes;
      },
      write: async (bytes) => {
        signal.throwIfAborted();
        file.write(bytes);
      },
      publish: () => file.publish(),
      [Symbol.dispose]: () => file[Symbol.dispose](),
    };
  }
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    write: async (bytes) => {
      sizeBytes += bytes.length;
      await writeOutputSlowly(bytes, signal);
    },
    publish: () => {},
    [Symbol.dispose]: () => {},
  };
}

async function toRdb(place: Place, plan: Plan, out: string, flags: Wishes): Promise<Downloaded> {
  // First: that it is there already is found out before anything is replayed.
  using output = openOutput(out, flags);
  using line = new LiveLine();
  await using data = await openData(viewOf(place), plan, {
    server: flags.server,
    isShard: place.shard !== undefined,
    signal: flags.signal,
    onProgress: (progress) => line.show(describeProgress(progress)),
  });
  line.clear();
  using progress = new Progress(data.rawBytes);
  const pipe = readKeyChoice(flags, { fromMs: expiriesFromMs(plan), nowMs: systemClock.now() });
  const target = flags.target ?? targetOfMagic(data.magic);
  const servers = [target];
  if (isTakenOver(data.magic, target, { pipe, isNamed: flags.target !== undefined })) {
    for await (const bytes of data.bytes()) {
      await output.write(bytes);
      progress.add(bytes.length);
    }
    output.publish();
    const { sizeBytes } = output;
    return { sizeBytes, target, servers, keys: data.keys, dropped: new Map(), notes: [] };
  }
  const { counts, dropped } = await rewriteSnapshot(data, target, {
    pipe,
    writer: { lossy: flags.lossy === true },
    write: (bytes) => output.write(bytes),
    onRead: (bytes) => progress.add(bytes),
  });
  output.publish();
  const { sizeBytes } = output;
  return { sizeBytes, target, servers, keys: counts.written, dropped, notes: [] };
}

async function toFolder(place: Place, plan: Plan, out: string, flags: Wishes): Promise<Downloaded> {
  using line = new LiveLine();
  const pipe = readKeyChoice(flags, { fromMs: expiriesFromMs(plan), nowMs: systemClock.now() });
  mustNotChoose(plan, pipe);
  const restored = await restoreToFolder(viewOf(place), plan, resolve(out), {
    ...{ pipe, target: flags.target, lossy: flags.lossy === true, signal: flags.signal },
    onProgress: (progress) => line.show(describeProgress(progress)),
  });
  line.clear();
  const { rawBytes, target, dropped, notes, command } = restored;
  const servers = formatVersions(restored.least);
  // What the log amounts to, whoever starts on it finds out.
  const keys = plan.log === undefined ? restored.keys : null;
  return { sizeBytes: rawBytes, target, servers, keys, dropped, notes, command };
}

/** Beside its place, as it may be larger than what the machine has for temporary files. */
async function toTar(place: Place, plan: Plan, out: string, flags: Wishes): Promise<Downloaded> {
  using held = new DisposableStack();
  const output = held.use(OutputFile.create(out, flags.force === true));
  const folder = mkdtempSync(join(dirname(resolve(out)), ".tidemark-download-"));
  held.defer(() => rmSync(folder, { recursive: true, force: true }));
  const done = await toFolder(place, plan, folder, flags);
  using progress = new Progress(done.sizeBytes);
  const tar = Readable.from(
    writeTar(filesOf(folder, done.target), (bytes) => progress.add(bytes)),
    { objectMode: false },
  );
  const store = async (chunks: AsyncIterable<Uint8Array>) => {
    for await (const chunk of chunks) output.write(chunk);
  };
  const until = { signal: flags.signal };
  if (/\.zst$/i.test(out)) await pipeline(tar, createZstdCompress(), store, until);
  else await pipeline(tar, store, until);
  output.publish();
  // The folder that it would start on is gone again.
  const { command: _, ...rest } = done;
  return { ...rest, sizeBytes: output.sizeBytes };
}

function filesOf(folder: string, target: Target): TarFile[] {
  if (target === "redis:6.0") {
    return [{ path: join(folder, "appendonly.aof"), name: "appendonly.aof" }];
  }
  const manifest = findManifest(folder);
  const { files } = readAppendOnlyDir(manifest);
  return [manifest, ...files.map(({ path }) => path)].map((path) => {
    return { path, name: resolve(path).slice(resolve(folder).length + 1) };
  });
}
