/**
 * What a path holds, told by its content: the name of a file says nothing that can be relied on.
 *
 *   a file    "REDIS" or "VALKEY"     an RDB; where its AUX fields say that it is the head of a log
 *                                     (`aof-preamble`, `aof-base`), a log with a snapshot in front
 *             "*" or "#"              a log of records
 *             "file …"                a manifest: the log that it describes
 *             the mark of a packer    refused, with the command that unpacks it
 *   a folder  *.manifest              the log that it describes; also in its `appendonlydir`
 *
 * Nothing else is guessed at. Of a log's own files only the first bytes matter, as for servers: an
 * RDB may stand in front of the records of any of them.
 */
import { statSync } from "node:fs";
import { basename } from "node:path";
import { toLatin1 } from "../base/bytes.ts";
import { corrupt, Failure } from "../base/errors.ts";
import { RdbReader } from "../codec/rdb/reader.ts";
import { type AppendOnlyDir, findManifest, readAppendOnlyDir } from "../log/append-only-dir.ts";
import { fileFailure, InputFile } from "../log/input-file.ts";

export type DataSource =
  | { readonly kind: "rdb"; readonly path: string; readonly sizeBytes: number }
  /** One file of records, behind a snapshot perhaps. */
  | { readonly kind: "aof"; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: "appendonlydir"; readonly path: string; readonly log: AppendOnlyDir };

/** One of the files that a source consists of. */
export type SourceFile = {
  readonly path: string;
  /** Short: in the source's own folder. */
  readonly name: string;
  readonly role: "rdb" | "single" | "base" | "increment";
  /** Null where there is no manifest to say it. */
  readonly sequence: number | null;
  /** Null where the manifest names a file that is not there. */
  readonly sizeBytes: number | null;
};

const headBytes = 64 * 1024;
/** "VALKEY". */
const magicBytes = 6;

/** Marks of packed files, and what unpacks them. */
const packers: readonly (readonly [mark: string, name: string, command: string])[] = [
  ["\x1f\x8b", "gzip", "gzip -dk"],
  ["\x28\xb5\x2f\xfd", "zstd", "zstd -d"],
  ["\x04\x22\x4d\x18", "lz4", "lz4 -dk"],
  ["\xfd7zXZ", "xz", "xz -dk"],
  ["BZh", "bzip2", "bzip2 -dk"],
];

/** @throws Failure FILE_MISSING, FILE_FAILED, DATA_CORRUPT, DATA_UNSUPPORTED, USAGE */
export function openSource(path: string): DataSource {
  if (isFolder(path)) return fromManifest(path, findManifest(path));
  using file = InputFile.open(path);
  const head = file.head(headBytes);
  const sizeBytes = file.stats.size;
  const start = toLatin1(head, 0, Math.min(head.length, 32));
  if (startsAsRdb(head)) return { kind: isHeadOfLog(head) ? "aof" : "rdb", path, sizeBytes };
  if (isManifest(head)) return fromManifest(path, path);
  if (start.startsWith("*") || start.startsWith("#")) return { kind: "aof", path, sizeBytes };
  throw unknownContent(path, start);
}

/** In the order in which they are loaded. */
export function filesOf(source: DataSource): SourceFile[] {
  if (source.kind === "appendonlydir") {
    return source.log.files.map(({ sizeBytes = null, ...file }) => ({ ...file, sizeBytes }));
  }
  const { path, sizeBytes } = source;
  const role = source.kind === "rdb" ? "rdb" : "single";
  return [{ path, name: basename(path), role, sequence: null, sizeBytes }];
}

function fromManifest(path: string, manifest: string): DataSource {
  return { kind: "appendonlydir", path, log: readAppendOnlyDir(manifest) };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    throw fileFailure("read", path, cause);
  }
}

/** Whether a file starts with an RDB. */
export function hasSnapshot(file: InputFile): boolean {
  return startsAsRdb(file.head(magicBytes));
}

export function startsAsRdb(head: Uint8Array): boolean {
  return /^(REDIS|VALKEY)/.test(toLatin1(head, 0, Math.min(head.length, magicBytes)));
}

function isHeadOfLog(head: Uint8Array): boolean {
  const reader = new RdbReader();
  const { first, second } = reader.parts;
  try {
    reader.push(head);
    for (let event = reader.next(); event === "aux"; event = reader.next()) {
      const name = first.latin1().toLowerCase();
      if (/^aof-(preamble|base)$/.test(name)) return second.latin1() === "1";
    }
  } catch (error) {
    // Whoever reads the file from its start will meet the same damage, and tell it better.
    if (!(error instanceof Failure)) throw error;
  }
  return false;
}

/** Comments in front are no help: records may have them too. */
function isManifest(head: Uint8Array): boolean {
  return /^(#[^\n]*\n)*\s*file\s/i.test(toLatin1(head));
}

function unknownContent(path: string, start: string): Failure {
  if (start === "") {
    return new Failure("DATA_CORRUPT", `Cannot read "${path}": it is empty`, {
      offset: 0,
      hint: "Not even an empty data set has no bytes: take another copy.",
    });
  }
  const packer = packers.find(([mark]) => start.startsWith(mark));
  if (packer !== undefined) {
    const [, name, command] = packer;
    return new Failure("DATA_UNSUPPORTED", `Cannot read "${path}": it is compressed by ${name}`, {
      offset: 0,
      hint: `Run \`${command} '${path}'\` first.`,
    });
  }
  const { message } = corrupt(0, `neither RDB nor AOF: ${JSON.stringify(start.slice(0, 16))}`);
  return new Failure("DATA_CORRUPT", `Cannot read "${path}": ${message}`, {
    offset: 0,
    hint: "Check that this is the file that was meant.",
  });
}
