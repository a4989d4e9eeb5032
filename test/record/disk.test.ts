/** A disk that is full, and one that fails: nothing is lost without a word, and it goes on. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../../src/base/clock.ts";
import { Failure } from "../../src/base/errors.ts";
import { Spool } from "../../src/log/spool.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { Recorder, type RecorderEvent } from "../../src/record/recorder.ts";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import { failingDisk } from "../log/failing-disk.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type RunningServer, startServer } from "../support/servers.ts";
import { Recording } from "./recording.ts";
import { randomFrom, writeRandomly } from "./workload.ts";

const id = "redis-8.0";
const mebibyte = 1024 * 1024;

async function startSource(port: number): Promise<RunningServer> {
  const conf = {
    port,
    bind: "127.0.0.1",
    "repl-diskless-sync-delay": 0,
    "repl-backlog-size": "64mb",
  };
  return await startServer(id, { conf });
}

/** What a stock server makes of the spool. */
async function digestOf(spool: string): Promise<string> {
  using folder = temporaryFolder();
  cpSync(join(spool, "appendonlydir"), join(folder.path, "appendonlydir"), { recursive: true });
  const conf = { appendonly: "yes", "aof-load-truncated": "no" };
  await using reader = await startServer(id, { dir: folder.path, conf });
  return await reader.debugDigest();
}

/** A disk of so many MiB of its own; undefined where this user may not have one. */
function mountSmallDisk(t: TestContext, mebibytes: number) {
  const folder = temporaryFolder();
  const path = join(folder.path, "disk");
  mkdirSync(path);
  const args = ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", path];
  const { status, stderr } = spawnSync("mount", args, { encoding: "utf8" });
  if (status !== 0) {
    folder[Symbol.dispose]();
    t.skip(`a small disk cannot be mounted: ${stderr.trim()}`);
    return undefined;
  }
  const unmount = () => {
    spawnSync("umount", [path]);
    folder[Symbol.dispose]();
  };
  return { path, [Symbol.dispose]: unmount };
}

/** When these are gone is up to each server. */
async function deleteShortLived(source: RunningServer): Promise<void> {
  for (let database = 0; database < 16; database++) {
    await source.call("SELECT", database);
    for (const name of ["short", "fields"]) {
      await source.call("DEL", ...Array.from({ length: 10 }, (_, i) => `${name}:${i}`));
    }
  }
}

async function writeMebibytes(source: RunningServer, count: number, name: string): Promise<void> {
  const value = "v".repeat(mebibyte / 16);
  for (let i = 0; i < count * 16; i++) await source.call("SET", `${name}:${i % 40}`, value);
}

test("a full disk is said, costs nothing, and is gone on with when there is room", async (t) => {
  using disk = mountSmallDisk(t, 24);
  if (disk === undefined) return;
  const ballast = join(disk.path, "ballast");
  writeFileSync(ballast, Buffer.alloc(16 * mebibyte));
  const port = await freePort();
  await using source = await startSource(port);
  const spool = join(disk.path, "spool");
  const flags = ["--segment-mb", "2"];
  await using recording = new Recording(`redis://127.0.0.1:${port}`, spool, flags);
  await recording.until(({ state }) => state === "streaming");
  // What the disk has room for, what waits in memory, and what waits at the source.
  await writeMebibytes(source, 14, "full");
  const full = await recording.until(({ trouble }) => trouble !== null);
  assert.match(full.trouble ?? "", /no space left/i);
  assert.equal(full.state, "streaming");
  await until("it says so", async () => recording.said.includes('"event":"disk failing"'));
  assert.ok((full.writtenOffset ?? 0) < (await source.replicationOffset()));
  rmSync(ballast);
  const end = await source.replicationOffset();
  const after = await recording.until(({ writtenOffset }) => (writtenOffset ?? 0) >= end);
  assert.deepEqual([after.trouble, after.gaps], [null, []]);
  await until("it says so", async () => recording.said.includes('"event":"disk works again"'));
  assert.equal(await recording.end(), 0);
  assert.equal(await digestOf(spool), await source.debugDigest());
});

test("a recorder that is stopped while its disk is full says what is missing", async (t) => {
  using folder = temporaryFolder();
  using disk = mountSmallDisk(t, 8);
  if (disk === undefined) return;
  const port = await freePort();
  await using source = await startSource(port);
  const spool = join(disk.path, "spool");
  await using recording = new Recording(`redis://127.0.0.1:${port}`, spool);
  await recording.until(({ state }) => state === "streaming");
  await writeMebibytes(source, 12, "full");
  await recording.until(({ trouble }) => trouble !== null);
  assert.notEqual(await recording.end(), 0);
  assert.match(recording.said, /no space left/i);
  // The source still has the rest: with room, the next recorder goes on from where this one ended.
  const roomy = join(folder.path, "roomy");
  cpSync(spool, roomy, { recursive: true, filter: (path) => !path.endsWith(".sock") });
  await using next = new Recording(`redis://127.0.0.1:${port}`, roomy);
  const end = await source.replicationOffset();
  const after = await next.until(({ writtenOffset }) => (writtenOffset ?? 0) >= end);
  assert.deepEqual(after.gaps, []);
  assert.equal(await next.end(), 0);
  assert.equal(await digestOf(roomy), await source.debugDigest());
});

for (const seed of seeds()) {
  test(`a disk that fails now and then loses nothing (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    using folder = temporaryFolder();
    const port = await freePort();
    await using source = await startSource(port);
    let isBad = false;
    const disk = failingDisk(() => isBad && random.chance(0.3));
    const events: RecorderEvent[] = [];
    const spool = await Spool.open(join(folder.path, "spool"), {
      disk,
      fsync: random.chance(0.5) ? "always" : "everysec",
      segmentBytes: 100_000,
      onChange: () => recorder?.spoolChanged(),
    });
    const recorder: Recorder = new Recorder({
      findSource: async () => ({
        endpoint: { host: "127.0.0.1", port },
        why: "it is the only one",
      }),
      connect: {},
      spool,
      clock: systemClock,
      onEvent: (event) => events.push(event),
    });
    const stop = new AbortController();
    const running = recorder.run(stop.signal);
    await until("the recorder follows", async () => recorder.state.kind === "streaming");
    const numbers = randomFrom(seed);
    for (let i = 0; i < 30; i++) {
      isBad = i % 10 >= 5;
      await writeRandomly(source.client, 100, numbers);
      await sleep(random.below(40));
    }
    isBad = false;
    await deleteShortLived(source);
    const end = await source.replicationOffset();
    await until("all is on disk", async () => {
      const { durable } = spool;
      return spool.state.kind === "ready" && durable !== undefined && durable.offset >= end;
    });
    stop.abort(new Failure("ABORTED", "The test is over"));
    await running;
    await spool.close();
    assert.ok(events.some(({ kind }) => kind === "disk failing"));
    assert.equal(await digestOf(join(folder.path, "spool")), await source.debugDigest());
    // What was not durable was taken back and came again from the source's backlog.
    assert.deepEqual(spool.gaps, []);
  });
}

/** One can be named: TIDEMARK_SEED. */
function seeds(): number[] {
  const given = process.env["TIDEMARK_SEED"];
  if (given !== undefined) return [Number(given)];
  return [1, 2, 3].map(() => randomInt(1e9));
}
