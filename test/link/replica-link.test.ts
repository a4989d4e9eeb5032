/** The link and real servers: what a recorder gets of them, and what they make of a recorder. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Connection } from "../../src/link/connection.ts";
import { parseInfo } from "../../src/link/instance.ts";
import { ReplicaLink } from "../../src/link/replica-link.ts";
import { Secret } from "../../src/link/secret.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  serverIds,
  startServer,
} from "../support/servers.ts";
import { makeCertificates, noOpenssl } from "./certificates.ts";
import { Follower } from "./follower.ts";
import { freePort } from "./ports.ts";
import { until } from "./until.ts";

const quick = { "repl-diskless-sync-delay": 0, "repl-backlog-size": "16mb" };

async function infoOf(server: RunningServer): Promise<ReadonlyMap<string, string>> {
  return parseInfo(String(await server.call("INFO", "replication")));
}

/** Resolves when the follower has all that the server has written. */
async function catchUp(server: RunningServer, follower: Follower): Promise<number> {
  return await until("the follower has caught up", async () => {
    const offset = Number((await infoOf(server)).get("master_repl_offset"));
    return follower.position.offset === offset && offset;
  });
}

suite("ReplicaLink follows", { concurrency: true }, () => {
  for (const id of serverIds) {
    const skip = missingServers(id);
    test(`${id}: snapshot without a length, stream, WAIT, and on from a position`, {
      skip,
    }, async () => {
      await using source = await startServer(id, {
        conf: { ...quick, "repl-diskless-sync": "yes" },
      });
      await source.call("SET", "before", "x".repeat(100_000));
      if (source.program.can.hashFieldExpiry) {
        await source.call("HSET", "hash", "f", "v");
        await source.call("HPEXPIRE", "hash", 10 ** 9, "FIELDS", 1, "f");
      }
      const digest = await source.debugDigest();
      const endpoint = { path: source.socketPath };
      let position: Follower["position"];
      {
        await using follower = await Follower.start(endpoint);
        assert.equal(follower.kind, "full");
        await source.call("SET", "after", "1");
        assert.equal(await source.call("WAIT", 1, 5000), 1);
        if (source.program.can.activeTime) {
          await source.call("SET", "after", "2");
          assert.deepEqual(await source.call("WAITAOF", 0, 1, 5000), [0, 1]);
        }
        await catchUp(source, follower);
        assert.match(follower.stream, /after\r\n\$1\r\n1/);
        position = follower.position;
        using folder = temporaryFolder();
        writeFileSync(join(folder.path, "dump.rdb"), follower.snapshot);
        await using copy = await startServer(id, { dir: folder.path });
        assert.equal(await copy.debugDigest(), digest);
      }
      await source.call("SET", "while away", "1");
      await using follower = await Follower.start(endpoint, {}, position);
      assert.deepEqual([follower.kind, follower.start], ["continue", position]);
      await catchUp(source, follower);
      assert.match(follower.stream, /while away/);
      assert.doesNotMatch(follower.stream, /after\r\n/);
    });

    test(`${id}: a snapshot of known length, and from a replica of a promoted one`, {
      skip,
    }, async () => {
      const port = await freePort();
      await using source = await startServer(id, {
        conf: { ...quick, port, "repl-diskless-sync": "no" },
      });
      await source.call("SET", "before", "1");
      await using replica = await startServer(id, {
        conf: { ...quick, replicaof: `127.0.0.1 ${port}` },
      });
      const endpoint = { path: replica.socketPath };
      await using link = await ReplicaLink.open(endpoint);
      const busy = link.start();
      // It may be in touch with its master by now, or not yet.
      await busy.catch((error: unknown) => assert.match(String(error), /NOMASTERLINK|LOADING/));
      await until("the replica is in touch", async () => {
        return (await infoOf(replica)).get("master_link_status") === "up";
      });
      let position: Follower["position"];
      {
        await using follower = await Follower.start(endpoint);
        await source.call("SET", "k", "v");
        await catchUp(source, follower);
        position = follower.position;
        await replica.call("REPLICAOF", "NO", "ONE");
        // A server drops its replicas, or keeps them, when its own history goes on under a new id.
      }
      await replica.call("SET", "promoted", "1");
      await using follower = await Follower.start(endpoint, {}, position);
      assert.equal(follower.kind, "continue");
      assert.notEqual(follower.start.replicationId, position.replicationId);
      assert.equal(follower.start.offset, position.offset);
      await catchUp(replica, follower);
      assert.match(follower.stream, /promoted/);
    });
  }
});

