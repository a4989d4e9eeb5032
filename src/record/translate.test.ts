import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Batch, StreamTranslator } from "./translate.ts";

type Command = readonly string[];

function encode(...commands: readonly Command[]): string {
  return commands
    .map(
      (args) =>
        `*${args.length}\r\n${args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`).join("")}`,
    )
    .join("");
}

function translate(stream: string, options: { hasRelativeTimes?: boolean; offset?: number } = {}) {
  const { hasRelativeTimes = false, offset = 0 } = options;
  const now = () => 1_000_000;
  const translator = new StreamTranslator({ offset, database: 0 }, { hasRelativeTimes, now });
  translator.push(Buffer.from(stream, "latin1"));
  return translator;
}

type Taken = Omit<Batch, "pieces"> & { readonly records: string };

function batches(translator: StreamTranslator): Taken[] {
  const all: Taken[] = [];
  for (let batch = translator.take(); batch; batch = translator.take()) {
    const { pieces, ...facts } = batch;
    all.push({ ...facts, records: Buffer.concat(pieces).toString("latin1") });
  }
  return all;
}

function text(parts: readonly Taken[]): string {
  return parts.map(({ records }) => records).join("");
}

function records(translator: StreamTranslator): string {
  return text(batches(translator));
}

const set = ["SET", "k", "v"];

test("push() passes commands on as they are", () => {
  const stream = encode(["SELECT", "0"], set, ["lpush", "l", "\r\n*1\r\n"]);
  assert.equal(records(translate(stream)), stream);
});

test("push() counts what belongs to the stream alone, and leaves it out", () => {
  const chatter = encode(
    ["PING"],
    ["ping"],
    ["REPLCONF", "GETACK", "*"],
    ["PUBLISH", "c", "m"],
    ["CLUSTER", "SYNCSLOTS", "ACK"],
  );
  const all = batches(translate(`${encode(set)}\n${chatter}\n`));
  assert.equal(text(all), encode(set));
  assert.equal(all.at(-1)?.offset, encode(set).length + chatter.length + 2);
  assert.equal(all[0]?.commands, 1);
});

test("take() tells that the offset has gone on, even where there is nothing for the log", () => {
  const told = { offset: 1014, database: 0, databaseBefore: 0, commands: 0, isPart: false };
  const translator = translate(encode(["PING"]), { offset: 1000 });
  assert.deepEqual(batches(translator), [{ ...told, records: "" }]);
});

test("takeAckRequest() tells once that the source has asked", () => {
  const translator = translate(encode(["REPLCONF", "GETACK", "*"]));
  assert.equal(translator.takeAckRequest(), true);
  assert.equal(translator.takeAckRequest(), false);
});

test("take() gives whole transactions only", () => {
  const head = encode(set, ["MULTI"], ["SELECT", "3"], set);
  const translator = translate(head);
  const [first] = batches(translator);
  assert.equal(first?.offset, encode(set).length);
  assert.equal(first?.database, 0);
  translator.push(Buffer.from(encode(["EXEC"])));
  const [second] = batches(translator);
  assert.equal(second?.records, head.slice(encode(set).length) + encode(["EXEC"]));
  assert.deepEqual([second?.databaseBefore, second?.database], [0, 3]);
});

test("a source older than 7.0 has its relative times made absolute", () => {
  const cases: [Command, Command][] = [
    [
      ["EXPIRE", "k", "10"],
      ["PEXPIREAT", "k", "1010000"],
    ],
    [
      ["pexpire", "k", "10"],
      ["PEXPIREAT", "k", "1000010"],
    ],
    [
      ["EXPIREAT", "k", "10"],
      ["PEXPIREAT", "k", "10000"],
    ],
    [
      ["SETEX", "k", "10", "v"],
      ["SET", "k", "v", "PXAT", "1010000"],
    ],
    [
      ["PSETEX", "k", "10", "v"],
      ["SET", "k", "v", "PXAT", "1000010"],
    ],
    [
      ["SET", "k", "v", "NX", "ex", "10"],
      ["SET", "k", "v", "PXAT", "1010000"],
    ],
    [
      ["SET", "k", "v", "PX", "10"],
      ["SET", "k", "v", "PXAT", "1000010"],
    ],
    [
      ["RESTORE", "k", "10", "x", "REPLACE"],
      ["RESTORE", "k", "1000010", "x", "REPLACE", "ABSTTL"],
    ],
    [
      ["RESTORE-ASKING", "k", "10", "x", "REPLACE"],
      ["RESTORE", "k", "1000010", "x", "REPLACE", "ABSTTL"],
    ],
  ];
  for (const [relative, absolute] of cases) {
    assert.equal(
      records(translate(encode(relative), { hasRelativeTimes: true })),
      encode(absolute),
    );
    assert.equal(records(translate(encode(relative))), encode(relative));
  }
});

test("what is absolute already stays as it is", () => {
  for (const command of [
    ["SET", "k", "EX"],
    ["SET", "EX", "10"],
    ["SET", "k", "v", "KEEPTTL"],
    ["SET", "k", "v", "PXAT", "1"],
    ["PEXPIREAT", "k", "1"],
    ["RESTORE", "k", "0", "x"],
    ["RESTORE", "k", "10", "x", "ABSTTL"],
    ["EXPIRE", "k", "no number"],
  ]) {
    assert.equal(records(translate(encode(command), { hasRelativeTimes: true })), encode(command));
  }
});

test("the batches are the same however the stream is cut", () => {
  const command = fc.constantFrom<Command>(
    set,
    ["PING"],
    ["SELECT", "5"],
    ["REPLCONF", "GETACK", "*"],
    ["RPUSH", "l", "x".repeat(300)],
  );
  const unit = fc.oneof(
    command.map((one) => encode(one)),
    fc.array(command, { maxLength: 4 }).map((many) => encode(["MULTI"], ...many, ["EXEC"])),
    fc.constant("\n"),
  );
  fc.assert(
    fc.property(fc.array(unit), fc.array(fc.nat()), (units, cuts) => {
      const stream = Buffer.from(units.join(""), "latin1");
      const whole = batches(translate(stream.toString("latin1")));
      const pieces = translate("");
      const ends = [...cuts.map((cut) => cut % (stream.length + 1)), stream.length];
      let at = 0;
      const found: Taken[] = [];
      for (const end of ends.sort((a, b) => a - b)) {
        pieces.push(stream.subarray(at, end));
        found.push(...batches(pieces));
        at = end;
      }
      assert.equal(text(found), text(whole));
      const state = (all: readonly Taken[]) => [all.at(-1)?.offset, all.at(-1)?.database];
      assert.deepEqual(state(found), state(whole));
    }),
  );
});

test("whatever differs from the stream stands at the beginning of a batch", () => {
  const ping = encode(["PING"]);
  const one = encode(set);
  const all = batches(translate([one, one, ping, ping, one, "\n", one, one].join("")));
  assert.deepEqual(
    all.map((batch) => [batch.offset, batch.records.length]),
    [
      [2 * one.length, 2 * one.length],
      [3 * one.length + 2 * ping.length, one.length],
      [5 * one.length + 2 * ping.length + 1, 2 * one.length],
    ],
  );
});

test("a command that was made absolute is the first one of its batch", () => {
  const relative = encode(["EXPIRE", "k", "10"]);
  const stream = [encode(set), relative, encode(set), relative, relative].join("");
  const all = batches(translate(stream, { hasRelativeTimes: true }));
  assert.deepEqual(
    all.map(({ commands }) => commands),
    [1, 2, 1, 1],
  );
});

test("a unit of any length is given out in parts, and nothing is kept of it", () => {
  const value = "v".repeat(5_000_000);
  const units = [
    encode(set),
    encode(["SET", "long", value]),
    encode(["MULTI"], ["RPUSH", "l", value, "w"], ["PUBLISH", "c", "m"], set, ["EXEC"]),
    encode(set),
  ];
  const stream = units.join("");
  const translator = translate("");
  const found: Taken[] = [];
  for (let at = 0; at < stream.length; at += 100_000) {
    translator.push(Buffer.from(stream.slice(at, at + 100_000), "latin1"));
    found.push(...batches(translator));
  }
  assert.equal(text(found), stream.replace(encode(["PUBLISH", "c", "m"]), ""));
  assert.ok(Math.max(...found.map((batch) => batch.records.length)) < 1_400_000);
  const told = found.filter(({ isPart }) => !isPart).map(({ offset }) => offset);
  assert.equal(told.at(-1), stream.length);
  assert.ok(found.filter(({ isPart }) => isPart).every(({ offset }) => told.includes(offset)));
});
