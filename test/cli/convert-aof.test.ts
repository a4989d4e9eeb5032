/** Logs through `tidemark convert`: replayed into data, and copied with their records as they are. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Failure } from "../../src/base/errors.ts";
import { assertSameDump } from "../support/compare.ts";
import { isLibrary, type Line, parseLines } from "../support/dump.ts";
import {
  type AofFixture,
  aofFixtures,
  type DamagedAof,
  damagedAofs,
  rdbFixture,
} from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  findServer,
  missingServers,
  type ServerId,
  serverIds,
  startServer,
} from "../support/servers.ts";
import { convert } from "./convert-here.ts";

function programOf(id: ServerId): string {
  return findServer(id)?.bin.server ?? "";
}

/** Copies a log into a folder. Returns the path that one would give to `tidemark`. */
function place(fixture: AofFixture | DamagedAof, folder: string): string {
  fixture.copyTo(folder);
  const manifest = fixture.files.find(({ file }) => file.endsWith(".manifest"));
  const single = fixture.server === "redis-6.0" ? fixture.files[0] : undefined;
  return join(folder, (manifest ?? single)?.file ?? ".");
}

/** Links of a vector set's graph are made by chance when its commands are replayed. */
function withoutGraphs(lines: readonly Line[]): Line[] {
  return lines.map((line) => {
    if (isLibrary(line) || line.type !== "vectorset" || !line.value) return line;
    const { payload: _, ...value } = line.value;
    return { ...line, value };
  });
}

suite("a log as JSON lines, by a server that replays it", () => {
  for (const id of serverIds) {
    test(`holds what ${id} reads from its own logs`, { skip: missingServers(id) }, async () => {
      for (const fixture of aofFixtures(id)) {
        using folder = temporaryFolder();
        const output = join(folder.path, "out.jsonl");
        await convert(place(fixture, folder.path), output, "--server", programOf(id));
        const found = withoutGraphs(parseLines(readFileSync(output, "utf8")));
        assertSameDump(withoutGraphs(fixture.expected.lines()), found, {
          how: "contents",
          // An RDB keeps when consumers were seen; replaying a log is being seen.
          withoutSeen: true,
          relativeExpiries: fixture.relativeExpiries,
        });
      }
    });
  }

  for (const id of ["redis-6.0", "redis-8.0", "valkey-9"] as const) {
    test(`is refused where ${id} does not read all of a damaged log`, {
      skip: missingServers(id),
    }, async () => {
      for (const fixture of damagedAofs(id)) {
        using folder = temporaryFolder();
        const output = join(folder.path, "out.jsonl");
        const input = place(fixture, folder.path);
        const converted = convert(input, output, "--server", programOf(id));
        // Servers start empty without a manifest; nobody wants that of a conversion.
        if (fixture.loadsStrictly && fixture.name !== "manifest-missing") {
          await converted;
          const found = parseLines(readFileSync(output, "utf8"));
          assertSameDump(fixture.expected?.lines() ?? [], found, { how: "contents" });
          continue;
        }
        await assert.rejects(converted, (error) => {
          assert(error instanceof Failure, `${fixture.id}: ${String(error)}`);
          const isMissing = /^(base|incr)-missing$/.test(fixture.name);
          assert((isMissing ? [7] : [3, 11]).includes(error.exit), fixture.id);
          return error.hint.length > 0;
        });
        assert.equal(readdirSync(folder.path).includes("out.jsonl"), false);
      }
    });
  }

  test("needs a server, and says so", async () => {
    using folder = temporaryFolder();
    const input = place(logWithAnnotations(), folder.path);
    const output = join(folder.path, "out.jsonl");
    await assert.rejects(convert(input, output), {
      code: "SERVER_NEEDED",
      hint: /--server PATH/,
    });
    await assert.rejects(convert(input, output, "--server", "/no/such/server"), {
      code: "SERVER_FAILED",
      message: 'Cannot run "/no/such/server"',
    });
    await assert.rejects(convert(input, output, "--server", "/bin/echo"), {
      code: "SERVER_FAILED",
      message: /^Cannot use "\/bin\/echo" as a server: it says /,
    });
  });

  test("by a server that is too old for it is refused", {
    skip: missingServers("redis-6.0"),
  }, async () => {
    using folder = temporaryFolder();
    const input = place(logWithAnnotations(), folder.path);
    const output = join(folder.path, "out.jsonl");
    await assert.rejects(convert(input, output, "--server", programOf("redis-6.0")), {
      code: "SERVER_FAILED",
      message: /it is older than 7\.0$/,
    });
  });
});

