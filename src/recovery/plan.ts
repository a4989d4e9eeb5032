/**
 * What has to be read to bring an instance back to a target: a set, and the log behind it up to a cut.
 *
 *   names of sets and pieces ──► the run of the log that has the target
 *                            ──► where the log is cut          (one index, one block)
 *                            ──► the newest good set before it (its manifest, one index, one block)
 *
 * WHY from names. An archive of years has tens of thousands of objects, and a plan needs a handful of
 * them. What the names do not tell is read for the one set and the one piece that they point at.
 *
 * INVARIANTS
 *
 *   1. A plan is whole: its log starts exactly where its set stands, and has no hole up to the cut.
 *      A set whose position is not found in the log is not taken; an older one is, and the plan says so.
 *   2. A set that was not verified is taken only where no verified one will do, and the plan says so.
 *   3. A target outside of what can be restored is not moved: the answer is the windows, and the
 *      nearest moments on both sides, for whoever asked to choose.
 */
import { createHash } from "node:crypto";
import { maxManifestBytes, parseSetManifest, type SetManifest } from "../archive/backup-set.ts";
import {
  type Catalogue,
  type ListedSet,
  type LogLine,
  type Piece,
  type Window,
  windowsOf,
} from "../archive/catalogue.ts";
import { setObject } from "../archive/layout.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { writeCommands } from "../codec/commands/table.ts";
import {
  type ArchiveView,
  type CommandPlace,
  databaseBefore,
  type FindOptions,
  findCommand,
  type LogPlace,
  locatePosition,
  locateTime,
  logIndexOf,
  openPiece,
} from "./restore-locate.ts";
import { formatTarget, type RestoreTarget } from "./target.ts";

/** A part of a log. Places count its own pieces: the first one is 0. */
export type LogRange = {
  readonly pieces: readonly Piece[];
  readonly start: LogPlace;
  readonly end: LogPlace;
};

/** Where the data will stand. */
export type Moment = {
  /** The time of the last position line before the cut; of a set as it is, its own. */
  readonly ms: number;
  /** Where that is known to the byte. */
  readonly position: Position | undefined;
};

export type Plan = {
  /** The same for what restores the same bytes. */
  readonly id: string;
  readonly instance: string;
  readonly target: RestoreTarget;
  readonly set: {
    readonly name: string;
    readonly object: string;
    readonly manifest: SetManifest;
  };
  /** The log that is replayed on it; undefined: the set as it is. */
  readonly line: string | undefined;
  readonly log: LogRange | undefined;
  readonly moment: Moment;
  /** What is read of the repository, about, and what it becomes. */
  readonly readBytes: number;
  readonly rawBytes: number;
  readonly rawLogBytes: number;
  readonly estimatedMs: number;
  /** For people: what was chosen otherwise than they may expect. */
  readonly notes: readonly string[];
};

/** A moment that can be restored. */
export type Nearest = { readonly ms: number; readonly target: string };

export type Outside = {
  readonly target: RestoreTarget;
  /** What keeps it from being restored. */
  readonly found: string;
  readonly windows: readonly Window[];
  readonly before: Nearest | undefined;
  readonly after: Nearest | undefined;
};

export type PlanResult =
  | { readonly kind: "plan"; readonly plan: Plan }
  | ({ readonly kind: "outside" } & Outside);

export type PlanOptions = {
  /** What is restored in a second, for the estimate. */
  readonly bytesPerSecond?: number;
  readonly signal?: AbortSignal;
};

const defaultRate = 200e6;
/** A set has the time of a clock, the log that of arrival: which is first, their positions tell. */
const clockSlackMs = 10_000;

/** A run of pieces with the sets that are in its time. */
type Candidate = {
  readonly line: LogLine;
  readonly pieces: readonly Piece[];
  readonly sets: readonly ListedSet[];
  readonly fromMs: number;
  readonly toMs: number;
};

type End = { readonly run: Candidate; readonly place: LogPlace; readonly moment: Moment };

type Refusal = { readonly found: string; readonly ms?: number };

/** @throws Failure of the store; DATA_CORRUPT; USAGE where the target is ambiguous */
export async function planRestore(
  view: ArchiveView,
  catalogue: Catalogue,
  target: RestoreTarget,
  options: PlanOptions = {},
): Promise<PlanResult> {
  const planner = new Planner(view, catalogue, target, options);
  const result = await planner.run();
  if ("found" in result) return outside(catalogue, target, result);
  return { kind: "plan", plan: result };
}

