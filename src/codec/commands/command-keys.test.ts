import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import type { Slice } from "../../base/bytes.ts";
import { fromLatin1 } from "../../base/bytes.ts";
import { RecordScanner } from "../aof/framing.ts";
import { type Arguments, CommandKeys, type KeyPlace } from "./command-keys.ts";
import { writeCommands } from "./table.ts";

function recordOf(words: readonly string[], keepBytes = 64 * 1024): RecordScanner {
  const bulks = words.map((word) => `$${word.length}\r\n${word}\r\n`);
  const scanner = new RecordScanner({ keepBytes });
  if (/^exec$/i.test(words[0] ?? "")) {
    scanner.push(fromLatin1("*1\r\n$5\r\nMULTI\r\n"));
    assert.deepEqual([scanner.next(), scanner.next()], ["record", "more"]);
  }
  scanner.push(fromLatin1(`*${words.length}\r\n${bulks.join("")}`));
  assert.equal(scanner.next(), "record");
  return scanner;
}

/** The numbers of the arguments that are keys, or "unknown". */
function keysOf(words: readonly string[], access: "write" | "read" = "write") {
  return keysOfRecord(recordOf(words), access);
}

function keysOfRecord(record: Arguments, access: "write" | "read" = "write") {
  const keys = new CommandKeys();
  const command = keys.find(record);
  if (command === undefined || !keys.locate(command, command[access] ?? [], record)) {
    return "unknown";
  }
  const found: number[] = [];
  for (let at = keys.next(); at > 0; at = keys.next()) found.push(at);
  return found.sort((a, b) => a - b);
}

/** A place of keys in the words of the list, of which each place has one. */
type ListedPlace = {
  readonly arg?: number;
  readonly range?: { readonly from: number; readonly to: number; readonly step: number };
  readonly numkeys?: { readonly at: number; readonly first: number; readonly step: number };
  readonly option?: { readonly keywords: readonly string[] };
  readonly restAfter?: { readonly keyword: string };
  readonly streams?: { readonly keyword: string };
  readonly pattern?: unknown;
};
type ListedPlaces = readonly (ListedPlace | string)[];
type Row = {
  readonly name: string;
  readonly arity: number | null;
  readonly crossKey: string;
  readonly keys: { readonly write: ListedPlaces; readonly read: ListedPlaces };
};

