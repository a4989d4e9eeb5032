import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  type Bytes,
  bytes,
  double,
  int64,
  intset,
  length,
  listpack,
  listpackOf,
  literalLzf,
  record,
  string,
  uncheckedFile,
  ziplist,
  ziplistOf,
  zipmap,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf } from "../../../test/support/rdb-events.ts";
import type { Family } from "./model.ts";

/** What a value decodes to, from "begin" on; the same in one piece and byte by byte. */
function decode(type: number, value: readonly Bytes[], family: Family = "redis"): string[] {
  const magic = family === "redis" ? "REDIS0015" : "VALKEY080";
  const whole = uncheckedFile(magic, record(type, ...value));
  const events = eventsOf(whole);
  assert.deepEqual(eventsOf(whole, { sizes: [1] }), events);
  assert.deepEqual(events.slice(-2), ["end value", "end"]);
  return events.slice(1, -2);
}

function refuses(type: number, value: readonly Bytes[], message: RegExp, family?: Family): void {
  const damage = { code: "DATA_CORRUPT", message };
  assert.throws(
    () => decode(type, value, family),
    damage,
    Buffer.concat(value.map((part) => bytes(part))).toString("hex"),
  );
}

const latin1 = fc
  .string({ unit: "binary", maxLength: 100 })
  .map((text) => text.replaceAll(/[^\0-\xff]/g, "x"));
const lists = fc.array(latin1, { maxLength: 20 });

suite("lists", () => {
  test("are read element by element in each of their layouts", () => {
    fc.assert(
      fc.property(lists, (texts) => {
        const elements = texts.map((text) => `element ${text}`);
        const plain = [length(texts.length), ...texts.map((text) => string(text))];
        assert.deepEqual(decode(1, plain), [`begin ${texts.length}`, ...elements]);
        const nodes = [length(2), string(ziplistOfTexts(texts)), literalLzf(ziplistOfTexts([]))];
        assert.deepEqual(decode(14, nodes), ["begin 2 nodes", "node", ...elements, "node"]);
        const packed = [length(2), [2], literalLzf(listpack(...texts)), [2], string(listpack("z"))];
        assert.deepEqual(decode(18, packed), [
          "begin 2 nodes",
          "node",
          ...elements,
          "node",
          "element z",
        ]);
      }),
    );
    assert.deepEqual(decode(10, [string(ziplist("a", "b"))]), [
      "begin 2",
      "element a",
      "element b",
    ]);
    assert.deepEqual(decode(18, [[1, 1], string("plain")]), [
      "begin 1 nodes",
      "node",
      "element plain",
    ]);
  });

  test("may have no nodes, and nodes without elements", () => {
    assert.deepEqual(decode(14, [[0]]), ["begin 0 nodes"]);
    assert.deepEqual(decode(18, [[2, 2], string(listpack()), [2], string(listpack())]), [
      "begin 2 nodes",
      "node",
      "node",
    ]);
  });

  test("refuse containers that there are not, and plain nodes without bytes", () => {
    for (const container of [0, 3, 63]) {
      refuses(
        18,
        [[1, container], string("x")],
        new RegExp(`Container ${container} of a list node at byte 13`),
      );
    }
    refuses(18, [[1, 1, 0]], /A list node of one element without bytes at byte 13/);
  });
});

suite("sets", () => {
  test("are read member by member in each of their layouts", () => {
    const members = ["begin 3", "element a", "element 5", "element "];
    assert.deepEqual(decode(2, [[3], string("a"), [0xc0, 5], string("")]), members);
    assert.deepEqual(decode(20, [string(listpack("a", 5, ""))]), members);
    assert.deepEqual(decode(11, [string(intset(4, -1, 70_000))]), [
      "begin 2",
      "element -1",
      "element 70000",
    ]);
    assert.deepEqual(decode(11, [literalLzf(intset(2, 7))]), ["begin 1", "element 7"]);
  });
});

