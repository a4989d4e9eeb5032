import assert from "node:assert/strict";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { DirectoryStore, removeEmptyFolders } from "./directory.ts";
import { readAll } from "./store.ts";

const bytes = Buffer.from("0123456789");
const names = async (store: DirectoryStore, prefix = "") =>
  (await Array.fromAsync(store.list(prefix))).map((info) => info.name);

test("put() makes files that nobody else can read, in folders that nobody else can enter", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(join(dir.path, "new/root"));
  await store.put("a/b/c", bytes);
  await store.upload(
    "a/b/d",
    (async function* () {
      yield bytes;
    })(),
  );
  const mode = (path: string) => statSync(join(dir.path, "new/root", path)).mode & 0o777;
  assert.deepEqual(["", "a", "a/b", ".tmp"].map(mode), [0o700, 0o700, 0o700, 0o700]);
  assert.deepEqual(["a/b/c", "a/b/d"].map(mode), [0o600, 0o600]);
  assert.deepEqual(readdirSync(join(dir.path, "new/root/.tmp")), []);
  assert.equal(store.name, `file://${dir.path}/new/root`);
});

test("nothing is made before there is an object, and a missing folder is an empty store", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(join(dir.path, "none"));
  assert.deepEqual(await names(store), []);
  await assert.rejects(readAll(store, "a", 10), { code: "OBJECT_MISSING" });
  await store.delete(["a"]);
  assert.deepEqual(readdirSync(dir.path), []);
});

test("list() leaves out what is no object: hidden files, links, odd names", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(dir.path);
  await store.put("a/b", bytes);
  for (const name of [".hidden", "a/.b.swp", "back\\slash", "a/new\nline"]) {
    writeFileSync(join(dir.path, name), "x");
  }
  mkdirSync(join(dir.path, "empty/folder"), { recursive: true });
  symlinkSync(join(dir.path, "a/b"), join(dir.path, "a/link"));
  symlinkSync(dir.path, join(dir.path, "loop"));
  assert.deepEqual(await names(store), ["a/b"]);
  assert.deepEqual(await names(store, "a/"), ["a/b"]);
});

test("no symbolic link below the root is followed, and the root may be one", async () => {
  using dir = temporaryFolder();
  using outside = temporaryFolder();
  writeFileSync(join(outside.path, "secret"), "secret");
  symlinkSync(outside.path, join(dir.path, "out"));
  symlinkSync(join(outside.path, "secret"), join(dir.path, "file"));
  symlinkSync(dir.path, join(outside.path, "root"));
  const denied = { code: "STORE_DENIED", message: /symbolic link/ };
  for (const root of [dir.path, join(outside.path, "root")]) {
    const store = new DirectoryStore(root);
    await assert.rejects(readAll(store, "out/secret", 10), denied);
    await assert.rejects(store.put("out/new", bytes), denied);
    await assert.rejects(store.delete(["out/secret"]), denied);
    await assert.rejects(names(store, "out/"), denied);
    await assert.rejects(readAll(store, "file", 10), denied);
    assert.equal(await store.put("file", bytes, { ifAbsent: true }), "exists");
    await store.put("good/one", bytes);
    assert.deepEqual(await readAll(store, "good/one", 10), bytes);
  }
  assert.equal(readFileSync(join(outside.path, "secret"), "utf8"), "secret");
  const store = new DirectoryStore(dir.path);
  await store.put("file", bytes);
  assert.equal(readFileSync(join(outside.path, "secret"), "utf8"), "secret");
});

test("what a crash has left is removed after a day, and not before", async () => {
  using dir = temporaryFolder();
  const temporary = join(dir.path, ".tmp");
  mkdirSync(temporary);
  const now = 1_800_000_000_000;
  for (const [name, ageHours] of [
    ["old", 25],
    ["young", 23],
  ] as const) {
    writeFileSync(join(temporary, name), "x");
    const at = new Date(now - ageHours * 3_600_000);
    utimesSync(join(temporary, name), at, at);
  }
  const store = new DirectoryStore(dir.path, { now: () => now });
  assert.deepEqual(await names(store), []);
  assert.deepEqual(readdirSync(temporary), ["old", "young"]);
  await store.put("a", bytes);
  assert.deepEqual(readdirSync(temporary), ["young"]);
});

