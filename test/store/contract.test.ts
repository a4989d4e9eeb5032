import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { withAbilities } from "../../src/store/abilities.ts";
import { openStore } from "../../src/store/open.ts";
import { probeStore } from "../../src/store/probe.ts";
import type { StoreAbilities } from "../../src/store/store.ts";
import { temporaryFolder } from "../support/folder.ts";
import { list, testStore } from "./contract.ts";
import { missingStorage, type Storage, startMoto, startRadosgw } from "./servers.ts";

const perfect: StoreAbilities = {
  conditionalCreate: true,
  ranges: true,
  parts: true,
  overwrite: true,
  listing: true,
  deletes: true,
};

/** What each was seen to do when this was written. */
const storages = [
  ["moto", startMoto, perfect],
  ["radosgw", startRadosgw, { ...perfect, conditionalCreate: false, ranges: false, parts: false }],
] as const;

suite("a directory", () => {
  const dir = temporaryFolder();
  after(() => dir[Symbol.dispose]());

  test("can do all that is probed, and nothing of the probe stays", async () => {
    const store = await openStore(`${dir.path}/probed`);
    assert.deepEqual(await probeStore(store), perfect);
    assert.deepEqual(await list(store, ""), []);
  });

  testStore("a directory", async (folder) => {
    return { store: await openStore(`${dir.path}/${folder}`), abilities: perfect };
  });
});

for (const [id, start, abilities] of storages) {
  const skip = missingStorage(id);
  suite(id, { skip }, () => {
    let storage: Storage;
    before(async () => {
      storage = await start();
    });
    after(() => storage[Symbol.asyncDispose]());

    test("its faults are found, and nothing of the probe stays", async () => {
      await using store = await openStore(storage.options("probed"));
      assert.deepEqual(await probeStore(store), abilities);
      assert.deepEqual(await list(store, ""), []);
    });

    testStore(id, async (folder) => {
      const store = await openStore(storage.options(folder));
      return { store: withAbilities(store, abilities), abilities };
    });
  });
}
