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
  /** No time is of two of them. */
  pauseHours: fc.integer({ min: 1, max: 100 }),
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
      nowMs = addLine(objects, one.pieces, nowMs, String(i + 1));
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
  digit: string,
): number {
  const name = lineName({ replicationId: digit.repeat(40), offset: 0, ms: fromMs });
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
    const isMissing = fate === "missing" && hours > 0;
    const isSplit = fate === "split" && lines > 1;
    if (!isMissing && !isSplit) add(facts);
    if (isSplit || (fate === "covers" && lines > 1)) {
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

/** Logs that overlap in time, each with sets of its own; and which is of which, as listings do not tell. */
export type Overlap = {
  readonly objects: readonly ObjectInfo[];
  /** The name of the line that a set is of. */
  readonly lineOf: ReadonlyMap<string, string>;
  readonly nowMs: number;
};

const overlapPiece = fc.record({
  minutes: fc.integer({ min: 1, max: 12 * 60 }),
  isMissing: fc.integer({ min: 0, max: 29 }).map((n) => n === 0),
  sets: fc.array(
    fc.record({ at: fc.nat(1000), isVerified: fc.boolean(), isKept: fc.constant(false) }),
    { maxLength: 1 },
  ),
});

export const overlaps: fc.Arbitrary<Overlap> = fc
  .record({
    lines: fc.array(
      fc.record({
        startHours: fc.nat(20 * 24),
        pieces: fc.array(overlapPiece, { minLength: 1, maxLength: 25 }),
        isBaseVerified: fc.boolean(),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    idleDays: fc.integer({ min: 0, max: 10 }),
  })
  .map(({ lines, idleDays }) => {
    const objects: ObjectInfo[] = [];
    const lineOf = new Map<string, string>();
    let endMs = startMs;
    for (const [i, { startHours, pieces, isBaseVerified }] of lines.entries()) {
      const fromMs = startMs + startHours * hourMs + i;
      const name = lineName({ replicationId: String(i + 1).repeat(40), offset: 0, ms: fromMs });
      const addSet = (ms: number, state: { isVerified: boolean }) => {
        const [first, ...more] = setObjects(ms, lineOf.size, state);
        objects.push(...(first ? [first] : []), ...more);
        lineOf.set(first?.name.split("/")[3] ?? "", name);
      };
      addSet(fromMs, { isVerified: isBaseVerified });
      let ms = fromMs;
      for (const [number, { minutes, isMissing, sets }] of pieces.entries()) {
        const toMs = ms + minutes * 60_000;
        const [fromOffset, toOffset] = [10 * number, 10 * number + 10];
        const sequences = { firstSequence: 2 * number, lastSequence: 2 * number + 1 };
        const facts = { ...sequences, fromOffset, toOffset, fromMs: ms, toMs };
        const sha256 = String(objects.length).padStart(64, "0");
        const object = pieceObject(instance, name, { ...facts, rawBytes: 10, sha256 });
        if (!isMissing) objects.push({ name: object, sizeBytes: 10, modifiedMs: ms });
        for (const { at, ...state } of sets) {
          addSet(ms + Math.floor(((toMs - ms) * at) / 1000), state);
        }
        ms = toMs;
      }
      endMs = Math.max(endMs, ms);
    }
    objects.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { objects, lineOf, nowMs: endMs + idleDays * dayMs };
  });

/** The lines that a moment can be restored from: by a set, or a good set, that is of them. */
export function linesWith(
  catalogue: Catalogue,
  { lineOf }: Pick<Overlap, "lineOf">,
  ms: number,
  isGood: boolean,
): string[] {
  return catalogue.lines.flatMap(({ name, runs }) => {
    const isIn = runs.some(({ pieces }) => {
      const [fromMs, toMs] = [pieces[0]?.fromMs ?? 0, pieces.at(-1)?.toMs ?? -1];
      const own = catalogue.sets.filter((one) => lineOf.get(one.name) === name);
      if (ms < fromMs || ms > toMs) return false;
      return own.some((one) => one.ms >= fromMs && one.ms <= ms && (one.isVerified || !isGood));
    });
    return isIn ? [name] : [];
  });
}