suite("FAILOVER and a recorder", { concurrency: true }, () => {
  const versions: readonly ServerId[] = ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"];
  for (const id of versions) {
    for (const isFresh of [false, true]) {
      const state = isFresh ? "an instance without any write" : "an instance with writes";
      test(`${id}: it never takes the recorder, of ${state}`, {
        skip: missingServers(id),
      }, async () => {
        const [port, other] = [await freePort(), await freePort()];
        await using master = await startServer(id, { conf: { ...quick, port } });
        if (!isFresh) await master.call("SET", "k", "v");
        // First in the list, and with all bytes acknowledged before the replica has any.
        await using follower = await Follower.start({ host: "127.0.0.1", port });
        const conf = { port: other, replicaof: `127.0.0.1 ${port}` };
        await using replica = await startServer(id, { conf });
        await until("the replica is in touch", async () => {
          return (await infoOf(replica)).get("master_link_status") === "up";
        });
        await catchUp(master, follower);
        assert.match(String((await infoOf(master)).get("slave0")), /port=0/);
        await master.call("FAILOVER");
        await until("the failover is over", async () => {
          const info = await infoOf(master);
          return (
            info.get("role") === "slave" && info.get("master_failover_state") === "no-failover"
          );
        });
        assert.equal((await infoOf(master)).get("master_port"), String(other));
        await replica.call("SET", "after", "1");
        // The recorder is dropped, and goes on at either of them.
        assert.equal((await follower.ended).code, "SERVER_LOST");
        for (const endpoint of [{ path: replica.socketPath }, { host: "127.0.0.1", port }]) {
          await using resumed = await Follower.start(endpoint, {}, follower.position);
          assert.equal(resumed.kind, "continue");
        }
      });
    }
  }

  test("it takes whoever acknowledges all, which is what the link must not do", {
    skip: missingServers("redis-7.0"),
  }, async () => {
    const port = await freePort();
    await using master = await startServer("redis-7.0", { conf: { ...quick, port } });
    await using careless = await Connection.open({ host: "127.0.0.1", port });
    await careless.ask("REPLCONF", "capa", "eof", "capa", "psync2");
    await careless.handOver("PSYNC", "?", -1);
    await master.call("SET", "k", "v");
    await until("it has acknowledged all", async () => {
      const info = await infoOf(master);
      careless.send("REPLCONF", "ACK", info.get("master_repl_offset") ?? 0);
      return /state=online,offset=[1-9]/.test(info.get("slave0") ?? "");
    });
    await master.call("FAILOVER");
    await until("the instance has no master", async () => {
      return (await infoOf(master)).get("role") === "slave";
    });
    await assert.rejects(master.call("SET", "k", "w"), /READONLY/);
  });
});

suite("TLS and logins", { skip: noOpenssl, concurrency: true }, () => {
  for (const id of ["redis-7.0", "valkey-9"] as const) {
    test(`${id}: a client certificate, a user, and a stream over TLS`, {
      skip: missingServers(id),
    }, async () => {
      using folder = temporaryFolder();
      const files = makeCertificates(folder.path);
      const port = await freePort();
      const conf = {
        ...{ ...quick, "tls-port": port, "tls-ca-cert-file": files.ca },
        ...{ "tls-cert-file": files.server.cert, "tls-key-file": files.server.key },
        user: "follower on >rotated +psync +replconf",
      };
      await using source = await startServer(id, { conf });
      const endpoint = { host: "127.0.0.1", port };
      const password = join(folder.path, "password");
      writeFileSync(password, "rotated\n");
      const credentials = { user: "follower", password: Secret.file(password) };
      const { client } = files;
      const tls = { caFile: files.ca, certFile: client.cert, keyFile: client.key };
      await source.call("SET", "big", "x".repeat(3_000_000));
      await using follower = await Follower.start(endpoint, { tls, credentials });
      assert.ok(follower.snapshot.length > 10_000);
      const value = Array.from({ length: 400_000 }, (_, i) => String(i)).join("");
      await source.call("SET", "bigger", value);
      await catchUp(source, follower);
      assert.ok(follower.stream.includes(value));

      // The alert that says so may be overtaken by the end of the connection.
      const wanted = { code: /TLS_FAILED|SERVER_LOST/, hint: /--cert FILE|tls-ca-cert-file/ };
      await assert.rejects(Follower.start(endpoint, { tls: { caFile: files.ca } }), wanted);
      const { stranger } = files;
      const strange = { caFile: files.ca, certFile: stranger.cert, keyFile: stranger.key };
      await assert.rejects(Follower.start(endpoint, { tls: strange }), wanted);
      const untrusting = { ...tls, caFile: files.otherCa };
      await assert.rejects(Follower.start(endpoint, { tls: untrusting }), { code: "TLS_FAILED" });
      await assert.rejects(Follower.start(endpoint), { code: "SERVER_LOST", hint: /rediss:/ });
      const wrong = { user: "follower", password: Secret.text("wrong") };
      const denied = Follower.start(endpoint, { tls, credentials: wrong });
      await assert.rejects(denied, { code: "SERVER_DENIED", message: /AUTH.*WRONGPASS/ });
    });
  }

  test("a server without a password, and one that wants one, are told apart", {
    skip: missingServers("redis-6.0"),
  }, async () => {
    await using open = await startServer("redis-6.0");
    const credentials = { password: Secret.text("needless") };
    const needless = Follower.start({ path: open.socketPath }, { credentials });
    await assert.rejects(needless, { code: "SERVER_DENIED", hint: /take it out/ });
    await open.call("CONFIG", "SET", "requirepass", "needed");
    const missing = Follower.start({ path: open.socketPath });
    await assert.rejects(missing, { code: "SERVER_DENIED", message: /NOAUTH/ });
  });
});
