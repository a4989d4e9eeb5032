/**
 * Whether two dumps (`dump.ts`) say the same.
 *
 * How strictly depends on what the data went through:
 *
 *   "exact"     the same lines in the same order, all of each: a text equals its expectation
 *   "contents"  the same contents, expired ones too; encodings and usage counters may differ:
 *               a file was read, or written anew in other encodings
 *   "loaded"    as a server shows them that loaded the file: what has expired is gone, and what
 *               it may change meanwhile is not looked at
 */
import assert from "node:assert/strict";
import { isLibrary, type KeyLine, type Line, parseScore } from "./dump.ts";

export type Strictness = "exact" | "contents" | "loaded";

export type CompareOptions = {
  readonly how?: Strictness;
  /** The time at which "loaded" counts keys and fields as expired. */
  readonly nowMs?: number;
  /** Leaves out when stream consumers were last seen, which only an RDB keeps. */
  readonly withoutSeen?: boolean;
  /** Leaves out what streams have only since Redis 7.0 and 7.2: counters and active times. */
  readonly withoutStreamCounters?: boolean;
  /** Compares only whether a key expires, not when: Redis 6.0 logs some relative times. */
  readonly relativeExpiries?: boolean;
  /** Compares the LFU counters too. */
  readonly freq?: boolean;
};

/** The differences as text, one each; none when the dumps agree. */
export function compareDumps(
  want: readonly Line[],
  got: readonly Line[],
  options: CompareOptions = {},
): string[] {
  if (options.how === "exact") return compareExactly(want, got);
  const wanted = indexed(want, options);
  const found = indexed(got, options);
  const differences: string[] = [];
  for (const [name, json] of wanted) {
    const other = found.get(name);
    if (other === undefined) differences.push(`missing: ${name} ${json.slice(0, 200)}`);
    else if (other !== json) differences.push(`differs: ${name}\n${around(json, other)}`);
  }
  for (const [name, json] of found) {
    if (!wanted.has(name)) differences.push(`extra: ${name} ${json.slice(0, 200)}`);
  }
  return differences;
}

/** Fails with the first differences. */
export function assertSameDump(
  want: readonly Line[],
  got: readonly Line[],
  options?: CompareOptions,
): void {
  const differences = compareDumps(want, got, options);
  if (differences.length === 0) return;
  assert.fail(`${differences.length} differences:\n${differences.slice(0, 5).join("\n")}`);
}

function compareExactly(want: readonly Line[], got: readonly Line[]): string[] {
  const differences: string[] = [];
  for (let i = 0; i < Math.max(want.length, got.length); i++) {
    const [a, b] = [JSON.stringify(want[i] ?? null), JSON.stringify(got[i] ?? null)];
    if (a !== b) differences.push(`line ${i + 1} differs\n${around(a, b)}`);
  }
  return differences;
}

function indexed(lines: readonly Line[], options: CompareOptions): Map<string, string> {
  const index = new Map<string, string>();
  for (const line of lines) {
    const name = isLibrary(line) ? `library ${line.library}` : `db ${line.db} key ${line.key}`;
    if (index.has(name)) throw new Error(`The dump has ${name} twice`);
    const kept = isLibrary(line) ? line : comparable(line, options);
    if (kept !== undefined) index.set(name, JSON.stringify(kept));
  }
  return index;
}

/** What of a line must be equal; undefined where a server that loads it has nothing. */
function comparable(line: KeyLine, options: CompareOptions): object | undefined {
  const { encoding: _, freq, idle: __, ...rest } = line;
  if (options.freq && freq !== undefined) Object.assign(rest, { freq });
  if (options.relativeExpiries && rest.expireAtMs !== null) rest.expireAtMs = "some time";
  if (rest.type === "stream" && rest.value !== undefined) {
    rest.value = structuredClone(rest.value);
    if (options.withoutStreamCounters) dropStreamCounters(rest.value);
    if (options.withoutSeen) dropSeen(rest.value);
  }
  if ((options.how ?? "loaded") !== "loaded") return rest;
  const nowMs = options.nowMs ?? Date.now();
  if (line.expireAtMs !== null && Number(line.expireAtMs) <= nowMs) return undefined;
  if (rest.type === "zset" && rest.value !== undefined) rest.value = withoutMinusZero(rest.value);
  if (rest.type === "hash" && rest.value !== undefined) {
    rest.value = rest.value.filter(([, , at]) => at === undefined || Number(at) > nowMs);
    if (rest.value.length === 0) return undefined;
  }
  if (rest.type === "vectorset" && rest.value !== undefined) {
    // The order of the graph's links is the server's own affair.
    const { payload: ___, ...value } = rest.value;
    rest.value = value;
  }
  return rest;
}

type ScoredMembers = NonNullable<Extract<KeyLine, { type: "zset" }>["value"]>;

/** A server that turns a table into a listpack makes 0 of a score of -0. */
function withoutMinusZero(members: ScoredMembers): ScoredMembers {
  return members
    .map(([member, score]): ScoredMembers[number] => [member, score === "-0" ? "0" : score])
    .sort(
      (a, b) =>
        parseScore(a[1]) - parseScore(b[1]) ||
        Buffer.compare(Buffer.from(a[0], "base64"), Buffer.from(b[0], "base64")),
    );
}

type StreamValue = NonNullable<Extract<KeyLine, { type: "stream" }>["value"]>;

function dropStreamCounters(stream: StreamValue): void {
  delete stream.firstId;
  delete stream.maxDeletedId;
  delete stream.entriesAdded;
  for (const group of stream.groups) {
    delete group.entriesRead;
    for (const consumer of group.consumers) delete consumer.activeMs;
  }
}

function dropSeen(stream: StreamValue): void {
  for (const consumer of stream.groups.flatMap((group) => group.consumers)) {
    delete consumer.seenMs;
    delete consumer.activeMs;
  }
}

/** Both texts around the first character that differs. */
function around(want: string, got: string): string {
  let at = 0;
  while (at < want.length && want[at] === got[at]) at++;
  const part = (text: string) =>
    `${at > 60 ? "…" : ""}${text.slice(Math.max(0, at - 60), at + 60)}${text.length > at + 60 ? "…" : ""}`;
  return `    want ${part(want)}\n    got  ${part(got)}`;
}
