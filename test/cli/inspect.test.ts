import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import type { InspectReport } from "../../src/cli/inspect/report.ts";
import { inspect } from "../../src/cli/inspect/run.ts";
import { checkout } from "../support/checkout.ts";
import { isLibrary, type KeyLine } from "../support/dump.ts";
import { aofFixtures, damagedAofs, rdbFixture, rdbFixtures } from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import { runNode, tidemark } from "./tidemark.ts";

const nowMs = Date.parse("2026-11-23T00:00:00Z");
const options = { top: 10, prefixSeparator: Buffer.from(":"), prefixDepth: 1, nowMs };

suite("inspect", () => {
  for (const fixture of rdbFixtures()) {
    test(`counts what is in ${fixture.id}`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const { snapshot, kind, damage } = await inspect(join(folder.path, "dump.rdb"), options);
      assert.ok(snapshot);
      assert.equal(kind, "rdb");
      assert.deepEqual(damage, []);
      const lines = fixture.expected.lines();
      const keys = lines.filter((line) => !isLibrary(line)) as KeyLine[];
      const expiring = keys.filter(({ expireAtMs }) => expireAtMs !== null);
      const expired = expiring.filter(({ expireAtMs }) => Number(expireAtMs) <= nowMs);
      assert.equal(snapshot.keys, keys.length);
      assert.equal(snapshot.expiring, expiring.length);
      assert.equal(snapshot.expired, expired.length);
      assert.equal(snapshot.functions.length, lines.length - keys.length);
      assert.deepEqual(elementsOf(snapshot.types), elementsOfLines(keys));
      const perDatabase = Map.groupBy(keys, ({ db }) => db);
      for (const { database, keys: count } of snapshot.databases) {
        assert.equal(count, perDatabase.get(database)?.length, `database ${database}`);
      }
      assert.equal(snapshot.databases.length, perDatabase.size);
      const checksums = { present: "right", zero: "none", none: "none" } as const;
      assert.equal(snapshot.checksum, checksums[fixture.records.checksum]);
      assert.match(snapshot.producer ?? "", /^(redis|valkey) \d+\.\d+\.\d+$/);
      assertSumsAgree(snapshot);
    });
  }

  for (const fixture of aofFixtures()) {
    test(`counts the records of ${fixture.id}`, async () => {
      using folder = temporaryFolder();
      fixture.copyTo(folder.path);
      const report = await inspect(placeOf(fixture, folder.path), options);
      assert.deepEqual(report.damage, []);
      assert.ok(report.log);
      const sum = report.log.commands.reduce((total, { count }) => total + count, 0);
      assert.equal(sum + report.log.commandOthers, report.log.records);
      assert.equal(report.log.tail.kind, "whole");
      assert.ok(report.files.every(({ tail }) => tail.kind === "whole"));
      const stamps = fixture.checkpoints.map(({ unixSeconds }) => unixSeconds * 1000);
      if (stamps.length === 0) return;
      assert.ok((report.log.fromMs ?? 0) <= Math.min(...stamps));
      assert.ok((report.log.toMs ?? 0) >= Math.max(...stamps));
    });
  }

  test("says how a torn log ends, and does not count what is not complete", async () => {
    const fixture = damagedAofs("redis-8.0").find(({ name }) => name === "cut-in-multi");
    assert.ok(fixture);
    using folder = temporaryFolder();
    fixture.copyTo(folder.path);
    const { files, log } = await inspect(folder.path, options);
    assert.deepEqual(files.at(-1)?.tail, { kind: "transaction", offset: fixture.cutAt });
    assert.equal(log?.transactions, 0);
  });

  test("prints tables for people", async () => {
    using folder = temporaryFolder();
    rdbFixture("redis-8.0/rdb/multi-db").copyTo(folder.path);
    const { status, stdout, stderr } = await tidemark("inspect", join(folder.path, "dump.rdb"));
    assert.equal(stderr, "");
    assert.equal(status, 0);
    assert.match(stdout, /^\S+dump\.rdb: RDB\n/);
    assert.match(stdout, /^ {2}written by +redis 8\.0\.\d+$/m);
    assert.match(stdout, /^ {2}checksum +right$/m);
    assert.match(stdout, /^ +db +keys +expiring +expired +mean TTL +bytes$/m);
    assert.match(stdout, /^Biggest keys$/m);
    assert.doesNotMatch(stdout, /\p{Cc}(?<!\n)/u);
  });

  test("escapes what a terminal would obey", async () => {
    using folder = temporaryFolder();
    rdbFixture("redis-8.0/rdb/binary").copyTo(folder.path);
    const path = join(folder.path, "dump.rdb");
    const { stdout } = await tidemark("inspect", path, "--top", "1000");
    assert.match(stdout, /"\\x1b/);
    assert.doesNotMatch(stdout, /\p{Cc}(?<!\n)/u);
  });

  test("prints JSON of a stable shape", async () => {
    using folder = temporaryFolder();
    rdbFixture("redis-8.0/rdb/streams").copyTo(folder.path);
    const path = join(folder.path, "dump.rdb");
    const { status, stdout } = await tidemark("inspect", "--json", "--top", "3", path);
    const report = JSON.parse(stdout) as InspectReport;
    assert.equal(status, 0);
    assert.deepEqual(Object.keys(report), [
      ...["format", "path", "kind", "sizeBytes", "snapshot", "files", "log", "damage"],
    ]);
    assert.equal(report.format, 1);
    assert.equal(report.snapshot?.biggest.length, 3);
    assert.equal(report.snapshot?.streams?.topGroups.length, 3);
    assert.equal(report.log, null);
  });

  test("groups keys by what stands before any separator, as deep as it is asked to", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "x.rdb");
    const keys = ["app/user/1", "app/user/2", "app/job/1", "app/", "lone", "/", "deep/a/b/c"];
    writeFileSync(path, rdbOf(keys));
    const prefixes = async (prefixDepth: number) => {
      const separator = { prefixSeparator: Buffer.from("/"), prefixDepth };
      const { snapshot } = await inspect(path, { ...options, ...separator });
      const { top = [], without } = snapshot?.prefixes ?? {};
      return [top.map(({ prefix, keys: count }) => `${prefix} ${count}`).sort(), without?.keys];
    };
    assert.deepEqual(await prefixes(1), [["/ 1", "app/ 4", "deep/ 1"], 1]);
    const two = ["/ 1", "app/ 1", "app/job/ 1", "app/user/ 2", "deep/a/ 1"];
    assert.deepEqual(await prefixes(2), [two, 1]);
  });

  test("tells what stands before damage, and exits with 3", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "x.rdb");
    const file = rdbOf(["a", "b", "c"]);
    writeFileSync(path, file.subarray(0, -12));
    const cut = await tidemark("inspect", path);
    assert.equal(cut.status, 3);
    assert.match(cut.stdout, /^2 keys/m);
    assert.match(cut.stdout, /^Not read to its end: x\.rdb: The RDB is cut off/m);

    file[file.length - 1] = (file.at(-1) as number) ^ 1;
    file[file.length - 2] = 1;
    writeFileSync(path, file);
    const { snapshot, damage } = await inspect(path, options);
    assert.equal(snapshot?.checksum, "wrong");
    assert.equal(damage[0]?.code, "DATA_CORRUPT");
    assert.equal(damage[0]?.offset, file.length - 8);
  });

  test("stays below 200 MB of memory, however many keys and prefixes there are", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "many.rdb");
    const keys = Array.from({ length: 500_000 }, (_, i) => `${"p".repeat(i % 40)}${i}:key`);
    writeFileSync(path, rdbOf(keys));
    const tell = "process.on('exit', () => console.error(process.resourceUsage().maxRSS))";
    const { stdout, stderr, status } = await runNode(
      `--import=data:text/javascript,${encodeURIComponent(tell)}`,
      join(checkout, "src/cli/main.ts"),
      ...["inspect", "--json", path],
    );
    assert.equal(status, 0);
    const { snapshot } = JSON.parse(stdout) as InspectReport;
    assert.equal(snapshot?.keys, keys.length);
    assert.equal(snapshot?.prefixes.distinct, 65_536);
    assert.equal(snapshot?.prefixes.others.keys, keys.length - 65_536);
    assert.ok(Number(stderr) < 200_000, `${stderr.trim()} kB`);
  });

  test("ends quietly when nobody reads on", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "x.rdb");
    writeFileSync(path, rdbOf(Array.from({ length: 5000 }, (_, i) => `${i}`)));
    const args = [join(checkout, "src/cli/main.ts"), "inspect", "--top", "5000", path];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdout.destroy();
    const [status] = (await once(child, "close")) as [number | null];
    assert.equal(stderr, "");
    assert.equal(status, 141);
  });
});

