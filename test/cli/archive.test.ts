import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { freePort } from "../link/ports.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, type RunningServer, startServer } from "../support/servers.ts";
import { Site } from "./daemon.ts";
import { shell, tidemark } from "./tidemark.ts";

const conf = { "repl-diskless-sync-delay": 0 };
const skip = missingServers("redis-8.0");

async function write(server: RunningServer, prefix: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await server.call("SET", `${prefix}:${i}`, String(i));
}

/** Waits until what the source has now is in the archive. */
async function archived(site: Site, server: RunningServer): Promise<void> {
  const [seconds, micros] = (await server.call("TIME")) as unknown as Uint8Array[];
  const nowMs = Number(seconds) * 1000 + Number(micros) / 1000;
  await server.call("SET", "marker", String(nowMs));
  for (;;) {
    const { instances } = await site.json("status", "db1");
    const { archive } = instances[0].live;
    if (archive.shippedToMs >= nowMs) return;
  }
}

suite("the archive from the command line", { skip, concurrency: true }, () => {
  test("an accident, and the way back: init, up, backup, FLUSHALL, restore", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const site = new Site(folder.path, server.socketPath);
    const made = await tidemark("init", join(folder.path, "repository"));
    assert.match(made.stdout, /Made a repository in file:\/\/.*\n.*id +[0-9a-f-]{36}/);
    await write(server, "before", 50);
    await using daemon = site.up();
    await daemon.told("archive verified");

    const set = await site.json("backup", "db1", "--note", "by hand", "--keep");
    assert.deepEqual([set.kind, set.note, set.snapshot.keys], ["manual", "by hand", 50]);
    await write(server, "more", 25);
    const digest = await server.debugDigest();
    await server.call("FLUSHALL");
    await write(server, "after", 5);
    await archived(site, server);

    const sets = await site.json("backups");
    assert.deepEqual(
      sets.map((each: { manifest: { kind: string }; isVerified: boolean; isKept: boolean }) => {
        return [each.manifest.kind, each.isVerified, each.isKept];
      }),
      [
        ["base", true, false],
        ["manual", true, true],
      ],
    );
    const verified = await site.run("verify", "--all");
    assert.equal(verified.status, 0, verified.stdout);

    const into = join(folder.path, "restored");
    const restored = await site.run("restore", "db1", "--at", "before:FLUSHALL", "--to-dir", into);
    assert.match(restored.stdout, /start it with: redis-server --dir .*restored --appendonly yes/);
    await using second = await startServer("redis-8.0", {
      dir: into,
      conf: { appendonly: "yes" },
    });
    assert.equal(await second.debugDigest(), digest);

    const at = ["--at", "before:FLUSHALL"] as const;
    const program = server.program.bin.server;
    await using third = await startServer("redis-8.0", { conf: { databases: 16 } });
    await third.call("SET", "here", "already");
    const to = ["--to", `unix://${third.socketPath}`] as const;
    const refused = await site.run("restore", "db1", ...at, ...to);
    assert.equal(refused.status, 26);
    const { safety, keys } = await site.json("restore", "db1", ...at, ...to, "--overwrite");
    assert.equal(await third.debugDigest(), digest);
    assert.equal(keys, 50);
    assert.equal(safety.length, 1);
    const undo = ["restore", "db1.before-restore", "--at", `set:${safety[0]}`, ...to] as const;
    await site.json(...undo, "--overwrite", "--no-safety");
    assert.equal(String(await third.call("DBSIZE")), "1");

    const rdb = join(folder.path, "some.rdb");
    const chosen = ["--keys", "more:*", "--server", program] as const;
    const some = await site.json("download", "db1", ...at, rdb, ...chosen);
    assert.equal(some.keys, 25);
    const tar = await site.json("download", "db1", ...at, join(folder.path, "db1.tar.zst"));
    assert.equal(tar.instance, "db1");
    const outside = await site.run("restore", "db1", "--at", "3d ago", "--dry-run");
    assert.equal(outside.status, 25);
    assert.match(outside.stderr, /hint: The nearest: --at .* What can be restored: .* to /);

    const began = performance.now();
    await daemon.stop("SIGTERM");
    assert.ok(performance.now() - began < 3000);
    assert.equal((await daemon.told("down"))["event"], "down");
  });

  test("a daemon that was killed goes on where it was, and nothing is missing", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const site = new Site(folder.path, server.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    {
      await using daemon = site.up();
      await daemon.told("archive verified");
      await write(server, "first", 100);
      await daemon.stop("SIGKILL");
    }
    await write(server, "second", 100);
    await using daemon = site.up();
    await daemon.told("continued");
    await daemon.told("archive begins");
    await archived(site, server);
    const { isSound, instances } = await site.json("verify", "--log");
    assert.equal(isSound, true);
    assert.equal(instances[0].log.windows.length, 1);
    assert.deepEqual(instances[0].log.holes, []);
  });

  test("`backup` takes a set itself where no daemon runs", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const site = new Site(folder.path, server.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    await write(server, "key", 10);
    const { set } = await site.json("backup", "db1");
    const shown = await site.run("show", set);
    assert.match(shown.stdout, /state +good\n[\s\S]*keys +10\n[\s\S]*restores to +itself only/);

    const kept = await site.run("keep", set.slice(0, 13));
    assert.match(kept.stdout, /is kept until `unkeep`/);
    const plan = await site.json("expire");
    assert.ok(plan[0].sets[0].stays.includes("kept"));
    await site.run("unkeep", set);
    assert.equal((await site.json("backups", "db1"))[0].isKept, false);

    const nothing = await site.run("expire", "db1", "--apply");
    assert.match(nothing.stdout, / {2}Nothing goes\.\n$/);
    assert.doesNotMatch(nothing.stdout, /Done/);
    const short = await site.run("expire", "db1", "--log-window", "0s");
    assert.equal(short.status, 2);
    assert.match(short.stderr, /Cannot use --log-window 0s: give a duration .*, from 1h to 36500d/);

    const into = join(folder.path, "restored");
    const restore = ["restore", "db1", "--at", "latest", "--to-dir", into, "--config", site.config];
    const unheard = await shell('"$@" > /dev/full', ...restore);
    assert.equal(unheard.status, 9);
    assert.match(unheard.stderr, /^tidemark: Cannot write to standard output: no space left/);
    assert.ok(!existsSync(into), "what could not be told was not begun");

    const object = `instances/db1/sets/${set}/snapshot.rdb.zst`;
    const plain = await tidemark("cat", object, "--repo", join(folder.path, "repository"));
    assert.match(plain.stdout, /^REDIS0012/);
    const drill = await site.run("verify", set, "--server", server.program.bin.server);
    assert.match(drill.stdout, /good {2}a server has loaded/);
  });

  test("a flipped bit is found by `verify`, and named", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const site = new Site(folder.path, server.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    await write(server, "key", 10);
    const { set } = await site.json("backup", "db1");
    const path = join(folder.path, `repository/instances/db1/sets/${set}/snapshot.rdb.zst`);
    const bytes = readFileSync(path);
    bytes[40] = (bytes[40] as number) ^ 1;
    writeFileSync(path, bytes);
    const { status, stdout } = await site.run("verify", set);
    assert.equal(status, 3);
    assert.match(stdout, new RegExp(`BAD +${set}\\n.*snapshot\\.rdb\\.zst.*block 0`));
    const listed = await site.json("backups");
    assert.equal(listed[0].isVerified, false);
  });

  test("all of an encrypted repository needs its key", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const repository = join(folder.path, "repository");
    const key = join(folder.path, "key");
    writeFileSync(key, `${"0f".repeat(32)}\n`);
    const site = new Site(folder.path, server.socketPath);
    const text = readFileSync(site.config, "utf8");
    const encryption = "encryption: {id: k1, key: {file: key}}";
    writeFileSync(site.config, text.replace(/"\.\/repository"}/, `./repository, ${encryption}}`));
    await tidemark("init", repository, "--key-file", key, "--key-id", "k1");
    await write(server, "secret", 10);
    const { set } = await site.json("backup", "db1");
    const object = `instances/db1/sets/${set}/snapshot.rdb.zst`;
    assert.ok(!readFileSync(join(repository, object)).includes("REDIS"));
    const without = await tidemark("cat", object, "--repo", repository);
    assert.equal(without.status, 27);
    assert.match(without.stderr, /encrypted with key "k1"/);
    const plain = await tidemark("cat", object, "--repo", repository, "--key-file", key);
    assert.match(plain.stdout, /^REDIS/);
  });
});

