import assert from "node:assert/strict";
import { test } from "node:test";
import { RespEncoder } from "../codec/resp/encode.ts";
import { heldMs } from "./restore-held.ts";
import { LogCommands, type MarkMaker } from "./restore-replay.ts";

function encode(commands: readonly string[]): Buffer {
  const encoder = new RespEncoder();
  for (const command of commands) encoder.command(...command.split(" "));
  return Buffer.from(encoder.take());
}

/** The commands that a log becomes, as texts; "|" stands between batches. */
function replay(log: readonly string[], options: { isOld?: boolean; cut?: number } = {}): string[] {
  const marker: MarkMaker = ({ bytes }, { isRepeatable }) => {
    return { key: "marker", value: String(bytes), isRepeatable };
  };
  const commands = new LogCommands({ bytes: 0, database: 2 }, marker, options);
  const bytes = encode(log);
  const size = options.cut ?? bytes.length;
  const batches: string[] = [];
  const take = (batch: { parts: readonly Uint8Array[]; commands: number }) => {
    const text = Buffer.concat(batch.parts).toString("latin1");
    const found = text.split(/\*\d+\r\n/).slice(1);
    assert.equal(found.length, batch.commands, "As many replies as commands");
    batches.push(...found.map((each) => each.replaceAll(/\$\d+\r\n([^\r]*)\r\n/g, "$1 ").trim()));
  };
  for (let at = 0; at < bytes.length; at += size) {
    for (const batch of commands.push(bytes.subarray(at, at + size))) take(batch);
  }
  const last = commands.finish();
  if (last !== undefined) take(last);
  return batches;
}

test("LogCommands sends what may be repeated as it is, with the marker behind it", () => {
  const log = ["SET a 1", "MULTI", "HSET h f 1", "DEL a", "EXEC", "SELECT 5", "zadd z -1.5 m"];
  for (const cut of [1, 10, 1000]) {
    assert.deepEqual(replay(log, { cut }), [
      ...["SELECT 2", "SET a 1", "HSET h f 1", "DEL a", "SELECT 5", "zadd z -1.5 m"],
      ...["SELECT 0", `SET marker ${encode(log).length}`, "SELECT 5"],
    ]);
  }
});

test("LogCommands sends rows of SET as MSET, in order with all else", () => {
  const rows = ["SET a 1", "set b 2", "SET a 3", "SELECT 7", "SET c 4", "APPEND c 5", "SET d 6"];
  assert.deepEqual(replay(rows).slice(2, -4), [
    ...["MSET a 1 b 2 a 3", "SELECT 7", "SET c 4", "APPEND c 5", "SET d 6"],
  ]);
  const many = Array.from({ length: 150 }, (_, i) => `SET k${i} v`);
  const sizes = replay(many).map((command) => command.split(" ").length);
  assert.deepEqual(sizes.slice(1, 4), [129, 129, 45]);
  const long = "x".repeat(5000);
  assert.deepEqual(replay(["SET a 1", `SET b ${long}`, "SET c 2", "SET d 3"]).slice(1, -3), [
    ...["SET a 1", `SET b ${long}`, "MSET c 2 d 3"],
  ]);
});

for (const [log, why] of [
  [["INCR a"], "adds"],
  [["ZADD z INCR 1 m"], "adds to a score"],
  [["FLUSHALL"], "removes the marker"],
  [["HSET h f 1", "PEXPIREAT h 1", "HDEL h f"], "may remove a key with its expiry"],
] as const) {
  test(`LogCommands makes a transaction of ${log.join(", ")}, which ${why}`, () => {
    const sent = replay(log);
    assert.deepEqual([sent[0], sent.at(-1)], ["MULTI", "EXEC"]);
    assert.ok(sent.includes(`SET marker ${encode(log).length}`));
  });
}

test("LogCommands deletes the marker before SWAPDB takes it along", () => {
  const sent = replay(["SET a 1", "SWAPDB 0 2"]);
  assert.deepEqual(sent.slice(0, 5), ["MULTI", "SELECT 0", "DEL marker", "SELECT 2", "SET a 1"]);
});

test("LogCommands puts every expiry off, and touches nothing that only looks like one", () => {
  const { keys, fields } = heldMs;
  const [ms, held, seconds] = [1000, 1000 + keys, 1 + keys / 1000];
  const [field, fieldSeconds] = [1000 + fields, 1 + fields / 1000];
  const cases: readonly (readonly [string, string])[] = [
    [`SET k v PXAT ${ms}`, `SET k v PXAT ${held}`],
    ["SET k v NX EXAT 1", `SET k v NX EXAT ${seconds}`],
    [`SET PXAT ${ms}`, `SET PXAT ${ms}`],
    [`pexpireat k ${ms}`, `pexpireat k ${held}`],
    ["EXPIREAT k 1", `EXPIREAT k ${seconds}`],
    [`GETEX k PXAT ${ms}`, `GETEX k PXAT ${held}`],
    [`HPEXPIREAT h ${ms} FIELDS 1 f`, `HPEXPIREAT h ${field} FIELDS 1 f`],
    ["HEXPIREAT h 1 FIELDS 1 f", `HEXPIREAT h ${fieldSeconds} FIELDS 1 f`],
    [`HSETEX h PXAT ${ms} FIELDS 1 f v`, `HSETEX h PXAT ${field} FIELDS 1 f v`],
    [`HSETEX h FIELDS 1 PXAT ${ms}`, `HSETEX h FIELDS 1 PXAT ${ms}`],
    [`MSETEX 1 PXAT 5 PXAT ${ms}`, `MSETEX 1 PXAT 5 PXAT ${held}`],
    [`RESTORE k ${ms} x ABSTTL`, `RESTORE k ${held} x ABSTTL`],
    ["RESTORE k 0 x ABSTTL", "RESTORE k 0 x ABSTTL"],
    [`HSET h PXAT ${ms}`, `HSET h PXAT ${ms}`],
    [`RPUSH l PXAT ${ms} x`, `RPUSH l PXAT ${ms} x`],
  ];
  for (const [command, wanted] of cases) {
    assert.ok(replay([command]).includes(wanted), `${command}: ${replay([command]).join(", ")}`);
  }
});

test("LogCommands gives servers before 6.2 the time of SET by a command of its own", () => {
  const sent = replay(["SET k v PXAT 1"], { isOld: true });
  assert.deepEqual(sent.slice(1, 3), ["SET k v", `PEXPIREAT k ${1 + heldMs.keys}`]);
});

test("LogCommands makes the same batches again from where one has ended", () => {
  const log = Array.from({ length: 2500 }, (_, i) => `SET k${i} v`);
  const marker: MarkMaker = ({ bytes }, { isRepeatable }) => {
    return { key: "m", value: String(bytes), isRepeatable };
  };
  const bytes = encode(log);
  const ends = (from: number) => {
    const commands = new LogCommands({ bytes: from, database: 0 }, marker);
    return [...commands.push(bytes.subarray(from))].map(({ parts }) =>
      Number(/\r\nm\r\n\$\d+\r\n(\d+)/.exec(Buffer.concat(parts).toString())?.[1]),
    );
  };
  const all = ends(0);
  assert.equal(all.length, 2);
  assert.deepEqual(ends(all[0] as number), all.slice(1));
});
