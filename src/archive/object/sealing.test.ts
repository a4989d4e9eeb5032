import assert from "node:assert/strict";
import { test } from "node:test";
import { borrowed, openObject, readObject, writeObject } from "../../../test/archive/objects.ts";
import { fromLatin1 } from "../../base/bytes.ts";
import type { LogIndex } from "./index-format.ts";
import { LogBlocks } from "./log-blocks.ts";
import { type ObjectKey, type Part, Sealing } from "./sealing.ts";

const key: ObjectKey = { id: "k1", key: Buffer.alloc(32, 1) };
const ring = (id: string) => (id === "k1" ? key.key : undefined);

test("unseal() takes a part only as what it was sealed as", () => {
  const sealing = Sealing.create("aof", key);
  const plain = fromLatin1("some bytes");
  const sealed = sealing.seal("frame", 3, plain);
  assert.equal(sealed.length, plain.length + 16);
  assert.deepEqual(Buffer.from(sealing.unseal("frame", 3, sealed) ?? ""), Buffer.from(plain));
  for (const [part, number] of [
    ["frame", 2],
    ["filter", 3],
    ["index", 3],
  ] as [Part, number][]) {
    assert.equal(sealing.unseal(part, number, sealed), undefined, `${part} ${number}`);
  }
  assert.equal(Sealing.create("aof", key).unseal("frame", 3, sealed), undefined);
  for (let size = 0; size < sealed.length; size++) {
    assert.equal(sealing.unseal("frame", 3, sealed.subarray(0, size)), undefined);
  }
});

test("open() finds the key by the id in the header", () => {
  const { header } = Sealing.create("rdb", key);
  const sealing = Sealing.open(Buffer.concat([header, Buffer.alloc(50)]), "o", ring);
  assert.deepEqual([sealing.keyId, sealing.kind], ["k1", "rdb"]);
  const sealed = sealing.seal("index", 0, fromLatin1("x"));
  assert.ok(Sealing.open(header, "o", ring).unseal("index", 0, sealed));
});

test("open() says which key is missing, or that it is another one", () => {
  const { header } = Sealing.create("rdb", key);
  assert.throws(() => Sealing.open(header, "o", undefined), {
    code: "KEY_NEEDED",
    message: 'Cannot read o: it is encrypted with key "k1"',
  });
  assert.throws(() => Sealing.open(header, "o", () => undefined), { code: "KEY_NEEDED" });
  assert.throws(() => Sealing.open(header, "o", () => Buffer.alloc(32, 2)), {
    code: "KEY_NEEDED",
    message: 'Cannot read o: the key given as "k1" is another one',
  });
  assert.throws(() => Sealing.open(header, "o", () => Buffer.alloc(31)), { code: "USAGE" });
});

test("open() finds out which of several keys it is", () => {
  const { header } = Sealing.create("rdb", key);
  const other = Buffer.alloc(32, 2);
  for (const keys of [[other, key.key], [key.key, other], [key.key]]) {
    assert.deepEqual(Sealing.open(header, "o", () => keys).given, key);
  }
  assert.throws(() => Sealing.open(header, "o", () => [other, Buffer.alloc(32, 3)]), {
    code: "KEY_NEEDED",
    message: 'Cannot read o: none of the 2 keys given is its key "k1"',
  });
  assert.throws(() => Sealing.open(header, "o", () => []), { message: /encrypted with key "k1"$/ });
});

test("open() refuses a header that is cut off or damaged", () => {
  const { header } = Sealing.create("rdb", key);
  for (let size = 0; size < header.length; size++) {
    assert.throws(() => Sealing.open(header.subarray(0, size), "o", ring), {
      code: "DATA_CORRUPT",
    });
  }
  for (let at = 0; at < header.length; at++) {
    const flipped = Buffer.from(header);
    flipped[at] = (flipped[at] as number) ^ 1;
    assert.throws(() => Sealing.open(flipped, "o", ring), { code: "DATA_CORRUPT" });
  }
});

test("create() refuses a key or an id that is none", () => {
  for (const bad of [
    { id: "k1", key: Buffer.alloc(16) },
    { id: "", key: key.key },
    { id: "k 1", key: key.key },
    { id: "k".repeat(65), key: key.key },
  ]) {
    assert.throws(() => Sealing.create("aof", bad), { code: "USAGE" });
  }
});

/** An object of many frames of the same size, so that they can be exchanged. */
async function sealedObject() {
  const record = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n1234\r\n";
  const log = fromLatin1(record.repeat(400));
  const blocks = new LogBlocks({ blockBytes: 10 * record.length });
  return { log, ...(await writeObject<LogIndex>(blocks, borrowed(log, 1000), { key })) };
}

test("frames that were exchanged are refused, within an object and between two", async () => {
  const one = await sealedObject();
  const two = await sealedObject();
  const [size = 0] = one.index.blocks.map(({ frames }) => frames[0]?.[1]);
  assert.ok(one.index.blocks.every(({ frames }) => frames[0]?.[1] === size));
  const at = (block: number) => Sealing.create("aof", key).header.length + block * size;
  const swapped = Buffer.from(one.object);
  swapped.set(one.object.subarray(at(3), at(4)), at(2));
  swapped.set(one.object.subarray(at(2), at(3)), at(3));
  await assert.rejects(readObject(await openObject(swapped, ring)), /block 2 is damaged/);
  const foreign = Buffer.from(one.object);
  foreign.set(two.object.subarray(at(2), at(3)), at(2));
  await assert.rejects(readObject(await openObject(foreign, ring)), /block 2 is damaged/);
  // With the whole tail of the other object its salt is wrong; with its header, all frames are.
  const headed = Buffer.concat([two.object.subarray(0, at(0)), one.object.subarray(at(0))]);
  await assert.rejects(
    openObject(headed, ring),
    /its index is not the one that was sealed with it/,
  );
});

test("nothing of the file or of its keys can be seen in an encrypted object", async () => {
  const { object, log } = await sealedObject();
  assert.deepEqual(await readObject(await openObject(object, ring)), Buffer.from(log));
  for (const word of ["SET", "rawSha256", "blocks", "\x28\xb5\x2f\xfd"]) {
    assert.equal(Buffer.from(object).indexOf(word, 0, "latin1"), -1, word);
  }
});
