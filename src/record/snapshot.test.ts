/** Snapshots of real servers, and of ones that are busy or hang up. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { FakeServer } from "../../test/link/fake-server.ts";
import { freePort } from "../../test/link/ports.ts";
import { until } from "../../test/link/until.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { missingServers, serverIds, startServer } from "../../test/support/servers.ts";
import { systemClock } from "../base/clock.ts";
import { parseInfo } from "../link/instance.ts";
import { takeSnapshot } from "./snapshot.ts";

const quick = { connect: {}, clock: systemClock, watchMs: 100 };

async function takeAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const taken: Uint8Array[] = [];
  for await (const chunk of chunks) taken.push(new Uint8Array(chunk));
  return Buffer.concat(taken);
}

suite("takeSnapshot()", { concurrency: true }, () => {
  let timed = 0;
  let taken = 0;
  after(() => assert.ok(timed > 0 || taken === 0, "None of the snapshots was timed"));

  for (const id of serverIds) {
    for (const isDiskless of [false, true]) {
      const how = isDiskless ? "without a length" : "from a disk";
      test(`${id}: gives the data set at its position, ${how}`, {
        skip: missingServers(id),
      }, async () => {
        const diskless = isDiskless ? "yes" : "no";
        const conf = { "repl-diskless-sync": diskless, "repl-diskless-sync-delay": 0 };
        await using source = await startServer(id, { conf });
        await source.call("SELECT", 3);
        await source.call("SET", "k", "x".repeat(300_000));
        const digest = await source.debugDigest();
        const before = systemClock.now();
        await using snapshot = await takeSnapshot({ path: source.socketPath }, quick);
        await source.call("SET", "behind", "1");
        const rdb = await takeAll(snapshot.chunks);
        const { cost } = snapshot;
        taken++;

        assert.ok(snapshot.ms >= before && snapshot.ms <= systemClock.now());
        assert.match(snapshot.position.replicationId, /^[0-9a-f]{40}$/);
        const info = parseInfo(String(await source.call("INFO", "replication")));
        assert.ok(snapshot.position.offset <= Number(info.get("master_repl_offset")));
        assert.equal(typeof snapshot.database, "number");
        assert.equal(snapshot.source.role, "master");
        assert.match(snapshot.source.version, /^(redis|valkey) \d+\.\d+\.\d+/);
        assert.ok(cost.preparedMs <= cost.transferredMs);
        assert.ok((cost.forkMicros ?? 0) > 0, JSON.stringify(cost));
        assert.ok((cost.p99BeforeMs ?? 0) > 0, JSON.stringify(cost));
        // It may be that no answer has fallen in the time of one snapshot; but not of all.
        assert.ok(cost.p99DuringMs === null || cost.p99DuringMs > 0, JSON.stringify(cost));
        if (cost.p99DuringMs !== null) timed++;
        assert.equal(typeof cost.copyOnWriteBytes, "number");

        using folder = temporaryFolder();
        writeFileSync(join(folder.path, "dump.rdb"), rdb);
        await using copy = await startServer(id, { dir: folder.path });
        assert.equal(await copy.debugDigest(), digest);
      });
    }

    test(`${id}: leaves no replica behind, and WAIT does not count it`, {
      skip: missingServers(id),
    }, async () => {
      const conf = { "repl-diskless-sync": "yes", "repl-diskless-sync-delay": 0 };
      await using source = await startServer(id, { conf });
      {
        await using snapshot = await takeSnapshot({ path: source.socketPath }, quick);
        await takeAll(snapshot.chunks);
        await source.call("SET", "k", "v");
        assert.equal(await source.call("WAIT", 1, 50), 0);
      }
      await until("the server has no replicas", async () => {
        const info = parseInfo(String(await source.call("INFO", "replication")));
        return info.get("connected_slaves") === "0";
      });
    });
  }

  test("takes it from a replica, and says so", {
    skip: missingServers("valkey-9"),
  }, async () => {
    const port = await freePort();
    await using master = await startServer("valkey-9", {
      conf: { port, "repl-diskless-sync-delay": 0 },
    });
    await using replica = await startServer("valkey-9", {
      conf: { replicaof: `127.0.0.1 ${port}` },
    });
    await master.call("SELECT", 5);
    await master.call("SET", "k", "v");
    // It has no master yet, perhaps: then it is asked again.
    await using snapshot = await takeSnapshot({ path: replica.socketPath }, quick);
    await takeAll(snapshot.chunks);
    assert.equal(snapshot.source.role, "replica");
    const info = parseInfo(String(await master.call("INFO", "replication")));
    assert.equal(snapshot.position.replicationId, info.get("master_replid"));
  });

  test("waits while the server has another child, and gives up when that lasts", {
    skip: missingServers("redis-7.0"),
  }, async () => {
    const conf = { "rdb-key-save-delay": 20_000, "repl-diskless-sync-delay": 0 };
    await using source = await startServer("redis-7.0", { conf });
    await source.call("DEBUG", "POPULATE", 1000);
    await source.call("BGSAVE");
    const endpoint = { path: source.socketPath };
    await assert.rejects(takeSnapshot(endpoint, { ...quick, patienceMs: 0 }), {
      code: "SERVER_BUSY",
      message: /another snapshot/,
    });
    const stopping = AbortSignal.timeout(100);
    await assert.rejects(takeSnapshot(endpoint, { ...quick, signal: stopping }), {
      code: "ABORTED",
    });
    const taking = takeSnapshot(endpoint, quick);
    await source.call("CONFIG", "SET", "rdb-key-save-delay", 0);
    const [child] = (await childrenOf(source.pid)) as [number];
    process.kill(child, "SIGUSR1");
    await using snapshot = await taking;
    assert.ok((await takeAll(snapshot.chunks)).length > 10_000);
  });

  test("says it where the server hangs up in the middle", async () => {
    const rdb = "REDIS0009\xfa\x0erepl-stream-db\xc0\x07";
    await using server = await FakeServer.start(async (peer) => {
      for (;;) {
        const [name, section] = await peer.command();
        if (name === "PSYNC") {
          await peer.write(`+FULLRESYNC ${"a".repeat(40)} 7\r\n$1000\r\n${rdb}`);
          peer.hangUp();
        } else if (name === "INFO") {
          await peer.write(section === "server" ? "$19\r\nredis_version:6.2.1\r\n" : "$0\r\n\r\n");
        } else {
          await peer.write(name === "TIME" ? "-NOPERM no\r\n" : "+OK\r\n");
        }
      }
    });
    await using snapshot = await takeSnapshot(server.endpoint, { ...quick, watchMs: 30 });
    assert.deepEqual([snapshot.database, snapshot.source.version], [7, "redis 6.2.1"]);
    await assert.rejects(takeAll(snapshot.chunks), { code: "SERVER_LOST" });
  });
});

async function childrenOf(pid: number): Promise<number[]> {
  const { readFile } = await import("node:fs/promises");
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "latin1");
  return text.trim().split(" ").map(Number);
}
