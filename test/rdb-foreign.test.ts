/**
 * Files that are wrong on purpose or merely odd, and old and rare files of other projects: each was
 * given to every server, and the reader decides as they do.
 *
 *   all servers refuse it    the reader refuses it, with a code and an offset
 *   some server loads it     the reader finds what one of them found
 *
 * Where it decides otherwise the tables below say why; an entry that is not needed any more fails.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Failure } from "../src/base/errors.ts";
import { RdbReader } from "../src/codec/rdb/reader.ts";
import { compareDumps } from "./support/compare.ts";
import { isLibrary, type KeyLine, type Line, parseLines } from "./support/dump.ts";
import {
  type Expectation,
  foreignFixtures,
  hostileFixtures,
  noForeignFixtures,
  type Verdict,
} from "./support/fixtures.ts";
import { linesOf } from "./support/json-lines.ts";

const opaqueCode = "code of functions is passed on as it is";
const passedModule = "values and records of modules are passed over, whichever module they need";

/** Read although every server refuses it. */
const readAnyway: Readonly<Record<string, string>> = {
  "hostile/version-13": "Redis 8.6 writes this version; no server of the fixtures is that new",
  "hostile/select-16": "how many databases there are is a setting of the server",
  "hostile/function-bad-code": opaqueCode,
  "hostile/function-no-header": opaqueCode,
  "hostile/function-twice": opaqueCode,
  "hostile/module-unknown": passedModule,
  "hostile/module-aux-unknown": passedModule,
  "hostile/zipmap-length-254": "sound by the format; servers from 7.0 on take fe for an end",
};

const lostTwice = "a server keeps one of two equal members, or both";
const unsafe = "Redis 6.0 does not look; what it then does is chance";
const noNumber = "servers read 0 where the score is no number";

/** Refused although some server loads it. */
const refusedAnyway: Readonly<Record<string, string>> = {
  "hostile/member-twice": lostTwice,
  "hostile/field-twice": lostTwice,
  "hostile/zset-member-twice": lostTwice,
  "hostile/ziplist-hash-twice": lostTwice,
  "hostile/stream-consumer-twice": lostTwice,
  "hostile/intset-twice": "a server finds members by halving, so it loses some",
  "hostile/intset-unsorted": "a server finds members by halving, so it loses some",
  "hostile/intset-0": unsafe,
  "hostile/intset-width-3": unsafe,
  "hostile/intset-count-more": unsafe,
  "hostile/intset-count-less": unsafe,
  "hostile/lzf-too-short": unsafe,
  "hostile/ziplist-bytes": unsafe,
  "hostile/ziplist-tail": unsafe,
  "hostile/ziplist-tail-past-end": unsafe,
  "hostile/ziplist-count": unsafe,
  "hostile/ziplist-prevlen": unsafe,
  "hostile/zipmap-count-wrong": unsafe,
  "hostile/stream-count-wrong": unsafe,
  "hostile/zset-text-junk": noNumber,
  "hostile/ziplist-zset-score": noNumber,
  "hostile/listpack-zset-score": noNumber,
};

const noRdb = "a log of commands without an RDB in front";

/** The same for files of other projects. */
const foreignRefusedAnyway: Readonly<Record<string, string>> = {
  "foreign/HDT3213-rdb/hash_as_listpack_with_hfe.aof": noRdb,
  "foreign/HDT3213-rdb/hash_with_hfe.aof": noRdb,
  "foreign/HDT3213-rdb/memory.aof": noRdb,
  "foreign/HDT3213-rdb/memory_regex.aof": noRdb,
  "foreign/HDT3213-rdb/valkey_hash2_with_hfe.aof": noRdb,
};

/** The clock of the servers that read the files of other projects. */
const year2010Ms = Date.UTC(2010, 0, 1);

type Fixture = {
  readonly id: string;
  readonly read: () => Uint8Array;
  readonly servers: Readonly<Record<string, Verdict>>;
  readonly expectedWithoutModules?: Expectation;
};

type Decision = "as servers do" | "read anyway" | "refused anyway";

suite("RdbReader, given files that are wrong or odd,", () => {
  const decisions = new Map<string, Decision>();
  const nowMs = Date.now();
  for (const fixture of hostileFixtures()) {
    test(`decides about ${fixture.id} as servers do, or says why not`, () => {
      const decision = decide(fixture, nowMs);
      decisions.set(fixture.id, decision);
      assert.equal(decision, listed(fixture.id, refusedAnyway));
    });
  }

  test("differs from servers just where it is said", () => {
    assertAllNeeded(decisions, "read anyway", readAnyway);
    assertAllNeeded(decisions, "refused anyway", refusedAnyway);
  });
});

