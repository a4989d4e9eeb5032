/**
 * Whether what a repository has is what was put there, and will restore.
 *
 * WHY read all of it. That an object is listed says that it was written once. A backup set counts as good
 * when every byte of it came back, and a window is believed when its log is without a hole.
 *
 * WHAT IS HELD AGAINST WHAT
 *
 *   a set   manifest.json against its own sum; the object against the manifest: size, SHA-256, raw size,
 *           raw SHA-256; its blocks and filters against their CRCs; the RDB in it against its structure and
 *           its CRC-64, to its end; its keys against those counted when it was taken
 *   a log   each piece against its name: size, SHA-256, sequence numbers, offsets, times; the first one against
 *           the name of its line; its blocks as above; every position line in it against the bytes before it; the last line before it, as
 *           its index has it, against the last line of the piece before
 *
 * INVARIANTS
 *
 *   1. Damage is a finding, not a failure: one bad object hides no other. What is thrown says nothing of
 *      the objects: the storage is away, or it was stopped.
 *   2. `verified.json` is written when all of a set was found good, and goes when it is found damaged. Who may
 *      not write there is told what was found all the same.
 *   3. What is removed meanwhile, by an expiry or because another piece has taken its place, is no finding:
 *      of what is missing it is asked once more whether it is listed.
 *   4. Memory: two objects at a time, as `ObjectReader` reads them; and the catalogue.
 */
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { type CheckResult, LogChecker } from "../codec/aof/check.ts";
import { type Abortable, readAll } from "../store/store.ts";
import {
  formatVerifiedMark,
  maxManifestBytes,
  parseKeepMark,
  parseSetManifest,
  parseVerifiedMark,
  type SetManifest,
  sizeFault,
  type VerifiedMark,
} from "./backup-set.ts";
import {
  type Catalogue,
  type ListedSet as CatalogueSet,
  type LogLine,
  type Piece,
  readCatalogue,
  resolveRuns,
  type Window,
  windowsOf,
} from "./catalogue.ts";
import { lineName, setObject, setObjects, setPrefix } from "./layout.ts";
import type { LogIndex } from "./object/index-format.ts";
import type { ObjectReader } from "./object/object-reader.ts";
import { RdbWalk } from "./rdb-walk.ts";
import { openObject, type Repository } from "./repository.ts";
import { type Finding, findingOf, type Readable, verifyObject } from "./verify-object.ts";
import { inOrder, Progress, type VerifyProgress } from "./verify-progress.ts";

export type VerifyOptions = Abortable & {
  readonly clock: Clock;
  /**
   * False: nothing is written, and nothing is removed. "where possible": where the storage does not let
   * it, the result says so (`notRecorded`) instead of being lost.
   */
  readonly records?: boolean | "where possible" | undefined;
  readonly onProgress?: ((progress: VerifyProgress) => void) | undefined;
};

export type SetVerification = {
  readonly set: string;
  readonly isGood: boolean;
  /** How far it was understood; undefined where it is not good. */
  readonly what: VerifiedMark["what"] | undefined;
  /** Where and why it was not understood, of a set that is good. */
  readonly notUnderstood: string | undefined;
  readonly manifest: SetManifest | undefined;
  readonly findings: readonly Finding[];
  /** Why `verified.json` does not say what was found. */
  readonly notRecorded?: string;
};

export type LogVerification = {
  readonly pieces: number;
  readonly findings: readonly Finding[];
  /** What is missing between pieces of a line. */
  readonly holes: readonly Hole[];
  /** Objects that are covered by others, and not removed yet. They are not read. */
  readonly covered: readonly string[];
  /** What can be restored, without what was found damaged. */
  readonly windows: readonly Window[];
};

/** Position lines that no piece has: those behind `from` and before `to`. */
export type Hole = {
  readonly line: string;
  readonly from: HoleEnd;
  readonly to: HoleEnd;
};

export type HoleEnd = { readonly sequence: number; readonly offset: number; readonly ms: number };

export type Verification = {
  readonly sets: readonly SetVerification[];
  readonly log: LogVerification;
};

