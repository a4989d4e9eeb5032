import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { sharedStore } from "../../test/archive/shared-store.ts";
import type { Store } from "../store/store.ts";
import { formatDocument } from "./document.ts";
import { ObjectWriter } from "./object/object-writer.ts";
import { RdbBlocks } from "./object/rdb-blocks.ts";
import {
  admitKey,
  initRepository,
  openObject,
  openRepository,
  writerOptions,
} from "./repository.ts";

const first = { id: "first", key: Buffer.alloc(32, 1) };
const second = { id: "second", key: Buffer.alloc(32, 2) };
const clock = { now: () => 1_795_328_997_123 };
const quick = { clock, probe: { lateListingMs: 1 } };

async function writeSnapshot(store: Store, options: ReturnType<typeof writerOptions>) {
  const bytes = [Buffer.from("REDIS0011\xff\0\0\0\0\0\0\0\0", "latin1")];
  const writer = new ObjectWriter(new RdbBlocks(), options);
  const { sizeBytes } = await store.upload("snapshot", writer.bytes(bytes));
  return sizeBytes;
}

suite("initRepository()", () => {
  test("writes what was found out, and nothing else stays", async () => {
    const store = sharedStore();
    const made = await initRepository(store, quick);
    assert.deepEqual([...store.objects.keys()], ["tidemark.json"]);
    assert.equal(made.madeMs, clock.now());
    assert.equal(made.abilities.conditionalCreate, true);
    const opened = await openRepository(store);
    assert.deepEqual([opened.id, opened.abilities], [made.id, made.abilities]);
  });

  test("says that a storage overwrites where it should not", async () => {
    const { abilities } = await initRepository(sharedStore(undefined, false), quick);
    assert.deepEqual([abilities.conditionalCreate, abilities.listing], [false, true]);
  });

  test("makes no second one", async () => {
    const store = sharedStore();
    const { id } = await initRepository(store, quick);
    await assert.rejects(initRepository(store, quick), {
      code: "FILE_EXISTS",
      message: "Cannot make a repository in memory: there is one",
    });
    assert.equal((await openRepository(store)).id, id);
  });

  test("refuses a storage in which two writers could not be told apart", async () => {
    const store = sharedStore(undefined, false);
    // Deleted objects are listed for a while.
    const ghosts = new Map<string, number>();
    const late: Store = {
      ...store,
      delete: async (names) => {
        for (const name of names) ghosts.set(name, 1);
        await store.delete(names);
      },
      async *list(prefix, options) {
        yield* store.list(prefix, options);
        for (const name of ghosts.keys()) {
          if (name.startsWith(prefix)) yield { name, sizeBytes: 1, modifiedMs: 1 };
        }
      },
    };
    await assert.rejects(initRepository(late, quick), { code: "STORE_UNFIT" });
    assert.equal(store.objects.size, 0);
  });
});

suite("openRepository()", () => {
  test("says where there is none", async () => {
    await assert.rejects(openRepository(sharedStore()), {
      code: "OBJECT_MISSING",
      message: "Cannot open memory: there is no repository",
    });
  });

  test("refuses a newer format, and what is no description", async () => {
    const store = sharedStore();
    await store.put("tidemark.json", formatDocument({ format: 2 }));
    await assert.rejects(openRepository(store), { code: "DATA_UNSUPPORTED" });
    await store.put("tidemark.json", formatDocument({ format: 1, id: "x" }));
    await assert.rejects(openRepository(store), { code: "DATA_CORRUPT", message: /: id: / });
    await store.put("tidemark.json", Buffer.from("<html>"));
    await assert.rejects(openRepository(store), {
      code: "DATA_CORRUPT",
      message: /no sum at its end/,
    });
    await store.put("tidemark.json", Buffer.alloc(100_000));
    await assert.rejects(openRepository(store), { code: "LIMIT_EXCEEDED" });
  });

  test("asks for the key that the repository was made with", async () => {
    const store = sharedStore();
    await initRepository(store, { ...quick, key: first });
    await assert.rejects(openRepository(store), {
      code: "KEY_NEEDED",
      message: 'Cannot read the repository memory: it is encrypted with key "first"',
    });
    const wrong = openRepository(store, { keys: () => second.key });
    await assert.rejects(wrong, { code: "KEY_NEEDED", message: /another one$/ });
    const right = await openRepository(store, { keys: () => first.key });
    assert.deepEqual(right.key, first);
  });

  test("encrypts nothing in a repository that was made without a key", async () => {
    const store = sharedStore();
    await initRepository(store, quick);
    await assert.rejects(openRepository(store, { key: first }), { code: "USAGE" });
  });

  test("takes another key for new objects, and reads the old ones", async () => {
    const store = sharedStore();
    const made = await initRepository(store, { ...quick, key: first });
    const sizeBytes = await writeSnapshot(store, writerOptions(made));
    const keys = (id: string) => [first, second].find((each) => each.id === id)?.key;
    const rotated = await openRepository(store, { key: second, keys });
    assert.equal((await openObject(rotated, "snapshot", sizeBytes)).keyId, "first");
    const newBytes = await writeSnapshot(store, writerOptions(rotated));
    assert.equal((await openObject(rotated, "snapshot", newBytes)).keyId, "second");
  });

  test("refuses a key for new objects that has the id of the first one, and is another", async () => {
    const store = sharedStore();
    await initRepository(store, { ...quick, key: first });
    const wrong = { id: "first", key: second.key };
    await assert.rejects(openRepository(store, { key: wrong }), {
      code: "KEY_NEEDED",
      message: 'Cannot read the repository memory: the key given as "first" is another one',
    });
    const none = { key: wrong, keys: () => Buffer.alloc(32, 3) };
    await assert.rejects(openRepository(store, none), { code: "KEY_NEEDED", message: /none of/ });
  });

  test("takes of two keys with one id the right one, for new objects too", async () => {
    const store = sharedStore();
    await initRepository(store, { ...quick, key: first });
    const wrong = { id: "first", key: second.key };
    const opened = await openRepository(store, { key: wrong, keys: () => [first.key] });
    assert.deepEqual(opened.key, first);
  });

  test("refuses a wrong key of the first id beside another one for new objects", async () => {
    const store = sharedStore();
    await initRepository(store, { ...quick, key: first });
    const keys = (id: string) => (id === "first" ? second.key : undefined);
    await assert.rejects(openRepository(store, { key: second, keys }), { code: "KEY_NEEDED" });
    assert.deepEqual((await openRepository(store, { key: second })).key, second);
  });
});

suite("admitKey()", () => {
  test("has a further key told from another one with its id, from then on", async () => {
    const store = sharedStore();
    await initRepository(store, { ...quick, key: first });
    const earlier = await openRepository(store, { key: { ...second, key: first.key } });
    await admitKey(await openRepository(store, { key: second }));
    assert.deepEqual([...store.objects.keys()].sort(), ["keys/7365636f6e64.json", "tidemark.json"]);
    await admitKey(await openRepository(store, { key: second }));
    await assert.rejects(admitKey(earlier), { code: "KEY_NEEDED" });
    await assert.rejects(openRepository(store, { key: { ...second, key: first.key } }), {
      code: "KEY_NEEDED",
      message: /"second" is another one$/,
    });
  });

  test("writes nothing for the first key, and where nothing is encrypted", async () => {
    for (const key of [first, undefined]) {
      const store = sharedStore();
      await initRepository(store, { ...quick, ...(key && { key }) });
      await admitKey(await openRepository(store, key && { key }));
      assert.deepEqual([...store.objects.keys()], ["tidemark.json"]);
    }
  });
});
