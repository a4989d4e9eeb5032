import assert from "node:assert/strict";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { DirectoryStore } from "../store/directory.ts";
import {
  listClusters,
  listSlots,
  parseShardInstance,
  putSlots,
  readSlots,
  type SlotsChange,
  seenMs,
  shardInstance,
  slotsObject,
} from "./cluster-slots.ts";

const position = { replicationId: "ab".repeat(20), offset: 77, ms: 999 };
const before: SlotsChange = {
  windowMs: null,
  shards: [
    { key: "a1", slots: [[0, 8191]], ms: 1000, position },
    { key: "b2", slots: [[8192, 16_383]], ms: 1003, position: null },
  ],
};
const after: SlotsChange = {
  windowMs: 5000,
  shards: [
    { key: "a1", slots: [], ms: 2000, position },
    { key: "b2", slots: [[0, 16_383]], ms: 2001, position: null },
  ],
};

test("changes of slots are read as they were written, oldest first, each once", async () => {
  using folder = temporaryFolder();
  const store = new DirectoryStore(folder.path);
  for (const change of [after, before, before]) await putSlots(store, "shop", change);
  const names = await listSlots(store, "shop");
  assert.deepEqual(names, [slotsObject("shop", before), slotsObject("shop", after)]);
  assert.deepEqual(await Promise.all(names.map((name) => readSlots(store, name))), [before, after]);
  assert.equal(seenMs(after), 2001);
});

test("parseShardInstance() gives what shardInstance() was given, and nothing else", () => {
  const key = "0f".repeat(20);
  for (const cluster of ["shop", "shop.b", `shop.${key}`]) {
    assert.deepEqual(parseShardInstance(shardInstance(cluster, key)), { cluster, key });
  }
  for (const other of ["shop", key, `.${key}`, `shop.${key}.before-restore`, `shop.${key}0`]) {
    assert.equal(parseShardInstance(other), undefined, other);
  }
});

test("listClusters() names those that there is something of", async () => {
  using folder = temporaryFolder();
  const store = new DirectoryStore(folder.path);
  assert.deepEqual(await listClusters(store), []);
  for (const name of ["shop", "a", "shop.b"]) await putSlots(store, name, before);
  assert.deepEqual(await listClusters(store), ["a", "shop.b", "shop"]);
});

test("readSlots() refuses what is wrong in a change, by its name", async () => {
  using folder = temporaryFolder();
  const store = new DirectoryStore(folder.path);
  const wrong: SlotsChange[] = [
    { ...before, shards: [] },
    { ...before, shards: [{ key: "../x", slots: [], ms: 1, position: null }] },
    { ...before, shards: [{ key: "a", slots: [[0, 16_384]], ms: 1, position: null }] },
    { ...before, shards: [{ key: "a", slots: [[5, 4]], ms: 1, position: null }] },
  ];
  for (const change of wrong) {
    await putSlots(store, "shop", change);
    const name = slotsObject("shop", change);
    await assert.rejects(readSlots(store, name), { code: "DATA_CORRUPT", message: /clusters/ });
  }
});
