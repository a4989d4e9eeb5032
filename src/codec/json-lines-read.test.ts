import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { Failure } from "../base/errors.ts";
import { JsonLineWriter, libraryLine, type Sorter } from "./json-lines.ts";
import { JsonLineReader, maxLineBytes } from "./json-lines-read.ts";
import { RdbReader } from "./rdb/reader.ts";
import { RdbWriter } from "./rdb/writer.ts";

const b64 = (text: string) => Buffer.from(text, "latin1").toString("base64");

/** The value of a module of type "AAAAAAAAA", version 0: no parts but the end mark. */
const modulePayload = Buffer.from([7, 0, 0]).toString("base64");

const values: Readonly<Record<string, unknown>> = {
  string: b64("text"),
  list: [b64("a"), b64("a"), b64("")],
  set: [b64("a"), b64("b")],
  zset: [
    [b64("a"), "-inf"],
    [b64("b"), "1.5"],
  ],
  hash: [
    [b64("f"), b64("v")],
    [b64("g"), b64("w"), 4102444800000],
  ],
  stream: {
    entries: [
      ["1-1", [b64("f"), b64("v")]],
      ["1-2", [b64("f"), b64("w"), b64("g"), b64("x")]],
    ],
    lastId: "1-2",
    firstId: "1-1",
    maxDeletedId: "0-0",
    entriesAdded: 2,
    groups: [
      {
        name: b64("group"),
        lastId: "1-1",
        entriesRead: 1,
        pel: [["1-1", b64("alice"), 1500000000000, 1]],
        consumers: [
          { name: b64("alice"), seenMs: 1, activeMs: -1, pel: ["1-1"] },
          { name: b64("bob"), seenMs: 1, activeMs: 2, pel: [] },
        ],
      },
    ],
  },
  module: { module: "AAAAAAAAA", version: 0, payload: modulePayload },
};

type Line = { [name: string]: unknown };

function lineOf(type: string): Line {
  return { db: 3, key: b64("k"), type, encoding: "x", expireAtMs: null, value: values[type] };
}

class MemorySorter implements Sorter {
  #entries: [key: string, line: string][] = [];

  add(key: string, line: string): void {
    this.#entries.push([key, line]);
  }

  drain(): string[] {
    const entries = this.#entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#entries = [];
    return entries.map(([, line]) => line);
  }
}

/** Lines to an RDB and that to lines again, line by line. */
function again(text: string, chunkBytes = text.length): string {
  const writer = new RdbWriter("valkey:9", { modules: "any" });
  const reader = new RdbReader({ maxDistinct: 1000 });
  const lines = new JsonLineWriter(new MemorySorter(), true);
  let found = "";
  const pass = () => {
    reader.push(writer.take());
    for (let event = reader.next(); event; event = reader.next()) {
      if (event === "key") lines.begin(reader);
      found += lines.take(event, reader.parts) ?? "";
      if (event === "function") found += libraryLine(reader.parts.first);
    }
  };
  const jsonLines = new JsonLineReader(writer, pass);
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    // A copy that is overwritten: nobody may keep it.
    const chunk = Uint8Array.from(bytes.subarray(at, at + chunkBytes));
    jsonLines.push(chunk);
    chunk.fill(0x58);
  }
  jsonLines.finish();
  writer.finish();
  pass();
  return found;
}

const withoutEncoding = (text: string) => text.replaceAll(/"encoding":"\w*",/g, "");

function textOf(line: unknown): string {
  return `${JSON.stringify(line)}\n`;
}

const good = Object.keys(values).map((type, i) => ({ ...lineOf(type), key: b64(`${i}`) }));
const library = {
  library: "mine",
  engine: "LUA",
  code: b64("#!lua name=mine\nredis.register_function('f', function() return 1 end)"),
};
const goodText = textOf(library) + good.map(textOf).join("");

