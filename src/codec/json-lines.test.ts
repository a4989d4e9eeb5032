import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { suite, test } from "node:test";
import fc from "fast-check";
import { linesOf, withoutEncodings } from "../../test/support/json-lines.ts";
import {
  type Bytes,
  bytes,
  double,
  file,
  hex,
  id,
  int64,
  intset,
  length,
  listpack,
  rawId,
  record,
  string,
  ziplist,
} from "../../test/support/rdb-bytes.ts";
import { Slice } from "../base/bytes.ts";
import { libraryLine, libraryOf } from "./json-lines.ts";

const base64 = (text: string) => Buffer.from(text, "latin1").toString("base64");

/** The line of one value, without what stands in front of every line of these tests. */
function lineOf(magic: string, type: number, ...value: readonly Bytes[]): string {
  const line = linesOf(file(magic, record(type, ...value)));
  const head = '{"db":0,"key":"aw==",';
  assert.ok(line.startsWith(head) && line.endsWith("}\n"));
  return line.slice(head.length, -2);
}

function sliceOf(text: string): Slice {
  const slice = new Slice();
  slice.setLatin1(text);
  return slice;
}

suite("JsonLineWriter", () => {
  test("shows strings, with the encoding that a server would give them", () => {
    const shown = (text: string) => lineOf("REDIS0011", 0, string(text));
    const line = (encoding: string, text: string) =>
      `"type":"string","encoding":"${encoding}","expireAtMs":null,"value":"${base64(text)}"`;
    const long = "x".repeat(45);
    for (const text of ["0", "-1", "9223372036854775807", "-9223372036854775808"]) {
      assert.equal(shown(text), line("int", text));
    }
    const texts = ["", "00", "-0", "+1", "9223372036854775808", "a\0\xff", "x".repeat(44)];
    for (const text of texts) assert.equal(shown(text), line("embstr", text));
    assert.equal(shown(long), line("raw", long));
  });

  test("sorts members by their bytes, and scores as numbers", () => {
    assert.equal(
      lineOf("REDIS0011", 2, [3], string("b"), string("\xff"), string("a")),
      `"type":"set","encoding":"hashtable","expireAtMs":null,"value":["YQ==","Yg==","${base64("\xff")}"]`,
    );
    const scores = [1e21, -1, Infinity, 0.5, -Infinity, -2.5e-7, 100];
    const members = scores.map((score, i) => bytes(string(`${i}`), double(score)));
    const shown = linesOf(file("REDIS0011", record(5, [scores.length], ...members)));
    const { value } = JSON.parse(shown) as { value: [string, string][] };
    assert.deepEqual(
      value.map(([, score]) => score),
      ["-inf", "-1", "-2.5e-7", "0.5", "100", "1e+21", "inf"],
    );
    const ties = [
      ...[string("b"), double(0), string("a"), double(-0), string("c"), double(0)],
      ...[string("d"), double(-0)],
    ];
    assert.match(
      lineOf("REDIS0011", 5, [4], ...ties),
      /\[\["YQ==","-0"\],\["Yg==","0"\],\["Yw==","0"\],\["ZA==","-0"\]\]$/,
    );
  });

  test("is the same whatever the order and the layout of members are", () => {
    const names = fc.uniqueArray(fc.string({ unit: "binary-ascii", maxLength: 9 }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(names, (fields) => {
        const pairs = fields.map((field, i) => [field, `${i}`] as const);
        const plain = pairs.map(([field, value]) => bytes(string(field), string(value)));
        const forms = [
          lineOf("REDIS0011", 4, length(pairs.length), ...plain),
          lineOf("REDIS0011", 4, length(pairs.length), ...plain.toReversed()),
          lineOf("REDIS0011", 13, string(ziplist(...pairs.flat()))),
          lineOf("REDIS0011", 16, string(listpack(...pairs.flat()))),
        ];
        assert.equal(new Set(forms.map(withoutEncodings)).size, 1);
      }),
    );
  });

  test("shows expiries of keys and fields, exactly", () => {
    const key = bytes([0], string("k"), string("v"));
    const shown = (time: number | bigint) => linesOf(file("REDIS0011", [0xfc], int64(time), key));
    assert.match(shown(4102444800123), /"expireAtMs":4102444800123,/);
    assert.match(shown(2n ** 60n), /"expireAtMs":"1152921504606846976",/);
    assert.match(shown(-1), /"expireAtMs":null,/);
    const hash = [[3], string("a"), string("1"), int64(5), string("b"), string("2"), int64(-1)];
    const far = [string("c"), string("3"), int64(2n ** 60n)];
    assert.equal(
      lineOf("VALKEY080", 22, ...hash, ...far),
      '"type":"hash","encoding":"hashtable","expireAtMs":null,"value":[["YQ==","MQ==",5],["Yg==","Mg=="],["Yw==","Mw==","1152921504606846976"]]',
    );
  });

  test("shows how often and how long ago a key was used, where the file says so", () => {
    const key = bytes([0], string("k"), string("v"));
    const lines = linesOf(
      file("REDIS0011", [0xf9, 5], key, [0xf8], length(70), bytes([0], string("l"), string("v"))),
    );
    assert.match(
      lines,
      /"expireAtMs":null,"freq":5,"value".*\n.*"expireAtMs":null,"idle":70,"value"/,
    );
  });

  test("tells one listpack from a quicklist, by the version of the file", () => {
    const one = [[1, 2], string(listpack("a"))];
    const two = [[2, 2], string(listpack("a")), [2], string(listpack("b"))];
    const encodingOf = (line: string) => /"encoding":"(\w+)"/.exec(line)?.[1];
    assert.equal(encodingOf(lineOf("REDIS0010", 18, ...one)), "quicklist");
    assert.equal(encodingOf(lineOf("REDIS0011", 18, ...one)), "listpack");
    assert.equal(encodingOf(lineOf("REDIS0011", 18, ...two)), "quicklist");
    assert.equal(
      encodingOf(lineOf("REDIS0012", 25, int64(0), string(listpack("f", "v", 0)))),
      "listpackex",
    );
    assert.equal(encodingOf(lineOf("REDIS0011", 11, string(intset(2, 1)))), "intset");
  });

  test("keeps a digest of what is longer than 16 KiB, of the same JSON that it would show", () => {
    for (const size of [16_384 - 2, 16_384]) {
      const text = "x".repeat((size / 4) * 3 - 3);
      const json = `"${base64(text)}"`;
      const whole = file("REDIS0011", record(0, string(text)));
      const value = /"value":(.*)}\n$/.exec(linesOf(whole, { whole: true }))?.[1];
      assert.equal(value, json);
      const sha256 = createHash("sha256").update(json).digest("hex");
      const digest = `"valueDigest":${JSON.stringify({ sha256, jsonBytes: json.length, count: text.length })}`;
      const short = linesOf(whole);
      assert.equal(short.includes(digest), json.length > 16_384);
      assert.equal(short.includes(json), json.length <= 16_384);
    }
    const elements = Array.from({ length: 5000 }, (_, i) => `${i}`);
    const list = file(
      "REDIS0011",
      record(1, length(5000), ...elements.map((text) => string(text))),
    );
    const json = JSON.stringify(elements.map(base64));
    const sha256 = createHash("sha256").update(json).digest("hex");
    const digest = JSON.stringify({ valueDigest: { sha256, jsonBytes: json.length, count: 5000 } });
    assert.ok(linesOf(list).includes(digest.slice(1, -1)));
  });

  test("orders keys by database and then by their bytes, libraries before them", () => {
    const key = (name: string) => bytes([0], string(name), string("v"));
    const whole = file(
      "REDIS0011",
      ...[
        [0xfe],
        length(300),
        key("b"),
        key("a"),
        [0xfe],
        length(2),
        key("z"),
        key("\xff"),
        key(""),
      ],
      ...[[0xf5], string("#!lua name=two\n"), [0xf5], string("#!lua name=one\n")],
    );
    const names = linesOf(whole)
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { db?: number; key?: string; library?: string })
      .map(({ db, key: name, library }) => library ?? `${db} ${name}`);
    assert.deepEqual(names, ["one", "two", "2 ", "2 eg==", "2 /w==", "300 YQ==", "300 Yg=="]);
  });
});

