/** `tidemark convert`: its options, its outputs, and what is left when it fails or is interrupted. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  watch,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Failure } from "../../src/base/errors.ts";
import { RdbReader } from "../../src/codec/rdb/reader.ts";
import { checkout } from "../support/checkout.ts";
import { type KeyLine, parseLines } from "../support/dump.ts";
import { rdbFixture } from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import { findServer, missingServers, startServer } from "../support/servers.ts";
import { convert } from "./convert-here.ts";
import { tidemark } from "./tidemark.ts";

const b64 = (key: string) => Buffer.from(key).toString("base64");
const fromB64 = (key: string) => Buffer.from(key, "base64").toString();

function line(db: number, key: string, type: string, value: unknown, expireAtMs?: number): string {
  const fields = { db, key: b64(key), type, encoding: "x", expireAtMs: expireAtMs ?? null, value };
  return `${JSON.stringify(fields)}\n`;
}

const far = 4_102_444_800_000;
const past = 1_000_000_000_000;
const code = "#!lua name=x\nredis.register_function('f', function() return 1 end)";
const library = `{"library":"x","engine":"LUA","code":"${b64(code)}"}\n`;
const data = [
  library,
  line(0, "user:1", "string", b64("ann"), far),
  line(0, "user:2", "string", b64("ben"), past),
  line(0, "users", "set", [b64("1"), b64("2")]),
  line(2, "user:3", "hash", [
    [b64("f"), b64("v")],
    [b64("g"), b64("w"), far],
  ]),
  line(2, "Ünï", "list", [b64("a")]),
].join("");

/** What a selection chose: `db:key`, with its expiry. */
function chosen(path: string): string[] {
  return parseLines(readFileSync(path, "utf8"))
    .filter((each): each is KeyLine => "key" in each)
    .map(
      ({ db, key, expireAtMs }) =>
        `${db}:${fromB64(key)}${expireAtMs === null ? "" : `@${expireAtMs}`}`,
    );
}

async function convertData(...flags: string[]): Promise<{ keys: string[]; text: string }> {
  using folder = temporaryFolder();
  const [input, rdb, output] = ["in.jsonl", "in.rdb", "out.jsonl"].map((name) =>
    join(folder.path, name),
  ) as [string, string, string];
  writeFileSync(input, data);
  await convert(input, rdb);
  await convert(rdb, output, ...flags);
  return { keys: chosen(output), text: readFileSync(output, "utf8") };
}

const user1 = `0:user:1@${far}`;
const user2 = `0:user:2@${past}`;
const all = [user1, user2, "0:users", "2:user:3", "2:Ünï"];

