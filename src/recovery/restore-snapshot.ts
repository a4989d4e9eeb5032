/**
 * The snapshot that a restore starts from, as it is stored or for other servers.
 *
 *   object of the set ─► raw bytes ─┬─► as they are
 *                                   └─► KeyPipe (choice, prefix, expiries) ─► RdbWriter of the target
 */
import type { RdbIndex } from "../archive/object/index-format.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { Failure } from "../base/errors.ts";
import type { Target } from "../codec/rdb/model.ts";
import { capabilities } from "../codec/rdb/target.ts";
import { RdbTranscoder } from "../codec/rdb/transcode.ts";
import { RdbWriter, type WriterOptions } from "../codec/rdb/writer.ts";
import { KeyPipe, type KeyPipeCounts, type KeyPipeOptions } from "./key-pipe.ts";
import type { Plan } from "./plan-result.ts";
import { hintFor, openSetObject, withHint } from "./plan-set.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { isEverything } from "./selection.ts";

/** An RDB, read in chunks from its start as often as it is asked for. */
export type Snapshot = {
  /** For messages. */
  readonly name: string;
  readonly rawBytes: number;
  /** As its first bytes say, "REDIS0011"; null where they are others. */
  readonly magic: string | null;
  /** Null where nobody counted them. */
  readonly keys: number | null;
  /** That it has keys of, where that is known without reading it. */
  readonly databases?: readonly number[];
  readonly bytes: () => AsyncIterable<Uint8Array>;
};

/** The set of a plan, which must be the one that its manifest tells of. @throws Failure */
export async function openSnapshot(
  view: ArchiveView,
  { set, target, log }: Plan,
): Promise<Snapshot> {
  const reader = await openSetObject(view, set.name, set.manifest, set.object);
  const { rawBytes, magic, keys, blocks } = reader.index as RdbIndex;
  const databases = blocks.flatMap((block) => (block.keys ?? []).map(([database]) => database));
  const use = target.kind === "set" ? "named" : log === undefined ? "alone" : "with log";
  const hint = hintFor(set.name, use);
  return {
    name: reader.name,
    rawBytes,
    magic,
    keys,
    databases: [...new Set(databases)],
    bytes: () => readSet(reader, hint),
  };
}

/** Damage in the middle is met only here: whoever restores is told how to do without this set. */
async function* readSet(reader: ObjectReader, hint: string): AsyncGenerator<Uint8Array> {
  try {
    yield* reader.rawBytes({ sums: false });
  } catch (error) {
    const isDamage = error instanceof Failure && error.code.startsWith("DATA_");
    throw isDamage ? withHint(error, hint) : error;
  }
}

const chosenFirst: readonly Target[] = [
  "redis:6.0",
  "redis:7.0",
  "redis:7.2",
  "redis:7.4",
  "redis:8",
  "valkey:9",
];

/** The oldest servers that load a file with these first bytes; the newest ones where it is unknown. */
export function targetOfMagic(magic: string | null): Target {
  const found = chosenFirst.find((target) => isLoadable(magic, target));
  return found ?? (magic?.startsWith("VALKEY") ? "valkey:9" : "redis:8");
}

/** Whether servers of a target load such a file as it is. */
export function isLoadable(magic: string | null, target: Target): boolean {
  const [, family, version] = /^(REDIS|VALKEY)(\d+)$/.exec(magic ?? "") ?? [];
  if (family === undefined) return false;
  const { header, family: own } = capabilities[target];
  if (family === "VALKEY") return header === magic;
  // Up to version 11 the families are one; Redis's later types are others than Valkey's.
  return Number(version) <= (own === "valkey" ? 11 : Number(header.slice("REDIS".length)));
}

export function changesNothing({ selection = {}, expiry, prefix }: KeyPipeOptions): boolean {
  const isKept = expiry === undefined || expiry.kind === "keep";
  return isEverything(selection) && isKept && prefix === undefined;
}

/**
 * Whether a file is taken over as it is. A named 7.4 has it looked into: of the readers of its files only Redis 8
 * knows vector sets.
 */
export function isTakenOver(
  magic: string | null,
  target: Target,
  { pipe = {}, isNamed }: { readonly pipe?: KeyPipeOptions; readonly isNamed: boolean },
): boolean {
  const mayHoldMore = isNamed && target === "redis:7.4";
  return isLoadable(magic, target) && !mayHoldMore && changesNothing(pipe);
}

/** What is piped at once: the event loop waits so long. */
const sliceBytes = 2 ** 18;
const maxDistinct = 3_000_000;

export type Rewritten = {
  readonly counts: KeyPipeCounts;
  /** Feature to how many times it was lost; empty where losses are refused. */
  readonly dropped: ReadonlyMap<string, number>;
};

/** Writes a snapshot for a target, with what a pipe changes. `write` takes owned bytes. */
export async function rewriteSnapshot(
  snapshot: Snapshot,
  target: Target,
  options: {
    readonly pipe: KeyPipeOptions;
    readonly writer: WriterOptions;
    readonly write: (bytes: Uint8Array) => Promise<void>;
    /** Told how many bytes of the snapshot were read, and how many keys written so far. */
    readonly onRead?: (bytes: number, keys: number) => void;
  },
): Promise<Rewritten> {
  const writer = new RdbWriter(target, options.writer);
  const pipe = new KeyPipe(new RdbTranscoder(writer), { maxDistinct, ...options.pipe });
  await pushAll(snapshot, pipe, async (bytes) => {
    options.onRead?.(bytes, pipe.counts.written);
    if (writer.pendingBytes > 0) await options.write(writer.take());
  });
  await options.write(writer.take());
  return { counts: pipe.counts, dropped: writer.dropped };
}

/** Drives a pipe with all of a snapshot. `after` is called behind each slice. */
export async function pushAll(
  snapshot: Snapshot,
  pipe: KeyPipe,
  after: (bytes: number) => Promise<void>,
): Promise<void> {
  let hasEnded = false;
  for await (const chunk of snapshot.bytes()) {
    for (let at = 0; at < chunk.length && !hasEnded; at += sliceBytes) {
      const slice = chunk.subarray(at, at + sliceBytes);
      pipe.reader.push(slice);
      hasEnded = pipe.drain();
      await after(slice.length);
    }
  }
  if (hasEnded) return;
  const message = `Cannot read ${snapshot.name}: the RDB in it has no end`;
  throw new Failure("DATA_CORRUPT", message, { offset: pipe.reader.position });
}