suite("JsonLineWriter, of streams,", () => {
  const node = bytes(string(rawId(5, 1)), string(listpack(1, 0, 1, "f", 0, 2, 0, 0, "v", 4)));
  const consumer = (name: string, ids: Uint8Array[], active: Uint8Array[]) =>
    bytes(string(name), int64(70), ...active, length(ids.length), ...ids);
  const pending = bytes([2], rawId(5, 2), int64(8), [3], rawId(5, 1), int64(7), [1]);

  test("shows what each version knows, groups by name and pending entries by id", () => {
    const consumers = (...active: Uint8Array[]) =>
      bytes([2], consumer("y", [rawId(5, 2)], active), consumer("x", [rawId(5, 1)], active));
    const entries =
      '"type":"stream","encoding":"stream","expireAtMs":null,"value":{"entries":[["5-1",["Zg==","dg=="]]],"lastId":"9-9",';
    const pel = '"pel":[["5-1","eA==",7,1],["5-2","eQ==",8,3]]';
    const old = [
      [1],
      node,
      [1],
      id(9, 9),
      [2],
      string("h"),
      id(0, 0),
      [0, 0],
      string("g"),
      id(5, 1),
      pending,
      consumers(),
    ];
    assert.equal(
      lineOf("REDIS0009", 15, ...old),
      `${entries}"groups":[{"name":"Zw==","lastId":"5-1",${pel},"consumers":[{"name":"eA==","seenMs":70,"pel":["5-1"]},{"name":"eQ==","seenMs":70,"pel":["5-2"]}]},{"name":"aA==","lastId":"0-0","pel":[],"consumers":[]}]}`,
    );
    const unknown = length(2n ** 64n - 1n);
    const newer = [
      [1],
      node,
      [1],
      id(9, 9),
      id(5, 1),
      id(3, 0),
      length(2n ** 60n),
      [1],
      string("g"),
      id(5, 1),
      unknown,
      pending,
    ];
    const counters = '"firstId":"5-1","maxDeletedId":"3-0","entriesAdded":"1152921504606846976",';
    const group = `"groups":[{"name":"Zw==","lastId":"5-1","entriesRead":null,${pel},`;
    assert.equal(
      lineOf("REDIS0010", 19, ...newer, consumers()),
      `${entries}${counters}${group}"consumers":[{"name":"eA==","seenMs":70,"pel":["5-1"]},{"name":"eQ==","seenMs":70,"pel":["5-2"]}]}]}`,
    );
    assert.equal(
      lineOf("REDIS0011", 21, ...newer, consumers(int64(-1))),
      `${entries}${counters}${group}"consumers":[{"name":"eA==","seenMs":70,"activeMs":-1,"pel":["5-1"]},{"name":"eQ==","seenMs":70,"activeMs":-1,"pel":["5-2"]}]}]}`,
    );
  });

  test("shows entries that nobody holds as those of no consumer", () => {
    const value = [
      [0, 0],
      id(9, 9),
      id(0, 0),
      id(0, 0),
      [0, 1],
      string("g"),
      id(5, 1),
      [0],
      pending,
      [1],
    ];
    const rest = [
      consumer("x", [rawId(5, 1)], [int64(-1)]),
      [1],
      rawId(5, 2),
      length(100),
      length(100),
      [0, 0, 0],
    ];
    const line = lineOf("REDIS0014", 27, ...value, ...rest);
    assert.match(line, /"pel":\[\["5-1","eA==",7,1\],\["5-2",null,8,3\]\],/);
  });

  test("keeps a digest of the entries of a long one only", () => {
    const field = "f".repeat(13_000);
    const long = bytes(string(rawId(5, 1)), string(listpack(1, 0, 1, field, 0, 2, 0, 0, "v", 4)));
    const json = JSON.stringify([["5-1", [base64(field), "dg=="]]]);
    const sha256 = createHash("sha256").update(json).digest("hex");
    const digest = JSON.stringify({ sha256, jsonBytes: json.length, count: 1 });
    assert.equal(
      lineOf("REDIS0009", 15, [1], long, [1], id(9, 9), [0]),
      `"type":"stream","encoding":"stream","expireAtMs":null,"value":{"entriesDigest":${digest},"lastId":"9-9","groups":[]}`,
    );
  });
});