suite("sorted sets", () => {
  test("keep every double, in binary and as text", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (score) => {
        const shown = Object.is(score, -0) ? "-0" : String(score);
        assert.deepEqual(decode(5, [[1], string("m"), double(score)]), [
          "begin 1",
          `member m ${shown}`,
        ]);
        if (!Number.isFinite(score)) return;
        const text = string(Object.is(score, -0) ? "-0" : String(score));
        assert.deepEqual(decode(3, [[1], string("m"), text]), ["begin 1", `member m ${shown}`]);
        assert.deepEqual(decode(17, [string(listpack("m", shown))]), [
          "begin 1",
          `member m ${shown}`,
        ]);
      }),
    );
    assert.deepEqual(
      decode(3, [[3], string("a"), [254], string("b"), [255], string("c"), [1], "7"]),
      ["begin 3", "member a Infinity", "member b -Infinity", "member c 7"],
    );
  });

  test("take integers and text as scores of packed members", () => {
    const wanted = [
      "begin 4",
      "member a -Infinity",
      "member b -3",
      "member c 2.5",
      "member d 1e+30",
    ];
    assert.deepEqual(
      decode(12, [string(ziplist("a", "-inf", "b", "-3", "c", "2.5", "d", "1e+30"))]),
      wanted,
    );
    assert.deepEqual(
      decode(17, [string(listpack("a", "-inf", "b", -3, "c", "2.5", "d", "1e+30"))]),
      wanted,
    );
    const large = listpack("m", 2n ** 62n + 1n);
    assert.deepEqual(decode(17, [string(large)]), ["begin 1", `member m ${2 ** 62}`]);
  });

  test("refuse scores that are not numbers, where servers read 0", () => {
    refuses(5, [[1], string("m"), double(Number.NaN)], /A score that is not a number/);
    refuses(3, [[1], string("m"), [253]], /A score that is not a number/);
    for (const text of ["nan", "", "abc", "1x", " 1", "0x10", "1e"]) {
      refuses(17, [string(listpack("m", text))], /A score of "/);
      refuses(3, [[1], string("m"), [text.length], text], /A score of "/);
    }
  });

  test("refuse a member without a score", () => {
    refuses(17, [string(listpack("a", 1, "b"))], /3 elements in a packed zset/);
    refuses(12, [string(ziplist("a"))], /1 elements in a packed zset/);
  });
});

