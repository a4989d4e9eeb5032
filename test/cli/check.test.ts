import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite, test } from "node:test";
import type { CheckReport } from "../../src/cli/check/report.ts";
import { check, repair } from "../../src/cli/check/run.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { fileNames, formatManifest } from "../../src/codec/aof/manifest.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { assertSameDump } from "../support/compare.ts";
import {
  aofFixtures,
  type DamagedAof,
  damagedAofs,
  hostileFixtures,
  rdbFixture,
  rdbFixtures,
} from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, startServer } from "../support/servers.ts";
import { tidemark } from "./tidemark.ts";

/**
 * Sound as files, and refused by these servers: too new for them, a database or module that they do
 * not have, a library that does not run, a length that only Redis 6.0 reads.
 */
const refusedByServersOnly =
  /^(version-13|select-16|function-(bad-code|no-header|twice)|module-(aux-)?unknown|zipmap-length-254)$/;

/** What differs from servers, with the reason. */
const differently: Readonly<Record<string, CheckReport["verdict"]>> = {
  // Which commands a server has is not looked at.
  "bad-command": "sound",
  // Servers start empty.
  "manifest-missing": "damaged",
};

suite("check", () => {
  for (const fixture of rdbFixtures()) {
    test(`calls ${fixture.id} sound, with all its keys`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const { report } = await check(join(folder.path, "dump.rdb"));
      assert.equal(report.verdict, "sound");
      assert.equal(report.files[0]?.snapshot?.keys, fixture.keys);
    });
  }

  for (const fixture of aofFixtures()) {
    test(`calls all files of ${fixture.id} sound`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const { report } = await check(placeOf(fixture, folder.path));
      assert.equal(report.verdict, "sound", JSON.stringify(report, null, 2));
      assert.ok(report.files.length >= 1);
      assert.ok(report.files.every(({ verdict, reason }) => verdict === "sound" && !reason));
    });
  }

  test("says of every hostile file that it is damaged, or of a kind that is not known", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "x.rdb");
    for (const fixture of hostileFixtures()) {
      writeFileSync(path, fixture.read());
      const { report } = await check(path);
      const loads = Object.values(fixture.servers).some((server) => server.loads);
      if (loads) continue;
      const [file] = report.files;
      const { verdict } = report;
      if (verdict === "sound") assert.match(fixture.name, refusedByServersOnly);
      else assert.equal(typeof file?.offset, "number", fixture.name);
    }
  });

  for (const fixture of damagedAofs()) {
    test(`judges ${fixture.id} (${fixture.about}) as the server does`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const { report } = await check(placeOf(fixture, folder.path));
      const last = report.files.at(-1);
      const { verdict } = report;
      assert.equal(verdict, verdictOf(fixture), JSON.stringify(report, null, 2));
      if (verdict === "torn") assert.equal(last?.log?.goodEnd, goodEndOf(fixture, folder.path));
      if (verdict === "damaged") assert.ok(report.files.some(({ reason }) => reason !== null));
    });
  }
});