suite("JsonLineReader", () => {
  test("reads what JsonLineWriter writes, in chunks of any size", () => {
    for (const size of [1, 2, 3, 7, 64, 1000, goodText.length]) {
      assert.equal(withoutEncoding(again(goodText, size)), withoutEncoding(goodText));
    }
  });

  test("passes over empty lines, and takes a last line without its end", () => {
    const text = `\n \r\n${goodText.trimEnd()}`;
    assert.equal(withoutEncoding(again(text)), withoutEncoding(goodText));
    assert.equal(again(""), "");
  });

  test("keeps what a number cannot hold", () => {
    const line = {
      ...lineOf("stream"),
      expireAtMs: "9223372036854775807",
      value: {
        entries: [["18446744073709551614-18446744073709551615", [b64("f"), b64("v")]]],
        lastId: "18446744073709551615-18446744073709551615",
        firstId: "18446744073709551614-18446744073709551615",
        maxDeletedId: "0-18446744073709551615",
        entriesAdded: "9223372036854775808",
        groups: [],
      },
    };
    assert.equal(withoutEncoding(again(textOf(line))), withoutEncoding(textOf(line)));
  });

  test("takes usage counters", () => {
    const line = { ...lineOf("string"), freq: 255 };
    assert.match(again(textOf(line)), /"freq":255,/);
    const { freq: _, ...rest } = line;
    assert.match(again(textOf({ ...rest, idle: 77 })), /"idle":77,/);
  });

  test("computes what lines of old servers do not say of a stream", () => {
    const { entries, lastId } = values["stream"] as { entries: unknown; lastId: string };
    const group = { name: b64("g"), lastId: "0-0", pel: [] };
    const consumers = [{ name: b64("c"), seenMs: 5, pel: [] }];
    const value = { entries, lastId, groups: [{ ...group, consumers }] };
    const [found] = again(textOf({ ...lineOf("stream"), value })).split("\n");
    const { firstId, maxDeletedId, entriesAdded, groups } = JSON.parse(found ?? "").value;
    assert.deepEqual([firstId, maxDeletedId, entriesAdded], ["1-1", "0-0", 2]);
    assert.deepEqual(
      groups,
      [{ ...group, entriesRead: null, consumers: [{ ...consumers[0], activeMs: 5 }] }].map(
        ({ name, lastId: last, entriesRead, pel, consumers: all }) => ({
          ...{ name, lastId: last, entriesRead, pel },
          consumers: all.map(({ name: who, seenMs, activeMs }) => ({
            name: who,
            seenMs,
            activeMs,
            pel: [],
          })),
        }),
      ),
    );
  });

  test("refuses a line of more bytes than a text can have", () => {
    const reader = new JsonLineReader(new RdbWriter("redis:8"));
    const chunk = new Uint8Array(2 ** 20).fill(0x20);
    assert.throws(
      () => {
        for (let size = 0; size <= maxLineBytes; size += chunk.length) reader.push(chunk);
      },
      { code: "LIMIT_EXCEEDED", message: /line 1 is longer than \d+ bytes$/ },
    );
  });
});

/** Where in a line: names and indexes from the outside in. */
type Path = readonly (string | number)[];

function replaced(value: unknown, path: Path, by: unknown): unknown {
  const [name, ...rest] = path;
  if (name === undefined) return by;
  const copy = structuredClone(value) as Record<string | number, unknown>;
  if (rest.length === 0 && by === undefined) delete copy[name];
  else copy[name] = replaced(copy[name], rest, by);
  return copy;
}