/** The snapshot of a set, to be read or loaded. @throws Failure OBJECT_MISSING, DATA_CORRUPT, … */
export async function openSet(
  repository: Repository,
  instance: string,
  set: string,
  options: Abortable = {},
): Promise<{ readonly manifest: SetManifest; readonly reader: ObjectReader }> {
  const manifest = await readSetManifest(repository, instance, set, options);
  const { sizeBytes } = manifest.snapshot;
  const name = setObject(instance, set, "snapshot");
  return { manifest, reader: await openObject(repository, name, sizeBytes, options) };
}

/** @throws Failure OBJECT_MISSING, DATA_CORRUPT, DATA_UNSUPPORTED */
export async function readSetManifest(
  { store }: Readable,
  instance: string,
  set: string,
  options: Abortable = {},
): Promise<SetManifest> {
  const object = setObject(instance, set, "manifest");
  return parseSetManifest(await readAll(store, object, maxManifestBytes, options), object);
}

/** What its manifest says against a set that is listed. @throws Failure of the store */
export async function findFault(
  repository: Readable,
  instance: string,
  set: CatalogueSet,
  options: Abortable = {},
): Promise<string | undefined> {
  try {
    return sizeFault(await readSetManifest(repository, instance, set.name, options), set);
  } catch (error) {
    const { code, found } = findingOf(error, setObject(instance, set.name, "manifest"));
    // Of what a newer version has written, nothing is known here: its mark counts.
    return code === "DATA_UNSUPPORTED" ? undefined : found;
  }
}

/** @throws Failure OBJECT_MISSING where there is no such set; of the store */
export async function verifySet(
  repository: Readable,
  instance: string,
  set: string,
  options: VerifyOptions,
): Promise<SetVerification> {
  const sizes = await listSet(repository, instance, set, options);
  if (!sizes.has(setObjects.manifest)) {
    throw new Failure("OBJECT_MISSING", `Cannot verify "${set}": ${instance} has no such set`);
  }
  const totalBytes = sizes.get(setObjects.snapshot) ?? 0;
  const progress = new Progress({ objects: 1, bytes: totalBytes }, options);
  const result = await verifyListed(repository, instance, { set, sizes }, progress);
  return await recordResult(repository, instance, result, options);
}

type ListedSet = { readonly set: string; readonly sizes: ReadonlyMap<string, number> };

async function listSet(
  { store }: Readable,
  instance: string,
  set: string,
  { signal }: Abortable,
): Promise<Map<string, number>> {
  const prefix = setPrefix(instance, set);
  const sizes = new Map<string, number>();
  for await (const { name, sizeBytes } of store.list(prefix, { signal })) {
    sizes.set(name.slice(prefix.length), sizeBytes);
  }
  return sizes;
}

async function verifyListed(
  repository: Readable,
  instance: string,
  { set, sizes }: ListedSet,
  progress: Progress,
): Promise<SetVerification> {
  const findings: Finding[] = [];
  const bad = { set, isGood: false, what: undefined, notUnderstood: undefined };
  const marks = await verifyMarks(repository, instance, { set, sizes }, progress);
  const object = setObject(instance, set, "snapshot");
  const sizeBytes = sizes.get(setObjects.snapshot);
  let manifest: SetManifest | undefined;
  try {
    manifest = await readSetManifest(repository, instance, set, progress);
  } catch (error) {
    findings.push(findingOf(error, setObject(instance, set, "manifest")));
  }
  if (sizeBytes === undefined) {
    const found = `Cannot read "${object}": it is not there`;
    findings.push({ object, code: "OBJECT_MISSING", found });
    progress.objectDone(findings.length + marks.length);
    return { ...bad, manifest, findings: [...findings, ...marks] };
  }
  const snapshot = await verifySnapshot(
    repository,
    { name: object, sizeBytes },
    manifest,
    progress,
  );
  findings.push(...snapshot.findings);
  progress.objectDone(findings.length + marks.length);
  if (findings.length > 0) return { ...bad, manifest, findings: [...findings, ...marks] };
  const { notUnderstood } = snapshot;
  const what = notUnderstood === undefined ? "structure" : "bytes";
  return { set, isGood: true, what, notUnderstood, manifest, findings: marks };
}

/** What stands beside a set. None of it is needed to restore, so it does not make the set bad. */
async function verifyMarks(
  { store }: Readable,
  instance: string,
  { set, sizes }: ListedSet,
  options: Abortable,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const parsers = { verified: parseVerifiedMark, keep: parseKeepMark };
  for (const mark of ["verified", "keep"] as const) {
    if (!sizes.has(setObjects[mark])) continue;
    const object = setObject(instance, set, mark);
    try {
      parsers[mark](await readAll(store, object, maxManifestBytes, options), object);
    } catch (error) {
      findings.push(findingOf(error, object));
    }
  }
  return findings;
}