suite("a log as commands", () => {
  for (const id of ["redis-7.0", "valkey-9"] as const) {
    test(`makes the same data on ${id}`, { skip: missingServers(id) }, async () => {
      const fixtures = aofFixtures(id).filter(({ name }) => /^(timestamps|incr-chain)/.test(name));
      for (const fixture of fixtures) {
        using folder = temporaryFolder();
        const output = join(folder.path, "x.resp");
        const { records } = await convert(place(fixture, folder.path), output);
        assert(records > 0);
        await using server = await startServer(id);
        const args = ["-s", server.socketPath, "--pipe"];
        const input = readFileSync(output);
        const said = spawnSync(server.program.bin.cli, args, { input, encoding: "utf8" }).stdout;
        assert.match(said, /errors: 0, /);
        assertSameDump(fixture.expected.lines(), await server.dump(), { withoutSeen: true });
      }
    });
  }
});

function logWithAnnotations(): AofFixture {
  const found = aofFixtures("redis-7.0").find(({ name }) => name === "timestamps");
  assert(found);
  return found;
}

/** What a server has that starts on a log. */
async function readLog(id: ServerId, dir: string, conf: AofFixture["conf"] = {}): Promise<Line[]> {
  await using server = await startServer(id, { dir, conf: { appendonly: "yes", ...conf } });
  return await server.dump();
}

