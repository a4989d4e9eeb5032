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
 *   4. A set that can be seen to be damaged (its manifest, the size or the index of its object) is passed over
 *      for an older one, and the plan says so; named as the target, it is refused. Damage of a block is
 *      found only when it is read: `without` is for that.
 *   5. Which of several comes later, positions decide, then the clock of whoever took the sets (plan-order.ts). The
 *      source's clock may have been wrong for an hour, and nothing written since then may be left out for that.
 *   6. A target that several logs have is refused only where none of them can be replayed up to it.
 */

import { createHash } from "node:crypto";
import type { SetManifest } from "../archive/backup-set.ts";
import { type Catalogue, type ListedSet, type Piece, withFaults } from "../archive/catalogue.ts";
import { setObject } from "../archive/layout.ts";
import { iso } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { writeCommands } from "../codec/commands/table.ts";
import { findHeldStamp } from "./plan-clock.ts";
import { newestFirst } from "./plan-order.ts";
import {
  type LogRange,
  type Moment,
  outside,
  type Plan,
  type PlanResult,
  type Refusal,
} from "./plan-result.ts";
import { type Candidate, chooseFirst, compareLate, mayHave, runsOf } from "./plan-runs.ts";
import { type ReadSet, tryUseSet, type UsableSet, useSet, withoutSets } from "./plan-set.ts";
import {
  type ArchiveView,
  type CommandPlace,
  databaseBefore,
  type FindOptions,
  type LogPlace,
  locatePosition,
  locateTime,
  logIndexOf,
  openPiece,
} from "./restore-locate.ts";
import { findOwnCommand, notesOfRestore } from "./restore-span.ts";
import type { RestoreTarget } from "./target.ts";

export type PlanOptions = {
  /** Sets that are not to be used: names, or beginnings of names. */
  readonly without?: readonly string[];
  /** By this machine's clock: a log that ends later was stamped by one that was ahead. */
  readonly nowMs?: number;
  /** What is restored in a second, for the estimate. */
  readonly bytesPerSecond?: number;
  readonly signal?: AbortSignal;
};

const defaultRate = 200e6;
/** A set has the time of a clock, the log that of arrival: which is first, their positions tell. */
const clockSlackMs = 10_000;
/** So many sets that are stamped later than all log are looked at, the newest. */
const maxLateSets = 16;
const shownNotes = 3;

type End = { readonly run: Candidate; readonly place: LogPlace; readonly moment: Moment };

/** @throws Failure of the store; DATA_CORRUPT; USAGE where the target is ambiguous */
export async function planRestore(
  view: ArchiveView,
  catalogue: Catalogue,
  target: RestoreTarget,
  options: PlanOptions = {},
): Promise<PlanResult> {
  const usable = withoutSets(catalogue, options.without ?? []);
  const planner = new Planner(view, usable, target, options);
  const result = await planner.run();
  if ("found" in result) return outside(withFaults(usable, planner.faults), target, result);
  const more = await notesOfRestore(view, result, planner.piecesOf(result));
  return { kind: "plan", plan: { ...result, notes: [...result.notes, ...more] } };
}

class Planner {
  readonly #view: ArchiveView;
  readonly #catalogue: Catalogue;
  readonly #target: RestoreTarget;
  readonly #options: PlanOptions;
  readonly #runs: readonly Candidate[];
  readonly #notes: string[] = [];
  /** By name: what there is of it, or what is wrong. */
  readonly #tried = new Map<string, ReadSet | string>();

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

  /** All of the log that a plan has a part of. */
  piecesOf({ log }: Plan): readonly Piece[] {
    const last = log?.pieces.at(-1)?.object;
    const has = (pieces: readonly Piece[]) => pieces.some(({ object }) => object === last);
    return this.#runs.find(({ pieces }) => has(pieces))?.pieces ?? log?.pieces ?? [];
  }

  /** What was found wrong with sets, by their names. */
  get faults(): Map<string, string> {
    return new Map(
      [...this.#tried].flatMap(([name, found]) =>
        typeof found === "string" ? [[name, found]] : [],
      ),
    );
  }