/** The object of a set, against its manifest, where that can be read. */
export async function verifySnapshot(
  repository: Readable,
  object: { readonly name: string; readonly sizeBytes: number },
  manifest: SetManifest | undefined,
  options: Abortable & { readonly onBytes?: (bytes: number) => void },
): Promise<{ readonly findings: readonly Finding[]; readonly notUnderstood: string | undefined }> {
  let walk = new RdbWalk();
  const { index, sha256, findings } = await verifyObject(repository, object, {
    signal: options.signal,
    onBytes: options.onBytes,
    visit: () => {
      walk = new RdbWalk();
      return (raw) => walk.push(raw);
    },
  });
  if (findings.length > 0 || index === undefined) return { findings, notUnderstood: undefined };
  const { damage, notUnderstood, keys } = walk.finish();
  const wrong: Finding[] = [];
  const say = (found: string, offset?: number) =>
    wrong.push({ object: object.name, code: "DATA_CORRUPT", offset, found });
  if (index.kind !== "rdb") say(`Cannot read "${object.name}": it is a log, no snapshot`);
  if (damage !== undefined) {
    say(`Cannot read the RDB in "${object.name}": ${damage.message} of the file in it`);
  }
  const stated = manifest?.snapshot;
  if (stated !== undefined && index.kind === "rdb") {
    const actual = {
      sizeBytes: object.sizeBytes,
      sha256,
      rawBytes: index.rawBytes,
      rawSha256: index.rawSha256,
      magic: index.magic,
      // Counted only where it was understood: then, and now.
      keys: stated.keys === null || notUnderstood !== undefined ? stated.keys : keys,
    };
    for (const [field, value] of Object.entries(actual)) {
      const said = stated[field as keyof typeof stated];
      if (value !== said) say(`"${object.name}" has ${field} ${value}; its manifest says ${said}`);
    }
  }
  return { findings: wrong, notUnderstood: notUnderstood?.message };
}

async function recordResult(
  repository: Readable,
  instance: string,
  result: SetVerification,
  options: VerifyOptions,
): Promise<SetVerification> {
  const { records = true } = options;
  if (records === false) return result;
  try {
    await record(repository, instance, result, options);
    return result;
  } catch (error) {
    const isOfStore = error instanceof Failure && error.code.startsWith("STORE_");
    if (records === true || !isOfStore) throw error;
    return { ...result, notRecorded: error.message };
  }
}

async function record(
  { store }: Readable,
  instance: string,
  { set, isGood, what, manifest, findings }: SetVerification,
  { clock, signal }: VerifyOptions,
): Promise<void> {
  const object = setObject(instance, set, "verified");
  if (!isGood || what === undefined || manifest === undefined) {
    // Of what a newer version has written, nothing is known here.
    const isKnown = findings.some(({ code }) => code !== "DATA_UNSUPPORTED");
    if (isKnown) await store.delete([object], { signal });
    return;
  }
  const { sha256 } = manifest.snapshot;
  const mark = formatVerifiedMark({ format: 1, set, ms: clock.now(), what, sha256 });
  await store.put(object, mark, { signal });
}

export type LogVerifyOptions = VerifyOptions & {
  /** Pieces that have something between these times; all by default. */
  readonly fromMs?: number | undefined;
  readonly toMs?: number | undefined;
};

/** @throws Failure of the store */
export async function verifyLog(
  repository: Readable,
  instance: string,
  options: LogVerifyOptions,
): Promise<LogVerification> {
  const catalogue = await readCatalogue(repository.store, instance, abortable(options));
  const placed = piecesOf(catalogue, options);
  const listed = { catalogue, placed, badSets: new Set<string>() };
  return await verifyPieces(repository, listed, progressOf(placed, [], options));
}

