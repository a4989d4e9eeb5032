import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { MemoryStore, memoryRepository } from "../../test/archive/memory-store.ts";
import type { PositionLine } from "../codec/aof/annotation.ts";
import { LogWriter } from "../codec/aof/writer.ts";
import type { Piece } from "./catalogue.ts";
import { LogBlocks } from "./object/log-blocks.ts";
import { ObjectWriter } from "./object/object-writer.ts";
import { hasPosition } from "./set-log.ts";

const [first, second] = ["a".repeat(40), "b".repeat(40)];

/** Lines at these offsets, each a block of its own. */
async function addPiece(
  store: MemoryStore,
  lines: readonly (readonly [id: string, offset: number])[],
  after?: PositionLine,
): Promise<Piece> {
  const writer = new LogWriter(after && { after });
  for (const [replicationId, offset] of lines) {
    writer.record(["SET", "key", "x".repeat(100)].map((word) => Buffer.from(word)));
    writer.seal({ replicationId, offset }, 1000);
  }
  const object = new ObjectWriter(new LogBlocks({ blockBytes: 50, ...(after && { after }) }));
  const bytes = Buffer.concat(
    await Array.fromAsync(object.bytes([Uint8Array.from(writer.take())])),
  );
  const name = `piece ${store.objects.size}`;
  store.objects.set(name, { bytes, modifiedMs: 0 });
  const [from, to] = [after?.offset ?? lines[0]?.[1] ?? 0, lines.at(-1)?.[1] ?? 0];
  return {
    ...{ firstSequence: 0, lastSequence: 1, fromOffset: from, toOffset: to, fromMs: 0, toMs: 1000 },
    ...{ rawBytes: 1, sha256: "", object: name, sizeBytes: bytes.length },
  };
}

suite("hasPosition()", () => {
  test("is true of what is between two lines of one history, and of nothing else", async () => {
    const store = new MemoryStore();
    const repository = memoryRepository(store);
    const one = await addPiece(store, [
      [first, 100],
      [first, 200],
    ]);
    const after = { replicationId: first, offset: 200, ms: 1000, sequence: 1, dataCrc: 0 };
    const two = await addPiece(
      store,
      [
        [first, 300],
        [second, 400],
        [second, 500],
      ],
      after,
    );
    const has = async (pieces: readonly Piece[], replicationId: string, offset: number) =>
      await hasPosition(repository, pieces, { replicationId, offset });
    for (const offset of [100, 150, 200, 250, 300]) {
      assert.equal(await has([one, two], first, offset), true, `${offset}`);
    }
    for (const offset of [400, 450, 500]) assert.equal(await has([one, two], second, offset), true);
    // Of the old master, which went on by itself; of what came before; of another instance.
    for (const offset of [99, 301, 400, 501])
      assert.equal(await has([one, two], first, offset), false);
    for (const offset of [150, 300, 399])
      assert.equal(await has([one, two], second, offset), false);
    assert.equal(await has([one, two], "c".repeat(40), 150), false);
    // What has gone, or cannot be read, has nothing; what is left has its own start.
    assert.deepEqual([await has([two], first, 150), await has([two], first, 200)], [false, true]);
    store.objects.set(one.object, { bytes: new Uint8Array(one.sizeBytes), modifiedMs: 0 });
    assert.equal(await has([one, two], first, 150), false);
  });
});
