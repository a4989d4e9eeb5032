import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type Bytes,
  bytes,
  double,
  file,
  hex,
  id,
  int64,
  length,
  listpack,
  listpackOf,
  rawId,
  record,
  string,
} from "../../../test/support/rdb-bytes.ts";
import { KeyPipe } from "../../recovery/key-pipe.ts";
import { type CommandOptions, CommandWriter } from "./commands.ts";
import { openDumpPayload } from "./dump.ts";
import type { Target } from "./model.ts";

type Commands = {
  /** A command each, its arguments with spaces between. */
  readonly commands: string[];
  readonly dropped: Record<string, number>;
};

function commandsOf(target: Target, rdb: Uint8Array, options?: CommandOptions): Commands {
  const writer = new CommandWriter(target, options);
  const pipe = new KeyPipe(writer);
  pipe.reader.push(rdb);
  assert(pipe.drain());
  const text = Buffer.from(writer.take()).toString("latin1");
  return {
    commands: parse(text).map((args) => args.join(" ")),
    dropped: Object.fromEntries(writer.dropped),
  };
}

function parse(text: string): string[][] {
  const found: string[][] = [];
  for (let at = 0; at < text.length; ) {
    const line = () => {
      const end = text.indexOf("\r\n", at);
      const read = text.slice(at + 1, end);
      at = end + 2;
      return Number(read);
    };
    found.push(
      Array.from({ length: line() }, () => {
        const size = line();
        at += size + 2;
        return text.slice(at - size - 2, at - 2);
      }),
    );
  }
  return found;
}

const redis = (...records: readonly Bytes[]) => file("REDIS0012", ...records);
const many = (count: number, each: (i: number) => Uint8Array) =>
  bytes(length(count), ...Array.from({ length: count }, (_, i) => each(i)));