suite("convert chooses", () => {
  const cases: readonly (readonly [flags: string[], expected: string[]])[] = [
    [[], all],
    [
      ["--keys", "user:*"],
      [user1, user2, "2:user:3"],
    ],
    [
      ["--keys", "Ü*", "--keys", "user:1"],
      [user1, "2:Ünï"],
    ],
    [
      ["--keys", "user:1", "--keys", "*s"],
      [user1, "0:users"],
    ],
    [
      ["--exclude", "user:[12]", "--exclude", "Ünï"],
      ["0:users", "2:user:3"],
    ],
    [["--keys", "user*", "--exclude", "*:*"], ["0:users"]],
    [
      ["--regex", "^user:[23]$"],
      [user2, "2:user:3"],
    ],
    [["--regex", "\\p{Lu}n"], ["2:Ünï"]],
    [
      ["--type", "string"],
      [user1, user2],
    ],
    [
      ["--type", "hash", "--type", "list"],
      ["2:user:3", "2:Ünï"],
    ],
    [
      ["--db", "2"],
      ["2:user:3", "2:Ünï"],
    ],
    [
      ["--db", "1", "--db", "0"],
      [user1, user2, "0:users"],
    ],
    [
      ["--db", "0", "--keys", "*:*", "--exclude", "*2", "--type", "string", "--regex", "u"],
      [user1],
    ],
    [["--type", "zset"], []],
  ];
  for (const [flags, expected] of cases) {
    test(`${expected.length} keys by ${flags.join(" ") || "nothing"}`, async () => {
      const { keys, text: written } = await convertData(...flags);
      assert.deepEqual(keys, expected);
      assert.equal(written.includes('"library"'), flags.length === 0);
    });
  }

  test("the names that keys get", async () => {
    const { keys, text: written } = await convertData("--prefix-add", "é:", "--keys", "user:?");
    assert.deepEqual(keys, [`0:é:user:1@${far}`, `0:é:user:2@${past}`, "2:é:user:3"]);
    assert.equal(written.includes('"library"'), false);
    assert.equal((await convertData("--prefix-add", "x")).text.includes('"library"'), true);
  });

  test("no expiries with --ttl persist", async () => {
    const { keys, text: written } = await convertData("--ttl", "persist");
    assert.deepEqual(
      keys,
      all.map((key) => key.replace(/@\d+$/, "")),
    );
    assert.equal(written.includes(String(far)), false);
  });

  test("expiries that count from now with --ttl shift, from when lines were written", async () => {
    using folder = temporaryFolder();
    const [input, output] = [join(folder.path, "in.jsonl"), join(folder.path, "out.jsonl")];
    writeFileSync(input, data);
    const writtenAt = past - 5000.5;
    utimesSync(input, writtenAt / 1000, writtenAt / 1000);
    const before = Date.now();
    const { keys } = await convert(input, output, "--ttl", "shift");
    const after = Date.now();
    const times = parseLines(readFileSync(output, "utf8")).flatMap((each) =>
      "key" in each && each.expireAtMs !== null ? [Number(each.expireAtMs)] : [],
    );
    const [first = 0, second = 0] = times;
    assert.equal(first - second, far - past);
    assert(second >= before + 5000 && second <= after + 5001, `${second - before}`);
    assert.equal(keys["expired"], 0);
    const field = /"dw==",(\d+)/.exec(readFileSync(output, "utf8"))?.[1];
    assert.equal(Number(field), first);
  });

  test("expiries that count from now with --ttl shift, from when an RDB says it was made", async () => {
    using folder = temporaryFolder();
    const fixture = rdbFixture("redis-8.0/rdb/expires");
    fixture.copyTo(folder.path);
    const [whole, output] = [join(folder.path, "whole.jsonl"), join(folder.path, "out.jsonl")];
    await convert(join(folder.path, "dump.rdb"), whole);
    const before = Date.now();
    const { keys } = await convert(join(folder.path, "dump.rdb"), output, "--ttl", "shift");
    const after = Date.now();
    const madeAtMs = Number(fixture.aux["ctime"]) * 1000;
    const expiries = (path: string) =>
      new Map(
        parseLines(readFileSync(path, "utf8")).flatMap((each) =>
          "key" in each && Number(each.expireAtMs ?? Infinity) < 2 ** 52
            ? [[each.key, Number(each.expireAtMs)]]
            : [],
        ),
      );
    const old = expiries(whole);
    const moved = expiries(output);
    const expired = [...old.values()].filter((at) => at <= madeAtMs).length;
    assert.equal(keys["expired"], expired);
    assert.equal(moved.size, old.size - expired);
    const shifts = new Set([...moved].map(([key, at]) => at - (old.get(key) ?? 0)));
    assert.equal(shifts.size, 1);
    const [shift = 0] = shifts;
    assert(shift >= before - madeAtMs && shift <= after - madeAtMs);
  });
});