suite("check --repair", () => {
  for (const fixture of damagedAofs().filter(({ name }) => name.startsWith("cut-"))) {
    test(`makes a log that ${fixture.server} loads strictly of ${fixture.id}`, {
      skip: missingServers(fixture.server),
    }, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const place = placeOf(fixture, folder.path);
      const last = lastFileOf(fixture, folder.path);
      const before = readFileSync(last);
      const end = goodEndOf(fixture, folder.path, before);
      const report = await repair(await check(place), false);
      assert.equal(report.verdict, "sound");
      assert.equal(report.repair?.truncatedTo, end);
      assert.equal(report.repair.cutBytes, before.length - end);
      assert.deepEqual(readFileSync(last), before.subarray(0, end));
      assert.deepEqual(readFileSync(`${last}.before-repair`), before);

      const conf = { ...fixture.conf, appendonly: "yes", "aof-load-truncated": "no" };
      await using server = await startServer(fixture.server, { dir: folder.path, conf });
      assert.ok(fixture.expected);
      assertSameDump(fixture.expected.lines(), await server.dump(), { withoutSeen: true });
    });
  }

  for (const fixture of damagedAofs().filter((each) => verdictOf(each) === "damaged")) {
    test(`refuses ${fixture.id} (${fixture.about}), and changes nothing`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const before = digestOf(folder.path);
      const checked = await check(placeOf(fixture, folder.path));
      await assert.rejects(repair(checked, false), { code: "DATA_CORRUPT" });
      assert.deepEqual(digestOf(folder.path), before);
    });
  }

  test("says what went, from where, and where the file as it was is kept", async () => {
    using folder = temporaryFolder();
    const [, last] = writeLog(folder.path, { cutLast: 5 });
    const { status, stdout } = await tidemark("check", "--repair", folder.path);
    assert.equal(status, 0);
    assert.match(stdout, /: sound, after its repair$/m);
    const went = `^cut: (\\d+) bytes, from byte ${withCommas(statSync(last).size)} on, of "${last}"$`;
    assert.match(stdout, new RegExp(went, "m"));
    assert.match(stdout, new RegExp(`^kept: the file as it was, "${last}.before-repair"$`, "m"));
  });

  test("refuses a damaged RDB", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "x.rdb");
    const whole = rdbFixture("redis-8.0/rdb/multi-db").read();
    writeFileSync(path, whole.subarray(0, whole.length - 20));
    const { status, stderr } = await tidemark("check", "--repair", path);
    assert.equal(status, 3);
    assert.match(stderr, /Cannot repair "x\.rdb": The RDB is cut off/);
  });

  test("leaves a sound log untouched", async () => {
    using folder = temporaryFolder();
    writeLog(folder.path);
    const before = digestOf(folder.path);
    const { status, stdout } = await tidemark("check", "--repair", folder.path);
    assert.equal(status, 0);
    assert.match(stdout, /: sound\n/);
    assert.deepEqual(digestOf(folder.path), before);
  });

  test("tells only what it would cut with --dry-run", async () => {
    using folder = temporaryFolder();
    const [, last] = writeLog(folder.path, { cutLast: 5 });
    const before = digestOf(folder.path);
    const plan = await tidemark("check", "--repair", "--dry-run", "--json", folder.path);
    assert.equal(plan.status, 3);
    const { repair } = JSON.parse(plan.stdout) as CheckReport;
    assert.equal(repair?.isDone, false);
    assert.equal(repair.copy, null);
    assert.equal(repair.file, last);
    assert.equal(repair.truncatedTo + repair.cutBytes, statSync(last).size);
    assert.match((await tidemark("check", "--repair", "--dry-run", folder.path)).stdout, /would/);
    assert.deepEqual(digestOf(folder.path), before);
  });

  test("keeps the copies of earlier repairs", async () => {
    using folder = temporaryFolder();
    const [, last] = writeLog(folder.path);
    const whole = readFileSync(last);
    for (const cut of [1, 2, 3]) {
      writeFileSync(last, whole.subarray(0, whole.length - cut));
      assert.equal((await tidemark("check", "--repair", folder.path)).status, 0);
    }
    for (const [suffix, cut] of [["", 1] as const, ["-2", 2] as const, ["-3", 3] as const]) {
      const copy = readFileSync(`${last}.before-repair${suffix}`);
      assert.equal(copy.length, whole.length - cut);
    }
  });

  test("refuses a torn file that is not the last one", async () => {
    using folder = temporaryFolder();
    const [first] = writeLog(folder.path, { cutFirst: 5 });
    const { status, stderr, stdout } = await tidemark("check", "--repair", folder.path);
    assert.equal(status, 3);
    assert.match(
      stderr,
      /^tidemark: Cannot repair "log\.1\.incr\.aof": .* it is not the last file.*\nhint: Only a torn/,
    );
    assert.match(stdout, /^ {2}log\.2\.incr\.aof .* sound /m);
    assert.ok(!readdirSync(dirname(first)).some((name) => name.includes("before-repair")));
  });

  test("refuses one file of a log by itself: it may not be the last one", async () => {
    using folder = temporaryFolder();
    const [first] = writeLog(folder.path, { cutFirst: 5 });
    const { status, stderr } = await tidemark("check", "--repair", first);
    assert.equal(status, 2);
    assert.match(stderr, /log\.manifest" names it\nhint: Run `tidemark check --repair '/);
  });

  test("cuts a file with a snapshot in front at the end of that, if need be", async () => {
    const fixture = aofFixtures("redis-6.0").find(({ name }) => name === "preamble-only");
    assert.ok(fixture);
    using folder = temporaryFolder();
    fixture.copyTo(folder.path);
    const path = join(folder.path, "appendonly.aof");
    const sound = readFileSync(path);
    writeFileSync(path, Buffer.concat([sound, Buffer.from("*2\r\n$6\r\nSELECT\r\n$1")]));
    assert.equal((await tidemark("check", path)).status, 3);
    assert.equal((await tidemark("check", "--repair", path)).status, 0);
    assert.deepEqual(readFileSync(path), sound);
  });
});