const wrong: readonly (readonly [type: string, path: Path, by: unknown, found: string])[] = [
  ["string", ["db"], undefined, '"db" is missing'],
  ["string", ["db"], -1, "at .db, no count"],
  ["string", ["db"], "0", "at .db, no count"],
  ["string", ["db"], 2 ** 31, "at .db, no count"],
  ["string", ["key"], undefined, '"key" is missing'],
  ["string", ["key"], 5, "at .key, no text"],
  ["string", ["key"], "aw", "at .key, no base64"],
  ["string", ["key"], "a w==", "at .key, no base64"],
  ["string", ["type"], "strings", 'at .value, a value of type "strings"'],
  ["string", ["type"], undefined, '"type" is missing'],
  ["string", ["expireAtMs"], undefined, '"expireAtMs" is missing'],
  ["string", ["expireAtMs"], 1.5, "at .expireAtMs, no integer"],
  ["string", ["expireAtMs"], "soon", "at .expireAtMs, no integer"],
  ["string", ["expireAtMs"], "9223372036854775808", "at .expireAtMs, an integer out of range"],
  ["string", ["freq"], 256, "at .freq, no count"],
  ["string", ["idle"], -1, "at .idle, no count"],
  ["string", ["value"], undefined, '"value" is missing'],
  ["string", ["value"], [], "at .value, no text"],
  ["list", ["value"], "dg==", "at .value, no array"],
  ["list", ["value"], [], 'Cannot write key "k": an empty list'],
  ["list", ["value", 1], null, "at .value.1, no text"],
  ["set", ["value"], [], 'Cannot write key "k": an empty set'],
  ["set", ["value", 1], b64("a"), "at .value.1, for the second time"],
  ["zset", ["value", 0], "x", 'at .value.0, "0" is missing'],
  ["zset", ["value", 0, 1], "much", "at .value.0.1, no score"],
  ["zset", ["value", 0, 1], "nan", "at .value.0.1, no score"],
  ["zset", ["value", 0, 1], 1.5, "at .value.0.1, no text"],
  ["zset", ["value", 0, 0], b64("b"), "at .value.1.0, for the second time"],
  ["hash", ["value", 0], {}, 'at .value.0, "0" is missing'],
  ["hash", ["value", 0], [b64("f")], 'at .value.0, "1" is missing'],
  ["hash", ["value", 0, 0], b64("g"), "at .value.1.0, for the second time"],
  ["hash", ["value", 1, 2], -1, "at .value.1.2, an integer out of range"],
  ["hash", ["value", 1, 2], "9223372036854775808", "at .value.1.2, an integer out of range"],
  ["stream", ["value"], null, 'at .value, "entries" is missing'],
  ["stream", ["value", "entries"], {}, "at .value.entries, no array"],
  ["stream", ["value", "entries", 0, 0], "1", "at .value.entries.0.0, no stream id"],
  [
    "stream",
    ["value", "entries", 0, 0],
    "1-18446744073709551616",
    "at .value.entries.0.0, no stream id",
  ],
  ["stream", ["value", "entries", 0, 0], "1-2", "at .value, entries out of order"],
  ["stream", ["value", "entries", 0, 1], [], "at .value.entries.0, fields without values"],
  ["stream", ["value", "entries", 0, 1, 1], undefined, "at .value.entries.0.1.1, no text"],
  ["stream", ["value", "lastId"], undefined, 'at .value, "lastId" is missing'],
  ["stream", ["value", "maxDeletedId"], "x", "at .value.maxDeletedId, no stream id"],
  ["stream", ["value", "entriesAdded"], -1, "at .value.entriesAdded, an integer out of range"],
  [
    "stream",
    ["value", "entriesAdded"],
    "18446744073709551616",
    "at .value.entriesAdded, an integer out of range",
  ],
  ["stream", ["value", "groups", 0, "name"], "?", "at .value.groups.0.name, no base64"],
  [
    "stream",
    ["value", "groups", 0, "entriesRead"],
    -1,
    "at .value.groups.0.entriesRead, an integer out of range",
  ],
  ["stream", ["value", "groups", 0, "pel", 0, 2], "x", "at .value.groups.0.pel.0.2, no integer"],
  ["stream", ["value", "groups", 0, "pel", 0, 3], -1, "at .value.groups.0.pel.0.3, no count"],
  [
    "stream",
    ["value", "groups", 0, "pel"],
    [],
    'Cannot write key "k": a stream with pending entries that are nobody\'s',
  ],
  [
    "stream",
    ["value", "groups", 0, "consumers", 0, "pel"],
    [],
    'Cannot write key "k": a stream with pending entries that are nobody\'s',
  ],
  [
    "stream",
    ["value", "groups", 0, "consumers", 0, "pel", 0],
    "7-7",
    "A group whose pending entries are not owned by one consumer each",
  ],
  [
    "stream",
    ["value", "groups", 0, "consumers", 1, "name"],
    b64("alice"),
    'A second consumer "alice"',
  ],
  [
    "stream",
    ["value", "groups", 0, "consumers", 0, "seenMs"],
    undefined,
    'at .value.groups.0.consumers.0, "seenMs" is missing',
  ],
  ["module", ["value", "payload"], "", "at .value.payload, no value of a module"],
  ["module", ["value", "payload"], b64("\x07\x00"), "at .value.payload, no value of a module"],
  ["module", ["value", "payload"], b64("\x07\x00\x06"), "at .value.payload, no value of a module"],
  [
    "module",
    ["value", "payload"],
    b64("\x07\x00\x00\xff"),
    "at .value.payload, no value of a module",
  ],
];

