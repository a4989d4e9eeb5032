import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 as crc, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { borrowed, openObject, readObject, writeObject } from "../../../test/archive/objects.ts";
import { fromLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import {
  decodeFooter,
  encodeTail,
  footerBytes,
  type ObjectIndex,
  tailHeadBytes,
} from "./index-format.ts";
import { LogBlocks } from "./log-blocks.ts";

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const command = (word: string) => `*2\r\n$${word.length}\r\n${word}\r\n$1\r\nk\r\n`;
const log = fromLatin1((command("INCR") + command("FLUSHALL")).repeat(50));
const written = await writeObject(new LogBlocks({ blockBytes: 500 }), borrowed(log, 300));
const { tailStart, filters } = parts(written.object);

function parts(object: Uint8Array) {
  const footer = decodeFooter(object, object.length, "it");
  const filterStart = object.length - footerBytes - footer.indexBytes - footer.filtersBytes;
  const indexStart = filterStart + footer.filtersBytes;
  return {
    tailStart: filterStart - tailHeadBytes,
    filters: [object.subarray(filterStart, indexStart)],
  };
}

/** The object with another index, everything around it right. */
async function withIndex(index: unknown): Promise<Uint8Array> {
  const tail = await encodeTail(index as ObjectIndex, filters, undefined);
  return Buffer.concat([written.object.subarray(0, tailStart), tail]);
}

async function readAll(object: Uint8Array): Promise<Uint8Array> {
  const reader = await openObject(object);
  await reader.verify();
  return await readObject(reader);
}

/** Each place in a value, as a function that changes it there. */
function* places(value: Json): Generator<(to: Json | undefined) => Json> {
  yield (to) => to ?? null;
  if (Array.isArray(value)) {
    for (const [i, each] of value.entries()) {
      for (const change of places(each)) {
        yield (to) => value.map((old, at) => (at === i ? change(to) : old));
      }
      yield () => value.filter((_, at) => at !== i);
    }
  } else if (value !== null && typeof value === "object") {
    for (const [name, each] of Object.entries(value)) {
      for (const change of places(each)) yield (to) => ({ ...value, [name]: change(to) });
      const { [name]: _, ...rest } = value;
      yield () => rest;
    }
  }
}

const changes = [...places(written.index as unknown as Json)];
const strange: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(0, 1, -1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, null, true, "", [], {}),
  fc.nat(2000),
  fc.jsonValue({ maxDepth: 2 }).map((value) => value as Json),
);

test("a changed index is refused, or gives nothing but the file", async () => {
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...changes), strange, async (change, to) => {
      const object = await withIndex(change(to));
      try {
        assert.deepEqual(await readAll(object), Buffer.from(log));
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        assert.match(error.message, /^Cannot read the object: /);
        refused++;
      }
    }),
    { numRuns: 3000 },
  );
  assert.ok(refused > 1000, `${refused} refused`);
});

test("bytes that are no object are refused, also with a right footer around them", async () => {
  const mutate = fc.tuple(fc.nat(), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
      await assert.rejects(readAll(bytes), { code: "DATA_CORRUPT" });
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(mutate, { minLength: 1, maxLength: 20 }), async (mutations) => {
      const object = Buffer.from(written.object);
      for (const [at, byte] of mutations) object[at % object.length] = byte;
      if (object.equals(written.object)) return;
      await assert.rejects(readAll(object), (error) => error instanceof Failure);
    }),
    { numRuns: 500 },
  );
});

test("an index that would need much memory is refused without it", async () => {
  const bomb = zstdCompressSync(Buffer.alloc(200 * 2 ** 20));
  const tail = Buffer.from(await encodeTail(written.index, [], undefined));
  for (const jsonBytes of [100, 64 * 2 ** 20, 64 * 2 ** 20 + 1, 2 ** 32 - 1]) {
    const object = withFooter(Buffer.concat([tail.subarray(0, 8), bomb]), bomb, jsonBytes);
    const before = process.memoryUsage().rss;
    await assert.rejects(openObject(object), { code: "DATA_CORRUPT" });
    assert.ok(process.memoryUsage().rss - before < 150e6);
  }
});

test("a frame that gives more than it says is refused", async () => {
  const bomb = zstdCompressSync(Buffer.alloc(50 * 2 ** 20));
  const [block] = written.index.blocks;
  const index = {
    ...written.index,
    rawBytes: 100,
    blocks: [{ ...block, filter: null, frames: [[100, bomb.length, crc(bomb)]] }],
  };
  const tail = await encodeTail(index as unknown as ObjectIndex, [], undefined);
  await assert.rejects(readAll(Buffer.concat([bomb, tail])), {
    code: "DATA_CORRUPT",
    message: /block 0 does not decompress/,
  });
});

test("a newer version is refused as such", async () => {
  const object = Buffer.from(written.object);
  object[object.length - footerBytes + 16] = 2;
  await assert.rejects(openObject(withCrc(object)), { code: "DATA_UNSUPPORTED" });
});

function withFooter(before: Uint8Array, index: Uint8Array, jsonBytes: number): Uint8Array {
  const footer = Buffer.from(written.object.subarray(-footerBytes));
  footer.writeUInt32LE(0, 0);
  footer.writeUInt32LE(index.length, 4);
  footer.writeUInt32LE(jsonBytes, 8);
  footer.writeUInt32LE(crc(index), 12);
  const object = Buffer.concat([before, footer]);
  object.writeUInt32LE(index.length + footerBytes, 4);
  return withCrc(object);
}

function withCrc(object: Buffer): Uint8Array {
  const at = object.length - footerBytes;
  object.writeUInt32LE(crc(object.subarray(at, at + 20)), at + 20);
  return object;
}
