import assert from "node:assert/strict";
import { test } from "node:test";
import { Slice } from "../base/bytes.ts";
import { RdbWriter } from "../codec/rdb/writer.ts";
import { JsonSink } from "./json-sink.ts";
import { KeyPipe } from "./key-pipe.ts";

/** The keys of the lines of an RDB with these keys, of which none is compared by the reader. */
function keysOf(keys: readonly (readonly [db: number, key: string])[]): string[] {
  const writer = new RdbWriter("redis:7.2");
  const value = new Slice();
  value.setLatin1("v");
  for (const [db, key] of keys) {
    writer.database(db);
    writer.key(Buffer.from(key)).string(value);
  }
  writer.finish();
  const lines: string[] = [];
  using sink = new JsonSink((line) => lines.push(line));
  const pipe = new KeyPipe(sink, { maxDistinct: 100, comparesKeys: false });
  pipe.reader.push(writer.take());
  pipe.drain();
  return lines.map((line) => {
    const { db, key } = JSON.parse(line) as { db: number; key: string };
    return `${db} ${Buffer.from(key, "base64").toString()}`;
  });
}

test("finish() gives the lines by database, then by the bytes of the key", () => {
  const keys = [
    [10, "a"],
    [2, "b"],
    [2, "a"],
    [0, "é"],
    [0, "z"],
  ] as const;
  assert.deepEqual(keysOf(keys), ["0 z", "0 é", "2 a", "2 b", "10 a"]);
});

test("finish() refuses a key that is there twice, and not one of two databases", () => {
  assert.deepEqual(
    keysOf([
      [0, "a"],
      [1, "a"],
    ]),
    ["0 a", "1 a"],
  );
  assert.throws(
    () =>
      keysOf([
        [0, "a"],
        [0, "b"],
        [0, "a"],
      ]),
    { code: "DATA_CORRUPT" },
  );
});