const source = new URL("../../../scripts/write-commands.jsonl", import.meta.url);
const rows = readFileSync(source, "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Row);

/** A command line that fits a row, and which of its arguments are keys by the row's own words. */
function exampleOf(row: Row, places: ListedPlaces): { words: string[]; keys: number[] } {
  const words = row.name.split(" ");
  while (words.length < Math.max(Math.abs(row.arity ?? 0), 7)) words.push("1");
  const keys: number[] = [];
  for (const place of places) {
    if (typeof place === "string") continue;
    const { arg, range, numkeys, option, restAfter, streams } = place;
    if (arg !== undefined) keys.push(arg);
    if (range !== undefined) {
      for (let i = range.from; i <= words.length + range.to; i += range.step) keys.push(i);
    }
    if (numkeys !== undefined) {
      words[numkeys.at] = "2";
      keys.push(numkeys.first, numkeys.first + numkeys.step);
    }
    if (option !== undefined) keys.push(words.push(option.keywords[0] ?? "", "to") - 1);
    const rest = restAfter ?? streams;
    if (rest !== undefined) {
      const end = words.push(rest.keyword, "one", "two");
      keys.push(end - 2, end - 1);
    }
  }
  return { words, keys: [...new Set(keys)].sort((x, y) => x - y) };
}

test("the table is what the list of commands says", () => {
  assert.deepEqual(
    writeCommands.map(({ name, kind }) => [name, kind]),
    rows.map(({ name, crossKey }) => [name, crossKey]),
  );
});

for (const row of rows) {
  test(`locate() finds the keys of ${row.name}`, () => {
    for (const access of ["write", "read"] as const) {
      const places = row.keys[access];
      const { words, keys } = exampleOf(row, places);
      const hasPattern = places.some((place) => typeof place === "object" && "pattern" in place);
      const expected = row.crossKey === "opaque" || hasPattern ? "unknown" : keys;
      assert.deepEqual(keysOf(words, access), expected, words.join(" "));
      const lower = words.map((word) => word.toLowerCase());
      assert.deepEqual(keysOf(lower, access), expected, lower.join(" "));
    }
  });
}

test("locate() finds each key of commands with several", () => {
  assert.deepEqual(keysOf(["DEL", "a", "b", "c"]), [1, 2, 3]);
  assert.deepEqual(keysOf(["MSET", "a", "1", "b", "2"]), [1, 3]);
  assert.deepEqual(keysOf(["MSETEX", "2", "a", "1", "b", "2", "PXAT", "5"]), [2, 4]);
  assert.deepEqual(keysOf(["SUNIONSTORE", "d", "a", "b"]), [1]);
  assert.deepEqual(keysOf(["SUNIONSTORE", "d", "a", "b"], "read"), [2, 3]);
  assert.deepEqual(
    keysOf(["ZUNIONSTORE", "d", "2", "a", "b", "WEIGHTS", "1", "2"], "read"),
    [3, 4],
  );
  assert.deepEqual(keysOf(["SORT", "k", "BY", "STORE", "STORE", "d"]), [4, 5]);
  assert.deepEqual(keysOf(["GEORADIUS", "k", "0", "0", "1", "m", "store", "d"]), [7]);
  assert.deepEqual(keysOf(["MIGRATE", "h", "1", "", "0", "9", "KEYS", "a", "b"]), [3, 7, 8]);
  assert.deepEqual(keysOf(["XGROUP", "create", "k", "g", "0"]), [2]);
});

test("find() knows no other command, and no second word that is not in the table", () => {
  for (const words of [
    ["MYMODULE.SET", "k", "v"],
    ["XGROUP", "FUTURE", "k"],
    ["XGROUP"],
    ["SE"],
    ["SETT", "k"],
    [""],
    ["x".repeat(100), "k"],
  ]) {
    assert.equal(keysOf(words), "unknown", words.join(" "));
  }
});

test("locate() says unknown where arguments are missing or contradict each other", () => {
  for (const words of [
    ["SET"],
    ["BITOP", "AND"],
    ["LMPOP", "9", "a", "LEFT"],
    ["LMPOP", "x", "a", "LEFT"],
    ["LMPOP", "-1", "a", "LEFT"],
    ["MSETEX", "99999999999", "a", "1"],
    ["EVAL", "return 1", "1", "k"],
    ["FCALL", "f", "0"],
  ]) {
    assert.equal(keysOf(words), "unknown", words.join(" "));
  }
});

test("locate() says unknown where a key lies beyond what was kept", () => {
  const long = "v".repeat(2000);
  assert.deepEqual(keysOfRecord(recordOf(["SET", "k", long], 1024)), [1]);
  assert.equal(keysOfRecord(recordOf(["MSET", "k", long, "l", "1"], 1024)), "unknown");
  assert.equal(keysOfRecord(recordOf(["SORT", "k", "BY", long, "STORE", "d"], 1024)), "unknown");
  assert.equal(keysOfRecord(recordOf([long, "k"], 1024)), "unknown");
});

test("next() gives arguments that there are, whatever the words", () => {
  const places: KeyPlace[] = writeCommands.flatMap(({ write, read }) => [
    ...write,
    ...(read ?? []),
  ]);
  const word = fc.constantFrom("", "0", "1", "2", "3", "STORE", "KEYS", "STREAMS", "BY", "k");
  const name = fc.constantFrom(...writeCommands.map((command) => command.name.split(" ")));
  fc.assert(
    fc.property(
      name,
      fc.array(word, { maxLength: 12 }),
      fc.constantFrom(...places),
      (head, tail, place) => {
        const words = [...head, ...tail];
        const args: Arguments = {
          argc: words.length,
          argument: (index: number, slice: Slice) => {
            assert.ok(index >= 0 && index < words.length, `argument ${index} of ${words.length}`);
            slice.setLatin1(words[index] ?? "");
            return true;
          },
        };
        const keys = new CommandKeys();
        const command = keys.find(args);
        if (command === undefined || !keys.locate(command, [place], args)) return;
        let times = 0;
        for (let at = keys.next(); at > 0; at = keys.next()) {
          assert.ok(at < words.length && ++times < 100, `${at} in ${words.join(" ")}`);
        }
      },
    ),
  );
});
