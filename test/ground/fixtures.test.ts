import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { suite, test } from "node:test";
import { assertSameDump, compareDumps } from "../support/compare.ts";
import { formatLines, type Line, parseLines } from "../support/dump.ts";
import {
  aofFixtures,
  damagedAofs,
  foreignFixtures,
  hostileFixtures,
  leftOut,
  noForeignFixtures,
  rdbFixture,
  rdbFixtures,
} from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  findServer,
  missingServers,
  optionalServerIds,
  StartError,
  serverIds,
  startServer,
} from "../support/servers.ts";

suite("fixtures", () => {
  test("each is the file that its index lists", (t) => {
    for (const fixture of [...rdbFixtures(), ...hostileFixtures(), ...foreignFixtures()]) {
      const sha256 = createHash("sha256").update(fixture.read()).digest("hex");
      assert.equal(sha256, fixture.sha256, fixture.id);
    }
    const { all, missing } = leftOut();
    if (missing > 0) t.diagnostic(`${missing} of ${all} fixtures are not in this checkout`);
    if (noForeignFixtures !== false) t.diagnostic(noForeignFixtures);
  });

  test("every server has files of each kind, with expectations that are lines", () => {
    for (const server of serverIds) {
      assert.ok(rdbFixtures(server).length >= 10, server);
      assert.ok(aofFixtures(server).length >= 4, server);
      assert.ok(damagedAofs(server).length >= 15, server);
      for (const { expected } of rdbFixtures(server)) {
        assert.equal(formatLines(expected.lines()), expected.text());
      }
    }
  });
});

suite("a real server", () => {
  for (const server of serverIds) {
    test(`${server} reads its own fixtures as expected`, {
      skip: missingServers(server),
    }, async () => {
      for (const fixture of [
        rdbFixture(`${server}/rdb/streams`),
        rdbFixture(`${server}/rdb/multi-db`),
        rdbFixture(`${server}/rdb/lfu`),
      ]) {
        using folder = temporaryFolder();
        fixture.copyTo(folder.path);
        await using running = await startServer(server, { dir: folder.path, conf: fixture.conf });
        assertSameDump(fixture.expected.lines(), await running.dump(), { freq: true });
      }
      for (const name of ["odd-names", "plain-small"]) {
        const fixture = aofFixtures(server).find((each) => each.name === name);
        if (fixture === undefined) continue;
        using folder = temporaryFolder();
        fixture.copyTo(folder.path);
        const conf = { appendonly: "yes", ...fixture.conf };
        await using running = await startServer(server, { dir: folder.path, conf });
        assertSameDump(fixture.expected.lines(), await running.dump(), {
          withoutSeen: true,
          relativeExpiries: fixture.relativeExpiries,
        });
      }
    });
  }

  for (const server of [...serverIds, ...optionalServerIds]) {
    test(`${server} starts empty, on a socket and no port, and is gone when it is disposed of`, {
      skip: missingServers(server),
    }, async () => {
      let dir: string;
      {
        await using running = await startServer(server);
        dir = running.dir;
        assert.deepEqual(await running.dump(), []);
        assert.equal(await running.debugDigest(), "0".repeat(40));
        const port = await running.call("CONFIG", "GET", "port");
        assert.deepEqual(port, [Buffer.from("port"), Buffer.from("0")]);
      }
      assert.ok(!existsSync(dir));
    });
  }

  for (const server of serverIds) {
    test(`${server} comes with the programs that check files`, {
      skip: missingServers(server),
    }, () => {
      const programs = Object.values(findServer(server)?.bin ?? {});
      assert.ok(programs.length >= 5 && programs.every((path) => existsSync(path)));
    });
  }

  const newest = serverIds.find((id) => missingServers(id) === false) ?? "redis-6.0";
  test("startServer() throws what the server said when it refuses to start", {
    skip: missingServers(newest),
  }, async () => {
    const start = startServer(newest, { conf: { "no-such-setting": "1" } });
    await assert.rejects(start, (error) => {
      assert.ok(error instanceof StartError);
      assert.match(error.message, /no-such-setting/);
      return true;
    });
  });
});

suite("compareDumps()", () => {
  const [line] = parseLines(
    '{"db":0,"key":"aw==","type":"zset","encoding":"listpack","expireAtMs":1000,"value":[["bQ==","-0"]]}',
  ) as [Line];

  test("finds lines that are missing, extra or different", () => {
    const other = { ...line, key: "bA==" };
    const changed = { ...line, db: 1 };
    const contents = { how: "contents" } as const;
    assert.deepEqual(compareDumps([line], [line], contents), []);
    assert.equal(compareDumps([line, other], [line], contents).length, 1);
    assert.equal(compareDumps([line], [line, other], contents).length, 1);
    assert.equal(compareDumps([line], [changed], contents).length, 2);
  });

  test("counts expired keys as absent when a server loaded them, and only then", () => {
    assert.deepEqual(compareDumps([line], [], { nowMs: 1000 }), []);
    assert.equal(compareDumps([line], [], { nowMs: 999 }).length, 1);
    assert.equal(compareDumps([line], [], { how: "contents" }).length, 1);
  });

  test("tells -0 from 0, and one encoding from another, only when it is asked to", () => {
    const zero = { ...line, value: [["bQ==", "0"]] } as Line;
    const table = { ...line, encoding: "skiplist" } as Line;
    assert.deepEqual(compareDumps([line], [zero], { nowMs: 0 }), []);
    assert.equal(compareDumps([line], [zero], { how: "contents" }).length, 1);
    assert.deepEqual(compareDumps([line], [table], { how: "contents" }), []);
    assert.equal(compareDumps([line], [table], { how: "exact" }).length, 1);
  });
});
