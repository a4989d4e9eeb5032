/** What every driver must do, whatever its storage gets wrong. Each driver's test is one call to this. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { equalBytes } from "../../src/base/bytes.ts";
import { compareNames } from "../../src/store/name.ts";
import {
  type ByteRange,
  type ObjectInfo,
  readAll,
  type Store,
  type StoreAbilities,
} from "../../src/store/store.ts";

export const mib = 1024 * 1024;

export type Opened = { readonly store: Store; readonly abilities: StoreAbilities };

/** `open()` gives a store that is empty, with its faults worked round. */
export function testStore(
  name: string,
  open: (folder: string) => Promise<Opened>,
  skip: string | false = false,
): void {
  let count = 0;
  const fresh = () => open(`contract/${++count}`);

  suite(`${name} as a Store`, { skip }, () => {
    test("put() gives back what was put, also nothing, and odd names", async () => {
      const { store } = await fresh();
      const names = ["a", "b/c/d", "sp ace+plus%25&?#=", "é/ü", "😀", `x/${"n".repeat(255)}`];
      for (const [i, name] of names.entries()) {
        const bytes = bytesOf(i === 0 ? 0 : 1000 * i);
        assert.equal(await store.put(name, bytes), "created");
        assert.ok(equalBytes(await read(store, name), bytes), name);
      }
      const infos = await list(store, "");
      assert.deepEqual(namesOf(infos), [...names].sort(compareNames));
      assert.ok(infos.every((info) => Math.abs(info.modifiedMs - performance.timeOrigin) < 3.6e6));
      assert.equal(infos.find((info) => info.name === "b/c/d")?.sizeBytes, 1000);
    });

    test("put() with ifAbsent says what there was, and replaces nothing", async () => {
      const { store } = await fresh();
      assert.equal(await store.put("one", bytesOf(10), { ifAbsent: true }), "created");
      assert.equal(await store.put("one", bytesOf(20), { ifAbsent: true }), "exists");
      assert.equal(await store.put("one", bytesOf(10), { ifAbsent: true }), "exists");
      assert.equal((await read(store, "one")).length, 10);
      assert.equal(await store.put("one", bytesOf(30)), "created");
      assert.equal((await read(store, "one")).length, 30);
    });

    test("put() with ifAbsent has one winner, where the storage can", async () => {
      const { store, abilities } = await fresh();
      if (!abilities.conditionalCreate) return;
      const own = Array.from({ length: 12 }, (_, i) => Buffer.from(`writer ${i}`));
      const said = await Promise.all(
        own.map((bytes) => store.put("x/y", bytes, { ifAbsent: true })),
      );
      assert.equal(said.filter((word) => word === "created").length, 1);
      assert.deepEqual(await read(store, "x/y"), own[said.indexOf("created")]);
    });

    test("upload() gives back what was sent, of any size and in any chunks", async () => {
      const { store } = await fresh();
      for (const size of [0, 1, mib, 8 * mib, 8 * mib + 1, 21 * mib + 7]) {
        const bytes = bytesOf(size);
        for (const chunk of [size / 3 + 1, 9 * mib]) {
          const sent = await store.upload("up/load", chunksOf(bytes, Math.floor(chunk)));
          assert.equal(sent.sizeBytes, size);
          assert.ok(equalBytes(await read(store, "up/load"), bytes), `${size} in ${chunk}`);
        }
      }
      assert.deepEqual(sizesOf(await list(store, "")), [["up/load", 21 * mib + 7]]);
    });

    test("upload() may be given the same memory for each chunk", async () => {
      const { store } = await fresh();
      const chunk = new Uint8Array(100_000);
      async function* same() {
        for (let i = 0; i < 100; i++) yield chunk.fill(i);
      }
      await store.upload("same", same());
      const bytes = await read(store, "same");
      for (let i = 0; i < bytes.length; i++) assert.equal(bytes[i], Math.floor(i / 100_000));
    });

    test("upload() leaves nothing, or what was there, when its chunks fail", async () => {
      const { store } = await fresh();
      await store.put("kept", bytesOf(5));
      for (const size of [0, 10, 20 * mib]) {
        for (const name of ["kept", "new"]) {
          async function* torn() {
            if (size > 0) yield* chunksOf(bytesOf(size), mib);
            throw new Error("link lost");
          }
          await assert.rejects(store.upload(name, torn()), /^Error: link lost$/);
        }
      }
      assert.deepEqual(sizesOf(await list(store, "")), [["kept", 5]]);
    });

    test("upload() stops when it is told to", async () => {
      const { store } = await fresh();
      const stop = new AbortController();
      let given = 0;
      async function* endless() {
        for (;;) {
          if (++given === 20) stop.abort();
          assert.ok(given < 30);
          yield bytesOf(mib);
        }
      }
      const upload = store.upload("never", endless(), { signal: stop.signal });
      await assert.rejects(upload, { code: "ABORTED" });
      assert.deepEqual(await list(store, ""), []);
      const { signal } = stop;
      await assert.rejects(store.put("never", bytesOf(1), { signal }), { code: "ABORTED" });
      await assert.rejects(read(store, "never", undefined, signal), { code: "ABORTED" });
    });

    test("read() gives any range, and says where an object is shorter", async () => {
      const { store } = await fresh();
      const objects = [bytesOf(10), bytesOf(5000), bytesOf(9 * mib + 1)];
      for (const [i, bytes] of objects.entries()) await store.upload(`o${i}`, chunksOf(bytes, mib));
      await fc.assert(
        fc.asyncProperty(fc.nat(2), fc.nat(), fc.nat(), async (i, a, b) => {
          const bytes = objects[i] as Uint8Array;
          const [x, y] = [a % (bytes.length + 1), b % (bytes.length + 1)];
          const [start, end] = [Math.min(x, y), Math.max(x, y)];
          const got = await read(store, `o${i}`, { start, end });
          assert.ok(equalBytes(got, bytes.subarray(start, end)), `o${i} ${start}-${end}`);
        }),
        { numRuns: 25 },
      );
      for (const range of [
        { start: 5, end: 11 },
        { start: 10, end: 11 },
        { start: 99, end: 100 },
      ]) {
        await assert.rejects(read(store, "o0", range), { code: "DATA_CORRUPT" });
      }
    });

    test("read() may be left in the middle", async () => {
      const { store } = await fresh();
      await store.upload("big", chunksOf(bytesOf(9 * mib), mib));
      for (let round = 0; round < 3; round++) {
        for await (const chunk of store.read("big")) {
          assert.ok(chunk.length > 0);
          break;
        }
      }
      assert.equal((await read(store, "big")).length, 9 * mib);
    });

    test("read() says by name what is missing", async () => {
      const { store } = await fresh();
      const failure = { code: "OBJECT_MISSING", message: /"no\/such"/ };
      await assert.rejects(read(store, "no/such"), failure);
      await store.put("no/suchlike", bytesOf(1));
      await assert.rejects(read(store, "no/such"), failure);
      await assert.rejects(read(store, "no/such", { start: 0, end: 1 }), failure);
    });

    test("list() gives each name once, in the order of bytes, from anywhere on", async () => {
      const { store } = await fresh();
      const names = ["a-b", "a/b", "a/b-c", "a/b/c", "ab", "b", "b/1", "b/2", "z/\uff21", "z/😀"];
      const kept = names.filter((name) => name !== "b" && name !== "a/b");
      for (const name of kept) await store.put(name, bytesOf(1));
      const prefixes = ["", "a", "a/", "a/b", "a/b/", "b/", "c", "z/", "a-b"];
      for (const prefix of prefixes) {
        const all = kept.filter((name) => name.startsWith(prefix));
        assert.deepEqual(namesOf(await list(store, prefix)), all, `under ${prefix}`);
        for (const startAfter of [...names, "a/zz", "~"]) {
          const rest = all.filter((name) => compareNames(name, startAfter) > 0);
          const found = namesOf(await list(store, prefix, startAfter));
          assert.deepEqual(found, rest, `under ${prefix} behind ${startAfter}`);
        }
      }
    });

    test("list() goes on over thousands", async () => {
      const { store } = await fresh();
      const names = Array.from({ length: 1010 }, (_, i) => `many/${String(i).padStart(6, "0")}`);
      for (let at = 0; at < names.length; at += 20) {
        await Promise.all(names.slice(at, at + 20).map((name) => store.put(name, bytesOf(1))));
      }
      assert.deepEqual(namesOf(await list(store, "many/")), names);
      assert.deepEqual(namesOf(await list(store, "", names[1001])), names.slice(1002));
      await store.delete(names);
      assert.deepEqual(await list(store, ""), []);
    });

    test("delete() removes what there is, and does not mind what there is not", async () => {
      const { store } = await fresh();
      for (const name of ["a", "b/c", "b/d"]) await store.put(name, bytesOf(1));
      await store.delete([]);
      await store.delete(["b/c", "none", "no/ne", "b/c"]);
      assert.deepEqual(namesOf(await list(store, "")), ["a", "b/d"]);
      await assert.rejects(read(store, "b/c"), { code: "OBJECT_MISSING" });
      assert.equal(await store.put("b/c", bytesOf(2), { ifAbsent: true }), "created");
    });

    test("names that lead elsewhere are refused everywhere", async () => {
      const { store } = await fresh();
      const names = [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        "./a",
        ".tmp/x",
        "a\\b",
        "a\nb",
      ];
      const usage = { code: "USAGE" };
      for (const name of [...names, "\ud800", "x".repeat(256), "a/".repeat(512) + "a"]) {
        await assert.rejects(store.put(name, bytesOf(1)), usage, name);
        await assert.rejects(store.upload(name, chunksOf(bytesOf(1), 1)), usage, name);
        await assert.rejects(read(store, name), usage, name);
        await assert.rejects(store.delete(["good", name]), usage, name);
        if (name !== "" && name !== "a/") await assert.rejects(list(store, name), usage, name);
      }
    });
  });
}

/** The same bytes for the same size; no period of a power of two. */
export function bytesOf(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let x = size + 1;
  for (let i = 0; i < size; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) | 0;
    bytes[i] = x >>> 16;
  }
  return bytes;
}

export async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function read(
  store: Store,
  name: string,
  range?: ByteRange,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  if (range === undefined) return await readAll(store, name, 2 ** 32, { signal });
  return Buffer.concat(await Array.fromAsync(store.read(name, range, { signal })));
}

export async function list(
  store: Store,
  prefix: string,
  startAfter?: string,
): Promise<ObjectInfo[]> {
  const options = startAfter === undefined ? {} : { startAfter };
  return await Array.fromAsync(store.list(prefix, options));
}

export function namesOf(infos: readonly ObjectInfo[]): string[] {
  return infos.map((info) => info.name);
}

function sizesOf(infos: readonly ObjectInfo[]): [string, number][] {
  return infos.map((info) => [info.name, info.sizeBytes]);
}