suite("convert refuses", () => {
  const wrong: readonly (readonly [args: string[], status: number, said: RegExp])[] = [
    [
      ["in.rdb", "out.parquet"],
      2,
      /Cannot tell what to write from the name ".*out\.parquet"\nhint: Add --to /,
    ],
    [["in.rdb", "-"], 2, /Cannot tell what to write to standard output\nhint: Add --to /],
    [
      ["in.rdb", "out.rdb", "--type", "strings"],
      2,
      /Cannot choose --type "strings": it is none of /,
    ],
    [["in.rdb", "out.rdb", "--db", "x"], 2, /Cannot choose --db "x": it is no number/],
    [["in.rdb", "out.rdb", "--regex", "("], 2, /Cannot use --regex: .*Invalid regular expression/],
    [["in.rdb", "out.rdb", "--target", "redis:5"], 2, /--target/],
    [["in.rdb", "out.rdb", "--ttl", "none"], 2, /--ttl/],
    [["in.rdb", "out.rdb", "--to", "csv"], 2, /--to/],
    [["in.rdb"], 2, /missing required argument 'out'/],
    [["no.rdb", "out.rdb"], 7, /Cannot read ".*no\.rdb": there is no such file/],
    [["in.rdb", "no/out.rdb"], 7, /Cannot write ".*no\/out\.rdb\.part": there is no such file/],
    [["in.rdb", "no/log"], 7, /Cannot make ".*no\/log": there is no such file/],
    [["in.rdb", "there.rdb"], 8, /Cannot write ".*there\.rdb": it exists/],
    [
      ["in.rdb", "there.rdb", "--to", "appendonlydir"],
      8,
      /Cannot write a log into ".*": it is no folder/,
    ],
    [["in.rdb", "full"], 8, /Cannot write a log into ".*full": it is not empty/],
    [["in.rdb", "log", "--target", "redis:6.0"], 5, /several files for redis:6\.0\nhint: .*\.aof/],
    [
      ["in.rdb", "out.rdb", "--target", "redis:7.0"],
      5,
      /"user:3" for redis:7\.0: it has a field that expires\nhint: .*--lossy/,
    ],
    [["torn.rdb", "out.rdb"], 3, /The RDB is cut off/],
  ];
  for (const [args, status, said] of wrong) {
    test(`${args.join(" ")}, and leaves nothing`, async () => {
      using folder = temporaryFolder();
      const at = (name: string) => join(folder.path, name);
      writeFileSync(at("in.jsonl"), data);
      await convert(at("in.jsonl"), at("in.rdb"));
      writeFileSync(at("torn.rdb"), readFileSync(at("in.rdb")).subarray(0, -20));
      writeFileSync(at("there.rdb"), "something");
      mkdirSync(at("full"));
      writeFileSync(at("full/file"), "");
      const before = readdirSync(folder.path);
      const paths = args.slice(0, 2).map((arg) => (arg === "-" ? arg : at(arg)));
      await assert.rejects(convert(...paths, ...args.slice(2)), (error) => {
        assert(error instanceof Failure, String(error));
        assert.match(`${error.message}\nhint: ${error.hint}`, said);
        return error.exit === status;
      });
      assert.deepEqual(readdirSync(folder.path), before);
      assert.equal(readFileSync(at("there.rdb"), "utf8"), "something");
    });
  }
});

test("convert says what is wrong, what to do, and ends with a status", async () => {
  assert.deepEqual(await tidemark("convert", "no.rdb", "out.rdb"), {
    status: 7,
    stdout: "",
    stderr: 'tidemark: Cannot read "no.rdb": there is no such file\nhint: Check the path.\n',
  });
});

