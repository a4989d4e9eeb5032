/**
 * What must become of a data set that is written for a target: which losses must be counted, and
 * what a server must show afterwards. From the contents alone, and a table that is not the writer's.
 */
import { createHash } from "node:crypto";
import type { Target } from "../../src/codec/rdb/model.ts";
import { type Feature, quote } from "../../src/codec/rdb/target.ts";
import { type HashField, isLibrary, type KeyLine, type Line } from "../support/dump.ts";

type StreamKey = Extract<KeyLine, { type: "stream" }>;
/** Of streams in a file: 1 Redis 5.0, 2 with counters (7.0), 3 with active times (7.2). */
type StreamVersion = 1 | 2 | 3;
type Power = {
  readonly functions: boolean;
  /** Fields may expire before this time. */
  readonly fieldExpiry: number;
  readonly vectorSets: boolean;
  readonly streams: StreamVersion;
};

const redis72: Power = { functions: true, fieldExpiry: 0, vectorSets: false, streams: 3 };
const powers: Readonly<Record<Target, Power>> = {
  "redis:6.0": { functions: false, fieldExpiry: 0, vectorSets: false, streams: 1 },
  "redis:7.0": { ...redis72, streams: 2 },
  "redis:7.2": redis72,
  "redis:7.4": { ...redis72, fieldExpiry: 2 ** 48 },
  "redis:8": { ...redis72, fieldExpiry: 2 ** 48, vectorSets: true },
  "valkey:8": redis72,
  "valkey:9": { ...redis72, fieldExpiry: Number.POSITIVE_INFINITY },
};

/** Losses that are refused unless the caller allows them; the others are only counted. */
const refused: ReadonlySet<Feature> = new Set(["function", "field expiry", "module value"]);

export type Losses = {
  /** How often each feature is lost. */
  readonly counts: Map<Feature, number>;
  /** What a refusal may name: the first of these that the file has. */
  readonly refusals: Set<string>;
};

/** What a target cannot hold of these lines, whose values are whole. */
export function expectLosses(lines: readonly Line[], target: Target): Losses {
  const power = powers[target];
  const losses: Losses = { counts: new Map(), refusals: new Set() };
  const lose = (feature: Feature, object: string, times: number) => {
    if (times === 0) return;
    losses.counts.set(feature, (losses.counts.get(feature) ?? 0) + times);
    if (refused.has(feature)) losses.refusals.add(object);
  };
  for (const line of lines) {
    if (isLibrary(line)) {
      if (!power.functions) lose("function", "a function library", 1);
      continue;
    }
    const object = `key ${quote(Buffer.from(line.key, "base64"))}`;
    if (line.type === "vectorset" && !power.vectorSets) lose("module value", object, 1);
    if (line.type === "hash") {
      const lost = (line.value ?? []).filter((field) => !canExpire(field, power));
      lose("field expiry", object, lost.length);
    }
    if (line.type !== "stream") continue;
    lose("stream history", object, power.streams < 2 && hasHistory(line) ? 1 : 0);
    lose("consumer activity", object, power.streams < 3 ? activeConsumers(line) : 0);
  }
  return losses;
}

/** Redis refuses times from 2^48 on. */
function canExpire([, , expireAtMs]: HashField, { fieldExpiry }: Power): boolean {
  return expireAtMs === undefined || Number(expireAtMs) < fieldExpiry;
}

function hasHistory({ value }: StreamKey): boolean {
  if (value?.maxDeletedId === undefined) return false;
  return value.maxDeletedId !== "0-0" || Number(value.entriesAdded) !== value.entries?.length;
}

/** Consumers that were active at another time than they were last seen. */
function activeConsumers({ value }: StreamKey): number {
  const consumers = (value?.groups ?? []).flatMap((group) => group.consumers);
  return consumers.filter(({ activeMs, seenMs }) => activeMs !== undefined && activeMs !== seenMs)
    .length;
}

/** The lines without what the target cannot hold. */
export function withoutLosses(lines: readonly Line[], target: Target): Line[] {
  const power = powers[target];
  return lines.flatMap((line): Line[] => {
    if (isLibrary(line)) return power.functions ? [line] : [];
    if (line.type === "vectorset" && !power.vectorSets) return [];
    if (line.type === "hash" && line.value) {
      const keep = (field: HashField): HashField =>
        canExpire(field, power) ? field : [field[0], field[1]];
      return [{ ...line, value: line.value.map(keep) }];
    }
    return [isStream(line) ? withoutDetails(line, power.streams) : line];
  });
}

function withoutDetails(line: StreamKey, version: StreamVersion): StreamKey {
  if (!line.value) return line;
  const stream = { ...line.value, groups: structuredClone(line.value.groups) };
  if (version < 2) {
    delete stream.firstId;
    delete stream.maxDeletedId;
    delete stream.entriesAdded;
  }
  for (const group of stream.groups) {
    if (version < 2) delete group.entriesRead;
    if (version < 3) for (const consumer of group.consumers) delete consumer.activeMs;
  }
  return { ...line, value: stream };
}

/**
 * The lines without the details of streams that `wanted` does not have: what a file is too old to
 * say is computed by whoever reads it.
 */
export function withoutComputed(lines: readonly Line[], wanted: readonly Line[]): Line[] {
  const known = new Map(
    wanted.flatMap((line) => (isStream(line) ? [[nameOf(line), versionOf(line)]] : [])),
  );
  return lines.map((line) =>
    isStream(line) ? withoutDetails(line, known.get(nameOf(line)) ?? 3) : line,
  );
}

function isStream(line: Line): line is StreamKey {
  return !isLibrary(line) && line.type === "stream";
}

function nameOf({ db, key }: KeyLine): string {
  return `${db} ${key}`;
}

function versionOf({ value }: StreamKey): StreamVersion {
  if (value?.firstId === undefined) return 1;
  const consumers = value.groups.flatMap((group) => group.consumers);
  return consumers.some((consumer) => consumer.activeMs === undefined) ? 2 : 3;
}

/** Redis 6.0 says only in how many milliseconds a key expires, which is not exact above 2^53. */
export function roughly(target: Target): (line: Line) => Line {
  return (line) =>
    target === "redis:6.0" && !isLibrary(line) && Number(line.expireAtMs) > 2 ** 53
      ? { ...line, expireAtMs: "far" }
      : line;
}

/** Redis 6.0 makes empty keys of collections without elements; later servers and we leave them out. */
export function isEmpty(line: Line): boolean {
  return !isLibrary(line) && Array.isArray(line.value) && line.value.length === 0;
}

/** Long values as digests, as a dump has them. */
export function withDigests(lines: readonly Line[]): Line[] {
  return lines.map((line) => (isLibrary(line) ? line : shorten(line)));
}

const longestJson = 16 * 1024;

function shorten(line: KeyLine): KeyLine {
  const { value, ...rest } = line;
  const json = JSON.stringify(value);
  if (value === undefined || json.length <= longestJson) return line;
  if (line.type === "stream" && line.value?.entries) {
    const { entries, ...about } = line.value;
    return { ...line, value: { entriesDigest: digest(entries, entries.length), ...about } };
  }
  const count =
    typeof value === "string" ? Buffer.from(value, "base64").length : (value as []).length;
  return { ...rest, valueDigest: digest(value, count) } as KeyLine;
}

function digest(value: unknown, count: number) {
  const json = JSON.stringify(value);
  const sha256 = createHash("sha256").update(json).digest("hex");
  return { sha256, jsonBytes: json.length, count };
}
