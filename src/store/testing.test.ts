import assert from "node:assert/strict";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { seededRandom } from "../log/testing.ts";
import { DirectoryStore } from "./directory.ts";
import { readAll, type Store } from "./store.ts";
import { type FaultOptions, faultyStore } from "./testing.ts";

const bytes = Buffer.from("0123456789");
const busy = { code: "STORE_BUSY" };
async function* chunks() {
  for (let i = 0; i < 6; i++) yield bytes;
}
const names = async (store: Store) =>
  (await Array.fromAsync(store.list(""))).map((info) => info.name);

async function withFaults(
  options: FaultOptions,
  action: (store: Store, real: Store) => Promise<void>,
) {
  using dir = temporaryFolder();
  const real = new DirectoryStore(dir.path);
  const store = faultyStore(real, seededRandom(1), options);
  await action(store, real);
  assert.ok(store.faults > 0);
  store.heal();
  await store.put("healed", bytes);
  assert.deepEqual(await readAll(store, "healed", 10), bytes);
}

test("faultyStore() fails before there is an effect, or after it", async () => {
  await withFaults({ errorBefore: 1 }, async (store, real) => {
    await assert.rejects(store.put("a", bytes), busy);
    await assert.rejects(store.delete(["a"]), busy);
    await assert.rejects(names(store), busy);
    await assert.rejects(readAll(store, "a", 10), busy);
    assert.deepEqual(await names(real), []);
  });
  await withFaults({ errorAfter: 1, slowTurns: 3 }, async (store, real) => {
    await assert.rejects(store.put("a", bytes), busy);
    assert.deepEqual(await names(real), ["a"]);
    await assert.rejects(store.delete(["a"]), busy);
    assert.deepEqual(await names(real), []);
  });
});

test("faultyStore() tears uploads and reads, and leaves nothing half there", async () => {
  await withFaults({ tornUpload: 1, tornRead: 1 }, async (store, real) => {
    for (let i = 0; i < 10; i++) await assert.rejects(store.upload("a", chunks()), busy);
    assert.deepEqual(await names(real), []);
    await real.put("a", bytes);
    await assert.rejects(readAll(store, "a", 10), busy);
  });
});

test("faultyStore() gives one wrong bit, and does not change the object", async () => {
  await withFaults({ wrongByte: 1 }, async (store, real) => {
    await store.put("a", bytes);
    assert.notDeepEqual(await readAll(store, "a", 10), bytes);
    assert.deepEqual(await readAll(real, "a", 10), bytes);
  });
});

test("faultyStore() lists what was there some changes ago", async () => {
  await withFaults({ staleList: 1, staleChanges: 2 }, async (store) => {
    await store.put("a", bytes);
    await store.put("b", bytes);
    await store.delete(["a"]);
    const seen = new Set<string>();
    for (let i = 0; i < 50; i++) seen.add((await names(store)).join());
    assert.deepEqual([...seen].sort(), ["a", "a,b", "b"]);
  });
});