suite("JsonLineWriter, of modules,", () => {
  const json = bytes(length(0x45e25238df912c03n), [5], string("{}"), [0]);

  test("shows a value as it stands in the file, type included", () => {
    const payload = Buffer.from(bytes([7], json)).toString("base64");
    assert.equal(
      lineOf("REDIS0009", 7, json),
      `"type":"module","encoding":"raw","expireAtMs":null,"value":{"module":"ReJSON-RL","version":3,"payload":"${payload}"}`,
    );
  });

  test("shows vector sets, which Redis 8 has built in, with their elements by name", () => {
    const element = (name: string) => bytes([5], string(name), [5], string("ab"), [2, 1, 2, 0]);
    const set = bytes(
      hex("81bde72da2bb1eb400 0202 0202 025001 0200"),
      element("z"),
      element("a"),
      [0],
    );
    const payload = Buffer.from(bytes([7], set)).toString("base64");
    const line = lineOf("REDIS0012", 7, set);
    const wanted = `"type":"vectorset","encoding":"raw","expireAtMs":null,"value":{"quantization":"int8","dim":2,"elements":[["YQ==",null],["eg==",null]],"payload":"${payload}"}`;
    assert.equal(line, wanted);
  });

  test("has no lines for what modules keep outside of keys", () => {
    const aux = bytes([0xf7], length(0x45e25238df912c03n), [2, 1, 5], string("x"), [0]);
    const key = record(0, string("v"));
    assert.equal(linesOf(file("REDIS0009", aux, key, aux)), linesOf(file("REDIS0009", key)));
  });
});