suite("CommandWriter", () => {
  test("selects each database, sets strings, and says when keys expire", () => {
    const rdb = redis(
      record(0, string("v")),
      [0xfe, 3],
      [0xfc],
      int64(4102444800000),
      [0],
      string("a b"),
      string("\0\r\n"),
      [0],
      string(""),
      string(""),
    );
    assert.deepEqual(commandsOf("redis:6.0", rdb), {
      commands: [
        "SELECT 0",
        "SET k v",
        "SELECT 3",
        "SET a b \0\r\n",
        "PEXPIREAT a b 4102444800000",
        "SET  ",
      ],
      dropped: {},
    });
  });

  test("adds 64 elements, members or pairs with a command", () => {
    const name = (i: number) => string(`${i}`);
    const cases: readonly (readonly [string, Uint8Array, number])[] = [
      ["RPUSH", record(1, many(150, name)), 1],
      ["SADD", record(2, many(150, name)), 1],
      [
        "ZADD",
        record(
          5,
          many(150, (i) => bytes(name(i), double(i))),
        ),
        2,
      ],
      [
        "HSET",
        record(
          4,
          many(150, (i) => bytes(name(i), name(i))),
        ),
        2,
      ],
    ];
    for (const [verb, value, width] of cases) {
      const { commands } = commandsOf("redis:6.0", redis(value));
      const sizes = commands.map((command) => command.split(" "));
      assert.deepEqual(
        sizes.map(([first]) => first),
        ["SELECT", verb, verb, verb],
      );
      assert.deepEqual(
        sizes.slice(1).map((words) => (words.length - 2) / width),
        [64, 64, 22],
      );
    }
  });

  test("adds fewer elements with a command when they are long", () => {
    const long = string("x".repeat(40_000));
    const { commands } = commandsOf(
      "redis:8",
      redis(
        record(
          1,
          many(5, () => long),
        ),
      ),
    );
    assert.deepEqual(
      commands.map((command) => command.length),
      ["SELECT 0".length, 80_009, 80_009, 40_008],
    );
  });

  test("gives scores as servers read them", () => {
    const scores = [1, -0, 0.1, 1e300, Infinity, -Infinity];
    const rdb = redis(
      record(
        5,
        many(6, (i) => bytes(string(`${i}`), double(scores[i] as number))),
      ),
    );
    const { commands } = commandsOf("redis:6.0", rdb);
    assert.equal(commands[1], "ZADD k 1 0 -0 1 0.1 2 1e+300 3 inf 4 -inf 5");
  });

  const expiring = (time: number | bigint) =>
    redis(
      record(
        24,
        int64(1),
        length(3),
        bytes(length(0), string("a"), string("1")),
        bytes(length(time), string("b"), string("2")),
        bytes(length(0), string("c"), string("3")),
      ),
    );

  test("lets fields of a hash expire where the target can", () => {
    for (const target of ["redis:7.4", "redis:8", "valkey:9"] as const) {
      assert.deepEqual(commandsOf(target, expiring(4102444800000)), {
        commands: [
          "SELECT 0",
          "HSET k a 1 b 2",
          "HPEXPIREAT k 4102444800000 FIELDS 1 b",
          "HSET k c 3",
        ],
        dropped: {},
      });
    }
    assert.throws(() => commandsOf("redis:7.2", expiring(4102444800000)), {
      code: "TARGET_CANNOT_HOLD",
      message: 'Cannot write key "k" for redis:7.2: it has a field that expires',
    });
    assert.deepEqual(commandsOf("valkey:8", expiring(4102444800000), { lossy: true }), {
      commands: ["SELECT 0", "HSET k a 1 b 2 c 3"],
      dropped: { "field expiry": 1 },
    });
  });

  test("refuses an expiry of a field that no command of Redis sets, though a file may have it", () => {
    const last = expiring(2 ** 46 - 1);
    assert.match(commandsOf("redis:8", last).commands.join(), /HPEXPIREAT k 70368744177663 /);
    const late = expiring(2 ** 46);
    assert.match(commandsOf("valkey:9", late).commands.join(), /HPEXPIREAT k 70368744177664 /);
    assert.throws(() => commandsOf("redis:8", late), {
      message: /^Cannot write key "k" for redis:8: a field's expiry is too far in the future$/,
    });
    assert.deepEqual(commandsOf("redis:7.4", late, { lossy: true }).dropped, { "field expiry": 1 });
  });

  const node = bytes(
    string(rawId(5, 1)),
    string(listpack(2, 0, 1, "f", 0, 2, 0, 0, "v", 4, 2, 0, 1, "w", 4)),
  );
  /** Entries 5-1 and 5-2, of which 5-3 was deleted while it was pending for "al". */
  const group = (name: string) =>
    bytes(
      string(name),
      id(5, 3),
      length(3),
      bytes([2], rawId(5, 1), int64(77), [3], rawId(5, 3), int64(78), [1]),
      bytes([2], string("al"), int64(500), int64(501), [2], rawId(5, 1), rawId(5, 3)),
      bytes(string("bo"), int64(600), int64(-1), [0]),
    );
  const stream = record(
    21,
    bytes([1], node, [2], id(5, 3), id(5, 1), id(5, 3), length(3)),
    bytes([2], group("g1"), group("g2")),
  );

  test("makes streams with groups, consumers and what is pending, and counts what it cannot make", () => {
    const of = (name: string) => [
      `XGROUP CREATE k ${name} 5-3 ENTRIESREAD 3`,
      `XGROUP CREATECONSUMER k ${name} al`,
      `XCLAIM k ${name} al 0 5-1 TIME 77 RETRYCOUNT 3 JUSTID FORCE`,
      `XCLAIM k ${name} al 0 5-3 TIME 78 RETRYCOUNT 1 JUSTID FORCE`,
      `XGROUP CREATECONSUMER k ${name} bo`,
    ];
    assert.deepEqual(commandsOf("redis:7.0", redis(stream)), {
      commands: [
        "SELECT 0",
        "XADD k 5-1 f v",
        "XADD k 5-2 f w",
        "XSETID k 5-3 ENTRIESADDED 3 MAXDELETEDID 5-3",
        ...of("g1"),
        ...of("g2"),
      ],
      dropped: { "consumer activity": 4, "deleted pending": 2 },
    });
  });

  test("makes streams for Redis 6.0, which knows neither counters nor consumers without entries", () => {
    const { commands, dropped } = commandsOf("redis:6.0", redis(stream));
    assert.deepEqual(commands.slice(3, 7), [
      "XSETID k 5-3",
      "XGROUP CREATE k g1 5-3",
      "XCLAIM k g1 al 0 5-1 TIME 77 RETRYCOUNT 3 JUSTID FORCE",
      "XCLAIM k g1 al 0 5-3 TIME 78 RETRYCOUNT 1 JUSTID FORCE",
    ]);
    assert.deepEqual(dropped, {
      "stream history": 1,
      "consumer activity": 4,
      "idle consumer": 2,
      "deleted pending": 2,
    });
  });

  test("makes a stream without entries, and one without any past", () => {
    const empty = bytes([0], [0], id(0, 0), id(0, 0), id(0, 0), [0], [0]);
    assert.deepEqual(commandsOf("redis:7.2", redis(record(21, empty))).commands.slice(1), [
      "XADD k MAXLEN 0 0-1 x y",
      "XSETID k 0-0 ENTRIESADDED 0 MAXDELETEDID 0-0",
    ]);
  });

  test("makes an entry of more fields than a call can have arguments", () => {
    const pairs = 130_000;
    const number = (value: number) => {
      const raw = Buffer.from([0xf3, 0, 0, 0, 0]);
      raw.writeInt32LE(value, 1);
      return raw;
    };
    const fields = Array.from({ length: 2 * pairs }, (_, i) => [i % 100]);
    const head = [1, 0, 0, 0, 0, 0, 0].map((value) => [value]);
    const entry = listpackOf([...head, number(pairs), ...fields, number(2 * pairs + 4)]);
    const value = bytes([1], string(rawId(1, 1)), string(entry), [1], id(1, 1), [0]);
    const { commands } = commandsOf("redis:6.0", redis(record(15, value)));
    assert.equal(commands[1]?.split(" ").length, 3 + 2 * pairs);
  });

  test("loads functions where the target has them", () => {
    const code = "#!lua name=mine\nredis.register_function('f', function() end)";
    const rdb = redis([0xf5], string(code));
    assert.deepEqual(commandsOf("valkey:8", rdb).commands, [`FUNCTION LOAD ${code}`]);
    assert.throws(() => commandsOf("redis:6.0", rdb), { code: "TARGET_CANNOT_HOLD" });
    assert.deepEqual(commandsOf("redis:6.0", rdb, { lossy: true }), {
      commands: [],
      dropped: { function: 1 },
    });
  });

  /** The id of "vectorset", and that of another module. */
  const vectorSet = 0xbde72da2bb1eb400n;
  const other = 0x45e25238df912c03n;
  const moduleValue = (module: bigint) => bytes(length(module), [5], string("x"), [0]);
  const module = (type: bigint) =>
    redis([0xfc], int64(5000), record(7, moduleValue(type)), [0], string("l"), string("v"));

  test("restores values of modules that the target has, and refuses or drops others", () => {
    const rdb = module(vectorSet);
    const { commands } = commandsOf("redis:8", rdb);
    const [, restore = "", expire, ...rest] = commands;
    assert.equal(expire, "PEXPIREAT k 5000");
    assert.deepEqual(rest, ["SET l v"]);
    assert.match(restore, /^RESTORE k 0 /);
    const payload = openDumpPayload(Buffer.from(restore.slice("RESTORE k 0 ".length), "latin1"));
    assert.equal(payload.version, 12);
    assert.deepEqual(Buffer.from(payload.content), Buffer.from(bytes([7], moduleValue(vectorSet))));
    assert.throws(() => commandsOf("valkey:9", rdb), {
      message: 'Cannot write key "k" for valkey:9: it is a value of module type vectorset',
    });
    assert.deepEqual(commandsOf("valkey:9", rdb, { lossy: true }), {
      commands: ["SELECT 0", "SET l v"],
      dropped: { "module value": 1 },
    });
  });

  test("restores values of modules that the caller names", () => {
    assert.throws(() => commandsOf("redis:8", module(other)), { code: "TARGET_CANNOT_HOLD" });
    const [, name = ""] =
      /module type (\S+)$/.exec(messageOf(() => commandsOf("redis:8", module(other)))) ?? [];
    for (const modules of [[name], "any"] as const) {
      const { commands, dropped } = commandsOf("redis:8", module(other), { modules });
      assert.match(commands[1] ?? "", /^RESTORE k 0 /);
      assert.deepEqual(dropped, {});
    }
  });

  test("refuses or drops what no command makes: module records, metadata, arrays, producers", () => {
    const newest = (...records: readonly Bytes[]) => file("REDIS0015", ...records);
    const cases: readonly (readonly [string, Uint8Array, string[]])[] = [
      ["module aux", newest([0xf7], length(other), [2, 2, 5], string("x"), [0]), []],
      [
        "key metadata",
        newest(hex("f3 01 092debb5 0207 0503616263 00"), record(0, string("v"))),
        ["SELECT 0", "SET k v"],
      ],
      [
        "array",
        newest([0xfc], int64(5), record(28, length(1), [0], [0], [0], string("text"))),
        ["SELECT 0"],
      ],
    ];
    for (const [feature, rdb, commands] of cases) {
      assert.throws(() => commandsOf("redis:8", rdb), { code: "TARGET_CANNOT_HOLD" }, feature);
      assert.deepEqual(commandsOf("redis:8", rdb, { lossy: true }), {
        commands,
        dropped: { [feature]: 1 },
      });
    }
  });

  test("counts counters of use, which no command sets", () => {
    const rdb = redis(
      [0xf8],
      length(70),
      record(0, string("v")),
      [0xf9, 7, 0],
      string("l"),
      string("v"),
    );
    assert.deepEqual(commandsOf("redis:8", rdb), {
      commands: ["SELECT 0", "SET k v", "SET l v"],
      dropped: { "access counter": 2 },
    });
  });
});

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  return assert.fail("Nothing was thrown");
}
