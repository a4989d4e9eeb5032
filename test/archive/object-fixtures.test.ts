/** Files that real servers wrote, archived: what comes out is what went in, with stock tools too. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { suite, test } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import type { ObjectIndex } from "../../src/archive/object/index-format.ts";
import { LogBlocks } from "../../src/archive/object/log-blocks.ts";
import type { BlockCutter } from "../../src/archive/object/object-writer.ts";
import { RdbBlocks } from "../../src/archive/object/rdb-blocks.ts";
import { Slice } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import { RecordScanner } from "../../src/codec/aof/framing.ts";
import { CommandKeys } from "../../src/codec/commands/command-keys.ts";
import { aofFixtures, foreignFixtures, hostileFixtures, rdbFixtures } from "../support/fixtures.ts";
import { borrowed, openObject, readObject, writeObject } from "./objects.ts";

const hasZstd = spawnSync("zstd", ["--version"]).status === 0;
const key = { id: "k", key: Buffer.alloc(32, 1) };

/** Some blocks of each file, whatever its size. */
function blocksOf(bytes: Uint8Array): { blockBytes: number } {
  return { blockBytes: Math.max(500, bytes.length / 30) };
}

async function roundTrip<Index extends ObjectIndex>(
  bytes: Uint8Array,
  open: () => BlockCutter<Index>,
): Promise<Index> {
  const { object, index } = await writeObject(open(), borrowed(bytes, 1 << 16));
  assert.ok(zstdDecompressSync(object).equals(bytes), "zlib gives the file back");
  // A process takes longer than all else: it is for files of some size.
  if (hasZstd && bytes.length > 1000) {
    const options = { input: object, maxBuffer: bytes.length + 2 ** 20 };
    const { stdout, status } = spawnSync("zstd", ["-d", "-c"], options);
    assert.ok(status === 0 && stdout.equals(bytes), "zstd gives the file back");
  }
  const reader = await openObject(object);
  assert.ok(Buffer.from(await readObject(reader)).equals(bytes));
  await reader.verify();
  assert.deepEqual(reader.index, index);
  const sealed = await writeObject(open(), borrowed(bytes, 777), { key });
  const unsealed = await openObject(sealed.object, () => key.key);
  assert.ok(Buffer.from(await readObject(unsealed)).equals(bytes));
  return index;
}

suite("snapshots", () => {
  for (const fixture of rdbFixtures()) {
    test(`${fixture.id} is archived, and its keys are found by block`, async () => {
      const bytes = fixture.read();
      const index = await roundTrip(bytes, () => new RdbBlocks(blocksOf(bytes)));
      assert.deepEqual([index.notUnderstood, index.keys], [null, fixture.keys]);
      const { object } = await writeObject(new RdbBlocks(blocksOf(bytes)), [bytes]);
      const reader = await openObject(object);
      const names = fixture.expected.lines().flatMap((line) => ("key" in line ? [line.key] : []));
      for (const name of names) {
        const key = Buffer.from(name as string, "base64");
        let isFound = false;
        for (let i = 0; i < index.blocks.length && !isFound; i++) {
          isFound = await reader.mayHold(i, key);
        }
        assert.ok(isFound, `${name}`);
      }
    });
  }

  for (const fixture of [...hostileFixtures(), ...foreignFixtures()]) {
    if (!fixture.file.includes(".rdb")) continue;
    test(`${fixture.id} is archived, whatever is in it`, async () => {
      const bytes = fixture.read();
      await roundTrip(bytes, () => new RdbBlocks(blocksOf(bytes)));
    });
  }
});

suite("logs", () => {
  for (const fixture of aofFixtures()) {
    for (const { file, read } of fixture.files) {
      if (file.endsWith(".manifest")) continue;
      test(`${fixture.id} ${file} is archived, and its keys are found by block`, async () => {
        const bytes = read();
        const isLog = bytes.length === 0 || bytes[0] === 42 || bytes[0] === 35;
        if (!isLog) {
          // An RDB, with or without a log behind it.
          const index = await roundTrip(bytes, () => new RdbBlocks(blocksOf(bytes)));
          assert.equal(index.notUnderstood, null);
          const asLog = writeObject(new LogBlocks(), [bytes]);
          await assert.rejects(asLog, { code: "DATA_CORRUPT", offset: 0 });
          return;
        }
        try {
          await roundTrip(bytes, () => new LogBlocks(blocksOf(bytes)));
        } catch (error) {
          assert.ok(error instanceof Failure && error.code === "DATA_TORN", String(error));
          return;
        }
        await findKeys(bytes);
      });
    }
  }
});

/** Every command of the log is in the table, and each of its keys in the filter of its block. */
async function findKeys(bytes: Uint8Array): Promise<void> {
  const { object, index } = await writeObject(new LogBlocks(blocksOf(bytes)), [bytes]);
  const reader = await openObject(object);
  const keys = new CommandKeys();
  const key = new Slice();
  for (const [i, block] of index.blocks.entries()) {
    const scanner = new RecordScanner();
    scanner.push(await readObject(reader, { from: i, to: i + 1 }));
    let records = 0;
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      records++;
      const command = keys.find(scanner);
      assert.ok(command !== undefined, "A command that servers write is in the table");
      if (!keys.locate(command, command.write, scanner)) continue;
      for (let at = keys.next(); at > 0; at = keys.next()) {
        assert.ok(scanner.argument(at, key));
        assert.ok(await reader.mayHold(i, key.view()));
      }
    }
    assert.equal(records, block.commands);
  }
}
