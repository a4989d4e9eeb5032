import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { RdbReader } from "../src/codec/rdb/reader.ts";
import { rdbFixtures } from "./support/fixtures.ts";
import { linesOf, withoutEncodings } from "./support/json-lines.ts";
import { bytes, int64, length, string, uncheckedFile } from "./support/rdb-bytes.ts";
import { eventsOf, joinRaw, readInChunks } from "./support/rdb-events.ts";
import { rareFiles } from "./support/rdb-rare.ts";

/** A larger file is not read in chunks of a few bytes, and not copied. */
const largeBytes = 250 * 1024;
/** Files that are cut at every byte: all of up to 1 KiB, and two with the types before and since 7.0. */
const cutBytes = 1024;
const cutFixtures = ["redis-6.0/rdb/expires", "redis-8.0/rdb/expires"];

const fixtures = rdbFixtures();

suite("RdbReader", () => {
  for (const fixture of fixtures) {
    const isLarge = fixture.bytes > largeBytes;
    const sizes = isLarge ? [4093] : [1, 2, 3, 5, 7, 11, 13];

    test(`reads ${fixture.id} as the server that wrote it does, in chunks of any size`, () => {
      const file = fixture.read();
      const expected = comparable(fixture.expected.text());
      assertSameLines(comparable(linesOf(file)), expected);
      assertSameLines(comparable(linesOf(file, { sizes })), expected);
    });

    test(`passes over every key of ${fixture.id}, or gives its bytes, which say the same`, () => {
      const file = fixture.read();
      const { keys } = fixture;
      assert.equal(keysOf(eventsOf(file, { mode: "skip", sizes })).length, keys);
      assert.equal(keysOf(eventsOf(file, { mode: "raw", sizes })).length, keys);
      if (isLarge) return;
      const copied = comparable(linesOf(copyOf(file, [1021])));
      assertSameLines(copied, withoutLibraries(comparable(fixture.expected.text())));
    });
  }

  const small = fixtures.filter(({ id, bytes }) => bytes <= cutBytes || cutFixtures.includes(id));
  const files = [
    ...small.map((fixture) => ({ name: fixture.id, bytes: fixture.read() })),
    ...rareFiles,
  ];

  test("reads small files the same when they are cut in two at any byte, or into bytes", (t) => {
    let cuts = 0;
    for (const { name, bytes } of files) {
      for (const mode of ["decode", "skip", "raw"] as const) {
        const read = (...sizes: number[]) => joinRaw(eventsOf(bytes, { mode, sizes })).join("\n");
        const whole = read(bytes.length);
        assertSameLines(read(1), whole, `${name} ${mode}, byte by byte`);
        for (let cut = 1; cut < bytes.length; cut++, cuts++) {
          assertSameLines(read(cut, bytes.length), whole, `${name} ${mode}, cut at ${cut}`);
        }
      }
    }
    t.diagnostic(`${cuts} cuts`);
  });

  test("refuses every strict prefix of a file, and says that it is cut off", () => {
    for (const { name, bytes } of files.filter((file) => file.bytes.length <= cutBytes)) {
      for (const mode of ["decode", "skip"] as const) {
        for (let end = 0; end < bytes.length; end++) {
          const torn = { code: "DATA_CORRUPT", offset: end, message: /^The RDB is cut off/ };
          const read = () => eventsOf(bytes.subarray(0, end), { mode });
          assert.throws(read, torn, `${name} ${mode}, ${end} bytes`);
        }
      }
    }
  });
});

/** `encoding` and `idle` are information that no file tells exactly. */
function comparable(lines: string): string {
  return withoutEncodings(lines).replaceAll(/,"idle":\d+/g, "");
}

function withoutLibraries(lines: string): string {
  return lines.replaceAll(/^\{"library".*\n/gm, "");
}

function keysOf(events: readonly string[]): string[] {
  return events.filter((event) => event.startsWith("key "));
}

/** The file's keys in a new file, with the values as they stand in the old one. */
function copyOf(file: Uint8Array, sizes: readonly number[]): Uint8Array {
  const records: Uint8Array[] = [];
  let isKey = false;
  readInChunks(new RdbReader(), file, sizes, (event, reader) => {
    if (event === "key") {
      records.push(headOf(reader));
      reader.raw();
      isKey = true;
    } else if (event === "raw") records.push(reader.parts.first.copy());
    else if (event === "end value") {
      assert.ok(isKey);
      isKey = false;
    }
  });
  return uncheckedFile(Buffer.from(file.subarray(0, 9)).toString("latin1"), ...records);
}

/** All that stands in front of a key's value. */
function headOf({ database, expireAtMs, frequency, type, key }: RdbReader): Uint8Array {
  return bytes(
    [0xfe],
    length(database),
    ...(expireAtMs === null ? [] : [[0xfc], int64(expireAtMs)]),
    ...(frequency === null ? [] : [[0xf9, frequency]]),
    [type],
    string(key.copy()),
  );
}

/** Says just the first line that differs: these texts are long. */
function assertSameLines(got: string, want: string, name = ""): void {
  if (got === want) return;
  const [found, wanted] = [got.split("\n"), want.split("\n")];
  const at = wanted.findIndex((line, i) => line !== found[i]);
  const line = at < 0 ? wanted.length : at;
  assert.equal(
    found[line]?.slice(0, 1000),
    wanted[line]?.slice(0, 1000),
    `${name} line ${line + 1}`,
  );
}