suite("JsonLineReader refuses by the number of its line", () => {
  for (const [type, path, by, found] of wrong) {
    test(`a ${type} in which ${path.join(".")} is ${JSON.stringify(by) ?? "missing"}`, () => {
      const line = replaced(lineOf(type), path, by);
      assert.throws(() => again(textOf(library) + textOf(line)), {
        code: "DATA_CORRUPT",
        message: `Cannot read JSON lines: line 2: ${found}`,
        hint: "Correct the line, or leave it out.",
      });
    });
  }

  test("what is no JSON, no object, or no UTF-8", () => {
    for (const line of ["{", "nothing", "[]", "1", "null", '"text"', '{"db":0,"key":"\xff"}']) {
      assert.throws(() => again(`\n\n${line}\n`), {
        code: "DATA_CORRUPT",
        message: /^Cannot read JSON lines: line 3: /,
      });
    }
  });

  test("a digest in place of a value, with what gives the value", () => {
    const digest = { sha256: "00", jsonBytes: 1, count: 1 };
    const { value: _, ...rest } = lineOf("list");
    const entriesDigest = replaced(lineOf("stream"), ["value", "entries"], undefined) as Line;
    for (const line of [
      { ...rest, valueDigest: digest },
      replaced(entriesDigest, ["value", "entriesDigest"], digest),
    ]) {
      assert.throws(() => again(textOf(line)), {
        code: "DATA_CORRUPT",
        message: /line 1: .*(the value is|the entries are) a digest only$/,
        hint: /--whole/,
      });
    }
  });

  test("a key that comes twice", () => {
    assert.throws(() => again(textOf(lineOf("string")) + textOf(lineOf("list"))), {
      message: 'Cannot read JSON lines: line 2: A second key "k" in its database',
    });
  });
});

const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(undefined, null, [], {}, "", "AA==", "1-1", "0", -1, 2 ** 53, "9".repeat(20)),
);

test("JsonLineReader reads or refuses a line of which any part is anything else", () => {
  const paths = good.flatMap((line) => pathsIn(line).map((path) => [line, path] as const));
  fc.assert(
    fc.property(fc.constantFrom(...paths), anything, ([line, path], by) => {
      try {
        again(textOf(replaced(line, path, by)));
      } catch (error) {
        assert(error instanceof Failure, String((error as Error).stack));
        assert.equal(error.code, "DATA_CORRUPT");
        assert.match(error.message, /^Cannot read JSON lines: line 1: /);
      }
    }),
    { numRuns: 1500 },
  );
});

function pathsIn(value: unknown): Path[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, part]) => [
    [name],
    ...pathsIn(part).map((path) => [name, ...path]),
  ]);
}
