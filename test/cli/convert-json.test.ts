/** RDB files as JSON lines, and back. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import type { Target } from "../../src/codec/rdb/model.ts";
import { assertSameDump } from "../support/compare.ts";
import { type RdbFixture, rdbFixture, rdbFixtures } from "../support/fixtures.ts";
import { temporaryFolder } from "../support/folder.ts";
import { withoutEncodings } from "../support/json-lines.ts";
import {
  type FixtureServerId,
  missingServers,
  serverIds,
  startServer,
} from "../support/servers.ts";
import { convert } from "./convert-here.ts";

const ownTarget: Readonly<Record<FixtureServerId, Target>> = {
  "redis-6.0": "redis:6.0",
  "redis-7.0": "redis:7.0",
  "redis-8.0": "redis:8",
  "valkey-8.1": "valkey:8",
  "valkey-9": "valkey:9",
};

/** `idle` is what it was when the expectation was read, a second or two later. */
function comparable(lines: string): string {
  return withoutEncodings(lines).replaceAll(/,"idle":\d+/g, "");
}

function place(fixture: RdbFixture, folder: string): string {
  fixture.copyTo(folder);
  return join(folder, "dump.rdb");
}

suite("an RDB as JSON lines", () => {
  test("is the text that is expected of every fixture", async (t) => {
    let exact = 0;
    const fixtures = rdbFixtures().filter(({ bytes }) => bytes < 500_000);
    for (const fixture of fixtures) {
      using folder = temporaryFolder();
      const output = join(folder.path, "x.jsonl");
      await convert(place(fixture, folder.path), output);
      const [found, expected] = [readFileSync(output, "utf8"), fixture.expected.text()];
      if (comparable(found) !== comparable(expected)) {
        assert.fail(`${fixture.id}: ${firstDifference(comparable(found), comparable(expected))}`);
      }
      if (found === expected) exact++;
    }
    t.diagnostic(`${exact} of ${fixtures.length} are equal to the byte, encodings included`);
  });

  test("gives the same lines again when it is made an RDB for its own server", async () => {
    for (const fixture of rdbFixtures().filter(({ bytes }) => bytes < 200_000)) {
      using folder = temporaryFolder();
      const [first, second, rdb] = ["1.jsonl", "2.jsonl", "x.rdb"].map((name) =>
        join(folder.path, name),
      ) as [string, string, string];
      await convert(place(fixture, folder.path), first, "--whole");
      const { dropped } = await convert(first, rdb, "--target", ownTarget[fixture.server]);
      await convert(rdb, second, "--whole");
      assert.deepEqual(dropped, {}, fixture.id);
      const texts = [first, second].map((path) => comparable(readFileSync(path, "utf8")));
      if (texts[0] !== texts[1]) assert.fail(`${fixture.id}: ${firstDifference(...texts)}`);
    }
  });

  for (const id of serverIds) {
    test(`and back is loaded by ${id}`, { skip: missingServers(id) }, async () => {
      const names = ["streams", "hashes", "zsets", "lists", "hash-field-ttl", "vector-sets"];
      for (const fixture of rdbFixtures(id).filter(({ name }) => names.includes(name))) {
        using folder = temporaryFolder();
        const lines = join(folder.path, "x.jsonl");
        const rdb = join(folder.path, "dump.rdb");
        await convert(place(fixture, folder.path), lines, "--whole");
        await convert(lines, rdb, "--target", ownTarget[id], "--force");
        await using server = await startServer(id, { dir: folder.path });
        assertSameDump(fixture.expected.lines(), await server.dump());
      }
    });
  }
});

suite("JSON lines", () => {
  test("may be none, and then are an empty data set", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "x.jsonl");
    writeFileSync(input, "");
    const { keys } = await convert(input, join(folder.path, "x.rdb"));
    assert.equal(keys["written"], 0);
  });

  test("that have digests for values are refused, with what gives the values", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "x.jsonl");
    await convert(place(rdbFixture("redis-8.0/rdb/lists"), folder.path), input);
    await assert.rejects(convert(input, join(folder.path, "x.rdb")), {
      code: "DATA_CORRUPT",
      message: /line \d+: the value is a digest only$/,
      hint: /--whole/,
    });
  });

  test("that say a key twice are refused by the second line", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "x.jsonl");
    const line = '{"db":0,"key":"aw==","type":"string","expireAtMs":null,"value":"dg=="}\n';
    writeFileSync(input, line + line.replace("aw==", "eA==") + line.replace(":0", ":1") + line);
    await assert.rejects(convert(input, join(folder.path, "x.rdb")), {
      code: "DATA_CORRUPT",
      message: 'Cannot read JSON lines: line 4: A second key "k" in its database',
    });
  });

  test("keep what some targets cannot hold: it is the target that refuses it", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "x.jsonl");
    const far = 2 ** 50;
    const hash = `{"db":0,"key":"aw==","type":"hash","expireAtMs":null,"value":[["Zg==","dg==",${far}]]}`;
    writeFileSync(input, `${hash}\n`);
    const output = join(folder.path, "y.jsonl");
    await convert(input, output);
    assert.match(readFileSync(output, "utf8"), new RegExp(`"dg==",${far}`));
    await convert(input, join(folder.path, "x.rdb"), "--target", "valkey:9");
    await assert.rejects(convert(input, join(folder.path, "y.rdb"), "--target", "redis:8"), {
      code: "TARGET_CANNOT_HOLD",
      message: /^Cannot write key "k" for redis:8: a field's expiry is too far in the future$/,
    });
  });

  test("hold values of modules for a target that has them", async () => {
    using folder = temporaryFolder();
    const input = join(folder.path, "x.jsonl");
    // The id of "ReJSON-RL" version 3, and a string.
    const value = Buffer.concat([
      Buffer.from("0781", "hex"),
      rejsonId(),
      Buffer.from([5, 2, 0x7b, 0x7d, 0]),
    ]);
    const payload = value.toString("base64");
    writeFileSync(
      input,
      `{"db":0,"key":"aw==","type":"module","expireAtMs":null,"value":{"payload":"${payload}"}}\n`,
    );
    for (const name of ["x.rdb", "x.resp"]) {
      const output = join(folder.path, name);
      await assert.rejects(convert(input, output), {
        code: "TARGET_CANNOT_HOLD",
        message: 'Cannot write key "k" for redis:8: it is a value of module type ReJSON-RL',
      });
      const { keys } = await convert(input, output, "--module", "ReJSON-RL");
      assert.equal(keys["written"], 1);
    }
    const output = join(folder.path, "y.jsonl");
    await convert(join(folder.path, "x.rdb"), output);
    assert.match(readFileSync(output, "utf8"), /"module":"ReJSON-RL","version":3,/);
  });
});

/** Nine characters of six bits each, and ten bits of the version. */
function rejsonId(): Buffer {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  let id = 0n;
  for (const letter of "ReJSON-RL") id = (id << 6n) | BigInt(alphabet.indexOf(letter));
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE((id << 10n) | 3n);
  return bytes;
}

function firstDifference(found = "", expected = ""): string {
  const [a, b] = [found.split("\n"), expected.split("\n")];
  const at = b.findIndex((line, i) => line !== a[i]);
  return `line ${at + 1}\n  found    ${a[at]?.slice(0, 300)}\n  expected ${b[at]?.slice(0, 300)}`;
}