  async run(): Promise<Plan | Refusal> {
    const target = this.#target;
    switch (target.kind) {
      case "set":
        return await this.#setAsItIs(this.#findSet(target.name));
      case "latest":
        return await this.#latest();
      case "time": {
        const has = ({ fromMs, toMs }: Candidate) => fromMs <= target.ms && target.ms <= toMs;
        const ends = this.#endsAtTime(this.#runs.filter(has), target.ms);
        return (await this.#upToFirst(ends)) ?? this.#refuse(target);
      }
      case "position":
        return await this.#upToPosition(target);
      case "before": {
        const refusal = { found: `no ${target.command} is in the log` };
        return (await this.#upToFirst(this.#endsBefore(target))) ?? refusal;
      }
    }
  }

  /** The end of the newest history: of a log, or of a set that is in none. */
  async #latest(): Promise<Plan | Refusal> {
    const { runs, lone } = await this.#placeLateSets();
    const plan = await this.#upToFirst(this.#endsAtTime(runs));
    const [set] = lone;
    if (set === undefined || (plan !== undefined && !("found" in plan) && !isLater(set, plan))) {
      return plan === undefined ? this.#refuse(this.#target) : withLaterEnds(plan, runs);
    }
    if (runs.length > 0) {
      this.#notes.push(`set ${set.listed.name} is taken as it is: its position is in no log`);
    }
    return this.#asItIs(set);
  }

  /**
   * Sets that are stamped later than all log. Where a log has the position of one, the source's clock was
   * ahead, or the set is stamped a little late: it is one of that log's sets then.
   */
  async #placeLateSets(): Promise<{ runs: Candidate[]; lone: UsableSet[] }> {
    const lastMs = this.#runs.at(-1)?.toMs ?? -1;
    const late = chooseFirst(this.#catalogue.sets.filter(({ ms }) => ms > lastMs));
    const lone: UsableSet[] = [];
    const found = new Map<readonly Piece[], ListedSet[]>();
    for (const listed of late.slice(0, maxLateSets)) {
      const set = await this.#tryUse(listed);
      if (set === undefined) continue;
      const logs = await this.#findLogs(set.manifest.position);
      if (logs.length === 0) lone.push(set);
      for (const pieces of logs) found.set(pieces, [...(found.get(pieces) ?? []), listed]);
    }
    return { runs: runsOf(this.#catalogue, found), lone: lone.sort(compareLate) };
  }

  /** The logs that have a position before their ends. */
  async #findLogs(position: Position): Promise<(readonly Piece[])[]> {
    const { offset } = position;
    const logs: (readonly Piece[])[] = [];
    for (const { runs } of this.#catalogue.lines) {
      for (const { pieces } of runs) {
        if (!pieces.some((piece) => mayHave(piece, offset))) continue;
        const found = await locatePosition(this.#view, pieces, position);
        if (found?.cut.isExact === true) logs.push(pieces);
      }
    }
    return logs;
  }

  #newestFirst(runs: readonly Candidate[]): AsyncGenerator<Candidate> {
    return newestFirst(this.#view, runs, (run) => this.#takenMs(run));
  }

  /** When the newest set of a log was taken, by the clock of who took it. */
  async #takenMs({ sets, pieces }: Candidate): Promise<number> {
    for (const listed of sets) {
      const set = await this.#tryUse(listed);
      if (set === undefined) continue;
      const { position, startedMs } = set.manifest;
      if (await locatePosition(this.#view, pieces, position)) return startedMs;
    }
    return 0;
  }

  /** A plan for the first of these that has one; the refusal of the first where none has. */
  async #upToFirst(ends: AsyncIterable<End>): Promise<Plan | Refusal | undefined> {
    let refusal: Refusal | undefined;
    const passed: string[] = [];
    const known = this.#notes.length;
    for await (const end of ends) {
      const result = await this.#fromSet(end);
      if (!("found" in result)) return { ...result, notes: [...passed, ...result.notes] };
      // What was said of its sets is said by this; all of it only where there is no plan.
      const said = this.#notes.splice(known).slice(0, shownNotes);
      refusal ??= { ...result, found: [result.found, ...said].join("; ") };
      passed.push(`log ${end.run.line.name} was passed over: ${result.found}`);
    }
    return refusal;
  }

  #findSet(name: string): ListedSet {
    const { sets, unfinished } = this.#catalogue;
    const found = sets.filter((set) => set.name.startsWith(name));
    const exact = found.find((set) => set.name === name) ?? (found.length === 1 ? found[0] : null);
    if (exact) return exact;
    const hint = "`tidemark backups` lists the sets.";
    if (found.length > 1) {
      const message = `Cannot tell which set "${name}" is: ${found.length} sets begin so`;
      throw new Failure("USAGE", message, { hint: "Write more of its name." });
    }
    const words = unfinished.has(name)
      ? "it has no manifest: it is being made, or was left behind"
      : "there is no such set";
    throw new Failure("OBJECT_MISSING", `Cannot restore set "${name}": ${words}`, { hint });
  }

  async #setAsItIs(listed: ListedSet): Promise<Plan> {
    const set = await useSet(this.#view, this.#catalogue.instance, listed);
    return this.#asItIs({ ...set, listed });
  }

  #asItIs({ listed, manifest }: UsableSet): Plan {
    if (!listed.isVerified) this.#notes.push(`set ${listed.name} was not verified`);
    const { position, ms } = manifest;
    return this.#plan(listed, manifest, { ms, position });
  }

  /** Without a time, where they end. */
  async *#endsAtTime(
    runs: readonly Candidate[],
    ms = Number.POSITIVE_INFINITY,
  ): AsyncGenerator<End> {
    for await (const run of this.#newestFirst(runs)) {
      const { cut, ...place } = await locateTime(this.#view, run.pieces, ms);
      await this.#noteClock(run, { ...place, nextMs: cut.nextMs });
      yield { run, place, moment: momentOf(run, place, true) };
    }
  }

  async #noteClock(run: Candidate, place: LogPlace & { readonly nextMs: number | undefined }) {
    const { nextMs, after } = place;
    if (nextMs === undefined) return;
    const { nowMs = Number.POSITIVE_INFINITY } = this.#options;
    if (run.toMs > nowMs + clockSlackMs) {
      this.#notes.push(
        `the log ends at ${iso(run.toMs)}, which is still to come: the source's clock was ahead, and ` +
          "what was written since then is left out; `--at latest` takes all",
      );
      return;
    }
    const heldMs = await findHeldStamp(this.#view, run.pieces, { ...place, nextMs });
    if (heldMs === undefined) return;
    this.#notes.push(
      `the source's clock was ahead, it seems: behind ${iso(after?.ms ?? 0)} writes are stamped ` +
        `${iso(nextMs)}, and then ${iso(heldMs)} until that was over; they are left out`,
    );
  }

  async #upToPosition(target: RestoreTarget & { kind: "position" }): Promise<Plan | Refusal> {
    const { offset } = target;
    const runs = this.#runs.filter(({ pieces }) => pieces.some((piece) => mayHave(piece, offset)));
    const replicationId = await this.#completeId(target, runs);
    if (replicationId === undefined) return { found: "no log has this history at this offset" };
    const ends = this.#endsAtPosition(runs, { replicationId, offset });
    return (await this.#upToFirst(ends)) ?? { found: "no log has this position" };
  }

  async *#endsAtPosition(runs: readonly Candidate[], position: Position): AsyncGenerator<End> {
    for (const run of runs) {
      const found = await locatePosition(this.#view, run.pieces, position);
      if (found === undefined) continue;
      const { cut, ...place } = found;
      if (!cut.isExact) {
        this.#notes.push(
          `offset ${position.offset} is inside a unit, which is left out as a whole`,
        );
      }
      const moment = momentOf(run, place, false);
      yield { run, place, moment: cut.isExact ? { ...moment, position } : moment };
    }
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

  /** In the newest log that has such a command; and where others have the same one. */
  async *#endsBefore(target: RestoreTarget & { kind: "before" }): AsyncGenerator<End> {
    const { command, untilMs = Number.POSITIVE_INFINITY } = target;
    const { signal } = this.#options;
    const find = { command, untilMs, signal, isWide: isListed(command) };
    for await (const run of this.#newestFirst(this.#runs)) {
      const found = await findOwnCommand(this.#view, run.pieces, find);
      if (found === undefined) continue;
      const { ms, place, position } = found;
      const note = `the last ${command} came at ${iso(ms)}`;
      this.#notes.push(note);
      yield { run, place, moment: momentOf(run, place, false) };
      const others = this.#runs.filter((other) => other !== run);
      for await (const end of this.#endsAtPosition(others, position)) {
        this.#notes.push(note);
        // The time of the command is not that of what is before it.
        yield { ...end, moment: momentOf(end.run, end.place, false) };
      }
      return;
    }
  }

  /** The newest good set whose position is in the run's log at or before its end. */
  async #fromSet(end: End): Promise<Plan | Refusal> {
    const { run, place } = end;
    const lastMs = this.#lastMs(end);
    const upTo = run.sets.filter(({ ms }) => ms <= lastMs + clockSlackMs);
    for (const listed of chooseFirst(upTo)) {
      const set = await this.#tryUse(listed);
      if (set === undefined) continue;
      const { manifest } = set;
      const start = await locatePosition(this.#view, run.pieces, manifest.position);
      if (start === undefined || !start.cut.isExact) {
        this.#notes.push(`set ${listed.name} was passed over: its position is not in the log`);
        continue;
      }
      if (comparePlaces(start, place) > 0) continue;
      if (!listed.isVerified) this.#notes.push(`set ${listed.name} was not verified`);
      const database =
        start.database ??
        manifest.database ??
        (await databaseBefore(this.#view, run.pieces, start.piece));
      const { piece, offset, after } = start;
      const range = rangeOf(run.pieces, { piece, offset, after, database }, place);
      return this.#plan(listed, manifest, end.moment, { range, line: run.line.name });
    }
    return { found: "no set is there from which its log could be replayed", ms: end.moment.ms };
  }

  /** No set later than this can be before the end. */
  #lastMs({ moment }: End): number {
    const { kind } = this.#target;
    if (kind === "latest") return Number.POSITIVE_INFINITY;
    return kind === "time" ? this.#target.ms : moment.ms;
  }

  /** Undefined, and a note, where something is seen to be wrong with it. Asked twice, it is read once. */
  async #tryUse(listed: ListedSet): Promise<UsableSet | undefined> {
    let found = this.#tried.get(listed.name);
    if (found === undefined) {
      found = await tryUseSet(this.#view, this.#catalogue.instance, listed);
      this.#tried.set(listed.name, found);
    }
    if (typeof found !== "string") return { ...found, listed };
    const note = `set ${listed.name} was passed over: ${found}`;
    if (!this.#notes.includes(note)) this.#notes.push(note);
    return undefined;
  }

  #plan(
    set: ListedSet,
    manifest: SetManifest,
    moment: Moment,
    log?: { readonly range: LogRange; readonly line: string },
  ): Plan {
    const { instance } = this.#catalogue;
    const isNamed = this.#target.kind === "set";
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
      notes: [...this.#notes, ...(isNamed ? [] : this.#missing(set.ms, moment.ms))],
    };
  }

  #refuse(target: RestoreTarget): Refusal {
    const last = this.#runs.at(-1)?.toMs;
    const ms = target.kind === "time" ? target.ms : undefined;
    const found =
      last === undefined
        ? "no log and no set to replay it on are there"
        : ms === undefined
          ? "it is outside of what can be restored"
          : ms > last
            ? `the log ends at ${iso(last)}`
            : "no log is there from a set before it up to then";
    const why = [...this.#notes, ...this.#missing(0, ms)].slice(-shownNotes);
    return { found: [found, ...why].join("; "), ...(ms !== undefined && { ms }) };
  }

  /** Sets of that time that are listed, and known to be none. */
  #missing(fromMs: number, toMs = Number.POSITIVE_INFINITY): string[] {
    return this.#catalogue.sets.flatMap(({ name, ms, fault }) => {
      const isMissing = fault !== undefined && ms >= fromMs && ms <= toMs;
      return isMissing ? [`set ${name} was passed over: ${fault}`] : [];
    });
  }
}