suite("hashes", () => {
  const [f, g] = ["field f=v", "field g=w"];

  test("are read field by field in each of their layouts", () => {
    const wanted = ["begin 2", f, g];
    assert.deepEqual(decode(4, [[2], string("f"), string("v"), string("g"), string("w")]), wanted);
    assert.deepEqual(decode(9, [string(zipmap(["f", "v"], ["g", "w"]))]), wanted);
    assert.deepEqual(decode(13, [literalLzf(ziplist("f", "v", "g", "w"))]), wanted);
    assert.deepEqual(decode(16, [string(listpack("f", "v", "g", "w"))]), wanted);
    assert.deepEqual(decode(16, [string(listpackOf([[0x81, 0x66], [5]], 65535))]), [
      "begin 1",
      "field f=5",
    ]);
  });

  test("refuse a field without a value or time", () => {
    refuses(16, [string(listpack("f", "v", "g"))], /3 elements in a packed hash at byte 12/);
    refuses(13, [string(ziplist("f"))], /1 elements in a packed hash/);
    for (const type of [23, 25]) {
      const minimum = type === 25 ? [int64(0)] : [];
      refuses(
        type,
        [...minimum, string(listpack("f", "v", 0, "g"))],
        /4 elements in a packed hash/,
      );
      refuses(
        type,
        [...minimum, string(listpack("f", "v", "soon"))],
        /A field whose time is no number/,
      );
    }
  });

  test("have field expiries relative to a minimum in type 24", () => {
    const min = 4102444800000;
    const value = [
      int64(min),
      [3],
      [0],
      string("g"),
      string("w"),
      [1],
      string("f"),
      string("v"),
      length(1000),
      string("h"),
      string("x"),
    ];
    assert.deepEqual(decode(24, value), [
      "begin 3",
      g,
      `${f} until ${min}`,
      `field h=x until ${min + 999}`,
    ]);
  });

  test("have absolute field expiries in types 22, 23 and 25 of Redis, where 0 is none", () => {
    const wanted = ["begin 2", `${f} until 4102444800000`, g];
    const packed = string(listpack("f", "v", 4102444800000, "g", "w", 0));
    assert.deepEqual(decode(25, [int64(77), packed]), wanted);
    assert.deepEqual(decode(25, [int64(-1), packed]), wanted);
    assert.deepEqual(decode(23, [packed]), wanted);
    const plain = [
      [2],
      length(4102444800000),
      string("f"),
      string("v"),
      [0],
      string("g"),
      string("w"),
    ];
    assert.deepEqual(decode(22, plain), wanted);
  });

  test("have absolute field expiries in type 22 of Valkey, where -1 is none and 0 is 1970", () => {
    const value = (time: number | bigint) => [[1], string("f"), string("v"), int64(time)];
    assert.deepEqual(decode(22, value(4102444800000), "valkey"), [
      "begin 1",
      `${f} until 4102444800000`,
    ]);
    assert.deepEqual(decode(22, value(-1), "valkey"), ["begin 1", f]);
    assert.deepEqual(decode(22, value(0), "valkey"), ["begin 1", `${f} until 0`]);
    const latest = 2n ** 63n - 1n;
    assert.deepEqual(decode(22, value(latest), "valkey"), ["begin 1", `${f} until ${latest}`]);
    refuses(22, value(-2), /A field that expires at -2 at byte/, "valkey");
    refuses(22, value(-(2n ** 63n)), /A field that expires at -9223372036854775808/, "valkey");
  });

  test("refuse field expiries that Redis cannot hold", () => {
    const latest = 2 ** 48 - 1;
    const plain = (min: number | bigint, ttl: number | bigint) => [
      int64(min),
      [1],
      length(ttl),
      string("f"),
      string("v"),
    ];
    assert.deepEqual(decode(24, plain(latest, 1)), ["begin 1", `${f} until ${latest}`]);
    refuses(24, plain(latest, 2), /A field that expires at 281474976710656/);
    refuses(24, plain(0, 2n ** 53n - 1n), /A field that expires at 9007199254740990/);
    refuses(24, plain(-1, 1), /A field that expires at -1 /);
    refuses(24, plain(2n ** 63n - 1n, 1), /A field that expires at/);
    const packed = (time: number | bigint) => [int64(0), string(listpack("f", "v", time))];
    assert.deepEqual(decode(25, packed(latest)), ["begin 1", `${f} until ${latest}`]);
    refuses(25, packed(latest + 1), /A field that expires at 281474976710656/);
    refuses(25, packed(-5), /A field that expires at -5/);
    refuses(25, packed(2n ** 63n - 1n), /A field that expires at/);
  });
});

suite("arrays", () => {
  test("are read with their indexes, elements as text", () => {
    const value = [
      ...[[6], [1], length(70)],
      ...[[0], [0], string("text")],
      ...[[1], [1], int64(-7)],
      ...[[2], [2], double(3)],
      ...[[3], [2], double(-0.5)],
      ...[length(2n ** 53n + 1n), [3], string("short")],
      ...[length(2n ** 64n - 2n), [2], double(1e21)],
    ];
    assert.deepEqual(decode(28, value), [
      "begin 6",
      ...["item 0=text", "item 1=-7", "item 2=3.0", "item 3=-0.5"],
      ...["item 9007199254740993=short", "item 18446744073709551614=1e+21"],
    ]);
    assert.deepEqual(decode(28, [[1, 0, 0, 0], string("array-value")]), [
      "begin 1",
      "item 0=array-value",
    ]);
  });

  test("refuse indexes that do not ascend, and tags and flags that there are not", () => {
    const [a, b] = [
      [0, ...string("a")],
      [0, ...string("b")],
    ];
    refuses(28, [[2, 0], [5], a, [5], b], /Index 5 of an array after 5/);
    refuses(28, [[2, 0], [5], a, [4], b], /Index 4 of an array after 5/);
    refuses(28, [[1, 0], length(2n ** 64n - 1n), a], /Index 18446744073709551615/);
    refuses(28, [[1, 0], [5, 4], string("x")], /Tag 4 of an array element at byte 14/);
    refuses(28, [[1, 2, 0, 0], string("x")], /Flag 2 of an array at byte 12/);
  });
});