test("arrays are shown by index", () => {
  const value = [[2, 0], [5, 0], string("a"), length(2n ** 60n), [1], int64(-7)];
  assert.equal(
    lineOf("REDIS0014", 28, ...value),
    '"type":"array","encoding":"array","expireAtMs":null,"value":[[5,"YQ=="],["1152921504606846976","LTc="]]',
  );
});

suite("libraryOf()", () => {
  test("reads engine and name from the first line", () => {
    const cases: [code: string, name: string, engine: string][] = [
      ["#!lua name=mylib\nredis.x()", "mylib", "LUA"],
      ["#!LUA name=mylib", "mylib", "LUA"],
      ['#!lua name="my lib"\n', "my lib", "LUA"],
      ["#!js other=1 name=x y=2\n", "x", "JS"],
      ["#!lua\nname=late", "", "LUA"],
      ["no header name=x", "x", ""],
      ["", "", ""],
    ];
    for (const [code, name, engine] of cases) {
      assert.deepEqual(libraryOf(sliceOf(code)), { name, engine }, code);
    }
    const line = `{"library":"l","engine":"LUA","code":"${base64("#!lua name=l\n\xff")}"}\n`;
    assert.equal(libraryLine(sliceOf("#!lua name=l\n\xff")), line);
  });

  test("takes no longer than a line is long, whatever stands in it", { timeout: 5000 }, () => {
    for (const part of ["a", " ", "name=", ' name="', "#!"]) {
      libraryOf(sliceOf(`#!${part.repeat(300_000)}`));
    }
  });
});