suite("convert writes", () => {
  test("over what is there when it is told to, and not when it fails", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("in.jsonl"), data);
    writeFileSync(at("out.rdb"), "old");
    const args = [at("in.jsonl"), at("out.rdb"), "--force"] as const;
    await assert.rejects(convert(...args, "--target", "redis:7.0"), { code: "TARGET_CANNOT_HOLD" });
    assert.equal(readFileSync(at("out.rdb"), "utf8"), "old");
    await convert(...args);
    assert.match(readFileSync(at("out.rdb"), "latin1"), /^REDIS0012/);
    await convert(at("out.rdb"), at("out.rdb"), "--target", "valkey:9", "--force");
    assert.match(readFileSync(at("out.rdb"), "latin1"), /^VALKEY080/);
    assert.deepEqual(readdirSync(folder.path).sort(), ["in.jsonl", "out.rdb"]);
  });

  test("into a folder that is there and empty, or that it makes", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("in.jsonl"), data);
    mkdirSync(at("empty"));
    for (const name of ["empty", "new"]) {
      await convert(at("in.jsonl"), at(name));
      assert.deepEqual(readdirSync(at(name)).sort(), [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
      ]);
    }
  });

  test("for the server that the data came from, where no target is named", async () => {
    using folder = temporaryFolder();
    for (const [name, header, target] of [
      ["redis-6.0", "REDIS0009", "redis:6.0"],
      ["redis-7.0", "REDIS0010", "redis:7.0"],
      ["redis-8.0", "REDIS0012", "redis:8"],
      ["valkey-8.1", "REDIS0011", "valkey:8"],
      ["valkey-9", "VALKEY080", "valkey:9"],
    ] as const) {
      rdbFixture(`${name}/rdb/sets`).copyTo(folder.path);
      const output = join(folder.path, "out.rdb");
      const said = await convert(join(folder.path, "dump.rdb"), output, "--force");
      assert.equal(said.target, target);
      assert.equal(readFileSync(output).toString("latin1", 0, 9), header);
    }
  });

  test("without LZF when it is told so", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("in.jsonl"), line(0, "k", "string", b64("x".repeat(1000))));
    await convert(at("in.jsonl"), at("small.rdb"));
    await convert(at("in.jsonl"), at("large.rdb"), "--no-compress");
    assert(statSync(at("small.rdb")).size < 200);
    assert(statSync(at("large.rdb")).size > 1000);
  });

  test("what it has done, in words on standard error, and as JSON where OUT is not", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("in.jsonl"), data);
    const flags = ["--target", "redis:6.0", "--lossy", "--exclude", "users"];
    const words = await tidemark("convert", at("in.jsonl"), at("a.rdb"), ...flags);
    assert.deepEqual(words, {
      status: 0,
      stdout: "",
      stderr: `${at("a.rdb")}: rdb for redis:6.0, 4 keys; 1 not chosen; function libraries not chosen: 1; lost: field expiry (1)\n`,
    });
    const { stdout, stderr } = await tidemark(
      ...["convert", at("in.jsonl"), at("b.rdb"), ...flags, "--json"],
    );
    assert.equal(stderr, "");
    assert.deepEqual(JSON.parse(stdout), {
      output: at("b.rdb"),
      form: "rdb",
      target: "redis:6.0",
      keys: { read: 5, written: 4, skipped: 1, empty: 0, expired: 0, libraries: 1, unchecked: 0 },
      records: 0,
      dropped: { "field expiry": 1 },
    });
    const args = ["convert", at("in.jsonl"), "-", "--to", "jsonl", "--json"] as const;
    const both = await tidemark(...args);
    assert.match(both.stdout, /^\{"library":.*\n\{"db":/);
    assert.equal(JSON.parse(both.stderr).output, "-");
  });
});

/** Many keys: some megabytes as lines, more than pipes hold, and a second or so of work. */
function writeMany(path: string, count: number): void {
  const lines = Array.from({ length: count }, (_, i) =>
    line(0, `key:${i}`, "string", b64(`value ${i} `.repeat(10))),
  );
  writeFileSync(path, lines.join(""));
}

function start(args: readonly string[], stdout: "pipe" | number = "pipe"): ChildProcess {
  const main = join(checkout, "src/cli/main.ts");
  return spawn(process.execPath, [main, "convert", ...args], { stdio: ["ignore", stdout, "pipe"] });
}

suite("convert to standard output", () => {
  test("waits for a reader that is slow, and writes the same as to a file", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeMany(at("in.jsonl"), 5000);
    for (const form of ["rdb", "aof", "resp", "jsonl"]) {
      await convert(at("in.jsonl"), at(`out.${form}`));
      const child = start([at("in.jsonl"), "-", "--to", form]);
      assert(child.stdout && child.stderr);
      // The pipe is full long before the end.
      const closed = once(child, "close");
      await once(child.stdout, "readable");
      const [written, said] = await Promise.all([buffer(child.stdout), text(child.stderr)]);
      assert.deepEqual(await closed, [0, null]);
      assert(written.equals(readFileSync(at(`out.${form}`))), form);
      assert.match(said, /^standard output: /);
    }
  });

  test("ends quietly when its reader has seen enough", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "in.jsonl");
    writeMany(input, 5000);
    const child = start([input, "-", "--to", "resp"]);
    assert(child.stdout && child.stderr);
    const said = text(child.stderr);
    const closed = once(child, "close");
    await once(child.stdout, "readable");
    child.stdout.destroy();
    assert.deepEqual([await closed, await said], [[141, null], ""]);
  });

  test("says that the disk is full", {
    skip: !existsSync("/dev/full") && "no /dev/full",
  }, async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "in.jsonl");
    writeMany(input, 10);
    const child = start([input, "-", "--to", "rdb"], openSync("/dev/full", "w"));
    assert(child.stderr);
    const [said, [status]] = await Promise.all([text(child.stderr), once(child, "close")]);
    assert.equal(status, 9);
    assert.match(said, /^tidemark: Cannot write to standard output: no space left on device\n/);
  });

  test("gives commands that redis-cli --pipe takes", {
    skip: missingServers("redis-8.0"),
  }, async () => {
    using folder = temporaryFolder();
    writeFileSync(join(folder.path, "in.jsonl"), data);
    await using server = await startServer("redis-8.0");
    const child = start([join(folder.path, "in.jsonl"), "-", "--to", "resp"]);
    const cli = spawn(server.program.bin.cli, ["-s", server.socketPath, "--pipe"]);
    child.stdout?.pipe(cli.stdin);
    assert.match(await text(cli.stdout), /errors: 0, replies: 11\n/);
    assert.equal(String(await server.call("GET", "user:1")), "ann");
  });
});

