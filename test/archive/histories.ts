/** Random histories of an instance, as the names of the objects that it has in a repository. */
import fc from "fast-check";
import { type Catalogue, CatalogueBuilder } from "../../src/archive/catalogue.ts";
import {
  instancePrefix,
  lineName,
  type PieceFacts,
  pieceObject,
  setName,
  setObject,
} from "../../src/archive/layout.ts";
import type { RetentionPolicy } from "../../src/archive/retention.ts";
import type { ObjectInfo } from "../../src/store/store.ts";

export const hourMs = 60 * 60 * 1000;
export const dayMs = 24 * hourMs;
export const startMs = Date.parse("2026-01-01T00:00:00Z");
export const instance = "db";

export type History = { readonly objects: readonly ObjectInfo[]; readonly nowMs: number };

const piece = fc.record({
  hours: fc.integer({ min: 0, max: 60 }),
  lines: fc.integer({ min: 1, max: 9 }),
  /** What happened to it: nothing, mostly. */
  fate: fc.constantFrom(...["there", "there", "there", "there", "split", "covers", "missing"]),
});
const set = fc.record({
  /** Where between the beginning and the end of all, in thousandths. */
  at: fc.integer({ min: 0, max: 1100 }),
  isVerified: fc.boolean(),
  isKept: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
  isUnfinished: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
});
const line = fc.record({
  pauseHours: fc.integer({ min: 0, max: 100 }),
  pieces: fc.array(piece, { minLength: 1, maxLength: 12 }),
  hasBase: fc.integer({ min: 0, max: 3 }).map((n) => n > 0),
});

export const histories: fc.Arbitrary<History> = fc
  .record({
    lines: fc.array(line, { maxLength: 4 }),
    sets: fc.array(set, { maxLength: 25 }),
    idleDays: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 })),
  })
  .map(({ lines, sets, idleDays }) => {
    const objects: ObjectInfo[] = [];
    let nowMs = startMs;
    for (const [i, one] of lines.entries()) {
      nowMs += one.pauseHours * hourMs;
      if (one.hasBase) objects.push(...setObjects(nowMs, i, { isVerified: true }));
      nowMs = addLine(objects, one.pieces, nowMs);
    }
    for (const [i, { at, ...state }] of sets.entries()) {
      const ms = startMs + Math.floor(((nowMs - startMs) * at) / 1000);
      objects.push(...setObjects(ms, 100 + i, state));
    }
    objects.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { objects, nowMs: nowMs + idleDays * dayMs };
  });

function addLine(
  objects: ObjectInfo[],
  pieces: readonly { readonly hours: number; readonly lines: number; readonly fate: string }[],
  fromMs: number,
): number {
  const name = lineName({ replicationId: "a".repeat(40), offset: 0, ms: fromMs });
  let [ms, sequence, offset] = [fromMs, 0, 0];
  const add = (facts: Omit<PieceFacts, "rawBytes" | "sha256">) => {
    const sha256 = String(objects.length).padStart(64, "0");
    const object = pieceObject(instance, name, { ...facts, rawBytes: 10, sha256 });
    objects.push({ name: object, sizeBytes: 10, modifiedMs: ms });
  };
  for (const { hours, lines, fate } of pieces) {
    const facts = {
      ...{ firstSequence: sequence, lastSequence: sequence + lines - 1 },
      ...{ fromOffset: offset, toOffset: offset + lines, fromMs: ms, toMs: ms + hours * hourMs },
    };
    const middle = ms + Math.floor(hours / 2) * hourMs;
    const first = { ...facts, lastSequence: sequence, toOffset: offset + 1, toMs: middle };
    const rest = {
      ...facts,
      ...{ firstSequence: sequence + 1, fromOffset: offset + 1, fromMs: middle },
    };
    if (fate === "there" || fate === "covers" || (fate === "split" && lines === 1)) add(facts);
    if ((fate === "split" || fate === "covers") && lines > 1) {
      add(first);
      add(rest);
    }
    sequence += lines;
    offset += lines;
    ms = facts.toMs;
  }
  return ms;
}

function setObjects(
  ms: number,
  number: number,
  { isVerified = false, isKept = false, isUnfinished = false },
): ObjectInfo[] {
  const name = setName(ms, number.toString(16).padStart(4, "0"));
  const parts = [
    "snapshot" as const,
    ...(isUnfinished ? [] : (["manifest"] as const)),
    ...(isVerified && !isUnfinished ? (["verified"] as const) : []),
    ...(isKept ? (["keep"] as const) : []),
  ];
  return parts.map((part) => ({
    ...{ name: setObject(instance, name, part), sizeBytes: 100, modifiedMs: ms },
  }));
}

export function catalogueOf(objects: Iterable<ObjectInfo>): Catalogue {
  const builder = new CatalogueBuilder(instance);
  for (const object of objects) {
    if (object.name.startsWith(instancePrefix(instance))) builder.add(object);
  }
  return builder.finish();
}

const few = fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined });

export const policies: fc.Arbitrary<RetentionPolicy> = fc.record({
  retentionDays: fc.integer({ min: 0, max: 30 }),
  keepLast: few,
  keepDaily: few,
  keepWeekly: few,
  keepMonthly: few,
  logWindowDays: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
  timeZone: fc.constantFrom(undefined, "Europe/Berlin", "Asia/Kolkata", "Pacific/Kiritimati"),
  allowAnyRetention: fc.constant(true),
});

/** Whether a moment can be restored: from any set, or from a good one. */
export function isRestorable(catalogue: Catalogue, ms: number, { isGood = false } = {}): boolean {
  return catalogue.lines.some(({ runs }) =>
    runs.some(({ pieces }) => {
      const [fromMs, toMs] = [pieces[0]?.fromMs ?? 0, pieces.at(-1)?.toMs ?? -1];
      if (ms < fromMs || ms > toMs) return false;
      return catalogue.sets.some((one) => {
        return one.ms >= fromMs && one.ms <= ms && (one.isVerified || !isGood);
      });
    }),
  );
}

/** Moments at which anything may change. */
export function momentsOf(catalogue: Catalogue): number[] {
  const ends = catalogue.lines.flatMap(({ runs }) =>
    runs.flatMap(({ pieces }) => pieces.flatMap(({ fromMs, toMs }) => [fromMs, toMs])),
  );
  const all = [...ends, ...catalogue.sets.map(({ ms }) => ms)];
  return [...new Set(all.flatMap((ms) => [ms - 1, ms, ms + 1]))];
}