suite("hashes by template", () => {
  const names = string(listpack("name", "place"));
  const template = bytes([0xf2], length(9), [2], string("name"), string("place"));
  const wanted = ["begin 2", "field name=n", "field place=5"];
  const values = [string("n"), [0xc0, 5]];

  function decodeBy(type: number, ...value: readonly Bytes[]): string[] {
    const whole = uncheckedFile("REDIS0015", template, record(type, ...value));
    const events = eventsOf(whole);
    assert.deepEqual(eventsOf(whole, { sizes: [1] }), events);
    const modes = (["skip", "raw"] as const).map((mode) => eventsOf(whole, { mode }).at(-1));
    assert.deepEqual(modes, ["end", "end"]);
    return events.slice(1, -2);
  }

  test("take their names from the file's templates, or have them in front", () => {
    assert.deepEqual(decodeBy(30, string(listpack(9, "n", 5))), wanted);
    assert.deepEqual(decodeBy(32, [9], ...values), wanted);
    assert.deepEqual(decodeBy(29, [0], names, string(listpack(1234, "n", 5))), wanted);
    assert.deepEqual(decodeBy(31, [0], names, ...values), wanted);
    assert.deepEqual(decodeBy(31, [1, 2], string("name"), string("place"), ...values), wanted);
    assert.deepEqual(
      decodeBy(29, [1, 2], string("name"), string("place"), literalLzf(listpack(0, "n", 5))),
      wanted,
    );
  });

  test("refuse templates that there are not, and as many values as there are no names", () => {
    const wrong: [type: number, value: Bytes[], message: RegExp][] = [
      [30, [string(listpack(8, "n", 5))], /A hash by template 8, which the file does not define/],
      [32, [[8], ...values], /A hash by template 8, which the file does not define/],
      [30, [string(listpack(9, "n"))], /1 values for 2 fields/],
      [30, [string(listpack(9, "n", 5, 6))], /3 values for 2 fields/],
      [30, [string(listpack("x", "n", 5))], /No integer where one must be/],
      [30, [string(listpack())], /No integer where one must be/],
      [29, [[0], names, string(listpack(0, "n"))], /1 values for 2 fields/],
      [29, [[2], names, string(listpack(0, "n", 5))], /Form 2 of the names of a hash template/],
    ];
    for (const [type, value, message] of wrong) {
      assert.throws(() => decodeBy(type, ...value), { code: "DATA_CORRUPT", message });
    }
  });
});

test("counts that no file can hold are not believed: reading goes on until the bytes end", () => {
  const magic = "REDIS0015";
  for (const type of [1, 2, 3, 4, 5, 14, 18, 22, 24, 28]) {
    const minimum = type === 24 ? int64(0) : [];
    const whole = bytes(magic, record(type, minimum, length(2 ** 52), [0, 0, 0, 0, 0]));
    const end = { code: "DATA_CORRUPT", offset: whole.length, message: /cut off/ };
    for (const mode of ["decode", "skip", "raw"] as const) {
      assert.throws(
        () => eventsOf(whole, { mode }),
        mode === "decode" ? { code: "DATA_CORRUPT" } : end,
      );
    }
  }
});

function ziplistOfTexts(texts: readonly string[]): Uint8Array {
  return ziplistOf(texts.map((text) => bytes([0x40, text.length], text)));
}
