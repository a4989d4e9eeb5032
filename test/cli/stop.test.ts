/** What signals do to commands, and that recording goes on without its log. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { askStatus } from "../../src/record/status.ts";
import { until } from "../link/until.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, startServer } from "../support/servers.ts";
import { Site } from "./daemon.ts";
import { tidemark } from "./tidemark.ts";

const skip = missingServers("redis-8.0");
const noFull = !existsSync("/dev/full") && "no /dev/full";
const soon = { conf: { "repl-diskless-sync-delay": 0 } };

function start(args: readonly string[], stderr: "pipe" | number = "pipe"): ChildProcess {
  const all = [join(checkout, "src/cli/main.ts"), ...args];
  return spawn(process.execPath, all, { stdio: ["ignore", "pipe", stderr] });
}

/** Whatever becomes of the test. */
function ending(child: ChildProcess): Disposable {
  return { [Symbol.dispose]: () => child.kill("SIGKILL") };
}

/** Sends a signal when it is time, and returns the status and what was said. */
async function stop(args: readonly string[], signal: NodeJS.Signals, isTime: () => Promise<void>) {
  const child = start(args);
  using _ended = ending(child);
  assert(child.stderr);
  const closed = once(child, "close");
  const said = text(child.stderr);
  await isTime();
  child.kill(signal);
  const [status] = await closed;
  return { status, stderr: await said };
}

/** Shows that it was started by a file, and then does nothing for ever. */
function makeSleeper(folder: string): string {
  const path = join(folder, "sleeper");
  const isAsked = `[ "$1" = --version ] && { echo "Redis server v=8.0.0 bits=64"; exit 0; }`;
  writeFileSync(path, `#!/bin/sh\n${isAsked}\ntouch ${folder}/started\nexec sleep 1000\n`, {
    mode: 0o755,
  });
  return path;
}

suite("a command that is stopped", { skip }, () => {
  test("says what is left and how to go on, with the status for it", async () => {
    using folder = temporaryFolder();
    await using source = await startServer("redis-8.0", soon);
    await source.call("DEBUG", "POPULATE", 300_000, "key", 100);
    const site = new Site(folder.path, source.socketPath);
    const repo = ["--repo", join(folder.path, "repository")] as const;
    await tidemark("init", repo[1]);
    const { set } = await site.json("backup", "db1");
    const started = join(folder.path, "started");
    const server = ["--server", makeSleeper(folder.path)] as const;
    const isStarted = () =>
      until("the server was started", async () => existsSync(started)).then(() => {});
    const drill = await stop(["verify", set, ...repo, ...server], "SIGTERM", isStarted);
    assert.equal(drill.status, 18);
    assert.match(
      drill.stderr,
      /^tidemark: Cannot finish the verification: it was stopped by SIGTERM\nhint: It changes/,
    );
    const into = join(folder.path, "into");
    const args = ["download", set, into, "--keys", "key:*", ...repo];
    const download = await stop(args, "SIGINT", async () => {
      await until("it writes", async () => existsSync(join(into, "appendonlydir.incomplete")));
    });
    assert.equal(download.status, 18, download.stderr);
    assert.match(download.stderr, /download: it was stopped by SIGINT\nhint: Nothing of it was/);
    assert.ok(!existsSync(into) || readdirSync(into).length === 0);
    // The pipe is full, and nobody reads it.
    const piped = start(["download", set, "-", ...repo]);
    using _ended = ending(piped);
    assert(piped.stdout && piped.stderr);
    await once(piped.stdout, "readable");
    piped.kill("SIGHUP");
    const [said, [status]] = await Promise.all([text(piped.stderr), once(piped, "exit")]);
    assert.deepEqual([status, said.includes("What was written is not whole")], [18, true], said);
  });

  test("and has asked `up` for a set, says that it will be there", async () => {
    using folder = temporaryFolder();
    await using source = await startServer("redis-8.0", soon);
    const site = new Site(folder.path, source.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    await using daemon = site.up();
    await daemon.told("archive verified");
    await source.call("CONFIG", "SET", "repl-diskless-sync-delay", 2);
    const args = ["backup", "db1", "--config", site.config];
    const { status, stderr } = await stop(args, "SIGINT", async () => {
      await until("it is being taken", async () => {
        return String(await source.call("INFO", "replication")).includes("connected_slaves:2");
      });
    });
    assert.equal(status, 18, stderr);
    assert.match(stderr, /^tidemark: Cannot wait for the set: .*\nhint: `tidemark up` goes on/);
    await until("the set is there", async () => {
      const sets: { manifest: { kind: string } }[] = await site.json("backups", "db1");
      return sets.some(({ manifest }) => manifest.kind === "manual");
    });
  });
});

test("a command that only reads ends at once, with the status for it", async () => {
  const asked = Promise.withResolvers<void>();
  const silent = createServer(() => asked.resolve()).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "secret" });
  const repo = `s3://bucket/x?endpoint=http://127.0.0.1:${port}&region=x`;
  const { status, stderr } = await stop(["backups", "--repo", repo], "SIGINT", () => asked.promise);
  assert.equal(status, 18);
  assert.match(stderr, /^tidemark: Stopped by SIGINT\nhint: .*the same command/);
  silent.close();
});

suite("recording", { skip }, () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    test(`goes on when nobody takes its log any more, and ends in order on ${signal}`, async () => {
      using folder = temporaryFolder();
      await using source = await startServer("redis-8.0", soon);
      const spool = join(folder.path, "spool");
      const child = start(["record", `unix://${source.socketPath}`, spool]);
      using _ended = ending(child);
      const closed = once(child, "close");
      child.stderr?.destroy();
      child.stdout?.destroy();
      const status = () => askStatus(spool).catch(() => undefined);
      await until("it records", async () => (await status())?.state === "streaming");
      await source.call("CLIENT", "KILL", "TYPE", "replica");
      await source.call("SET", "key", "value");
      const offset = Number(
        /master_repl_offset:(\d+)/.exec(String(await source.call("INFO", "replication")))?.[1],
      );
      await until("it has the key", async () => {
        const now = await status();
        return now?.state === "streaming" && now.receivedOffset >= offset;
      });
      child.kill(signal);
      assert.deepEqual(await closed, [0, null]);
    });
  }

  test("goes on under `up` when its log is on a full disk", { skip: noFull }, async () => {
    using folder = temporaryFolder();
    await using source = await startServer("redis-8.0", soon);
    const site = new Site(folder.path, source.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    const child = start(["up", "--config", site.config], openSync("/dev/full", "w"));
    using _ended = ending(child);
    const closed = once(child, "close");
    await until("it records", async () => {
      const { instances } = await site.json("status", "db1");
      return instances[0]?.live?.state === "streaming";
    });
    assert.match((await site.run("backup", "db1")).stdout, /all of it was read back/);
    child.kill("SIGHUP");
    assert.deepEqual(await closed, [0, null]);
  });
});
