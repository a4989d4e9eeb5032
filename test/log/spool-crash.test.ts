/** Spools after crashes, of a model and of real processes, and on a disk that is really full. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { type FsyncPolicy, Spool } from "../../src/log/spool.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { temporaryFolder } from "../support/folder.ts";
import { killRounds } from "./kill.ts";
import { runMatrix } from "./matrix.ts";
import { baseOffset, batchAt, replicationId } from "./numbered.ts";

suite("A spool after a crash has what was acknowledged, each record once", () => {
  for (const seed of [0, 1, 2, 3, 4, 5]) {
    test(`at any call to the disk, in workload ${seed}`, async () => {
      assert.ok((await runMatrix(seed, 5)) > 20);
    });
  }

  const seed = randomInt(2 ** 32);
  test(`at any call to the disk, in workload ${seed}`, async () => {
    assert.ok((await runMatrix(seed, 11)) > 10);
  });

  for (const fsync of ["always", "everysec"] satisfies FsyncPolicy[]) {
    test(`when its process is killed, with "${fsync}", from seed ${seed}`, async () => {
      assert.ok((await killRounds(seededRandom(seed), 5, fsync)) > baseOffset);
    });
  }
});

test("A spool on a full disk keeps what it was given until there is space", async (context) => {
  using dir = temporaryFolder();
  const disk = join(dir.path, "disk");
  mkdirSync(disk);
  const mount = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]);
  if (mount.status !== 0) {
    context.skip(`cannot mount a small disk: ${String(mount.stderr ?? mount.error)}`);
    return;
  }
  try {
    await fillUp(disk);
  } finally {
    assert.equal(spawnSync("umount", [disk]).status, 0);
  }
});

async function fillUp(disk: string): Promise<void> {
  const spool = await Spool.open(disk);
  const base = await spool.beginBase({ replicationId, offset: baseOffset, ms: 1 }, "none before");
  await base.write(new Uint8Array(400 * 1024));
  await base.commit();
  const append = (bytes: Uint8Array) => {
    const startOffset = spool.position?.offset ?? 0;
    const offset = startOffset + bytes.length;
    spool.append(bytes, { replicationId, startOffset, offset, ms: 1, database: 0 });
  };
  while (spool.state.kind === "ready") {
    append(batchAt(spool.position?.offset ?? 0));
    await new Promise(setImmediate);
  }
  const state = spool.state as {
    readonly failure?: { readonly cause?: { readonly code?: string } };
  };
  assert.equal(state.failure?.cause?.code, "ENOSPC");
  append(batchAt(spool.position?.offset ?? 0));
  const { position } = spool;
  assert.equal(await spool.retry(), "failing");
  assert.equal(spawnSync("mount", ["-o", "remount,size=4m", disk]).status, 0);
  assert.equal(await spool.retry(), "ready");
  await spool.close();
  await using again = await Spool.open(disk);
  assert.equal(again.position?.offset, position?.offset);
}