/** Everything of an instance. @throws Failure of the store */
export async function verifyAll(
  repository: Readable,
  instance: string,
  options: VerifyOptions,
): Promise<Verification> {
  const { store } = repository;
  const catalogue = await readCatalogue(store, instance, abortable(options));
  const placed = piecesOf(catalogue, {});
  const progress = progressOf(placed, catalogue.sets, options);
  const sets: SetVerification[] = [];
  const results = inOrder(catalogue.sets, async ({ name: set }) => {
    const sizes = await listSet(repository, instance, set, options);
    const result = await verifyListed(repository, instance, { set, sizes }, progress);
    const isThere = result.isGood || (await isListed(repository, instance, set, options));
    return isThere ? await recordResult(repository, instance, result, options) : undefined;
  });
  for await (const result of results) if (result !== undefined) sets.push(result);
  const badSets = new Set(sets.filter(({ isGood }) => !isGood).map(({ set }) => set));
  return { sets, log: await verifyPieces(repository, { catalogue, placed, badSets }, progress) };
}

async function isListed(
  repository: Readable,
  instance: string,
  set: string,
  options: Abortable,
): Promise<boolean> {
  return (await listSet(repository, instance, set, options)).has(setObjects.manifest);
}

type PlacedPiece = { readonly piece: Piece; readonly before: Piece | undefined };

function piecesOf(
  { lines }: Catalogue,
  { fromMs = 0, toMs = Number.POSITIVE_INFINITY }: Pick<LogVerifyOptions, "fromMs" | "toMs">,
): PlacedPiece[] {
  return lines.flatMap(({ runs }) =>
    runs.flatMap(({ pieces }) =>
      pieces
        .map((piece, i): PlacedPiece => ({ piece, before: pieces[i - 1] }))
        .filter(({ piece }) => piece.toMs >= fromMs && piece.fromMs <= toMs),
    ),
  );
}

type PieceResult = {
  readonly findings: readonly Finding[];
  /** The last position line; undefined where the piece could not be read. */
  readonly last: PositionLine | null | undefined;
};

type Listed = {
  readonly catalogue: Catalogue;
  readonly placed: readonly PlacedPiece[];
  readonly badSets: ReadonlySet<string>;
};

async function verifyPieces(
  repository: Readable,
  { catalogue, placed, badSets }: Listed,
  progress: Progress,
): Promise<LogVerification> {
  const findings: Finding[] = [];
  let last: { readonly piece: Piece; readonly result: PieceResult } | undefined;
  const results = inOrder(placed, async ({ piece, before }) => {
    const result = await verifyPiece(repository, piece, progress);
    return { piece, before, result };
  });
  for await (const { piece, before, result } of results) {
    const found = [...result.findings];
    const line = last?.piece === before && before !== undefined ? last?.result.last : undefined;
    if (line && result.findings.length === 0) found.push(...compareAfter(piece, result, line));
    findings.push(...found);
    last = { piece, result };
    progress.objectDone(found.length);
  }
  const isMissing = ({ code }: Finding) => code === "OBJECT_MISSING";
  const { store } = repository;
  const now = findings.some(isMissing)
    ? await readCatalogue(store, catalogue.instance, abortable(progress))
    : catalogue;
  const listed = new Set(now.lines.flatMap(allPieces).map(({ object }) => object));
  const real = findings.filter((finding) => !isMissing(finding) || listed.has(finding.object));
  const damaged = new Set(real.map(({ object }) => object));
  const sets = now.sets.filter(({ name }) => !badSets.has(name));
  return {
    pieces: placed.length,
    findings: real,
    holes: now.lines.flatMap(holesOf),
    covered: now.lines.flatMap(({ covered }) => covered.map(({ object }) => object)),
    windows: windowsOf({ ...now, sets, lines: withoutPieces(now.lines, damaged) }),
  };
}

function allPieces({ runs, covered }: LogLine): Piece[] {
  return [...runs.flatMap(({ pieces }) => pieces), ...covered];
}

/** What is left of lines. What a damaged piece covered takes its place again. */
function withoutPieces(lines: readonly LogLine[], damaged: ReadonlySet<string>): LogLine[] {
  return lines.map((line) => {
    const left = allPieces(line).filter(({ object }) => !damaged.has(object));
    return { ...line, ...resolveRuns(left) };
  });
}

function holesOf({ name, runs }: LogLine): Hole[] {
  return runs.slice(1).flatMap(({ pieces }, i): Hole[] => {
    const last = runs[i]?.pieces.at(-1);
    const first = pieces[0];
    if (last === undefined || first === undefined) return [];
    const from = { sequence: last.lastSequence, offset: last.toOffset, ms: last.toMs };
    const to = { sequence: first.firstSequence, offset: first.fromOffset, ms: first.fromMs };
    return [{ line: name, from, to }];
  });
}

