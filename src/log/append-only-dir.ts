/**
 * An append-only log as it lies on disk: a folder with a manifest and the files that it names.
 *
 * WHY. Which files make up a log, in which order, and which one may end in a torn record, is said
 * by the manifest alone. Everything that reads a log from disk asks here first, so that nobody
 * guesses from names.
 *
 *   DIR/                    a server's data folder
 *     appendonlydir/        its log; the name can be configured
 *       NAME.manifest       read by `codec/aof/manifest.ts`
 *       …                   base, increments, history; and what others left here
 *
 * A manifest that is being replaced (`temp-NAME.manifest`) is none. Of several manifests none is
 * chosen: a folder that two servers write to is a mistake that only its owner can mend.
 */
import { type Dirent, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { corrupt, Failure } from "../base/errors.ts";
import { type Manifest, type ManifestEntry, parseManifest } from "../codec/aof/manifest.ts";
import { fileFailure } from "./input-file.ts";

export type LogFile = {
  readonly role: "base" | "increment";
  readonly name: string;
  readonly path: string;
  readonly sequence: number;
  /** Undefined where the manifest names a file that is not there. */
  readonly sizeBytes: number | undefined;
};

export type AppendOnlyDir = {
  readonly folder: string;
  readonly manifestPath: string;
  readonly manifest: Manifest;
  /** Those that make up the log, in the order in which they are loaded. */
  readonly files: readonly LogFile[];
};

/** What servers call it unless they are told otherwise. */
const usualFolder = "appendonlydir";
/** Far above what any server writes: lines are short, and files few. */
const maxManifestBytes = 16 * 1024 * 1024;

/**
 * The manifest in a folder, or in the `appendonlydir` inside of it.
 *
 * @throws Failure FILE_MISSING where there is no log, DATA_CORRUPT where only its manifest is
 *   missing, USAGE where there are several
 */
export function findManifest(folder: string): string {
  for (const candidate of [folder, join(folder, usualFolder)]) {
    const names = listFiles(candidate, candidate === folder);
    const manifests = names.filter(isManifestName);
    const [manifest] = manifests;
    if (manifests.length > 1) {
      const found = manifests.map((name) => `"${name}"`).join(", ");
      throw new Failure("USAGE", `Cannot choose a log in "${candidate}": it has ${found}`, {
        hint: "Name the manifest that is meant.",
      });
    }
    if (manifest !== undefined) return join(candidate, manifest);
    const part = names.find((name) => /\.\d+\.(base\.(rdb|aof)|incr\.aof)$/.test(name));
    if (part !== undefined) {
      throw corruptManifest(candidate, `it has "${part}", but no manifest says what belongs to it`);
    }
  }
  throw noLog(folder);
}

function corruptManifest(folder: string, found: string): Failure {
  return new Failure("DATA_CORRUPT", `Cannot read the log in "${folder}": ${found}`, {
    hint: "Take the *.manifest from a copy, or write one by hand. Servers start empty without it.",
  });
}

function noLog(folder: string): Failure {
  const files = listFiles(folder, true).filter((name) => /\.(rdb|aof)$/.test(name));
  const hint =
    files.length === 0
      ? "Name the folder that has the *.manifest, or a file."
      : `Name one of its files: ${files.slice(0, 5).join(", ")}.`;
  const message = `Cannot find a log in "${folder}": neither it nor its "${usualFolder}" has a *.manifest`;
  return new Failure("FILE_MISSING", message, { hint });
}

function isManifestName(name: string): boolean {
  return name.endsWith(".manifest") && !name.startsWith("temp-");
}

function listFiles(folder: string, mustExist: boolean): string[] {
  try {
    const entries: Dirent[] = readdirSync(folder, { withFileTypes: true });
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => entry.name)
      .sort();
  } catch (cause) {
    const failure = fileFailure("list", folder, cause);
    if (!mustExist && failure.code === "FILE_MISSING") return [];
    throw failure;
  }
}

/**
 * Reads a manifest and looks at the files that it names.
 *
 * @throws Failure DATA_CORRUPT with the offset in the manifest, FILE_MISSING, FILE_FAILED
 */
export function readAppendOnlyDir(manifestPath: string): AppendOnlyDir {
  const folder = dirname(manifestPath);
  const manifest = readManifest(manifestPath);
  const toFile = (role: LogFile["role"], entry: ManifestEntry): LogFile => {
    const path = join(folder, entry.file);
    return { role, name: entry.file, path, sequence: entry.sequence, sizeBytes: sizeOf(path) };
  };
  const files = manifest.increments.map((entry) => toFile("increment", entry));
  if (manifest.base !== undefined) files.unshift(toFile("base", manifest.base));
  return { folder, manifestPath, manifest, files };
}

function readManifest(path: string): Manifest {
  const size = sizeOf(path);
  if (size !== undefined && size > maxManifestBytes) {
    throw corrupt(maxManifestBytes, `Cannot read "${path}": it is no manifest but ${size} bytes`);
  }
  try {
    return parseManifest(readFileSync(path));
  } catch (cause) {
    if (!(cause instanceof Failure)) throw fileFailure("read", path, cause);
    const { code, offset, message } = cause;
    const at = offset === undefined ? {} : { offset };
    throw new Failure(code, `Cannot read "${path}": ${message}`, { cause, ...at });
  }
}

function sizeOf(path: string): number | undefined {
  try {
    return statSync(path).size;
  } catch (cause) {
    const failure = fileFailure("look at", path, cause);
    if (failure.code === "FILE_MISSING") return undefined;
    throw failure;
  }
}

/** The log that a file belongs to, if a manifest in the file's own folder names it. */
export function findLogOf(path: string): AppendOnlyDir | undefined {
  const folder = dirname(path);
  const name = basename(path);
  return listFiles(folder, true)
    .filter(isManifestName)
    .map((manifest) => readAppendOnlyDir(join(folder, manifest)))
    .find(({ files }) => files.some((file) => file.name === name));
}
