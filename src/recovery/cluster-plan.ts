/**
 * What has to be read to bring all shards of a cluster back to one time.
 *
 *   changes of slots ──► who had slots at that time, and who got them next   (cluster-rules.ts)
 *   each such shard  ──► a plan of its own, to that time                     (plan.ts)
 *
 * WHY A TIME ONLY. Shards have no position in common, and no set. A command comes to each shard by itself and at
 * another moment: which of these is meant is for whoever asks to say, so they are told, and nothing
 * is guessed.
 *
 * INVARIANTS
 *
 *   1. Every shard that had slots at that time has a plan, or all of it is refused, with what all of them
 *      can be brought back to, and the nearest such moments on both sides.
 *   2. `latest` is the last moment that all shards with slots have in common.
 *   3. What a shard that gets slots later had of them by then is part of the plan where its log reaches
 *      back that far; where it does not, the plan says so.
 *
 * All changes of slots are read: some hundred bytes each, and a cluster has few of them.
 */

import { createHash } from "node:crypto";
import { type Catalogue, windowsOf } from "../archive/catalogue.ts";
import { type SlotsChange, seenMs, shardInstance } from "../archive/cluster-slots.ts";
import { intersect, type Span } from "../archive/cluster-windows.ts";
import { iso } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { findFlushedSlots } from "./cluster-flushes.ts";
import {
  type NextOwner,
  rangesOf,
  rulesOf,
  type SlotOwners,
  type SlotRules,
  slotOwners,
  slotRules,
} from "./cluster-rules.ts";
import { findLastCommand, type PlanOptions, planRestore } from "./plan.ts";
import type { Nearest, Outside, Plan } from "./plan-result.ts";
import { withoutSets } from "./plan-set.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { formatTarget, type RestoreTarget } from "./target.ts";

/** What restoring a cluster needs of a repository. */
export type ClusterView = ArchiveView & {
  /** The names of all changes of slots, oldest first. */
  readonly listSlots: (cluster: string) => Promise<readonly string[]>;
  readonly readSlots: (object: string) => Promise<SlotsChange>;
  readonly readCatalogue: (instance: string) => Promise<Catalogue>;
};

export type ShardPlan = {
  readonly key: string;
  readonly plan: Plan;
  readonly rules: SlotRules;
};

export type ClusterPlan = {
  /** The same for what restores the same data. */
  readonly id: string;
  readonly cluster: string;
  readonly target: RestoreTarget;
  /** The time that all shards are brought back to. */
  readonly ms: number;
  /** Those with slots first, in their order. */
  readonly shards: readonly ShardPlan[];
  readonly owners: SlotOwners;
  readonly readBytes: number;
  readonly rawBytes: number;
  readonly estimatedMs: number;
  readonly notes: readonly string[];
};

export type ClusterPlanResult =
  | { readonly kind: "plan"; readonly plan: ClusterPlan }
  | ({ readonly kind: "outside" } & Outside);

const readAtOnce = 16;
/** So long before and behind the look that saw a change its traces may be stamped. */
const slackMs = 60_000;
/** Ends of logs that lie farther apart are worth a word. */
const farMs = 60_000;

/** @throws Failure of the store; DATA_CORRUPT; OBJECT_MISSING; USAGE for what names no common moment */
export async function planCluster(
  view: ClusterView,
  cluster: string,
  target: RestoreTarget,
  options: PlanOptions = {},
): Promise<ClusterPlanResult> {
  mustBeCommon(cluster, target);
  const changes = await readChanges(view, cluster);
  const planner = new ClusterPlanner(view, cluster, changes, target, options);
  if (target.kind === "before") throw await planner.beforeFailure(target);
  return await planner.run();
}

function mustBeCommon(cluster: string, target: RestoreTarget): void {
  if (target.kind !== "position" && target.kind !== "set") return;
  const what = target.kind === "set" ? "a set" : "a position";
  const message = `Cannot restore cluster "${cluster}" to ${formatTarget(target)}: ${what} is of one shard`;
  throw new Failure("USAGE", message, {
    hint: `Give a time, or name the shard: tidemark restore ${shardInstance(cluster, "KEY")}.`,
  });
}

/** Oldest first. */
async function readChanges(view: ClusterView, cluster: string): Promise<SlotsChange[]> {
  const names = await view.listSlots(cluster);
  const changes: SlotsChange[] = [];
  for (let at = 0; at < names.length; at += readAtOnce) {
    const some = names.slice(at, at + readAtOnce).map((name) => view.readSlots(name));
    changes.push(...(await Promise.all(some)));
  }
  if (changes.length > 0) return changes;
  const found = "nothing says who had which slots";
  throw new Failure("OBJECT_MISSING", `Cannot restore cluster "${cluster}": ${found}`, {
    hint: `Its shards can be restored one by one, as ${shardInstance(cluster, "KEY")}.`,
  });
}