suite("RdbReader, given files of other projects,", { skip: noForeignFixtures }, () => {
  const decisions = new Map<string, Decision>();
  for (const fixture of foreignFixtures()) {
    if (fixture.id === "foreign/valkey/rdb-preamble.aof") continue;
    test(`decides about ${fixture.id} as servers do, or says why not`, () => {
      const decision = decide(fixture, year2010Ms);
      decisions.set(fixture.id, decision);
      assert.equal(decision, listed(fixture.id, foreignRefusedAnyway));
    });
  }

  test("differs from servers just where it is said", () => {
    assertAllNeeded(decisions, "read anyway", {});
    assertAllNeeded(decisions, "refused anyway", foreignRefusedAnyway);
  });

  test("reads the RDB in front of a log, and gives what stands behind it", () => {
    const fixture = foreignFixtures().find(({ id }) => id === "foreign/valkey/rdb-preamble.aof");
    assert.ok(fixture);
    const file = fixture.read();
    for (const size of [file.length, 64]) {
      const reader = new RdbReader();
      let at = 0;
      for (let event = reader.next(); event !== "end"; event = reader.next()) {
        if (event) continue;
        reader.push(file.subarray(at, at + size));
        at += size;
      }
      const behind = Buffer.concat([reader.rest(), file.subarray(at)]);
      assert.deepEqual(behind, file.subarray(reader.position));
      assert.match(behind.toString("latin1"), /^\*2\r\n\$6\r\nSELECT\r\n/);
    }
  });
});

function listed(id: string, refused: Readonly<Record<string, string>>): Decision {
  if (id in readAnyway) return "read anyway";
  return id in refused ? "refused anyway" : "as servers do";
}

function decide(fixture: Fixture, nowMs: number): Decision {
  const verdicts = Object.values(fixture.servers);
  const isLoaded = verdicts.some(({ loads }) => loads);
  let got: string;
  try {
    got = linesOf(fixture.read());
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    assert.match(error.code, /^(?:DATA_CORRUPT|DATA_UNSUPPORTED|LIMIT_EXCEEDED)$/);
    assert.ok(Number.isSafeInteger(error.offset) && error.message.includes(`${error.offset}`));
    return isLoaded ? "refused anyway" : "as servers do";
  }
  const lines = parseLines(got).filter(hasContents);
  const rest = fixture.expectedWithoutModules;
  if (rest !== undefined) {
    assertOneIs([rest], lines.filter(isNoModule), nowMs);
    return "as servers do";
  }
  if (!isLoaded) return "read anyway";
  const expected = verdicts.flatMap((verdict) => verdict.expected ?? []);
  const isChance = verdicts.some((verdict) => verdict.undefined);
  if (expected.length > 0 || !isChance) assertOneIs(expected, lines, nowMs);
  return "as servers do";
}

/** Servers from 7.0 on drop keys without elements. */
function hasContents(line: Line): boolean {
  return (
    isLibrary(line) || line.type === "string" || !Array.isArray(line.value) || line.value.length > 0
  );
}

function isNoModule(line: Line): boolean {
  return isLibrary(line) || (line.type as string) !== "module";
}

/** Fails unless one of the servers read the same; the last one's differences are told. */
function assertOneIs(expected: readonly Expectation[], got: readonly Line[], nowMs: number): void {
  const withoutStreamCounters = got.some(isOldStream);
  let differences = ["no server's contents to compare with"];
  for (const each of expected) {
    const wanted = each.lines().filter(hasContents);
    differences = compareDumps(wanted, got, { how: "loaded", nowMs, withoutStreamCounters });
    if (differences.length === 0) return;
  }
  assert.fail(differences.slice(0, 3).join("\n"));
}

/** Whether the file's version does not know what later servers count of a stream. */
function isOldStream(line: Line): boolean {
  return (
    !isLibrary(line) &&
    line.type === "stream" &&
    (line as KeyLine & { type: "stream" }).value?.firstId === undefined
  );
}

function assertAllNeeded(
  decisions: ReadonlyMap<string, Decision>,
  decision: Decision,
  table: Readonly<Record<string, string>>,
): void {
  const needed = [...decisions].filter(([, each]) => each === decision).map(([id]) => id);
  assert.deepEqual(needed.sort(), Object.keys(table).sort());
}
