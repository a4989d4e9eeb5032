/**
 * That a file, rewritten for a target, holds the same data there.
 *
 *   1. Losses are what the contents make one expect: refused by name, and counted where allowed.
 *   2. The new file reads back as the old one without them: values, expiries, counters.
 *   3. A real server of the target loads it and shows the same over the protocol.
 *   4. Where that server loads the old file too, it shows the same in every detail, encodings
 *      included, with the same DEBUG DIGEST.
 *   5. What the server saves has the same types of value: no other form was to be chosen.
 */
import assert from "node:assert/strict";
import { Failure } from "../../src/base/errors.ts";
import type { Target } from "../../src/codec/rdb/model.ts";
import { RdbReader } from "../../src/codec/rdb/reader.ts";
import { assertSameDump } from "../support/compare.ts";
import { type HashField, isLibrary, type Line, parseLines } from "../support/dump.ts";
import type { ForeignFixture, HostileFixture, RdbFixture } from "../support/fixtures.ts";
import { linesOf } from "../support/json-lines.ts";
import type { ServerId } from "../support/servers.ts";
import {
  expectLosses,
  isEmpty,
  roughly,
  withDigests,
  withoutComputed,
  withoutLosses,
} from "./expectation.ts";
import type { Judge, Testimony } from "./judge.ts";
import { type Rewritten, rewrite } from "./rewrite.ts";

/** The servers that a target's files are loaded by. */
export const serversOf: Readonly<Record<Target, readonly ServerId[]>> = {
  "redis:6.0": ["redis-6.0"],
  "redis:7.0": ["redis-7.0"],
  "redis:7.2": ["redis-8.0", "valkey-8.1"],
  "redis:7.4": ["redis-8.0"],
  "redis:8": ["redis-8.0"],
  "valkey:8": ["valkey-8.1"],
  "valkey:9": ["valkey-9"],
};

/** A file that is to be rewritten. */
export type Subject = {
  readonly id: string;
  readonly read: () => Uint8Array;
  /** What a server showed of it, if that is known. */
  readonly expected?: { readonly lines: () => Line[] };
  readonly debugDigest?: string;
  /** Whether values are packed by other limits than those of a server by default. */
  readonly hasOtherLimits?: boolean;
  /** Whether it says of a stream that it has more entries than it has: we write how many there are. */
  readonly hasWrongLength?: boolean;
};

export function toSubject(fixture: RdbFixture | HostileFixture | ForeignFixture): Subject {
  return {
    id: fixture.id,
    read: fixture.read,
    ...(fixture.kind === "rdb" && fixture),
    hasOtherLimits: /-limits$|zipmap/.test(fixture.name),
    hasWrongLength: /stream-length-wrong|stream_listpacks_1/.test(fixture.name),
  };
}

type Tally = {
  files: number;
  /** Files that our reader refuses, though a server loads them. */
  unreadable: number;
  rewrites: number;
  /** Rewrites that were refused first, and then done with losses. */
  refused: number;
  loads: number;
  /** Loads that were compared with the old file on the same server. */
  comparedWithOld: number;
  digests: number;
};

export function newTally(): Tally {
  return {
    files: 0,
    unreadable: 0,
    rewrites: 0,
    refused: 0,
    loads: 0,
    comparedWithOld: 0,
    digests: 0,
  };
}

/** Proves it for all targets whose server is among the judges. */
export async function prove(
  subject: Subject,
  targets: readonly Target[],
  judges: ReadonlyMap<ServerId, Judge>,
  tally: Tally,
): Promise<void> {
  const source = subject.read();
  tally.files++;
  let lines: Line[];
  try {
    lines = parseLines(linesOf(source, { whole: true })).filter((line) => !isEmpty(line));
  } catch (error) {
    if (!(error instanceof Failure) || subject.expected !== undefined) throw error;
    tally.unreadable++;
    return;
  }
  const expected = subject.expected?.lines();
  const old = new Map<ServerId, Testimony | string>();
  for (const target of targets) {
    const rewritten = rewriteWithLosses(source, lines, target, tally);
    const about: About = { subject, lines, expected, target, rewritten };
    for (const judge of serversOf[target].map((id) => judges.get(id))) {
      if (!judge) continue;
      const before = old.get(judge.id) ?? (await judge.ask(source));
      old.set(judge.id, before);
      try {
        const after = await judge.ask(rewritten.file);
        tally.loads++;
        if (typeof after === "string") assert.fail(`The server refuses the file: ${after}`);
        assertShows(after, about);
        const isComparable = typeof before !== "string" && rewritten.dropped.size === 0;
        if (isComparable) assertShowsTheSame(before, after, about, tally);
      } catch (cause) {
        throw new Error(`for ${target}, on ${judge.id}`, { cause });
      }
    }
  }
}

function rewriteWithLosses(
  source: Uint8Array,
  lines: readonly Line[],
  target: Target,
  tally: Tally,
): Rewritten {
  const losses = expectLosses(lines, target);
  tally.rewrites++;
  const isRefused = losses.refusals.size > 0;
  if (isRefused) {
    tally.refused++;
    assert.throws(
      () => rewrite(source, target),
      (error) => error instanceof Failure && isRefusal(error, losses.refusals, target),
    );
  }
  const rewritten = rewrite(source, target, isRefused);
  assert.deepEqual(new Map(rewritten.dropped), losses.counts, `losses for ${target}`);
  const wanted = withoutLosses(lines, target);
  const found = withoutComputed(parseLines(linesOf(rewritten.file, { whole: true })), wanted);
  assertSameDump(wanted, found, { how: "contents", freq: true });
  assert.deepEqual(idleTimes(found), idleTimes(wanted));
  assert.equal(rewritten.counts.written, lines.filter((line) => !isLibrary(line)).length);
  return rewritten;
}