class ClusterPlanner {
  readonly #view: ClusterView;
  readonly #cluster: string;
  readonly #changes: readonly SlotsChange[];
  readonly #target: RestoreTarget;
  readonly #options: PlanOptions;
  readonly #catalogues = new Map<string, Catalogue>();
  readonly #notes: string[] = [];

  constructor(
    view: ClusterView,
    cluster: string,
    changes: readonly SlotsChange[],
    target: RestoreTarget,
    options: PlanOptions,
  ) {
    this.#view = view;
    this.#cluster = cluster;
    this.#changes = changes;
    this.#target = target;
    this.#options = options;
  }

  async run(): Promise<ClusterPlanResult> {
    const ms = await this.#findTime();
    if (ms === undefined) return await this.#outside("no moment is common to its shards");
    const at = this.#changes.findLastIndex((change) => seenMs(change) <= ms);
    const change = this.#changes[at];
    if (change === undefined) {
      return await this.#outside("who had which slots then is not known", ms);
    }
    const later = this.#changes.slice(at + 1);
    const owners = slotOwners(change, later);
    const plans = new Map<string, Plan>();
    for (const key of keysWithSlots(change)) {
      const result = await this.#planShard(key, ms);
      if (result.kind === "outside") {
        return await this.#outside(`of ${this.#instance(key)}, ${result.found}`, ms);
      }
      plans.set(key, result.plan);
    }
    await this.#addNextOwners(owners, plans, ms);
    return { kind: "plan", plan: await this.#plan(owners, plans, ms) };
  }

  async #findTime(): Promise<number | undefined> {
    if (this.#target.kind === "time") return this.#target.ms;
    const windows = await this.#commonWindows();
    const last = windows.at(-1);
    await this.#noteLateEnds(last?.toMs);
    return last?.toMs;
  }

  async #noteLateEnds(lastMs: number | undefined): Promise<void> {
    if (lastMs === undefined) return;
    for (const key of keysWithSlots(this.#changes.at(-1))) {
      const ends = windowsOf(await this.#catalogue(key)).map((window) => window.toMs);
      const toMs = Math.max(0, ...ends);
      if (toMs <= lastMs + farMs) continue;
      this.#notes.push(`${this.#instance(key)} alone can be restored up to ${iso(toMs)}`);
    }
  }

  async #planShard(key: string, ms: number) {
    const target = { kind: "time", ms } as const;
    return await planRestore(this.#view, await this.#catalogue(key), target, this.#options);
  }

  /** Those that had no slots yet, and may have keys of those that they got. */
  async #addNextOwners(owners: SlotOwners, plans: Map<string, Plan>, ms: number): Promise<void> {
    const slots = Map.groupBy(owners.next.keys(), (slot) => owners.next[slot]?.key);
    for (const [key, own] of slots) {
      if (key === undefined || plans.has(key)) continue;
      const result = await this.#planShard(key, ms);
      if (result.kind === "plan") {
        plans.set(key, result.plan);
        continue;
      }
      const ranges = formatRanges(rangesOf(own));
      this.#notes.push(
        `slots ${ranges} went to ${this.#instance(key)} later; keys that it may have had of them already are in no log`,
      );
    }
  }