/** The last command of a name in what can be restored. */
export async function findLastCommand(
  view: ArchiveView,
  catalogue: Catalogue,
  find: Pick<FindOptions, "command" | "untilMs" | "signal">,
): Promise<CommandPlace | undefined> {
  for (const run of runsOf(catalogue).toReversed()) {
    const found = await findOwnCommand(view, run.pieces, {
      ...find,
      isWide: isListed(find.command),
    });
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Whoever has seen a window that ends later is told why that is not the latest. */
function withLaterEnds(plan: Plan | Refusal, runs: readonly Candidate[]): Plan | Refusal {
  if ("found" in plan || plan.line === undefined) return plan;
  const later = runs.filter(({ line, toMs }) => line.name !== plan.line && toMs > plan.moment.ms);
  const notes = later.map(({ line, toMs }) => {
    return `log ${line.name} ends at ${iso(toMs)} by its stamps, and is older, or of another instance`;
  });
  return { ...plan, notes: [...plan.notes, ...notes.slice(0, shownNotes)] };
}

/** Whether a set that is in no log stands behind what a plan gives. */
function isLater({ manifest }: UsableSet, plan: Plan): boolean {
  const { position, startedMs } = manifest;
  const end = plan.moment.position;
  if (end?.replicationId === position.replicationId) return position.offset > end.offset;
  return startedMs > plan.set.manifest.startedMs;
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