suite("a path", () => {
  const cases: Record<string, [make: (dir: string) => string, status: number, says: RegExp]> = {
    "that is not there": [(dir) => join(dir, "none"), 7, /none": there is no such file\nhint: /],
    "of an empty file": [file("empty", ""), 3, /empty": it is empty\nhint: /],
    "of a file of something else": [file("x.rdb", "hello, world"), 3, /neither RDB nor AOF/],
    "of a gzip file": [file("x.rdb", gzipSync("REDIS")), 4, /compressed by gzip\nhint: .*gzip -dk/],
    "of a zstd file": [file("x", zstdCompressSync("REDIS")), 4, /by zstd\nhint: Run `zstd -d/],
    "of a folder without a log": [
      (dir) => {
        file("dump.rdb", "REDIS")(dir);
        return dir;
      },
      7,
      /Cannot find a log in .*\nhint: Name one of its files: dump\.rdb/,
    ],
    "of a folder with two manifests": [
      (dir) => {
        file("a.manifest", "")(dir);
        file("b.manifest", "")(dir);
        return dir;
      },
      2,
      /it has "a\.manifest", "b\.manifest"\nhint: Name the manifest/,
    ],
    "of a folder that has lost its manifest": [
      (dir) => {
        mkdirSync(join(dir, "appendonlydir"));
        file("appendonlydir/appendonly.aof.2.incr.aof", "*1\r\n$4\r\nPING\r\n")(dir);
        return dir;
      },
      3,
      /it has "appendonly\.aof\.2\.incr\.aof", but no manifest/,
    ],
    "of a device": [() => "/dev/null", 9, /it is not a regular file/],
    "with control characters": [(dir) => join(dir, "a\x1b[2Jb"), 7, /a\\x1b\[2Jb": there is no/],
  };
  for (const [name, [make, status, says]] of Object.entries(cases)) {
    test(`${name} is told as such, exit ${status}`, async () => {
      using folder = temporaryFolder();
      const outcome = await tidemark("inspect", make(folder.path));
      assert.match(outcome.stderr, /^tidemark: Cannot /);
      assert.match(outcome.stderr, says);
      assert.equal(outcome.stdout, "");
      assert.equal(outcome.status, status);
    });
  }

  test("may be that of a manifest, of its folder, and of the folder around that", async () => {
    const fixture = aofFixtures("redis-8.0").find(({ name }) => name === "fresh");
    assert.ok(fixture);
    using folder = temporaryFolder();
    fixture.copyTo(folder.path);
    const inner = join(folder.path, "appendonlydir");
    for (const path of [folder.path, inner, join(inner, "appendonly.aof.manifest")]) {
      const { kind, files } = await inspect(path, options);
      assert.equal(kind, "appendonlydir");
      assert.equal(files.length, 2);
    }
  });
});

suite("the command line", () => {
  test("tells its version, and its help with examples and exit statuses", async () => {
    assert.match((await tidemark("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
    for (const args of [["--help"], [], ["inspect", "--help"], ["check", "--help"]]) {
      const { status, stdout } = await tidemark(...args);
      assert.equal(status, 0);
      assert.match(stdout, /^Exit status:\n {4}0 /m);
      assert.match(stdout, /^ {4}3 {2}data corrupt(, data torn)?$/m);
      if (args.length === 2) assert.match(stdout, /^Examples:\n {2}tidemark /m);
    }
  });

  test("refuses what it does not know with status 2, and suggests what was meant", async () => {
    const cases: Record<string, RegExp> = {
      chek: /unknown command 'chek'\nhint: Did you mean check\?\n$/,
      "inspect --jsno x": /unknown option '--jsno'\nhint: Did you mean --json\?\n$/,
      inspect: /missing required argument 'path'\nhint: /,
      "inspect --top many x": /argument 'many' is invalid/,
      "check --dry-run x": /Cannot use --dry-run without --repair/,
    };
    for (const [line, says] of Object.entries(cases)) {
      const { status, stderr } = await tidemark(...line.split(" "));
      assert.match(stderr, /^tidemark: Cannot /);
      assert.match(stderr, says);
      assert.equal(status, 2);
    }
  });
});

/** The folder that is given to the command: a pre-7.0 AOF is a file. */
function placeOf({ files }: { files: readonly { file: string }[] }, dir: string): string {
  const manifest = files.find(({ file: name }) => name.endsWith(".manifest"));
  return join(dir, manifest?.file ?? files[0]?.file ?? "");
}

type Counts = Record<string, number>;

function elementsOf(types: NonNullable<InspectReport["snapshot"]>["types"]): Counts {
  const counts: Counts = {};
  for (const { type, keys, elements } of types) {
    counts[`${type} keys`] = (counts[`${type} keys`] ?? 0) + keys;
    if (elements !== null) counts[`${type}s`] = (counts[`${type}s`] ?? 0) + elements;
  }
  return counts;
}

function elementsOfLines(lines: readonly KeyLine[]): Counts {
  const counts: Counts = {};
  for (const line of lines) {
    const type = line.type === "vectorset" ? "module" : line.type;
    counts[`${type} keys`] = (counts[`${type} keys`] ?? 0) + 1;
    if (line.type === "string" || line.type === "vectorset") continue;
    const size =
      line.type === "stream"
        ? (line.value?.entries?.length ?? line.value?.entriesDigest?.count)
        : (line.value?.length ?? line.valueDigest?.count);
    counts[`${type}s`] = (counts[`${type}s`] ?? 0) + (size ?? Number.NaN);
  }
  return counts;
}

/** Bytes and keys are counted in four ways, which have to agree. */
function assertSumsAgree(snapshot: NonNullable<InspectReport["snapshot"]>): void {
  const sum = (shares: readonly { keys: number; bytes: number }[]) =>
    shares.reduce(
      (total, { keys, bytes }) => ({ keys: total.keys + keys, bytes: total.bytes + bytes }),
      { keys: 0, bytes: 0 },
    );
  const { databases, types, prefixes, biggest } = snapshot;
  const all = sum(databases);
  assert.deepEqual(sum(types), all);
  const { top, distinct, others, without } = prefixes;
  if (distinct === top.length) assert.deepEqual(sum([...top, others, without]), all);
  assert.ok(all.bytes < snapshot.sizeBytes);
  assert.ok(biggest.every(({ bytes }, i) => bytes <= (biggest[i - 1]?.bytes ?? Infinity)));
  if (all.keys <= options.top) {
    assert.equal(sum(biggest.map(({ bytes }) => ({ keys: 1, bytes }))).bytes, all.bytes);
  }
}

function file(name: string, content: string | Uint8Array): (dir: string) => string {
  return (dir) => {
    writeFileSync(join(dir, name), content);
    return join(dir, name);
  };
}

/** An RDB of version 9 without a checksum, in which each of some short keys is "v". */
function rdbOf(keys: readonly string[]): Uint8Array {
  const records = keys.map((key) => `\0${String.fromCharCode(key.length)}${key}\x01v`);
  return Buffer.from(`REDIS0009\xfe\0${records.join("")}\xff${"\0".repeat(8)}`, "latin1");
}