type PieceIndex = PieceResult & { readonly index?: LogIndex | undefined };

function compareAfter(piece: Piece, { index }: PieceIndex, line: PositionLine): Finding[] {
  const after = index?.after;
  if (after && isSameLine(after, line)) return [];
  const said = after ? `${after.sequence} at offset ${after.offset}` : "none";
  const found =
    `"${piece.object}" goes on from position line ${said}; ` +
    `the piece before it ends with ${line.sequence} at offset ${line.offset}`;
  return [{ object: piece.object, code: "DATA_CORRUPT", found }];
}

function isSameLine(a: PositionLine, b: PositionLine): boolean {
  return (
    a.replicationId === b.replicationId &&
    a.offset === b.offset &&
    a.ms === b.ms &&
    a.sequence === b.sequence &&
    a.dataCrc === b.dataCrc
  );
}

async function verifyPiece(
  repository: Readable,
  piece: Piece,
  progress: Progress,
): Promise<PieceIndex> {
  let checker = new LogChecker();
  const object = { name: piece.object, sizeBytes: piece.sizeBytes };
  const verdict = await verifyObject(repository, object, {
    signal: progress.signal,
    onBytes: progress.onBytes,
    visit: (index) => {
      const after = index.kind === "aof" ? index.after : null;
      checker = new LogChecker(after === null ? {} : { after });
      return (raw) => checker.push(raw);
    },
  });
  const { index, sha256, findings } = verdict;
  if (findings.length > 0 || index === undefined) return { findings, last: undefined };
  if (index.kind !== "aof") {
    const found = `Cannot read "${piece.object}": it is a snapshot, no log`;
    const finding: Finding = { object: piece.object, code: "DATA_CORRUPT", found };
    return { findings: [finding], last: undefined };
  }
  const result = checker.finish();
  const wrong = [
    ...comparePiece(piece, index, { sha256, result }),
    ...compareBegin(piece, result.first),
  ];
  return { findings: wrong, last: result.last ?? index.last, index };
}

function comparePiece(
  piece: Piece,
  index: LogIndex,
  { sha256, result }: { readonly sha256: string | undefined; readonly result: CheckResult },
): Finding[] {
  const { object } = piece;
  const findings: Finding[] = [];
  const say = (found: string) => findings.push({ object, code: "DATA_CORRUPT", found });
  if (result.verdict === "corrupt") {
    say(`Cannot read the log in "${object}": ${result.reason}, of the file in it`);
    return findings;
  }
  if (result.sealedEnd !== result.sizeBytes) {
    say(`The log in "${object}" does not end with a position line`);
  }
  const { first, last } = result;
  const begin = index.after ?? first;
  const actual = {
    sha256,
    rawBytes: index.rawBytes,
    firstSequence: first?.sequence,
    lastSequence: last?.sequence,
    fromOffset: begin?.offset,
    toOffset: last?.offset,
    fromMs: begin?.ms,
    toMs: last?.ms,
  };
  for (const [field, value] of Object.entries(actual)) {
    const said = piece[field as keyof typeof actual];
    if (value !== said) say(`"${object}" has ${field} ${value}; its name says ${said}`);
  }
  return findings;
}

/** The first line of a log is where its base is, which the log is named for. */
function compareBegin({ object }: Piece, first: PositionLine | undefined): Finding[] {
  if (first?.sequence !== 0) return [];
  const line = object.split("/").at(-2) ?? "";
  const name = lineName(first);
  if (name === line) return [];
  const found = `"${object}" begins line "${name}", and lies in "${line}"`;
  return [{ object, code: "DATA_CORRUPT", found }];
}

function abortable({ signal }: Abortable): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

function progressOf(
  pieces: readonly PlacedPiece[],
  sets: readonly { readonly sizeBytes: number }[],
  options: VerifyOptions,
): Progress {
  const bytes = [...pieces.map(({ piece }) => piece), ...sets].reduce(
    (sum, { sizeBytes }) => sum + sizeBytes,
    0,
  );
  return new Progress({ objects: pieces.length + sets.length, bytes }, options);
}
