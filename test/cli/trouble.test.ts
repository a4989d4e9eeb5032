import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { freePort } from "../link/ports.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, startServer } from "../support/servers.ts";
import { Site } from "./daemon.ts";
import { runProgram, shell, tidemark } from "./tidemark.ts";

const conf = { "repl-diskless-sync-delay": 0 };
const skip = missingServers("redis-8.0");
const noProc = !existsSync("/proc/self") && "no /proc";

suite("a bucket that does not answer", { skip }, () => {
  test("is told soon, and `status` shows what runs here all the same", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const credentials = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "secret" };
    Object.assign(process.env, credentials);
    const bucket = `s3://bucket/x?endpoint=http://127.0.0.1:${await freePort()}&region=x`;
    const site = new Site(folder.path, server.socketPath, "", bucket);
    await using daemon = site.up();
    await daemon.told("base");
    const began = performance.now();
    const { status, stdout, stderr } = await site.run("status");
    assert.equal(status, 75, stderr);
    assert.ok(performance.now() - began < 10_000);
    assert.match(stdout, /^db1\n {2}repository +s3:\/\/bucket\/x/);
    assert.match(stdout, /trouble +Cannot [^\n]*ECONNREFUSED/);
    assert.match(stdout, /recorder +streaming, /);
    assert.match(stderr, /^tidemark: Cannot .*ECONNREFUSED.*\nhint: Check that the storage/);
    const { unread } = JSON.parse((await site.run("status", "db1", "--json")).stdout);
    assert.deepEqual([unread[0].name, unread[0].live[0].state], ["db1", "streaming"]);
    assert.equal((await site.run("backups")).status, 75);
  });
});

suite("keys of a repository of which the key was changed", { skip }, () => {
  test("may all be given, and which one an object takes is found out", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const repository = join(folder.path, "repository");
    const [first, second] = ["first", "second"].map((name, i) => {
      writeFileSync(join(folder.path, name), `${i}f`.repeat(32));
      return join(folder.path, name);
    }) as [string, string];
    const site = new Site(folder.path, server.socketPath);
    const plain = readFileSync(site.config, "utf8");
    const encrypt = (words: string) =>
      writeFileSync(site.config, plain.replace(/"\.\/repository"}/, `./repository, ${words}}`));
    await tidemark("init", repository, "--key-file", first, "--key-id", "k1");
    encrypt("encryption: {id: k1, key: {file: first}}");
    const old = await site.json("backup", "db1");
    encrypt("encryption: {id: k2, key: {file: second}, older: [{id: k1, key: {file: first}}]}");
    const recent = await site.json("backup", "db1");
    const cat = (set: string, ...keys: string[]) => {
      const object = `instances/db1/sets/${set}/snapshot.rdb.zst`;
      const flags = keys.flatMap((key) => ["--key-file", key]);
      return tidemark("cat", object, "--repo", repository, ...flags);
    };
    for (const { set } of [old, recent]) {
      for (const keys of [
        [first, second],
        [second, first],
      ]) {
        const { status, stdout, stderr } = await cat(set, ...keys);
        assert.equal(status, 0, stderr);
        assert.match(stdout, /^REDIS/);
      }
    }
    const { status, stderr } = await cat(recent.set, first);
    assert.equal(status, 27);
    assert.match(stderr, /the key given as "k2" is another one\nhint: .*--key-file, several times/);
    const missing = await cat(old.set, join(folder.path, "none"));
    assert.match(missing.stderr, /Cannot read the key from ".*none": there is no such file/);
  });
});

suite("what is no place to write to", () => {
  test("is refused, and not tried for ever", { skip: noProc }, async () => {
    const { status, stderr } = await tidemark("init", "/proc/nope");
    assert.equal(status, 20);
    assert.match(stderr, /^tidemark: Cannot write ".*" in file:\/\/\/proc\/nope: no such file/);
  });

  test("a configuration is a file, not a pipe that nobody writes to", async () => {
    using folder = temporaryFolder();
    const pipe = join(folder.path, "pipe");
    await runProgram("mkfifo", pipe);
    const { status, stderr } = await tidemark("backups", "--config", pipe);
    assert.equal(status, 2);
    assert.match(stderr, /Cannot read the configuration ".*pipe": it is not a regular file\n/);
  });

  test("`init` on a full disk says so, and leaves nothing", async () => {
    using folder = temporaryFolder();
    const repository = join(folder.path, "new/repository");
    // The object that storages are tried with has 9 MiB.
    const full = await shell("trap '' XFSZ; ulimit -f 4000; \"$@\"", "init", repository);
    assert.equal(full.status, 20, full.stderr);
    assert.match(
      full.stderr,
      /^tidemark: Cannot write "probe\/.*" in file:.*: file too large\nhint: /,
    );
    assert.deepEqual(readdirSync(folder.path), []);
    mkdirSync(repository, { recursive: true });
    await shell("trap '' XFSZ; ulimit -f 4000; \"$@\"", "init", repository);
    assert.deepEqual(readdirSync(repository), []);
    await tidemark("init", repository);
    assert.deepEqual(readdirSync(repository), ["tidemark.json"]);
  });
});

test("the name of an instance where a set is wanted is told from a wrong one", async () => {
  using folder = temporaryFolder();
  const site = new Site(folder.path, "/nowhere/socket");
  await tidemark("init", join(folder.path, "repository"));
  for (const args of [
    ["download", "db1", join(folder.path, "x.rdb")],
    ["verify", "db1"],
  ]) {
    const { status, stderr } = await site.run(...args);
    assert.equal(status, 2);
    assert.match(
      stderr,
      /Cannot find set "db1": that is .* no set\nhint: .*--at TARGET.*--instance/,
    );
  }
  const { status } = await site.run("show", "2026");
  assert.equal(status, 19);
});