suite("restoring onto a server that is started for it", { skip }, () => {
  test("`restore --run` leaves a server that has all keys", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const site = new Site(folder.path, server.socketPath);
    await tidemark("init", join(folder.path, "repository"));
    await write(server, "key", 10);
    await site.json("backup", "db1");
    const port = String(await freePort());
    const at = ["--at", "latest", "--dir", join(folder.path, "data")] as const;
    const program = server.program.bin.server;
    const run = await site.json("restore", "db1", ...at, "--run", program, "--port", port);
    try {
      assert.deepEqual([run.keysLoaded, run.port], [10, Number(port)]);
    } finally {
      process.kill(run.pid, "SIGKILL");
    }
  });
});

suite("what goes wrong is said with a way out", () => {
  test("no repository, no configuration, a wrong instance, a wrong setting", async () => {
    using folder = temporaryFolder();
    const repository = join(folder.path, "repository");
    const nowhere = await tidemark("backups", "--repo", repository);
    assert.deepEqual([nowhere.status, nowhere.stdout], [19, ""]);
    assert.match(nowhere.stderr, /there is no repository\nhint: .*`tidemark init`/);
    await tidemark("init", repository);
    const again = await tidemark("init", repository);
    assert.equal(again.status, 8);
    const site = new Site(folder.path, "/nowhere/socket", "fsnyc: no");
    const wrong = await site.run("backups");
    assert.equal(wrong.status, 2);
    assert.match(
      wrong.stderr,
      /tidemark\.yaml:6:5: instances\.db1\.fsnyc is not known: did you mean fsync/,
    );
    const other = await tidemark("backups", "db2", "--repo", repository);
    assert.match(other.stderr, /Cannot find instance "db2"/);
    const missing = await tidemark("backup", "db1", "--config", join(folder.path, "no.yaml"));
    assert.equal(missing.status, 7);
    assert.ok(!readdirSync(repository).includes("instances"));
  });

  test("`init --example` prints a configuration that is taken as it is", async () => {
    using folder = temporaryFolder();
    const { stdout } = await tidemark("init", "--example", join(folder.path, "repository"));
    const config = join(folder.path, "tidemark.yaml");
    writeFileSync(config, stdout);
    await tidemark("init", join(folder.path, "repository"));
    const { status, stdout: listed } = await tidemark("backups", "--config", config);
    assert.deepEqual([status, listed], [0, "db1\n  no sets yet\n"]);
  });
});