/** As a failure, with the windows and the nearest moments in its hint. */
export function outsideFailure({ target, found, windows, before, after }: Outside): Failure {
  const list = windows.map(({ fromMs, toMs }) => `  ${iso(fromMs)} to ${iso(toMs)}`);
  const nearest = [
    ...(before ? [`before it ${before.target}`] : []),
    ...(after ? [`behind it ${after.target}`] : []),
  ];
  const hint = [
    windows.length === 0 ? "No window is there." : `What can be restored:\n${list.join("\n")}`,
    ...(nearest.length === 0 ? [] : [`The nearest moments: ${nearest.join(", ")}.`]),
  ].join("\n");
  const message = `Cannot restore to ${formatTarget(target)}: ${found}`;
  return new Failure("OUTSIDE_WINDOWS", message, { hint });
}

class Planner {
  readonly #view: ArchiveView;
  readonly #catalogue: Catalogue;
  readonly #target: RestoreTarget;
  readonly #options: PlanOptions;
  readonly #runs: readonly Candidate[];
  readonly #notes: string[] = [];

  constructor(
    view: ArchiveView,
    catalogue: Catalogue,
    target: RestoreTarget,
    options: PlanOptions,
  ) {
    this.#view = view;
    this.#catalogue = catalogue;
    this.#target = target;
    this.#options = options;
    this.#runs = runsOf(catalogue);
  }

  async run(): Promise<Plan | Refusal> {
    const target = this.#target;
    if (target.kind === "set") return await this.#setAsItIs(this.#findSet(target.name));
    if (target.kind === "latest") {
      const last = this.#runs.at(-1);
      const newest = chooseFirst(this.#catalogue.sets)[0];
      if (newest !== undefined && newest.ms > (last?.toMs ?? -1)) {
        return await this.#setAsItIs(newest);
      }
    }
    const end = await this.#findEnd(target);
    if (end === undefined) return this.#refuse(target);
    return "found" in end ? end : await this.#fromSet(end);
  }

  #findSet(name: string): ListedSet {
    const { sets, unfinished } = this.#catalogue;
    const found = sets.filter((set) => set.name.startsWith(name));
    const exact = found.find((set) => set.name === name) ?? (found.length === 1 ? found[0] : null);
    if (exact) return exact;
    const words =
      found.length > 1
        ? `${found.length} sets begin so`
        : unfinished.has(name)
          ? "it has no manifest: it is being made, or was left behind"
          : "there is no such set";
    throw new Failure("OBJECT_MISSING", `Cannot restore set "${name}": ${words}`, {
      hint: "`tidemark backups` lists the sets.",
    });
  }