function isRefusal({ code, message }: Failure, refusals: ReadonlySet<string>, target: Target) {
  assert.equal(code, "TARGET_CANNOT_HOLD");
  const [, object = ""] = /^Cannot write (.*) for (?:redis|valkey):[0-9.]+: /.exec(message) ?? [];
  assert(refusals.has(object) && message.includes(` for ${target}: `), message);
  return true;
}

function idleTimes(lines: readonly Line[]): Record<string, number | undefined> {
  return Object.fromEntries(
    lines.flatMap((line) => (isLibrary(line) ? [] : [[`${line.db} ${line.key}`, line.idle]])),
  );
}

type About = {
  readonly subject: Subject;
  /** What the old file holds, as we read it, and as its own server did. */
  readonly lines: readonly Line[];
  readonly expected: readonly Line[] | undefined;
  readonly target: Target;
  readonly rewritten: Rewritten;
};

/** What the server shows is what the old file held, and how it saves it is how we wrote it. */
function assertShows(
  { lines: shown, saved }: Testimony,
  { lines, expected, target, rewritten }: About,
): void {
  const found = shown.map(roughly(target));
  const assertHolds = (wanted: readonly Line[]) =>
    assertSameDump(wanted.map(roughly(target)), withoutComputed(found, wanted));
  assertHolds(withDigests(withoutLosses(lines, target)));
  // Of a long value that has only its digest nothing can be taken out.
  const isWhole = !rewritten.dropped.has("field expiry");
  if (expected && isWhole) assertHolds(withoutLosses(expected, target));
  assert.deepEqual(typesOf(saved), typesOf(rewritten.file));
}

/** Both files, loaded by the same server, make the same of it. */
function assertShowsTheSame(
  before: Testimony,
  after: Testimony,
  { subject, lines, target }: About,
  tally: Tally,
): void {
  tally.comparedWithOld++;
  const comparable = (all: readonly Line[]) => {
    const kept = all.filter((line) => !isEmpty(line));
    return subject.hasWrongLength ? withoutComputed(kept, lines) : kept;
  };
  const old = comparable(before.lines.map(withoutQuirk));
  const now = comparable(after.lines);
  assertSameDump(old.map(roughly(target)), now.map(roughly(target)));
  if (!subject.hasOtherLimits) assertCompact(old, now);
  const hadEmpty = before.lines.length > after.lines.length;
  if (hadEmpty || before.lines.some(hasMinusZero) || now.some(hasMinusZero)) return;
  tally.digests++;
  // Valkey 9 counts in what has no expiry but is in a form that could have one; we choose another.
  const digests = [before.digest, subject.debugDigest];
  assert(digests.includes(after.digest), `DEBUG DIGEST ${after.digest}, not ${digests.join()}`);
}

/** Servers that read an empty stream of Redis 5 or 6 take the highest id for that of its first entry. */
function withoutQuirk(line: Line): Line {
  if (isLibrary(line) || line.type !== "stream" || line.value?.firstId === undefined) return line;
  const isEmpty = line.value.entries?.length === 0;
  return isEmpty ? { ...line, value: { ...line.value, firstId: "0-0" } } : line;
}

/** A server that makes a listpack of a table makes 0 of -0; we write what the file has. */
function hasMinusZero(line: Line): boolean {
  if (isLibrary(line) || line.type !== "zset") return false;
  return line.value === undefined || line.value.some(([, score]) => score === "-0");
}

/**
 * Encodings are as with the old file, but for lists, whose nodes it may have had otherwise, and for
 * hashes in a form for fields that expire of which none does.
 */
function assertCompact(old: readonly Line[], now: readonly Line[]): void {
  const wanted = encodings(old);
  const found = encodings(now);
  for (const line of now) {
    if (isLibrary(line)) continue;
    const name = `${line.db} ${line.key}`;
    const isLong = line.value === undefined || JSON.stringify(line.value).length > 8192;
    const isOtherwise =
      (line.type === "list" && (found[name] === "listpack" || isLong)) ||
      (line.type === "hash" && wanted[name] === "listpackex" && !line.value?.some(expires));
    if (isOtherwise) wanted[name] = found[name] ?? null;
  }
  assert.deepEqual(found, wanted);
}

function expires(field: HashField): boolean {
  return field.length > 2;
}

function encodings(lines: readonly Line[]): Record<string, string | null> {
  return Object.fromEntries(
    lines.flatMap((line) => (isLibrary(line) ? [] : [[`${line.db} ${line.key}`, line.encoding]])),
  );
}

/** The type number of every key of a file. */
function typesOf(file: Uint8Array): Record<string, number> {
  const reader = new RdbReader();
  const types: Record<string, number> = {};
  reader.push(file);
  for (let event = reader.next(); event !== undefined && event !== "end"; event = reader.next()) {
    if (event !== "key") continue;
    types[`${reader.database} ${reader.key.latin1()}`] = reader.type;
    reader.skip();
  }
  return types;
}
