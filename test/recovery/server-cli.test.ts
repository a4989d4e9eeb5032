/** The command line of a restore: what is refused before anything is read, and what a stop leaves. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { ScratchServer } from "../../src/recovery/scratch-server.ts";
import { Site } from "../cli/daemon.ts";
import { shell, tidemark } from "../cli/tidemark.ts";
import { freePort } from "../link/ports.ts";
import { Sentinel } from "../link/sentinel.ts";
import { until } from "../link/until.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { findServer, missingServers, startServer } from "../support/servers.ts";

const skip = missingServers("redis-6.0", "redis-7.0");

/** A program that says it is a server, notes its process id, and then waits for ever. */
function makeSleeper(folder: string, more = "exec sleep 1000"): string {
  const path = join(folder, "sleeper");
  const version = "Redis server v=7.0.15 sha=0:0 malloc=libc bits=64 build=0";
  const isAsked = `[ "$1" = --version ] && { echo "${version}"; exit 0; }`;
  writeFileSync(path, `#!/bin/sh\n${isAsked}\necho $$ > ${folder}/pid\n${more}\n`, { mode: 0o755 });
  return path;
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function untilPid(folder: string): Promise<number> {
  const path = join(folder, "pid");
  const read = () => (existsSync(path) ? Number(readFileSync(path, "latin1")) : 0);
  await until("it runs", () => Promise.resolve(read() > 0));
  return read();
}

/** A command that is stopped when `isTime` has come. */
async function stopped(site: Site, args: readonly string[], isTime: () => Promise<unknown>) {
  const all = [join(checkout, "src/cli/main.ts"), ...args, "--config", site.config];
  const child = spawn(process.execPath, all, { stdio: ["ignore", "ignore", "pipe"] });
  const closed = once(child, "close");
  const said = text(child.stderr);
  await isTime();
  child.kill("SIGINT");
  const [status] = await closed;
  return { status, stderr: await said };
}

async function makeSite(folder: string, keys: number): Promise<Site> {
  await using source = await startServer("redis-7.0");
  await source.call("DEBUG", "POPULATE", keys, "key", 100);
  const site = new Site(folder, source.socketPath);
  await tidemark("init", join(folder, "repository"));
  await site.json("backup", "db1");
  return site;
}

suite("flags", () => {
  const nowhere = ["restore", "db1", "--at", "latest", "--repo", "/nowhere"] as const;
  const into = ["--to-dir", "x"] as const;
  const server = ["--to", "redis://127.0.0.1:1"] as const;
  const refused: readonly (readonly [readonly string[], RegExp])[] = [
    [[...into, "--overwrite"], /--overwrite with --to-dir/],
    [[...into, "--no-safety"], /--no-safety with --to-dir/],
    [[...into, "--conflict", "skip"], /--conflict with --to-dir/],
    [[...into, "--password-file", "f"], /--password-file with --to-dir/],
    [[...into, "--dir", "f"], /--dir with --to-dir/],
    [[...into, "--server", "f"], /--server with --to-dir/],
    [[...server, "--port", "1"], /--port with --to/],
    [[...server, "--target", "redis:8"], /--target with --to/],
    [["--run", "redis-server", "--port", "1", "--user", "u"], /--user with --run/],
    [["--run", "redis-server", "--port", "x"], /--port is no number/],
    [[...server, "--overwrite", "--conflict", "skip"], /both: --overwrite/],
    [[...server, "--db", "x"], /--db "x": it is no number/],
    [[...server, "--type", "x"], /--type "x"/],
    [[...server, "--ttl", "x"], /--ttl x: it is none of the forms/],
    [[...server, "--ttl", "shift:nonsense"], /Cannot use --ttl shift:nonsense: (?!Cannot)/],
  ];
  test("that do not belong to the way, or cannot be read, are refused before the repository is", async () => {
    const told = refused.map(async ([args, message]) => {
      const { status, stderr } = await tidemark(...nowhere, ...args);
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /Cannot restore to/);
    });
    await Promise.all(told);
  });
});

suite("a restore that is stopped", { skip }, () => {
  test("leaves nothing of a server that it has started", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    const program = makeSleeper(folder.path);
    const data = join(folder.path, "data");
    const port = String(await freePort());
    const run = ["restore", "db1", "--at", "latest", "--run", program, "--port", port];
    let pid = 0;
    const { status, stderr } = await stopped(site, [...run, "--dir", data], async () => {
      pid = await untilPid(folder.path);
    });
    assert.equal(status, 18);
    assert.match(stderr, /Cannot finish the restore: it was stopped[\s\S]*Nothing of it was left/);
    assert.equal(existsSync(data), false);
    await until("the server has ended", () => Promise.resolve(!isThere(pid)));
  });

  test("leaves the marker in a server, and the same command goes on", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 400_000);
    const [set] = await site.json("backups", "db1");
    await using target = await startServer("redis-7.0");
    const at = ["--at", `set:${set.manifest.set}`] as const;
    const args = ["restore", "db1", ...at, "--to", `unix://${target.socketPath}`];
    const { status, stderr } = await stopped(site, args, async () => {
      await until("some keys are there", async () => {
        return Number(await target.call("DBSIZE")) > 1000;
      });
    });
    assert.equal(status, 18);
    assert.match(stderr, /hint: .*"tidemark:restore…" in unix:.* The same command goes on with it/);
    assert.equal(await target.call("EXISTS", "tidemark:restore"), 1);
    const { isResumed } = await site.json(...args);
    assert.equal(isResumed, true);
    assert.equal(await target.call("DBSIZE"), 400_000);
  });

  test("ends a scratch server that is at work", async () => {
    using folder = temporaryFolder();
    const program = makeSleeper(folder.path);
    const log = join(folder.path, "appendonly.aof");
    writeFileSync(log, "");
    const scratch = join(folder.path, "scratch");
    mkdirSync(scratch);
    const controller = new AbortController();
    {
      using server = ScratchServer.start(program, { kind: "aof", path: log }, { parent: scratch });
      const taking = server.snapshot(controller.signal);
      const pid = await untilPid(folder.path);
      controller.abort(new Error("stopped"));
      await assert.rejects(taking, /^Error: stopped$/);
      await until("it has ended", () => Promise.resolve(!isThere(pid)));
    }
    assert.deepEqual(readdirSync(scratch), []);
  });
});

