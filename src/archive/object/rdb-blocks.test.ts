import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { borrowed, openObject, readObject, writeObject } from "../../../test/archive/objects.ts";
import { fromLatin1, Slice } from "../../base/bytes.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { RdbWriter } from "../../codec/rdb/writer.ts";
import { RdbBlocks } from "./rdb-blocks.ts";

async function archive(rdb: Uint8Array, blockBytes?: number, size = 1 << 16) {
  const options = blockBytes === undefined ? {} : { blockBytes };
  return await writeObject(new RdbBlocks(options), borrowed(rdb, size));
}

const sliceOf = (text: string) => {
  const slice = new Slice();
  slice.setLatin1(text);
  return slice;
};

/** Text that LZF does not make shorter. */
function noise(size: number): string {
  let [text, state] = ["", size];
  while (text.length < size) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    text += String.fromCharCode(48 + (state >>> 25));
  }
  return text;
}

/** Strings in three databases, some of which expire. */
function makeRdb(keys: number, valueBytes = 40): Uint8Array {
  const writer = new RdbWriter("redis:7.0", { ctimeSeconds: 0 });
  for (let database = 0; database < 3; database++) {
    writer.database(database);
    for (let i = 0; i < keys; i++) {
      const key = sliceOf(`key:${database}:${i}`);
      const head = i % 3 === 0 ? { expireAtMs: 4_000_000_000_000 + i } : {};
      writer.key(key, head).string(sliceOf(noise(valueBytes)));
    }
  }
  writer.finish();
  return Buffer.from(writer.take());
}

test("blocks start between keys, know their keys, and can be read each alone", async () => {
  const rdb = makeRdb(500);
  const { object, index } = await archive(rdb, 4096);
  const reader = await openObject(object);
  assert.ok(index.blocks.length > 10);
  assert.deepEqual([index.magic, index.keys, index.rdbBytes], ["REDIS0010", 1500, rdb.length]);
  const found = new Set<string>();
  for (const [i, block] of index.blocks.entries()) {
    assert.ok(block.isAtBoundary);
    const bytes = await readObject(reader, { from: i, to: i + 1 });
    const rdbReader = new RdbReader();
    rdbReader.deferChecksum(0);
    rdbReader.push(i === 0 ? bytes : Buffer.concat([fromLatin1("REDIS0010"), bytes]));
    rdbReader.database = block.database;
    const counts = new Map<number, number>();
    for (let event = rdbReader.next(); event !== undefined; event = rdbReader.next()) {
      if (event !== "key") continue;
      counts.set(rdbReader.database, (counts.get(rdbReader.database) ?? 0) + 1);
      assert.ok(await reader.mayHold(i, rdbReader.key.copy()));
      found.add(rdbReader.key.latin1());
      rdbReader.skip();
    }
    assert.deepEqual([...counts], block.keys);
  }
  assert.equal(found.size, 1500);
});

test("what is behind the end of the RDB is a block of its own that stands for all keys", async () => {
  const rdb = makeRdb(10);
  const log = fromLatin1("*1\r\n$8\r\nFLUSHALL\r\n".repeat(10));
  for (const size of [1, 7, rdb.length, 1 << 16]) {
    const { object, index } = await archive(Buffer.concat([rdb, log]), undefined, size);
    assert.deepEqual([index.rdbBytes, index.keys, index.notUnderstood], [rdb.length, 30, null]);
    assert.deepEqual(
      index.blocks.map((block) => [block.isAtBoundary, block.filter === null, block.keys?.length]),
      [
        [true, false, 3],
        [false, true, undefined],
      ],
    );
    const reader = await openObject(object);
    assert.deepEqual(await readObject(reader, { from: 1 }), Buffer.from(log));
  }
});

test("from a place that is not understood, blocks stand for all keys, and the place is told", async () => {
  const rdb = Buffer.from(makeRdb(300));
  const at = rdb.indexOf("key:1:100") - 2;
  rdb[at] = 240;
  for (const size of [1, 1000, 1 << 16]) {
    const { object, index } = await archive(rdb, 4096, size);
    assert.equal(index.keys, null);
    assert.deepEqual(index.notUnderstood, {
      at,
      found: `Value type or opcode 240 at byte ${at}`,
    });
    const opaque = index.blocks.findIndex(({ filter }) => filter === null);
    assert.ok(opaque > 2 && opaque < index.blocks.length - 2);
    for (const [i, block] of index.blocks.entries()) {
      assert.equal(block.filter === null, i >= opaque);
      assert.equal(block.keys === null, i >= opaque);
      assert.equal(block.isAtBoundary, i <= opaque);
    }
    assert.ok(rdb.equals(await readObject(await openObject(object))));
  }
});

test("a file that is cut off, or no RDB at all, is archived and said not to be understood", async () => {
  const rdb = makeRdb(20);
  for (const bytes of [rdb.subarray(0, -1), rdb.subarray(0, 100), fromLatin1("hello, world")]) {
    const { object, index } = await archive(bytes);
    assert.ok(index.notUnderstood !== null);
    assert.equal(index.keys, null);
    assert.deepEqual(await readObject(await openObject(object)), Buffer.from(bytes));
  }
});

test("a value that is longer than a block stretches it, up to the end of the next key", async () => {
  const rdb = makeRdb(3, 50_000);
  const { index } = await archive(rdb, 4096);
  assert.equal(index.keys, 9);
  assert.equal(index.blocks.length, 5);
});

test("what comes out does not depend on how the RDB was cut into chunks", async () => {
  const rdb = makeRdb(100);
  const { object } = await archive(rdb, 2048);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 3000 }), async (size) => {
      assert.ok(Buffer.from((await archive(rdb, 2048, size)).object).equals(object));
    }),
    { numRuns: 25 },
  );
});
