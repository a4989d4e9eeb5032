import assert from "node:assert/strict";
import { test } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { BlockFrames, type Frame } from "./block-frames.ts";

async function compress(bytes: Uint8Array, level?: number) {
  const blocks = new BlockFrames(level, 2 ** 20, undefined);
  const parts: Uint8Array[] = [];
  const lists: Frame[][] = [];
  for (let at = 0; at < bytes.length; at += 3 * 2 ** 20) {
    for await (const part of blocks.add(bytes.subarray(at, at + 3 * 2 ** 20))) parts.push(part);
    for await (const part of blocks.endBlock()) parts.push(part);
    lists.push(blocks.takeList());
  }
  for await (const part of blocks.finish()) parts.push(part);
  return { object: Buffer.concat(parts), lists };
}

let state = 12345;
const random = (below: number) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % below;
};

function records(size: number): Uint8Array {
  let text = "";
  while (text.length < size) {
    const [name, value] = [String(random(1e6)), String(random(1e8))];
    text += `*3\r\n$3\r\nSET\r\n$${name.length}\r\n${name}\r\n$${value.length}\r\n${value}\r\n`;
  }
  return Buffer.from(text);
}

/** Words that come again in the same turns of phrase. */
function prose(size: number): Uint8Array {
  const words = Array.from({ length: 3000 }, () => random(1e7).toString(36));
  const phrases = Array.from({ length: 4000 }, () =>
    Array.from({ length: 2 + random(6) }, () => words[random(words.length)]).join(" "),
  );
  let text = "";
  while (text.length < size) text += `${phrases[random(phrases.length)]} `;
  return Buffer.from(text);
}

test("without a level, short records get a small table, and prose level 3", async () => {
  const sizeAt = async (bytes: Uint8Array, level?: number) =>
    (await compress(bytes, level)).object.length;
  const [short, long] = [records(4e6), prose(4e6)];
  const chosen = await compress(short);
  assert.ok(chosen.object.length < (await sizeAt(short, 1)));
  assert.ok(chosen.object.length < (await sizeAt(short, 3)) * 1.03);
  assert.ok(zstdDecompressSync(chosen.object).equals(short));
  assert.ok((await compress(long)).object.equals((await compress(long, 3)).object));
  assert.ok((await sizeAt(long)) < (await sizeAt(long, 1)));
});

test("each block has its own frames, none longer than four MiB", async () => {
  const { lists } = await compress(Buffer.alloc(7 * 2 ** 20, "abc"));
  const raw = lists.map((frames) => frames.map(([size]) => size));
  assert.deepEqual(raw, [[3 * 2 ** 20], [3 * 2 ** 20], [2 ** 20]]);
  const blocks = new BlockFrames(1, 100, undefined);
  const parts = await Array.fromAsync(blocks.add(Buffer.alloc(9 * 2 ** 20)));
  assert.equal(parts.length, 0);
  await Array.fromAsync(blocks.endBlock());
  const list = blocks.takeList();
  await Array.fromAsync(blocks.finish());
  assert.deepEqual(
    list.map(([size]) => size),
    [2 ** 22, 2 ** 22, 2 ** 20],
  );
});