/** Resolves when something of this name appears in a folder. */
async function appears(folder: string, name: string): Promise<void> {
  const watcher = watch(folder);
  try {
    while (!readdirSync(folder).includes(name)) await once(watcher, "change");
  } finally {
    watcher.close();
  }
}

/** A process that has ended may still be listed until whoever inherited it looks. */
function isRunning(pid: number): boolean {
  const path = `/proc/${pid}/stat`;
  return existsSync(path) && !/\) Z /.test(readFileSync(path, "utf8"));
}

suite("an interrupted convert", () => {
  for (const [signal, name, part] of [
    ["SIGINT", "out.rdb", "out.rdb.part"],
    ["SIGTERM", "out.jsonl", "out.jsonl.part"],
    ["SIGINT", "log", "log"],
  ] as const) {
    test(`leaves nothing of ${name} on ${signal}`, async () => {
      using folder = temporaryFolder();
      const at = (file: string) => join(folder.path, file);
      writeMany(at("in.jsonl"), 100_000);
      const child = start([at("in.jsonl"), at(name)]);
      const closed = once(child, "close");
      await appears(folder.path, part);
      child.kill(signal);
      assert.deepEqual(await closed, [18, null]);
      assert.deepEqual(readdirSync(folder.path), ["in.jsonl"]);
    });
  }

  test("leaves no server and no files of it", { skip: missingServers("redis-8.0") }, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("in.aof"), "*1\r\n$4\r\nPING\r\n");
    mkdirSync(at("tmp"));
    // A server that says its version, and then only that it was started.
    writeFileSync(
      at("server"),
      `#!/bin/sh\ncase "$*" in --version) exec ${findServer("redis-8.0")?.bin.server} --version;; esac\n` +
        `echo $$ > ${at("pid")}.new && mv ${at("pid")}.new ${at("pid")}\nexec sleep 1000\n`,
    );
    chmodSync(at("server"), 0o755);
    const child = spawn(
      process.execPath,
      [
        join(checkout, "src/cli/main.ts"),
        "convert",
        at("in.aof"),
        at("out.rdb"),
        "--server",
        at("server"),
      ],
      { env: { ...process.env, TMPDIR: at("tmp") }, stdio: "ignore" },
    );
    const closed = once(child, "close");
    await appears(folder.path, "pid");
    const pid = Number(readFileSync(at("pid"), "utf8"));
    assert.equal(readdirSync(at("tmp")).length, 1);
    child.kill("SIGINT");
    assert.deepEqual(await closed, [18, null]);
    assert.deepEqual(readdirSync(at("tmp")), []);
    while (isRunning(pid)) await setImmediate();
  });
});

test("convert sorts more lines than it holds in memory", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  // Some 30 MB of lines, of which it holds less than half.
  const keys = Array.from({ length: 60_000 }, (_, i) => `${(i * 7919) % 60_000}`.padStart(6, "0"));
  writeFileSync(
    at("in.jsonl"),
    keys.map((key) => line(0, key, "string", b64(key.repeat(50)))).join(""),
  );
  await convert(at("in.jsonl"), at("out.jsonl"));
  const found = chosen(at("out.jsonl"));
  assert.deepEqual(
    found,
    keys.toSorted().map((key) => `0:${key}`),
  );
});

test("the checksum of an RDB that convert writes is right", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFileSync(at("in.jsonl"), data);
  await convert(at("in.jsonl"), at("out.rdb"));
  const reader = new RdbReader();
  reader.push(readFileSync(at("out.rdb")));
  while (reader.next() !== "end");
  assert(reader.isChecked);
});