  async #plan(
    owners: SlotOwners,
    plans: ReadonlyMap<string, Plan>,
    ms: number,
  ): Promise<ClusterPlan> {
    const isWhole = await this.#findWholeMoves(owners, plans, ms);
    const shards = [...plans].map(([key, plan]): ShardPlan => {
      return { key, plan, rules: rulesOf(key, owners, (slot) => isWhole.has(slot)) };
    });
    const hash = createHash("sha256").update(`${this.#cluster}\n${ms}\n`);
    for (const { key, plan, rules } of shards) hash.update(`${key}\n${plan.id}\n`).update(rules);
    const sum = (of: (plan: Plan) => number) =>
      shards.reduce((total, { plan }) => total + of(plan), 0);
    return {
      id: hash.digest("hex").slice(0, 16),
      cluster: this.#cluster,
      target: this.#target,
      ...{ ms, shards, owners },
      readBytes: sum(({ readBytes }) => readBytes),
      rawBytes: sum(({ rawBytes }) => rawBytes),
      estimatedMs: sum(({ estimatedMs }) => estimatedMs),
      notes: [
        ...this.#notes,
        ...shards.flatMap(({ key, plan }) =>
          plan.notes.map((note) => `${this.#instance(key)}: ${note}`),
        ),
      ],
    };
  }

  /** Slots whose keys the owner removed at once after `ms`, when they had moved to the next one. */
  async #findWholeMoves(
    { owners, next }: SlotOwners,
    plans: ReadonlyMap<string, Plan>,
    ms: number,
  ): Promise<Set<number>> {
    const moves = new Map<string, { readonly key: string; readonly change: SlotsChange }>();
    for (const [slot, to] of next.entries()) {
      const key = owners[slot];
      if (to === undefined || key === undefined || !plans.has(to.key)) continue;
      moves.set(`${key} ${this.#changes.indexOf(to.change)}`, { key, change: to.change });
    }
    const whole = new Set<number>();
    for (const { key, change } of moves.values()) {
      const seen = seenMs(change);
      const earliest = change.windowMs === null ? ms : seen - change.windowMs - slackMs;
      const span = { fromMs: Math.max(ms, earliest), toMs: seen + slackMs };
      const flushed = await findFlushedSlots(this.#view, await this.#catalogue(key), span);
      for (const slot of flushed) {
        if (owners[slot] === key && next[slot]?.change === change) whole.add(slot);
      }
    }
    return whole;
  }

  /** What all shards with slots can be brought back to, by who had them. */
  async #commonWindows(): Promise<Span[]> {
    const windows: Span[] = [];
    for (const [i, change] of this.#changes.entries()) {
      const after = this.#changes[i + 1];
      const toMs = after === undefined ? Number.POSITIVE_INFINITY : seenMs(after) - 1;
      let common: Span[] = [{ fromMs: seenMs(change), toMs }];
      for (const key of keysWithSlots(change)) {
        common = intersect(common, windowsOf(await this.#catalogue(key)));
      }
      for (const window of common) {
        const last = windows.at(-1);
        if (last === undefined || last.toMs + 1 < window.fromMs) windows.push(window);
        else windows[windows.length - 1] = { ...last, toMs: Math.max(last.toMs, window.toMs) };
      }
    }
    return windows;
  }

  async #outside(found: string, ms?: number): Promise<ClusterPlanResult> {
    const spans = await this.#commonWindows();
    // They are of no one line.
    const windows = spans.map((span) => ({ ...span, line: "", sets: [] }));
    const ends = windows.flatMap(({ fromMs, toMs }) => [fromMs, toMs]);
    const before = ms === undefined ? undefined : ends.findLast((end) => end < ms);
    const after = ms === undefined ? undefined : ends.find((end) => end > ms);
    return {
      kind: "outside",
      target: this.#target,
      ...{ found, windows, before: nearest(before), after: nearest(after) },
    };
  }

  /** When the command came to which shard, and the time right before the first of them. */
  async beforeFailure(target: RestoreTarget & { kind: "before" }): Promise<Failure> {
    const { command, untilMs = Number.POSITIVE_INFINITY } = target;
    const change = this.#changes.findLast((each) => seenMs(each) <= untilMs);
    const came: { readonly key: string; readonly ms: number }[] = [];
    for (const key of keysWithSlots(change)) {
      const { signal } = this.#options;
      const find = { command, untilMs, signal };
      const found = await findLastCommand(this.#view, await this.#catalogue(key), find);
      if (found !== undefined) came.push({ key, ms: found.ms });
    }
    came.sort((a, b) => a.ms - b.ms);
    const shown = `Cannot restore cluster "${this.#cluster}" to ${formatTarget(target)}`;
    const [first] = came;
    if (first === undefined) {
      return new Failure("OUTSIDE_WINDOWS", `${shown}: no ${command} is in the logs of its shards`);
    }
    const list = came.map(({ key, ms }) => `${this.#instance(key)} at ${iso(ms)}`).join(", ");
    return new Failure("USAGE", `${shown}: a command comes to each shard by itself`, {
      hint: `The last ${command} came to ${list}. Right before the first of these: --at ${iso(first.ms - 1)}.`,
    });
  }

  async #catalogue(key: string): Promise<Catalogue> {
    const known = this.#catalogues.get(key);
    if (known !== undefined) return known;
    const { without = [] } = this.#options;
    const all = await this.#view.readCatalogue(this.#instance(key));
    const catalogue = withoutSets(all, without);
    this.#catalogues.set(key, catalogue);
    return catalogue;
  }

  #instance(key: string): string {
    return shardInstance(this.#cluster, key);
  }
}

function keysWithSlots(change: SlotsChange | undefined): string[] {
  const shards = change?.shards.filter(({ slots }) => slots.length > 0) ?? [];
  const first = (shard: SlotsChange["shards"][number]) => shard.slots[0]?.[0] ?? 0;
  return shards.toSorted((a, b) => first(a) - first(b)).map(({ key }) => key);
}

/** The slots that a shard has at the time of the plan. */
export function slotsOf(owners: SlotOwners, key: string): (readonly [number, number])[] {
  return rangesOf(owners.owners.flatMap((owner, slot) => (owner === key ? [slot] : [])));
}

/** Slots that may be on their way at the time of the plan: from their owner to the next one. */
export function slotsUnderWay({ owners, shards }: ClusterPlan): Map<number, NextOwner> {
  const slots = new Map<number, NextOwner>();
  for (const { rules } of shards) {
    for (const [slot, rule] of rules.entries()) {
      const to = owners.next[slot];
      if (rule === slotRules.next && to !== undefined) slots.set(slot, to);
    }
  }
  return slots;
}

export function formatRanges(ranges: readonly (readonly [number, number])[]): string {
  return ranges.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(", ");
}

function nearest(ms: number | undefined): Nearest | undefined {
  return ms === undefined ? undefined : { ms, target: iso(ms) };
}
