import assert from "node:assert/strict";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { Failure } from "../base/errors.ts";
import { withAbilities } from "./abilities.ts";
import { DirectoryStore } from "./directory.ts";
import { probeStore } from "./probe.ts";
import { readAll, type Store, type StoreAbilities } from "./store.ts";

const perfect: StoreAbilities = {
  conditionalCreate: true,
  ranges: true,
  parts: true,
  overwrite: true,
  listing: true,
  deletes: true,
};

type Break = (real: Store) => Partial<Store>;

/** A good store but for some calls. */
function broken(path: string, breakIt: Break): Store {
  const real = new DirectoryStore(path);
  const store: Store = {
    name: real.name,
    put: (...args) => real.put(...args),
    upload: (...args) => real.upload(...args),
    read: (...args) => real.read(...args),
    list: (...args) => real.list(...args),
    delete: (...args) => real.delete(...args),
    [Symbol.asyncDispose]: async () => {},
  };
  return { ...store, ...breakIt(real) };
}

async function* changed(chunks: AsyncIterable<Uint8Array>) {
  for await (const chunk of chunks) yield Buffer.from(chunk).reverse();
}

async function* without(infos: ReturnType<Store["list"]>, at: number) {
  let i = 0;
  for await (const info of infos) if (i++ !== at) yield info;
}

const faults: readonly (readonly [string, Partial<StoreAbilities>, Break])[] = [
  ["nothing", {}, () => ({})],
  [
    "overwriting in spite of ifAbsent",
    { conditionalCreate: false },
    (real) => ({ put: (name, bytes) => real.put(name, bytes) }),
  ],
  [
    "refusing ifAbsent",
    { conditionalCreate: false },
    (real) => ({
      put: async (name, bytes, options) => {
        if (options?.ifAbsent) throw new Failure("STORE_UNFIT", "No such header");
        return await real.put(name, bytes);
      },
    }),
  ],
  [
    "looking before it writes, for ifAbsent",
    { conditionalCreate: false },
    (real) => withAbilities(real, { ...perfect, conditionalCreate: false }),
  ],
  [
    "giving the first bytes for any range",
    { ranges: false },
    (real) => ({
      read: (name, range, options) =>
        real.read(
          name,
          range && !options?.inOnePiece ? { start: 0, end: range.end - range.start } : range,
        ),
    }),
  ],
  [
    "refusing ranges",
    { ranges: false },
    (real) => ({
      read: (name, range) => {
        if (range !== undefined) throw new Failure("STORE_UNFIT", "No ranges");
        return real.read(name);
      },
    }),
  ],
  [
    "mixing up parts",
    { parts: false },
    (real) => ({
      upload: (name, chunks, options) =>
        real.upload(name, options?.inOnePiece ? chunks : changed(chunks)),
    }),
  ],
  [
    "keeping the first",
    { overwrite: false },
    (real) => ({
      put: (name, bytes, options) => real.put(name, bytes, { ...options, ifAbsent: true }),
    }),
  ],
  [
    "not letting anybody delete",
    { deletes: false },
    () => ({
      delete: async () => {
        throw new Failure("STORE_DENIED", "No");
      },
    }),
  ],
];

for (const [what, difference, breakIt] of faults) {
  test(`probeStore() finds ${what}`, async () => {
    using dir = temporaryFolder();
    const store = broken(dir.path, breakIt);
    assert.deepEqual(await probeStore(store), { ...perfect, ...difference });
    const left = await Array.fromAsync(store.list(""));
    if (difference.deletes !== false) assert.deepEqual(left, []);
  });
}

test("probeStore() finds a listing that comes late", async () => {
  using dir = temporaryFolder();
  let lists = 0;
  const store = broken(dir.path, (real) => ({
    list: (...args) => without(real.list(...args), lists++ === 0 ? 0 : -1),
  }));
  assert.deepEqual(await probeStore(store, { lateListingMs: 1 }), { ...perfect, listing: false });
});

test("probeStore() refuses a storage that gives other bytes than it was given", async () => {
  using dir = temporaryFolder();
  for (const breakIt of [
    (real: Store) => ({ read: (name: string) => changed(real.read(name)) }),
    (real: Store) => ({
      upload: (name: string, chunks: AsyncIterable<Uint8Array>) =>
        real.upload(name, changed(chunks)),
    }),
  ]) {
    const store = broken(dir.path, breakIt);
    await assert.rejects(probeStore(store), { code: "STORE_UNFIT", message: /does not give back/ });
    assert.deepEqual(await Array.fromAsync(store.list("")), []);
  }
});

test("probeStore() passes on what says nothing about the storage", async () => {
  using dir = temporaryFolder();
  for (const code of ["STORE_BUSY", "STORE_DENIED"] as const) {
    const failure = new Failure(code, "x");
    for (const calls of [0, 1, 8, 20]) {
      let left = calls;
      const store = broken(dir.path, (real) => ({
        put: async (...args) => {
          if (left-- === 0) throw failure;
          return await real.put(...args);
        },
      }));
      await assert.rejects(probeStore(store), failure, `${calls}`);
    }
  }
  const cause = Object.assign(new Error("ENOSPC"), { code: "ENOSPC", syscall: "write" });
  const full = new Failure("STORE_FAILED", "no space", { cause });
  const upload = () => Promise.reject(full);
  await assert.rejects(probeStore(broken(dir.path, () => ({ upload }))), full);
  const signal = AbortSignal.abort();
  await assert.rejects(probeStore(new DirectoryStore(dir.path), { signal }), { code: "ABORTED" });
});

test("withAbilities() works round what a storage gets wrong", async () => {
  using dir = temporaryFolder();
  const asked: unknown[] = [];
  const store = withAbilities(
    broken(dir.path, (real) => ({
      put: (name, bytes) => real.put(name, bytes),
      read: (name, range, options) => {
        asked.push(options?.inOnePiece);
        return real.read(name, range);
      },
      upload: async (name, chunks, options) => {
        asked.push(options?.inOnePiece);
        return await real.upload(name, chunks);
      },
    })),
    { ...perfect, conditionalCreate: false, ranges: false, parts: false, deletes: false },
  );
  const bytes = Buffer.from("0123456789");
  assert.equal(await store.put("ab", bytes, { ifAbsent: true }), "created");
  assert.equal(await store.put("a", bytes, { ifAbsent: true }), "created");
  assert.equal(await store.put("a", Buffer.from("x"), { ifAbsent: true }), "exists");
  assert.deepEqual(await readAll(store, "a", 10), bytes);
  await store.upload("b", store.read("a", { start: 3, end: 5 }));
  assert.equal((await readAll(store, "b", 10)).toString(), "34");
  assert.deepEqual(asked, [true, true, true, true]);
  await assert.rejects(store.delete(["a"]), { code: "STORE_DENIED" });
});