  async #setAsItIs(set: ListedSet): Promise<Plan> {
    const manifest = await this.#readManifest(set);
    if (!set.isVerified) this.#notes.push(`set ${set.name} was not verified`);
    const { position, ms } = manifest;
    return this.#plan(set, manifest, { ms, position });
  }

  /** The run that has the target, and where it is cut; undefined where none has it. */
  async #findEnd(target: RestoreTarget): Promise<End | Refusal | undefined> {
    switch (target.kind) {
      case "time": {
        const run = this.#runs.findLast(
          ({ fromMs, toMs }) => fromMs <= target.ms && target.ms <= toMs,
        );
        return run && (await this.#endAtTime(run, target.ms));
      }
      case "latest": {
        const run = this.#runs.at(-1);
        return run && (await this.#endAtTime(run, Number.POSITIVE_INFINITY));
      }
      case "position":
        return await this.#endAtPosition(target);
      case "before":
        return await this.#endBefore(target);
      case "set":
        return undefined;
    }
  }

  async #endAtTime(run: Candidate, ms: number): Promise<End> {
    const { cut: _, ...place } = await locateTime(this.#view, run.pieces, ms);
    return { run, place, moment: momentOf(run, place, true) };
  }

  async #endAtPosition(target: RestoreTarget & { kind: "position" }): Promise<End | Refusal> {
    const { offset } = target;
    const runs = this.#runs.filter(({ pieces }) => pieces.some((piece) => mayHave(piece, offset)));
    const replicationId = await this.#completeId(target, runs);
    if (replicationId === undefined) return { found: "no log has this history at this offset" };
    const position = { replicationId, offset };
    for (const run of runs) {
      const found = await locatePosition(this.#view, run.pieces, position);
      if (found === undefined) continue;
      const { cut, ...place } = found;
      if (!cut.isExact) {
        this.#notes.push(`offset ${offset} is inside a unit, which is left out as a whole`);
      }
      const moment = momentOf(run, place, false);
      return { run, place, moment: cut.isExact ? { ...moment, position } : moment };
    }
    return { found: "no log has this position" };
  }

  /** The replication id that begins so, in the pieces that may have the offset. */
  async #completeId(
    { idPrefix, offset }: RestoreTarget & { kind: "position" },
    runs: readonly Candidate[],
  ): Promise<string | undefined> {
    if (idPrefix.length === 40) return idPrefix;
    const ids = new Set<string>();
    for (const { pieces } of runs) {
      for (const [number, piece] of pieces.entries()) {
        if (!mayHave(piece, offset)) continue;
        const { after, blocks } = logIndexOf(await openPiece(this.#view, pieces, number));
        for (const line of [after, ...blocks.flatMap(({ first, last }) => [first, last])]) {
          if (line?.replicationId.startsWith(idPrefix)) ids.add(line.replicationId);
        }
      }
    }
    if (ids.size < 2) return [...ids][0];
    throw new Failure("USAGE", `Cannot restore to @${idPrefix}:${offset}: several ids begin so`, {
      hint: `They are ${[...ids].join(", ")}.`,
    });
  }

  async #endBefore(target: RestoreTarget & { kind: "before" }): Promise<End | Refusal> {
    const { command, untilMs = Number.POSITIVE_INFINITY } = target;
    const find = { command, untilMs, signal: this.#options.signal };
    const found = await findLastIn(this.#view, this.#runs, find);
    if (found === undefined) return { found: `no ${command} is in the log` };
    this.#notes.push(`the last ${command} came at ${iso(found.ms)}`);
    const { run, place } = found;
    return { run, place, moment: momentOf(run, place, false) };
  }

  /** The newest good set whose position is in the run's log at or before its end. */
  async #fromSet(end: End): Promise<Plan | Refusal> {
    const { run, place } = end;
    const lastMs = this.#target.kind === "time" ? this.#target.ms : end.moment.ms;
    const upTo = run.sets.filter(({ ms }) => ms <= lastMs + clockSlackMs);
    for (const set of chooseFirst(upTo)) {
      const manifest = await this.#readManifest(set);
      const start = await locatePosition(this.#view, run.pieces, manifest.position);
      if (start === undefined || !start.cut.isExact) {
        this.#notes.push(`set ${set.name} was passed over: its position is not in the log`);
        continue;
      }
      if (comparePlaces(start, place) > 0) continue;
      if (!set.isVerified) this.#notes.push(`set ${set.name} was not verified`);
      const database =
        start.database ??
        manifest.database ??
        (await databaseBefore(this.#view, run.pieces, start.piece));
      const { piece, offset, after } = start;
      const range = rangeOf(run.pieces, { piece, offset, after, database }, place);
      return this.#plan(set, manifest, end.moment, { range, line: run.line.name });
    }
    return { found: "no set is there from which its log could be replayed", ms: end.moment.ms };
  }

  async #readManifest(set: ListedSet): Promise<SetManifest> {
    const object = setObject(this.#catalogue.instance, set.name, "manifest");
    return parseSetManifest(await this.#view.readSmall(object, maxManifestBytes), object);
  }

  #plan(
    set: ListedSet,
    manifest: SetManifest,
    moment: Moment,
    log?: { readonly range: LogRange; readonly line: string },
  ): Plan {
    const { instance } = this.#catalogue;
    const isEmpty = log === undefined || comparePlaces(log.range.start, log.range.end) === 0;
    const range = isEmpty ? undefined : log.range;
    const size = range === undefined ? { raw: 0, stored: 0 } : sizeOf(range);
    const { snapshot } = manifest;
    const rawBytes = snapshot.rawBytes + size.raw;
    const { bytesPerSecond = defaultRate } = this.#options;
    const cut = range && [log?.line, range.start, range.end].map((part) => JSON.stringify(part));
    const facts = [instance, set.name, snapshot.sha256, ...(cut ?? [])].join("\n");
    return {
      id: createHash("sha256").update(facts).digest("hex").slice(0, 16),
      instance,
      target: this.#target,
      set: { name: set.name, object: setObject(instance, set.name, "snapshot"), manifest },
      line: range && log?.line,
      log: range,
      moment,
      readBytes: snapshot.sizeBytes + size.stored,
      rawBytes,
      rawLogBytes: size.raw,
      estimatedMs: Math.ceil((1000 * rawBytes) / bytesPerSecond),
      notes: this.#notes,
    };
  }

  #refuse(target: RestoreTarget): Refusal {
    if (this.#runs.length === 0) return { found: "no log and no set to replay it on are there" };
    if (target.kind !== "time") return { found: "it is outside of what can be restored" };
    const last = this.#runs.at(-1)?.toMs ?? 0;
    const found =
      target.ms > last
        ? `the log ends at ${iso(last)}`
        : "no log is there from a set before it up to then";
    return { found, ms: target.ms };
  }
}

type Find = Pick<FindOptions, "command" | "untilMs" | "signal">;

/** The last command of a name in what can be restored. */
export async function findLastCommand(
  view: ArchiveView,
  catalogue: Catalogue,
  find: Find,
): Promise<CommandPlace | undefined> {
  return await findLastIn(view, runsOf(catalogue), find);
}

async function findLastIn(
  view: ArchiveView,
  runs: readonly Candidate[],
  find: Find,
): Promise<(CommandPlace & { readonly run: Candidate }) | undefined> {
  const isWide = isListed(find.command);
  for (const run of runs.toReversed()) {
    const found = await findCommand(view, run.pieces, { ...find, isWide });
    if (found !== undefined) return { ...found, run };
  }
  return undefined;
}

/** Runs that can be restored, by their ends; sets newest first. */
function runsOf(catalogue: Catalogue): Candidate[] {
  const runs: Candidate[] = [];
  for (const line of catalogue.lines) {
    for (const { pieces } of line.runs) {
      const first = pieces[0];
      const toMs = pieces.at(-1)?.toMs;
      if (first === undefined || toMs === undefined) continue;
      const sets = catalogue.sets.filter(({ ms }) => ms >= first.fromMs && ms <= toMs);
      const oldest = sets[0];
      if (oldest === undefined) continue;
      runs.push({ line, pieces, sets: sets.toReversed(), fromMs: oldest.ms, toMs });
    }
  }
  return runs.sort((a, b) => a.toMs - b.toMs);
}

/** Verified sets first, and of each kind the newest. */
function chooseFirst(sets: readonly ListedSet[]): ListedSet[] {
  return sets.toSorted((a, b) => Number(b.isVerified) - Number(a.isVerified) || b.ms - a.ms);
}

function mayHave({ fromOffset, toOffset }: Piece, offset: number): boolean {
  return (offset >= fromOffset && offset <= toOffset) || toOffset < fromOffset;
}

/** Whether the indexes list such commands. */
function isListed(command: string): boolean {
  const same = writeCommands.filter(
    ({ name }) => name === command || name.startsWith(`${command} `),
  );
  const wide = new Set(["wipe", "wipe-slots", "swap", "global"]);
  return same.length > 0 && same.every(({ kind }) => wide.has(kind));
}

/** `isAtLine`: nothing is between the cut and the last position line before it. */
function momentOf(run: Candidate, { after }: LogPlace, isAtLine: boolean): Moment {
  if (after === undefined) return { ms: run.fromMs, position: undefined };
  const { replicationId, offset, ms } = after;
  return { ms, position: isAtLine ? { replicationId, offset } : undefined };
}

function comparePlaces(a: LogPlace, b: LogPlace): number {
  return a.piece - b.piece || a.offset - b.offset;
}

/** The pieces between two places, with the places counted from the first one. */
function rangeOf(pieces: readonly Piece[], from: LogPlace, to: LogPlace): LogRange {
  let start = from;
  // A place at the end of a piece is at the start of the next one, which is then the first to be read.
  const isAtEnd = start.offset === pieces[start.piece]?.rawBytes && start.piece < to.piece;
  if (isAtEnd) start = { ...start, piece: start.piece + 1, offset: 0 };
  const first = start.piece;
  return {
    pieces: pieces.slice(first, to.piece + 1),
    start: { ...start, piece: 0 },
    end: { ...to, piece: to.piece - first },
  };
}

function sizeOf({ pieces, start, end }: LogRange): { raw: number; stored: number } {
  let raw = 0;
  let stored = 0;
  for (const [number, { rawBytes, sizeBytes }] of pieces.entries()) {
    const from = number === start.piece ? start.offset : 0;
    const to = number === end.piece ? end.offset : rawBytes;
    raw += to - from;
    stored += Math.ceil((sizeBytes * (to - from)) / Math.max(rawBytes, 1));
  }
  return { raw, stored };
}

function outside(catalogue: Catalogue, target: RestoreTarget, refusal: Refusal): PlanResult {
  const windows = windowsOf(catalogue);
  const { found, ms } = refusal;
  const result = { kind: "outside", target, found, windows } as const;
  if (ms === undefined) return { ...result, before: undefined, after: undefined };
  const ends = windows.flatMap(({ fromMs, toMs }) => [fromMs, toMs]).map(atTime);
  const moments = [...ends, ...catalogue.sets.map((set) => atSet(set))];
  const before = moments.filter((each) => each.ms < ms).sort((a, b) => b.ms - a.ms)[0];
  const after = moments.filter((each) => each.ms > ms).sort((a, b) => a.ms - b.ms)[0];
  return { ...result, before, after };
}

function atTime(ms: number): Nearest {
  return { ms, target: iso(ms) };
}

function atSet({ name, ms }: ListedSet): Nearest {
  return { ms, target: `set:${name}` };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