function annotationsIn(files: readonly Uint8Array[]): string[] {
  return files.flatMap(
    (file) =>
      Buffer.from(file)
        .toString("latin1")
        .match(/^#TS:\d+\r$/gm) ?? [],
  );
}

suite("a log as a log", () => {
  for (const id of serverIds.filter((each) => each !== "redis-6.0")) {
    test(`keeps its annotations in a folder, and ${id} reads it as before`, {
      skip: missingServers(id),
    }, async () => {
      for (const fixture of aofFixtures(id)) {
        using folder = temporaryFolder();
        mkdirSync(join(folder.path, "in"));
        mkdirSync(join(folder.path, "out"));
        const output = join(folder.path, "out", "appendonlydir");
        await convert(place(fixture, join(folder.path, "in")), output);
        const files = readdirSync(output).map((name) => readFileSync(join(output, name)));
        const before = fixture.files.filter(({ file }) => /\.(base|incr)\.(aof|rdb)$/.test(file));
        assert.equal(
          annotationsIn(files).length,
          annotationsIn(before.filter(isCurrent(fixture)).map(({ read }) => read())).length,
        );
        assertSameDump(fixture.expected.lines(), await readLog(id, join(folder.path, "out")), {
          withoutSeen: true,
        });
      }
    });

    test(`is one file without annotations for ${id}, which reads it as before`, {
      skip: missingServers(id),
    }, async () => {
      for (const fixture of aofFixtures(id).filter(({ name }) =>
        /^(timestamps|incr|upg)/.test(name),
      )) {
        using folder = temporaryFolder();
        mkdirSync(join(folder.path, "in"));
        mkdirSync(join(folder.path, "out"));
        const output = join(folder.path, "out", "appendonly.aof");
        await convert(place(fixture, join(folder.path, "in")), output);
        assert.deepEqual(annotationsIn([readFileSync(output)]), []);
        assertSameDump(fixture.expected.lines(), await readLog(id, join(folder.path, "out")), {
          withoutSeen: true,
        });
      }
    });
  }
});

/** A small log as a folder: a snapshot and one increment of these bytes. */
function writeLog(dir: string, snapshot: Uint8Array, increment: string): void {
  writeFileSync(join(dir, "a.1.base.rdb"), snapshot);
  writeFileSync(join(dir, "a.1.incr.aof"), increment, "latin1");
  const lines = ["file a.1.base.rdb seq 1 type b\n", "file a.1.incr.aof seq 1 type i\n"];
  writeFileSync(join(dir, "a.manifest"), lines.join(""));
}

function record(...args: string[]): string {
  return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join("")}`;
}

/** What looks like an annotation, in a value. */
const tricky = "a\r\n#TS:5\r\n*1\r\n$4\r\nPING\r\n\0b\n#";
const records = [
  record("SELECT", "0"),
  record("SET", "tricky", tricky),
  record("MULTI"),
  record("RPUSH", "list", "#TS:1\r\n", "b"),
  record("SET", "long", "#\n".repeat(400_000)),
  record("EXEC"),
];
const annotated = records.map((each, i) => `#TS:${1000 + i}\r\n${each}`).join("");
const functions = () => rdbFixture("redis-7.0/rdb/functions").read();

suite("the records of a log", () => {
  test("are loaded by an older server behind a snapshot for it", {
    skip: missingServers("redis-6.0"),
  }, async () => {
    using folder = temporaryFolder();
    writeLog(folder.path, functions(), annotated);
    const output = join(folder.path, "appendonly.aof");
    const args = [folder.path, output, "--target", "redis:6.0"];
    await assert.rejects(convert(...args), {
      code: "TARGET_CANNOT_HOLD",
      message: "Cannot write a function library for redis:6.0: it has no functions",
    });
    const said = await convert(...args, "--lossy");
    assert.deepEqual(said, {
      output,
      form: "aof",
      target: "redis:6.0",
      keys: { read: 2, written: 2, skipped: 0, empty: 0, expired: 0, libraries: 0, unchecked: 0 },
      records: 6,
      dropped: { function: 3 },
    });
    await using server = await startServer("redis-6.0", {
      dir: folder.path,
      conf: { appendonly: "yes" },
    });
    assert.equal(await server.call("DBSIZE"), 5);
    assert.equal(String(await server.call("GET", "tricky")), tricky);
    assert.equal(String(await server.call("LINDEX", "list", 0)), "#TS:1\r\n");
    assert.equal(await server.call("STRLEN", "long"), 800_000);
  });

  test("lose their annotations as commands and in one file, and nothing else", async () => {
    using folder = temporaryFolder();
    writeLog(folder.path, functions(), annotated);
    for (const name of ["x.resp", "x.aof"]) {
      await convert(folder.path, join(folder.path, name));
      const written = readFileSync(join(folder.path, name), "latin1");
      assert(written.endsWith(records.join("")), name);
    }
    await convert(folder.path, join(folder.path, "log"));
    const kept = readFileSync(join(folder.path, "log", "appendonly.aof.1.incr.aof"), "latin1");
    assert.equal(kept, annotated);
  });

  test("are passed on where there is no snapshot, in several files, with nothing in some", async () => {
    using folder = temporaryFolder();
    const files = ["#TS:1\r\n", "", "#TS:2\r\n", record("SET", "k", "v"), ""];
    const lines = files.map((content, i) => {
      writeFileSync(join(folder.path, `${i}.aof`), content);
      return `file ${i}.aof seq ${i + 1} type i\n`;
    });
    writeFileSync(join(folder.path, "a.manifest"), lines.join(""));
    const output = join(folder.path, "log");
    await convert(folder.path, output);
    const read = (name: string) => readFileSync(join(output, `appendonly.aof.${name}`), "latin1");
    assert.equal(read("1.incr.aof"), files.join(""));
    assert.match(read("1.base.rdb"), /^REDIS0010/);
    await convert(folder.path, join(folder.path, "x.aof"));
    const single = readFileSync(join(folder.path, "x.aof"), "latin1");
    assert.match(single, /^REDIS0009/);
    assert(single.endsWith(record("SET", "k", "v")));
  });

  test("are refused where a snapshot stands behind them", async () => {
    using folder = temporaryFolder();
    writeFileSync(join(folder.path, "1.aof"), record("SET", "k", "v"));
    writeFileSync(join(folder.path, "2.aof"), functions());
    const lines = ["file 1.aof seq 1 type i\n", "file 2.aof seq 2 type i\n"];
    writeFileSync(join(folder.path, "a.manifest"), lines.join(""));
    await assert.rejects(convert(folder.path, join(folder.path, "x.aof")), {
      code: "DATA_UNSUPPORTED",
      message: /2\.aof": an RDB behind other data$/,
    });
  });

  test("are refused when they are torn or damaged, and nothing is left", async () => {
    const torn = {
      record: annotated.slice(0, -1),
      transaction: annotated.slice(0, annotated.lastIndexOf("#TS:")),
      annotation: `${annotated}#TS:17`,
    };
    for (const [what, increment] of Object.entries({ ...torn, damage: `${annotated}junk` })) {
      for (const name of ["x.aof", "x.resp", "x"]) {
        using folder = temporaryFolder();
        writeLog(folder.path, functions(), increment);
        const expected =
          what === "damage"
            ? { code: "DATA_CORRUPT", message: / at byte \d+$/ }
            : {
                code: "DATA_TORN",
                message: new RegExp(`it ends within the ${what} at byte \\d+$`),
              };
        await assert.rejects(convert(folder.path, join(folder.path, name)), expected);
        const left = readdirSync(folder.path).sort();
        assert.deepEqual(left, ["a.1.base.rdb", "a.1.incr.aof", "a.manifest"], `${what} ${name}`);
      }
    }
  });
});

/** A predicate of files that the manifest does not call history. */
function isCurrent({ files }: AofFixture): (file: { readonly file: string }) => boolean {
  const manifest = files.find(({ file }) => file.endsWith(".manifest"));
  const lines = Buffer.from(manifest?.read() ?? [])
    .toString()
    .split("\n");
  const history = lines.filter((line) => / type h/.test(line)).map((line) => line.split(" ")[1]);
  return ({ file }) => !history.some((name) => file.endsWith(`/${name}`));
}