suite("what was restored", { skip }, () => {
  test("is told without the keys that were there and stayed", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    await using target = await startServer("redis-7.0");
    await target.call("SET", "key:1", "mine");
    const to = ["--to", `unix://${target.socketPath}`, "--conflict", "skip"] as const;
    const { stdout } = await site.run("restore", "db1", "--at", "latest", ...to);
    assert.match(stdout, /Restored to .*: 9 keys\n {2}left as they were: 1 key\n/);
  });
});

suite("what a restore cannot be done into", { skip }, () => {
  test("is said with what would do", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    const run = (...to: string[]) => site.run("restore", "db1", "--at", "latest", ...to);
    const file = await run("--to-dir", site.config);
    assert.equal(file.status, 8);
    assert.match(file.stderr, /it is no folder\nhint: Name one that is empty/);
    const listening = await freePort();
    await using _ = await startServer("redis-7.0", { conf: { port: listening } });
    const used = await run("--run", "redis-server", "--port", String(listening));
    assert.equal(used.status, 2);
    assert.equal(used.stdout, "");
    assert.match(used.stderr, /listens there already\nhint: Choose another --port; .* --to redis:/);
    const none = await run("--to", `cluster://127.0.0.1:${listening}`);
    assert.match(none.stderr, /cluster support disabled.*\nhint: .* write redis:\/\//);
    for (const way of [["--to-dir", join(folder.path, "x")], ["--dry-run"]]) {
      const port = await run(...way, "--port", "7001");
      assert.equal(port.status, 2);
      assert.match(port.stderr, /Cannot use --port without --run/);
    }
    assert.equal(existsSync(join(folder.path, "x")), false);
  });

  test("where it is a Sentinel, is said with the address to write", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    await using sentinel = await Sentinel.start("redis-7.0", "mymaster", await freePort());
    const to = `redis://127.0.0.1:${sentinel.port}`;
    const { status, stderr } = await site.run("restore", "db1", "--at", "latest", "--to", to);
    assert.equal(status, 2);
    assert.match(stderr, /it is a Sentinel\nhint: Write sentinel:\/\/127.0.0.1:\d+\/NAME/);
  });
});

suite("what a restore says", { skip }, () => {
  test("tells how a time was read, in the plan, in JSON and where it is none", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    const dry = (at: string) => site.run("restore", "db1", "--at", at, "--dry-run");
    const early = await dry("2020-10-25 02:30");
    assert.equal(early.status, 25);
    assert.match(early.stderr, /2020-10-25T\d\d:30:00.999Z \(2020-10-25 02:30:00.999 .* in /);
    const { target, notes } = await site.json("restore", "db1", "--at", "latest", "--dry-run");
    assert.equal(target, "latest");
    assert.ok(Array.isArray(notes));
    assert.match((await dry("0s ago")).stderr, /hint: The nearest: .*--at latest/);
  });
});

suite("`restore --run`", { skip }, () => {
  test("says why a server cannot be run, and leaves nothing in the way of the next try", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    const data = join(folder.path, "data");
    const port = String(await freePort());
    const run = (program: string) =>
      site.run("restore", "db1", "--at", "latest", "--dir", data, "--port", port, "--run", program);
    const missing = await run("/no/such/server");
    assert.match(missing.stderr, /Cannot run "\/no\/such\/server": there is no such program/);
    assert.match((await run("false")).stderr, /Cannot run "false": .* ended with status 1/);
    assert.match((await run("echo")).stderr, /Cannot use "echo" as a server: it says/);
    const old = await run(findServer("redis-6.0")?.bin.server ?? "");
    assert.equal(old.status, 5);
    assert.match(old.stderr, /Cannot run Redis 6.0.* needs redis:7.0 or later\nhint: .*--target/);
    assert.equal(existsSync(data), false);
    const failing = await run(makeSleeper(folder.path, "echo first; echo second; exit 3"));
    assert.equal(failing.status, 11);
    assert.match(
      failing.stderr,
      /^ {2}first\n {2}second\n.*Cannot start .* it ended with status 3; it said\nhint: .*above/ms,
    );
    assert.equal(existsSync(data), false);
  });

  test("tells which process runs, also to who reads no more than the plan", async () => {
    using folder = temporaryFolder();
    const site = await makeSite(folder.path, 10);
    const data = join(folder.path, "data");
    const run = ["--run", findServer("redis-7.0")?.bin.server ?? "", "--dir", data] as const;
    const port = ["--port", String(await freePort())] as const;
    const all = ["restore", "db1", "--at", "latest", ...run, ...port, "--config", site.config];
    const { stdout, stderr } = await shell('"$@" | head -1', ...all);
    assert.match(stdout, /^db1 to latest\n$/);
    const pid = Number(/^Restored, and running .* process (\d+)$/m.exec(stderr)?.[1]);
    assert.ok(isThere(pid));
    process.kill(pid, "SIGKILL");
    await until("it has ended", () => Promise.resolve(!isThere(pid)));
  });
});