suite("check of a log with position lines", () => {
  test("names its last position, and the records behind it that no checksum covers", async () => {
    using folder = temporaryFolder();
    const [, last] = writeLog(folder.path);
    writeFileSync(last, `${readFileSync(last, "latin1")}*1\r\n$4\r\nPING\r\n`, "latin1");
    const { stdout, status } = await tidemark("check", folder.path);
    assert.equal(status, 0);
    assert.match(stdout, /note: log\.2\.incr\.aof: Its last position is a{40}:400, 2023-/);
    assert.match(stdout, /note: log\.2\.incr\.aof: 1 record behind it without a checksum/);
  });

  test("finds a changed byte of a value, and checks the files behind it all the same", async () => {
    using folder = temporaryFolder();
    const [first] = writeLog(folder.path);
    const bytes = readFileSync(first);
    bytes[bytes.indexOf("value") + 1] = 0x41;
    writeFileSync(first, bytes);
    const { report } = await check(folder.path);
    const verdicts = report.files.map(({ verdict, code }) => [verdict, code]);
    assert.deepEqual(verdicts, [
      ["damaged", "DATA_CORRUPT"],
      ["sound", null],
    ]);
    assert.match(report.files[0]?.reason ?? "", /are not those that were written/);
  });

  test("finds that a file between two others is not there, also where no manifest tells", async () => {
    using folder = temporaryFolder();
    const [first] = writeLog(folder.path, { files: 3 });
    const folderOfLog = dirname(first);
    const increments = [1, 3].map((sequence) => ({
      file: fileNames.increment("log", sequence),
      sequence,
    }));
    const manifest = formatManifest({ base: undefined, increments, history: [] });
    writeFileSync(join(folderOfLog, "log.manifest"), manifest);
    const { report } = await check(folder.path);
    assert.equal(report.verdict, "damaged");
    assert.match(report.files[1]?.reason ?? "", /^Position line 4 after 1 at byte \d+/);
    assert.ok(report.notes.includes("Increment 3 follows 1: servers leave no such gap"));
  });

  test("calls a file damaged that the manifest names and that is not there", async () => {
    using folder = temporaryFolder();
    const [first] = writeLog(folder.path);
    rmSync(first);
    const { status, stdout } = await tidemark("check", folder.path);
    assert.equal(status, 3);
    assert.match(stdout, /^damaged: log\.1\.incr\.aof\n {2}The manifest names it, and it is not/m);
  });
});

function verdictOf({ name, loads, loadsStrictly }: DamagedAof): CheckReport["verdict"] {
  return differently[name] ?? (loadsStrictly ? "sound" : loads ? "torn" : "damaged");
}

/** Where a server cuts; but all before Valkey 9 leave the MULTI of a record that is cut. */
function goodEndOf({ name, server, cutAt = 0, files }: DamagedAof, dir: string, bytes?: Buffer) {
  if (name !== "cut-in-multi-command" || server === "valkey-9") return cutAt;
  const last = bytes ?? readFileSync(join(dir, files.findLast(isLog)?.file ?? ""));
  return last.lastIndexOf("*1\r\n$5\r\nMULTI\r\n");
}

function isLog({ file }: { readonly file: string }): boolean {
  return file.endsWith(".aof");
}

function lastFileOf({ files }: DamagedAof, dir: string): string {
  return join(dir, files.findLast(isLog)?.file ?? "");
}

/** A pre-7.0 AOF is a file; else the folder that has the manifest. */
function placeOf({ files }: Pick<DamagedAof, "files">, dir: string): string {
  const [first] = files;
  const isAlone = files.length === 1 && first !== undefined && isLog(first);
  return isAlone ? join(dir, first.file) : join(dir, dirname(first?.file ?? ""));
}

/** Names and contents of all files. */
function digestOf(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => `${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`)
    .sort();
}

function withCommas(count: number): string {
  return count.toLocaleString("en-US");
}

type LogOptions = { files?: number; cutFirst?: number; cutLast?: number };

/** A log of our own, of increments with two position lines each. Returns their paths. */
function writeLog(dir: string, options: LogOptions = {}): [first: string, last: string] {
  const { files = 2, cutFirst = 0, cutLast = 0 } = options;
  const folder = join(dir, "appendonlydir");
  mkdirSync(folder);
  const increments = [];
  let after: PositionLine | undefined;
  for (let sequence = 1; sequence <= files; sequence++) {
    const file = fileNames.increment("log", sequence);
    increments.push({ file, sequence });
    const writer = new LogWriter(after === undefined ? {} : { after });
    for (const half of [1, 2]) {
      const offset = 200 * (sequence - 1) + 100 * half;
      writer.select(0);
      writer.record(["SET", `key:${offset}`, "value"].map((word) => Buffer.from(word)));
      writer.seal({ replicationId: "a".repeat(40), offset }, 1_700_000_000_000 + offset);
    }
    after = writer.position;
    const cut = sequence === 1 ? cutFirst : sequence === files ? cutLast : 0;
    const bytes = writer.take();
    writeFileSync(join(folder, file), bytes.subarray(0, bytes.length - cut));
  }
  const manifest = formatManifest({ base: undefined, increments, history: [] });
  writeFileSync(join(folder, fileNames.manifest("log")), manifest);
  const path = (sequence: number) => join(folder, fileNames.increment("log", sequence));
  return [path(1), path(files)];
}
