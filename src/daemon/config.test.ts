import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import fc from "fast-check";
import { temporaryFolder } from "../../test/support/folder.ts";
import { Failure } from "../base/errors.ts";
import { instanceOf, isCluster, parseConfig, shardConfig } from "./config.ts";
import { exampleConfig } from "./example.ts";

const path = "/etc/tidemark/tidemark.yaml";
const head = "repositories:\n  main: {address: /backups}\n";

/** What is said of a file that is wrong. */
function refusal(text: string): string {
  try {
    parseConfig(text, path);
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.code, "USAGE");
    return error.message;
  }
  return assert.fail("It was taken");
}

function db1(lines: string): string {
  return `${head}instances:\n  db1:\n    source: redis://db1\n${lines.replaceAll(/^/gm, "    ")}\n`;
}

suite("parseConfig()", () => {
  test("gives defaults for all that is not said: daily, 7 days, a window of 7 days", () => {
    const config = parseConfig(db1(""), path);
    const { backup, retention, ...rest } = instanceOf(config, "db1");
    assert.equal(backup?.days.length, 7);
    assert.deepEqual([backup?.hour, backup?.minute, backup?.jitterMs], [3, 0, 1_800_000]);
    assert.equal(retention.retentionDays, 7);
    assert.equal(retention.logWindowDays, 7);
    assert.deepEqual(
      [rest.spool, rest.archiveIntervalMs, rest.segmentBytes, rest.follow, rest.fsync],
      ["/etc/tidemark/spool/db1", 10_000, 128 * 2 ** 20, "replica", "everysec"],
    );
    assert.equal(rest.repository.address, "/backups");
  });

  test("takes the example, as it is and with every setting that it shows", () => {
    const plain = parseConfig(exampleConfig("/backups"), path);
    assert.deepEqual([...plain.instances.keys()], ["db1"]);
    const whole = exampleConfig("/backups").replaceAll(/^( +)# (?=[ \w-]+[:{])/gm, "$1");
    const text = whole.replace("redis://localhost", "rediss://localhost");
    const config = parseConfig(text, path);
    const { key, olderKeys, level } = instanceOf(config, "db1").repository;
    assert.deepEqual([key?.id, olderKeys[0]?.id, level], ["key-2026", "key-2025", 3]);
    const { retention, backup, connect } = instanceOf(config, "db1");
    assert.deepEqual([retention.keepMonthly, backup?.timeZone], [12, "Europe/Prague"]);
    assert.equal(connect.tls?.serverName, "db1.example.com");
  });

  test("says where a fault is, what it is, and what would be right", () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ["", /yaml:1:1: it is empty: it needs repositories, and instances/],
      ["# nothing\n", /:1:1: it is empty: it needs repositories, and instances/],
      ["instances: {}", /yaml:1:1: repositories must be repositories by name/],
      [
        `${head}instances: {__proto__: {source: "redis://a"}}`,
        /:\d+:13: __proto__ cannot be a name/,
      ],
      ["repositories: {\n  __proto__: {address: b}}", /:2:3: __proto__ cannot be a name/],
      [
        "[".repeat(100_000),
        /^Cannot use the configuration: [^;]*yaml:1:1: it is nested too deeply$/,
      ],
      [db1("fsnyc: always"), /:6:5: instances\.db1\.fsnyc is not known: did you mean fsync\?/],
      [db1("fsync: sometimes"), /:6:12: instances\.db1\.fsync must be one of always, everysec, no/],
      [db1("archive_interval: 10"), /:6:23: .*archive_interval is 10: it must be a duration such/],
      [db1("segment_size: 1TB"), /segment_size is "1TB": it must be a size .* from 1MB to 16GB/],
      [db1("backup:\n  days: [someday]"), /:7:13: .*days must be daily, or a list of monday/],
      [db1("backup:\n  time: 25:00"), /time must be a time of day such as "03:15"/],
      [db1("backup:\n  time_zone: Mars/Base"), /time_zone must be a time zone as the IANA names/],
      [db1("password: hunter2"), /:6:15: .*password must be one of \{file: PATH\}/],
      [db1("user: ${USER}"), /user has \$\{…\}, which is not replaced/],
      [db1("\tfsync: no"), /yaml:6:\d+: /],
      [db1("fsync: no\nfsync: always"), /yaml:7:5: map keys must be unique/],
      ["repositories: []", /repositories must be repositories by name/],
      [`${head}instances: {db1: redis://x}`, /instances\.db1 must be settings \(source, user/],
    ];
    for (const [text, expected] of cases) assert.match(refusal(text), expected);
  });

  test("tells all faults at once", () => {
    const found = refusal(db1("follow: x\nfsync: y"));
    assert.match(found, /:6:13: .*follow must be .*; .*:7:12: .*fsync must be/);
  });

  test("refuses a retention outside of 7 to 730 days, unless that is meant", () => {
    for (const days of [1, 6, 731]) {
      const lines = `backup:\n  retention_days: ${days}`;
      assert.match(refusal(db1(lines)), /instances\.db1: .*days is not between 7 and 730/);
      const config = parseConfig(db1(`${lines}\n  allow_any_retention: true`), path);
      assert.equal(instanceOf(config, "db1").retention.retentionDays, days);
    }
  });

  test("takes secrets from files, commands and the environment, and from nowhere else", async () => {
    process.env["TIDEMARK_TEST_SECRET"] = "hush";
    const config = parseConfig(db1("password: {env: TIDEMARK_TEST_SECRET}"), path);
    assert.equal(await instanceOf(config, "db1").connect.credentials?.password.reveal(), "hush");
    delete process.env["TIDEMARK_TEST_SECRET"];
    const unset = refusal(db1("password: {env: TIDEMARK_TEST_SECRET}"));
    assert.match(unset, /variable TIDEMARK_TEST_SECRET, which is not set/);
    const inSource = refusal(`${head}instances: {db1: {source: "redis://a:hunter2@db1"}}`);
    assert.match(inSource, /has a password in its source/);
    assert.doesNotMatch(inSource, /hunter2/);
    assert.doesNotMatch(JSON.stringify([...config.instances]), /hush/);
  });

  test("refuses two instances with one spool, and a repository that is not there", () => {
    const two = `${head}instances:\n  a: {source: "redis://a", spool: s}\n  b: {source: "redis://b", spool: ./s}\n`;
    assert.match(refusal(two), /instances\.b has the spool of a/);
    assert.match(refusal(db1("repository: other")), /repository "other", and there are only main/);
    const none = `${head}  second: {address: b}\ninstances: {a: {source: "redis://a"}}`;
    assert.match(refusal(none), /names no repository, and there are 2/);
  });

  test("says how long an instance may be without a set", () => {
    const gapOf = (days: string) =>
      instanceOf(parseConfig(db1(`backup: {days: ${days}}`), path), "db1").retention.setEveryDays;
    assert.deepEqual(["daily", "[monday]", "[tue, sat]", "[sunday, monday]"].map(gapOf), [
      ...[1, 7, 4, 6],
    ]);
  });

  test("refuses one spool in another, and two names of one folder", () => {
    const config = (a: string, b: string) =>
      `${head}instances:\n  a: {source: "redis://a", spool: ${a}}\n  b: {source: "redis://b", spool: ${b}}\n`;
    assert.match(refusal(config("s/t", "s/t/u")), /instances\.b has its spool in the spool of a/);
    assert.match(refusal(config("s/t/u", "s")), /instances\.b has the spool of a in its own/);
    parseConfig(config("s/t", "s/tu"), path);
    using folder = temporaryFolder();
    const file = join(folder.path, "tidemark.yaml");
    mkdirSync(join(folder.path, "real"));
    symlinkSync("real", join(folder.path, "link"));
    const refused = (a: string, b: string, message: RegExp) =>
      assert.throws(() => parseConfig(config(a, b), file), { code: "USAGE", message });
    refused("real", "link", /has the spool of a: give each its own/);
    refused("real/x", "link/x", /has the spool of a: give each its own/);
    refused("link", "real/x/y", /has its spool in the spool of a/);
    const inRepository = config("link/x", "other").replace("/backups", "./real");
    assert.throws(() => parseConfig(inRepository, file), {
      message: /in the folder of repository/,
    });
  });

  test("refuses a spool in a repository, and a repository in a spool", () => {
    const config = (repository: string, spool: string) =>
      `repositories: {main: {address: ${repository}}}\ninstances: {a: {source: "redis://a", spool: ${spool}}}`;
    assert.match(
      refusal(config("./r", "./r/spool")),
      /instances\.a has its spool in the folder of/,
    );
    assert.match(refusal(config("./r", "./r")), /has its spool in the folder of repository main/);
    assert.match(refusal(config("./s/r", "./s")), /has repository main in the folder of its spool/);
    assert.match(refusal(config("file:///etc/tidemark/s/r", "s")), /has repository main in the/);
    parseConfig(config("./r", "./r-spool"), path);
    parseConfig(config("s3://bucket/r", "./r"), path);
  });

  test("leaves room for the keys of its shards in the name of a cluster", () => {
    const shop = (name: string, source = "cluster://c1") =>
      `${head}instances:\n  ${name}: {source: "${source}"}\n`;
    const [longest, longer] = ["s".repeat(59), "s".repeat(60)];
    const cluster = instanceOf(parseConfig(shop(longest), path), longest);
    const key = "0f".repeat(20);
    const shard = shardConfig(cluster, key);
    assert.deepEqual([isCluster(cluster), shard.name.length], [true, 100]);
    assert.equal(shard.spool, `/etc/tidemark/spool/${longest}/shards/${key}`);
    assert.deepEqual(shard.retention, cluster.retention);
    assert.throws(() => shardConfig(cluster, "f".repeat(41)), { code: "PROTOCOL_ERROR" });
    assert.match(refusal(shop(longer)), /s{60} is too long a name for a cluster: 59 characters/);
    assert.equal(instanceOf(parseConfig(shop(longer, "redis://c1"), path), longer).name, longer);
  });

  test("refuses any depth of nesting with one plain fault", () => {
    for (const depth of [50, 300, 1000, 3000, 20_000]) {
      for (const [open, close] of [
        ["[", "]"],
        ["{a: ", "}"],
        ["{? ", "}"],
      ] as const) {
        const found = refusal(open.repeat(depth) + close.repeat(depth));
        assert.doesNotMatch(found, /stack/i);
        assert.ok(found.length < 3000, found.slice(0, 500));
      }
    }
  });

  test("never throws anything but a Failure, whatever the text", () => {
    const words = fc.constantFrom(
      "repositories:",
      "instances:",
      " db1:",
      "{",
      "}",
      "[",
      "- ",
      "\n",
      "&a ",
      "*a",
      "!!x ",
      "? ",
      ": ",
      "10s",
      '"',
    );
    fc.assert(
      fc.property(fc.array(words, { maxLength: 30 }), (parts) => {
        try {
          parseConfig(parts.join(""), path);
        } catch (error) {
          assert.ok(error instanceof Failure, String(error));
        }
      }),
    );
  });
});

test("instanceOf() names what may have been meant", () => {
  const config = parseConfig(db1(""), path);
  assert.throws(() => instanceOf(config, "bd1"), { hint: "Did you mean db1?" });
  assert.throws(() => instanceOf(config, "sessions"), { hint: "It has db1." });
});