test("a name that stands in another's way is said to", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(dir.path);
  await store.put("a", bytes);
  const failure = { code: "STORE_FAILED", hint: /another object/ };
  await assert.rejects(store.put("a/b", bytes), failure);
  await assert.rejects(store.put("a/b", bytes, { ifAbsent: true }), failure);
  await store.put("c/d", bytes);
  await assert.rejects(store.put("c", bytes), failure);
  await assert.rejects(readAll(store, "c", 10), { code: "OBJECT_MISSING" });
  assert.deepEqual(await names(store), ["a", "c/d"]);
  assert.deepEqual(readdirSync(join(dir.path, ".tmp")), []);
});

test("delete() takes a folder with the last object in it, and those above it that are empty then", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(dir.path);
  for (const name of ["a/b/c/one", "a/b/c/two", "a/d", "e/f/g"]) await store.put(name, bytes);
  writeFileSync(join(dir.path, "e/.hidden"), "x");
  const folders = () => readdirSync(dir.path, { recursive: true, encoding: "utf8" }).sort();
  await store.delete(["a/b/c/one"]);
  assert.deepEqual(folders(), [
    ...[".tmp", "a", "a/b", "a/b/c", "a/b/c/two", "a/d"],
    ...["e", "e/.hidden", "e/f", "e/f/g"],
  ]);
  await store.delete(["a/b/c/two", "e/f/g", "a/b/c/none"]);
  assert.deepEqual(folders(), [".tmp", "a", "a/d", "e", "e/.hidden"]);
  await store.delete(["a/d"]);
  assert.deepEqual(folders(), [".tmp", "e", "e/.hidden"]);
  // The one that has met these folders, and one that has not.
  await store.put("a/b/c/one", bytes);
  assert.deepEqual(await readAll(new DirectoryStore(dir.path), "a/b/c/one", 10), bytes);
});

test("put() and delete() of several in one folder do not get in each other's way", async () => {
  using dir = temporaryFolder();
  const work = async (own: string, ifAbsent: boolean) => {
    const store = new DirectoryStore(dir.path);
    for (let i = 0; i < 150; i++) {
      assert.equal(await store.put(`x/y/${own}`, bytes, { ifAbsent }), "created");
      assert.deepEqual(await readAll(store, `x/y/${own}`, 10), bytes);
      await store.delete([`x/y/${own}`]);
    }
  };
  await Promise.all([work("a", true), work("b", false), work("c", true)]);
  assert.deepEqual(readdirSync(dir.path), [".tmp"]);
  assert.deepEqual(readdirSync(join(dir.path, ".tmp")), []);
});

test("a folder that somebody has removed is made again by the next write", async () => {
  using dir = temporaryFolder();
  const store = new DirectoryStore(join(dir.path, "root"));
  await store.put("a/b/c", bytes);
  const chunks = async function* () {
    yield bytes;
  };
  for (const gone of [".tmp", "a", "a/b"]) {
    rmSync(join(dir.path, "root", gone), { recursive: true });
    await store.put("a/b/c", bytes);
    rmSync(join(dir.path, "root", gone), { recursive: true });
    await store.upload("a/b/d", chunks());
    assert.deepEqual(await readAll(store, "a/b/d", 10), bytes);
  }
});

test("a root that is gone is not made again: its disk may be away", async () => {
  using dir = temporaryFolder();
  const root = join(dir.path, "root");
  const store = new DirectoryStore(root);
  await store.put("a/b", bytes);
  renameSync(root, join(dir.path, "aside"));
  await assert.rejects(store.put("a/b", bytes), { code: "STORE_FAILED", message: /it is gone$/ });
  mkdirSync(root);
  const bare = { code: "STORE_FAILED", message: /another folder is in its place$/ };
  await assert.rejects(store.put("a/c", bytes), bare);
  assert.deepEqual(readdirSync(root), []);
  rmdirSync(root);
  renameSync(join(dir.path, "aside"), root);
  assert.equal(await store.put("a/c", bytes), "created");
});

test("removeEmptyFolders() takes what is empty, and what it cannot take stays without a word", async () => {
  using dir = temporaryFolder();
  const root = join(dir.path, "root");
  mkdirSync(join(root, "a/b"), { recursive: true });
  mkdirSync(join(root, "c"));
  writeFileSync(join(root, "c/file"), "x");
  for (const path of [root, join(root, "c/file"), join(dir.path, "none")]) {
    await removeEmptyFolders(path);
  }
  assert.deepEqual(
    new Set(readdirSync(root, { recursive: true, encoding: "utf8" })),
    new Set(["c", "c/file"]),
  );
  await removeEmptyFolders("/proc/self/fd");
});
