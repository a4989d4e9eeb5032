/**
 * What a repository has of an instance: its sets, its logs, and which moments can be restored.
 *
 * WHY from names. A listing is all that is asked of the storage, so there is no index to lose, to
 * repair or to believe. What the names do not tell (whose position a set is at, what is in a block) is
 * read from the few objects that a plan needs.
 *
 * INVARIANTS
 *
 *   1. `pieces` of a line follow each other: the sequence numbers of their position lines have no
 *      hole and do not overlap. Where a merged piece covers others, it stands for them.
 *   2. Where a piece is missing, the line is broken: there are several runs, and no window goes over
 *      a break.
 *   3. A window begins at a set and ends where its run does. Outside of windows nothing is promised.
 *   4. A set whose snapshot is not listed is there, so that somebody hears of it, but is never good, and
 *      no window begins at it.
 *   5. Memory: a value a piece; nothing is read but the listing.
 */
import type { ObjectInfo, Store } from "../store/store.ts";
import {
  instancePrefix,
  type LineFacts,
  logPrefix,
  type PieceFacts,
  parseLineName,
  parsePieceName,
  parseSetName,
  setObjects,
  setPrefix,
} from "./layout.ts";

export type Piece = PieceFacts & { readonly object: string; readonly sizeBytes: number };

/** Pieces without a hole. */
export type Run = { readonly pieces: readonly Piece[] };

/** One log, from the base that it begins with. */
export type LogLine = LineFacts & {
  readonly name: string;
  /** In order. More than one: something between them is missing. */
  readonly runs: readonly Run[];
  /** Covered by others, and not deleted yet. */
  readonly covered: readonly Piece[];
};

/** A set as the listing tells it. */
export type ListedSet = {
  readonly name: string;
  /** When its snapshot was, by the source's clock. */
  readonly ms: number;
  readonly sizeBytes: number;
  /** It was read back and found good, and nothing speaks against it since. */
  readonly isVerified: boolean;
  readonly isKept: boolean;
  /** Why nothing can be restored from it, where that is known; such a set is not verified. */
  readonly fault: string | undefined;
};

export type Catalogue = {
  readonly instance: string;
  /** Oldest first; only those whose manifest is there. */
  readonly sets: readonly ListedSet[];
  /** Sets without a manifest: being made, or left behind. Their objects. */
  readonly unfinished: ReadonlyMap<string, readonly ObjectInfo[]>;
  /** Oldest first. */
  readonly lines: readonly LogLine[];
  /** Objects that are none of ours. */
  readonly unknown: readonly string[];
};

/** A span of time in which every moment can be restored. Ends belong to it. */
export type Window = {
  readonly fromMs: number;
  readonly toMs: number;
  readonly line: string;
  /** The sets in it, oldest first. */
  readonly sets: readonly string[];
};

/** Lists what there is of an instance. @throws Failure of the store */
export async function readCatalogue(
  store: Store,
  instance: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Catalogue> {
  const builder = new CatalogueBuilder(instance);
  for await (const object of store.list(instancePrefix(instance), options)) builder.add(object);
  return builder.finish();
}

/** The instances that a repository has something of, in order. */
export async function listInstances(store: Store): Promise<string[]> {
  const names: string[] = [];
  for (;;) {
    const last = names.at(-1);
    // "0" is the character behind "/": all of an instance's names are before it.
    const startAfter = last === undefined ? {} : { startAfter: `instances/${last}0` };
    let found: string | undefined;
    for await (const { name } of store.list("instances/", startAfter)) {
      found = name.split("/")[1];
      break;
    }
    if (found === undefined) return names;
    names.push(found);
  }
}

/** Takes objects in byte order of their names. */
export class CatalogueBuilder {
  readonly #instance: string;
  readonly #setPrefix: string;
  readonly #logPrefix: string;
  readonly #sets = new Map<string, ObjectInfo[]>();
  readonly #pieces = new Map<string, Piece[]>();
  readonly #unknown: string[] = [];

  constructor(instance: string) {
    this.#instance = instance;
    this.#setPrefix = setPrefix(instance);
    this.#logPrefix = logPrefix(instance);
  }

  add(object: ObjectInfo): void {
    const { name } = object;
    const isTaken = name.startsWith(this.#logPrefix)
      ? this.#addPiece(object, name.slice(this.#logPrefix.length))
      : name.startsWith(this.#setPrefix) &&
        this.#addSet(object, name.slice(this.#setPrefix.length));
    const isLease = name.startsWith(`${instancePrefix(this.#instance)}lease/`);
    if (!isTaken && !isLease) this.#unknown.push(name);
  }

  #addPiece({ name, sizeBytes }: ObjectInfo, rest: string): boolean {
    const slash = rest.indexOf("/");
    const line = rest.slice(0, slash);
    const facts = parsePieceName(rest.slice(slash + 1));
    if (facts === undefined) return false;
    let pieces = this.#pieces.get(line);
    if (pieces === undefined) {
      if (parseLineName(line) === undefined) return false;
      pieces = [];
      this.#pieces.set(line, pieces);
    }
    pieces.push({ ...facts, object: name, sizeBytes });
    return true;
  }

  #addSet(object: ObjectInfo, rest: string): boolean {
    const [set = "", part = "", ...more] = rest.split("/");
    const isPart = (Object.values(setObjects) as string[]).includes(part) && more.length === 0;
    if (parseSetName(set) === undefined || !isPart) return false;
    const objects = this.#sets.get(set) ?? [];
    objects.push(object);
    this.#sets.set(set, objects);
    return true;
  }

  finish(): Catalogue {
    const sets: ListedSet[] = [];
    const unfinished = new Map<string, readonly ObjectInfo[]>();
    for (const [name, objects] of this.#sets) {
      const has = (part: string) => objects.find((object) => object.name.endsWith(`/${part}`));
      if (has(setObjects.manifest) === undefined) {
        unfinished.set(name, objects);
        continue;
      }
      const sizeBytes = has(setObjects.snapshot)?.sizeBytes;
      // A mark outlives what it speaks for, where somebody deletes by hand or by the storage's rules.
      const fault = sizeBytes === undefined ? "its snapshot is not there" : undefined;
      sets.push({
        name,
        ms: parseSetName(name) ?? 0,
        sizeBytes: sizeBytes ?? 0,
        isVerified: has(setObjects.verified) !== undefined && fault === undefined,
        isKept: has(setObjects.keep) !== undefined,
        fault,
      });
    }
    const lines = [...this.#pieces].map(([name, pieces]): LogLine => {
      const facts = parseLineName(name) as LineFacts;
      return { ...facts, name, ...resolveRuns(pieces) };
    });
    return {
      instance: this.#instance,
      sets: sets.sort((a, b) => a.ms - b.ms),
      unfinished,
      lines,
      unknown: this.#unknown,
    };
  }
}

