/** No lock-in: what lies in a repository is read by `zstd` and a stock server, and nothing of ours. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Site } from "../cli/daemon.ts";
import { tidemark } from "../cli/tidemark.ts";
import { until } from "../link/until.ts";
import { readers } from "../record/round.ts";
import { randomFrom, writeLasting } from "../record/workload.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, serverIds, startServer } from "../support/servers.ts";

const hasZstd = spawnSync("zstd", ["--version"]).status === 0;

function unzstd(...objects: readonly string[]): Uint8Array {
  const options = { maxBuffer: 2 ** 30 };
  const { status, stdout, stderr } = spawnSync("zstd", ["-dc", ...objects], options);
  assert.equal(status, 0, String(stderr));
  return stdout;
}

for (const id of serverIds) {
  const skip = missingServers(id) || (hasZstd ? false : "there is no zstd command");
  test(`every object of a repository of ${id} is for stock tools`, { skip }, async () => {
    using folder = temporaryFolder();
    const conf = { "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1 };
    await using source = await startServer(id, { conf });
    const repository = join(folder.path, "repository");
    const site = new Site(folder.path, source.socketPath, "segment_size: 1MB");
    assert.equal((await tidemark("init", repository)).status, 0);
    await writeLasting(source.client, 2000, randomFrom(1));
    await using daemon = site.up();
    await daemon.told("archive verified");
    await writeLasting(source.client, 2000, randomFrom(2));
    const digests = new Map([[await source.replicationOffset(), await source.debugDigest()]]);
    const backup = await site.run("backup", "db1");
    assert.equal(backup.status, 0, backup.stderr);
    await writeLasting(source.client, 30_000, randomFrom(3));
    const end = await source.replicationOffset();
    await until("all is archived", async () => {
      const status = await site.json("status", "db1");
      return status.instances[0]?.live?.archive?.shippedOffset >= end;
    });
    await daemon.stop("SIGTERM");
    const instance = join(repository, "instances/db1");
    const snapshots = readdirSync(join(instance, "sets")).map((set) =>
      unzstd(join(instance, "sets", set, "snapshot.rdb.zst")),
    );
    assert.equal(snapshots.length, 2);
    for (const [index, rdb] of snapshots.entries()) {
      const dir = join(folder.path, `set-${index}`);
      mkdirSync(dir);
      writeFileSync(join(dir, "dump.rdb"), rdb);
      await using reader = await startServer(id, { dir });
      const digest = await reader.debugDigest();
      // The second one was taken while nothing was written.
      if (index === 1) assert.equal(digest, [...digests.values()][0]);
    }
    const [line = ""] = readdirSync(join(instance, "log"));
    const pieces = readdirSync(join(instance, "log", line)).sort();
    assert.ok(pieces.length >= 2, "A merged piece and others");
    const log = join(folder.path, "log/appendonlydir");
    mkdirSync(log, { recursive: true });
    const objects = pieces.map((piece) => join(instance, "log", line, piece));
    writeFileSync(join(log, "appendonly.aof.1.base.rdb"), snapshots[0] as Uint8Array);
    writeFileSync(join(log, "appendonly.aof.1.incr.aof"), unzstd(...objects));
    const manifest = [
      "file appendonly.aof.1.base.rdb seq 1 type b",
      "file appendonly.aof.1.incr.aof seq 1 type i",
    ];
    writeFileSync(join(log, "appendonly.aof.manifest"), `${manifest.join("\n")}\n`);
    const settings = { appendonly: "yes", "aof-load-truncated": "no" };
    const dir = join(folder.path, "log");
    await using reader = await startServer(readers[id] ?? id, { dir, conf: settings });
    assert.equal(await reader.debugDigest(), await source.debugDigest());
  });
}
