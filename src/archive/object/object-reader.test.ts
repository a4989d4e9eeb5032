import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import {
  borrowed,
  openObject,
  readObject,
  sourceOf,
  writeObject,
} from "../../../test/archive/objects.ts";
import { fromLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { LogBlocks } from "./log-blocks.ts";
import { ObjectReader } from "./object-reader.ts";
import type { WriterOptions } from "./object-writer.ts";

const key = { id: "backup-2026", key: Buffer.alloc(32, 7) };
const keys = (id: string) => (id === key.id ? key.key : undefined);

function makeLog(records: number): Uint8Array {
  const parts: string[] = ["*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"];
  for (let i = 0; i < records; i++) {
    const name = `key:${(i * 7919) % 1000}`;
    parts.push(`*3\r\n$3\r\nSET\r\n$${name.length}\r\n${name}\r\n$5\r\n${10_000 + i}\r\n`);
  }
  return fromLatin1(parts.join(""));
}

async function archive(log: Uint8Array, options: WriterOptions = {}, blockBytes = 1000) {
  return await writeObject(new LogBlocks({ blockBytes }), borrowed(log, 3000), options);
}

async function readAll(object: Uint8Array): Promise<ObjectReader> {
  const reader = await openObject(object, keys);
  await reader.verify();
  return reader;
}

for (const options of [{}, { key }] as const) {
  suite("key" in options ? "an encrypted object" : "a plain object", () => {
    test("gives the file, whole and by blocks, however its source gives it", async () => {
      const log = makeLog(300);
      const { object, index } = await archive(log, options);
      for (const pieceBytes of [1, 100, 1 << 20]) {
        const reader = await ObjectReader.open(sourceOf(object, pieceBytes), keys);
        assert.deepEqual(await readObject(reader), Buffer.from(log));
        assert.deepEqual(reader.index, index);
      }
      const reader = await openObject(object, keys);
      const count = index.blocks.length;
      const edge = fc.nat(count);
      await fc.assert(
        fc.asyncProperty(edge, edge, async (from, to) => {
          const [start, end] = [reader.rawStarts[from], reader.rawStarts[Math.max(from, to)]];
          const expected = Buffer.from(log.subarray(start, end));
          assert.deepEqual(await readObject(reader, { from, to }), expected);
        }),
        { numRuns: 50 },
      );
    });

    test("can be of nothing, and of one byte too few for a block", async () => {
      for (const log of [makeLog(0).subarray(0, 0), makeLog(1)]) {
        const { object, sizeBytes } = await archive(log, options);
        assert.equal(sizeBytes, object.length);
        assert.deepEqual(await readObject(await readAll(object)), Buffer.from(log));
      }
    });

    test("is refused with a flipped bit anywhere, by name, and by block where it is in one", async () => {
      const { object, index } = await archive(makeLog(100), options, 1200);
      const { length } = index.blocks;
      const blocks = new Set<string>();
      for (let at = 0; at < object.length; at++) {
        const flipped = Buffer.from(object);
        flipped[at] = (flipped[at] as number) ^ (1 << (at % 8));
        await assert.rejects(readAll(flipped), (error) => {
          assert.ok(error instanceof Failure, `at ${at}: ${String(error)}`);
          assert.match(error.message, /^Cannot read the object: /);
          const block = /block \d+/.exec(error.message)?.[0];
          if (block !== undefined) blocks.add(block);
          return true;
        });
      }
      assert.equal(blocks.size, length);
    });

    test("is refused when it is cut off at any length", async () => {
      const { object } = await archive(makeLog(60), options);
      for (let size = 0; size < object.length; size++) {
        await assert.rejects(openObject(object.subarray(0, size), keys), { code: "DATA_CORRUPT" });
      }
    });

    test("gives its sound blocks where another one is damaged", async () => {
      const log = makeLog(300);
      const { object, index } = await archive(log, options);
      const broken = Buffer.from(object);
      const header = "key" in options ? 75 : 0;
      const first = index.blocks[0]?.frames[0]?.[1] ?? 0;
      broken.fill(0, header + first, header + first + 20);
      const reader = await openObject(broken, keys);
      await assert.rejects(readObject(reader, { from: 1, to: 2 }), {
        code: "DATA_CORRUPT",
        message: `Cannot read the object: block 1 is damaged, at byte ${header + first}`,
      });
      const sound = await readObject(reader, { from: 2 });
      assert.deepEqual(sound, Buffer.from(log.subarray(reader.rawStarts[2])));
    });

    test("finds each key by its filters", async () => {
      const log = makeLog(500);
      const { object, index } = await archive(log, options, 3000);
      const reader = await openObject(object, keys);
      for (let block = 0; block < index.blocks.length; block++) {
        const raw = Buffer.from(await readObject(reader, { from: block, to: block + 1 }));
        for (const [name] of raw.toString("latin1").matchAll(/key:\d+/g)) {
          assert.ok(await reader.mayHold(block, fromLatin1(name)));
        }
      }
    });
  });
}

/** Node 24's stops behind the first of several frames. The `zstd` command is asked elsewhere. */
const readsAllFrames =
  zstdDecompressSync(Buffer.concat([zstdCompressSync("a"), zstdCompressSync("b")])).length === 2;
const skip = readsAllFrames ? false : "the zlib of this Node reads one frame only";

test("a plain object decompresses with zstd", { skip }, async () => {
  const log = makeLog(300);
  const { object } = await archive(log);
  assert.deepEqual(zstdDecompressSync(object), Buffer.from(log));
});

test("a source that ends early is said to be cut off, not waited for", async () => {
  const { object } = await archive(makeLog(100));
  const whole = sourceOf(object);
  let missing = 0;
  const reader = await ObjectReader.open({
    ...whole,
    read: (start, end) => whole.read(start, end - missing),
  });
  missing = 1;
  await assert.rejects(readObject(reader), { code: "DATA_CORRUPT" });
});

test("reading can be given up at any time", async () => {
  const { object } = await archive(makeLog(300));
  let isClosed = false;
  const whole = sourceOf(object, 10);
  const reader = await ObjectReader.open(whole);
  const watched = await ObjectReader.open({
    ...whole,
    async *read(start, end) {
      try {
        yield* whole.read(start, end);
      } finally {
        isClosed = start === 0;
      }
    },
  });
  for await (const _ of reader.rawBytes()) break;
  for await (const _ of watched.rawBytes()) break;
  assert.ok(isClosed);
});