/**
 * Puts pieces in order: each begins behind the one before. Of those that begin at the same line, the one
 * is taken from which the log reaches farthest; all others are covered, as those are that a merged piece
 * stands for, or that a writer left behind which was killed.
 */
export function resolveRuns(pieces: readonly Piece[]): {
  readonly runs: Run[];
  readonly covered: Piece[];
} {
  const byStart = new Map<number, { readonly piece: Piece; readonly reach: number }>();
  const sorted = pieces.toSorted((a, b) => b.firstSequence - a.firstSequence);
  for (const piece of sorted) {
    const next = byStart.get(piece.lastSequence + 1);
    const reach =
      next !== undefined && follows(next.piece, piece) ? next.reach : piece.lastSequence;
    const best = byStart.get(piece.firstSequence);
    const isBetter =
      best === undefined ||
      reach > best.reach ||
      (reach === best.reach && piece.lastSequence > best.piece.lastSequence);
    if (isBetter) byStart.set(piece.firstSequence, { piece, reach });
  }
  const runs: Piece[][] = [];
  const covered: Piece[] = [];
  let last: Piece | undefined;
  for (const piece of sorted.reverse()) {
    const isTaken = byStart.get(piece.firstSequence)?.piece === piece;
    if (!isTaken || (last !== undefined && piece.firstSequence <= last.lastSequence)) {
      covered.push(piece);
      continue;
    }
    if (last !== undefined && follows(piece, last)) runs.at(-1)?.push(piece);
    else runs.push([piece]);
    last = piece;
  }
  return { runs: runs.map((each) => ({ pieces: each })), covered };
}

function follows(next: Piece, piece: Piece): boolean {
  return (
    next.firstSequence === piece.lastSequence + 1 &&
    next.fromMs === piece.toMs &&
    next.fromOffset === piece.toOffset
  );
}

/** The catalogue with what was found out of some sets by reading them. */
export function withFaults(catalogue: Catalogue, faults: ReadonlyMap<string, string>): Catalogue {
  const sets = catalogue.sets.map((set): ListedSet => {
    const fault = faults.get(set.name);
    return fault === undefined ? set : { ...set, isVerified: false, fault };
  });
  return { ...catalogue, sets };
}

/** The windows of an instance, oldest first. A set counts for the run that has its time. */
export function windowsOf(catalogue: Catalogue): Window[] {
  const windows: Window[] = [];
  const usable = catalogue.sets.filter(({ fault }) => fault === undefined);
  for (const line of catalogue.lines) {
    for (const { pieces } of line.runs) {
      const first = pieces[0];
      const last = pieces.at(-1);
      if (first === undefined || last === undefined) continue;
      const sets = usable.filter(({ ms }) => ms >= first.fromMs && ms <= last.toMs);
      const [oldest] = sets;
      if (oldest === undefined) continue;
      const names = sets.map(({ name }) => name);
      windows.push({ fromMs: oldest.ms, toMs: last.toMs, line: line.name, sets: names });
    }
  }
  return windows.sort((a, b) => a.fromMs - b.fromMs);
}
