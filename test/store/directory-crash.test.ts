/** A directory whose writer is killed, or whose disk is full. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { equalBytes } from "../../src/base/bytes.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { temporaryFolder } from "../support/folder.ts";
import { bytesOf, chunksOf, list, mib, namesOf, read } from "./contract.ts";

const program = new URL("./writer.ts", import.meta.url).pathname;
const seed = Number(process.env["SEED"] ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const rounds = Number(process.env["ROUNDS"] ?? 6);

test(`kill -9 leaves whole objects, and all that were said to be done, SEED=${seed}`, async () => {
  using dir = temporaryFolder();
  const random = seededRandom(seed);
  const store = new DirectoryStore(dir.path);
  const done = new Set<number>();
  let stray = 0;
  for (let round = 0; round < rounds; round++) {
    const first = round * 1_000_000;
    const child = spawn(process.execPath, [program, dir.path, String(first)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(child, "close");
    let left = 1 + random.below(25);
    for await (const line of createInterface(child.stdout)) {
      done.add(Number(line));
      if (--left !== 0) continue;
      // Somewhere in the next one or two.
      for (let turns = random.below(2000); turns > 0; turns--) await Promise.resolve();
      child.kill("SIGKILL");
    }
    await ended;
    const infos = await list(store, "");
    const there = new Set(infos.map((info) => Number(info.name.split("/").at(-1))));
    for (const i of done) assert.ok(there.has(i), `${i} is there`);
    for (const i of there) if (!done.has(i)) done.add(i);
    for (const { name, sizeBytes } of infos) {
      const expected = bytesOf(1 + ((Number(name.split("/").at(-1)) * 77_773) % 2_000_000));
      assert.equal(sizeBytes, expected.length, name);
      assert.ok(equalBytes(await read(store, name), expected), name);
    }
    await store.delete(namesOf(infos));
    done.clear();
    stray = readdirSync(join(dir.path, ".tmp")).length;
  }
  assert.ok(stray <= rounds);
});

test("a full disk is named, and leaves nothing of the object behind", async (t) => {
  using dir = temporaryFolder();
  const disk = join(dir.path, "disk");
  mkdirSync(disk);
  const mount = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]);
  if (mount.status !== 0) return t.skip("only root may mount a small disk");
  try {
    const store = new DirectoryStore(disk);
    await store.put("kept/a", bytesOf(mib));
    const full = { code: "STORE_FAILED", message: /no space left/, hint: /space/ };
    await assert.rejects(store.put("b", bytesOf(5 * mib)), full);
    await assert.rejects(store.put("kept/a", bytesOf(5 * mib)), full);
    await assert.rejects(store.upload("kept/a", chunksOf(bytesOf(5 * mib), 10_000)), full);
    assert.deepEqual(namesOf(await list(store, "")), ["kept/a"]);
    assert.ok(equalBytes(await read(store, "kept/a"), bytesOf(mib)));
    assert.deepEqual(readdirSync(join(disk, ".tmp")), []);
    await store.upload("c", chunksOf(bytesOf(2 * mib), 10_000));
    assert.equal(spawnSync("mount", ["-o", "remount,ro", disk]).status, 0);
    const denied = { code: "STORE_DENIED", message: /read-only/ };
    await assert.rejects(store.put("d", bytesOf(1)), denied);
    await assert.rejects(store.delete(["c"]), denied);
    assert.equal((await read(store, "c")).length, 2 * mib);
  } finally {
    spawnSync("umount", [disk]);
  }
});
