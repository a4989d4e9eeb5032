import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { Failure } from "../base/errors.ts";
import { MemoryDisk, seededRandom } from "../log/testing.ts";
import {
  ClusterFile,
  checkInstances,
  isClusterFolder,
  type KnownShard,
  parseOwnershipChange,
  readHistory,
} from "./cluster-file.ts";

const folder = "/c";
const id = "0123456789abcdef0123456789abcdef01234567";
const shard: KnownShard = {
  instance: {
    ...{ key: id, nodes: [id, "f".repeat(40)] },
    slots: [[0, 100] as const, [200, 200] as const],
    members: [{ endpoint: { host: "::1", port: 6379 }, role: "master", isUp: true }],
  },
  isGone: false,
};
const gone: KnownShard = { instance: { ...shard.instance, key: "gone" }, isGone: true };
const change = {
  windowMs: 5012,
  shards: [
    { key: id, slots: [[0, 16_383] as const], ms: 1_795_328_997_123, position: null },
    { key: "b", slots: [], ms: 1, position: { replicationId: id, offset: 7, ms: 1 } },
  ],
};

async function newDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk(seededRandom(1));
  await disk.makeFolder(folder);
  return disk;
}

async function write(disk: MemoryDisk, name: string, text: string): Promise<void> {
  const file = await disk.open(`${folder}/${name}`, "create");
  await file.write(Buffer.from(text), 0);
  await file.close();
}

async function read(disk: MemoryDisk, name: string): Promise<string> {
  const file = await disk.open(`${folder}/${name}`, "read");
  const bytes = new Uint8Array(await file.size());
  await file.read(bytes, 0);
  return Buffer.from(bytes).toString();
}

suite("ClusterFile", () => {
  test("open() gives what save() was given, and nothing where nothing was saved", async () => {
    const disk = await newDisk();
    assert.equal(await isClusterFolder(disk, folder), false);
    const file = await ClusterFile.open(disk, folder);
    assert.deepEqual(file.known, []);
    await file.save([shard, gone]);
    assert.equal(await isClusterFolder(disk, folder), true);
    assert.deepEqual((await ClusterFile.open(disk, folder)).known, [shard, gone]);
  });

  test("save() writes only what is something else", async () => {
    const disk = await newDisk();
    const file = await ClusterFile.open(disk, folder);
    await file.save([shard]);
    const { calls } = disk;
    await file.save([shard]);
    assert.equal(disk.calls, calls);
  });

  test("a crash in save() leaves what was there before, or what was to be there", async () => {
    for (let crashAt = 1; crashAt < 30; crashAt++) {
      const disk = new MemoryDisk(seededRandom(crashAt));
      await disk.makeFolder(folder);
      await disk.syncFolder("/");
      const file = await ClusterFile.open(disk, folder);
      await file.save([gone]);
      disk.crashAt = disk.calls + crashAt;
      const saved = async () => {
        await file.save([shard]);
        return true;
      };
      const crashed = async () => {
        await disk.crashed;
        return false;
      };
      const isDone = await Promise.race([saved(), crashed()]);
      const after = disk.restart({ losesPower: true });
      const { known } = await ClusterFile.open(after, folder);
      assert.deepEqual(known, isDone || known[0]?.isGone === false ? [shard] : [gone]);
      if (isDone) break;
    }
  });

  test("append() adds a line behind whole lines, and cuts off what is none", async () => {
    const disk = await newDisk();
    await write(disk, "slots.jsonl", `${"x".repeat(200_000)}\n{"format":1,"sh`);
    const file = await ClusterFile.open(disk, folder);
    await file.append(change);
    await file.append({ ...change, windowMs: null });
    const lines = (await read(disk, "slots.jsonl")).split("\n");
    assert.equal(lines.length, 4);
    assert.deepEqual(parseOwnershipChange(lines[1] ?? "", "line 2"), change);
    assert.equal(parseOwnershipChange(lines[2] ?? "", "line 3").windowMs, null);
    const again = await ClusterFile.open(disk, folder);
    await again.append(change);
    assert.equal((await read(disk, "slots.jsonl")).split("\n").length, 5);
  });

  test("append() leaves no half of a line that failed before the next one", async () => {
    const disk = await newDisk();
    const file = await ClusterFile.open(disk, folder);
    await file.append(change);
    disk.failSyncs = 1;
    await assert.rejects(file.append(change), { code: "FILE_FAILED" });
    await file.append({ ...change, windowMs: null });
    const lines = (await read(disk, "slots.jsonl")).trimEnd().split("\n");
    assert.deepEqual(
      lines.map((line) => parseOwnershipChange(line, "a line").windowMs),
      [5012, null],
    );
  });

  test("open() refuses a format of later, and whatever is none, by name", async () => {
    const disk = await newDisk();
    const refuses = async (text: string, code: string) => {
      await write(disk, "cluster.json", text);
      await assert.rejects(ClusterFile.open(disk, folder), { code, message: /cluster\.json/ });
    };
    await refuses('{"format":2,"shards":[]}', "DATA_UNSUPPORTED");
    await refuses('{"shards":[]}', "DATA_CORRUPT");
    await refuses("", "DATA_CORRUPT");
    await refuses("null", "DATA_CORRUPT");
    await refuses('{"format":1}', "DATA_CORRUPT");
    const file = await ClusterFile.open(await newDisk(), folder);
    assert.deepEqual(file.known, []);
    await write(disk, "cluster.json", '{"format":1,"shards":[]}');
    await (await ClusterFile.open(disk, folder)).save([shard, gone]);
    const whole = await read(disk, "cluster.json");
    const wrong = [
      [id, "../x"],
      ['"port":6379', '"port":65536'],
      ['"master"', '"king"'],
      ["[0,100]", "[100,0]"],
      ["[0,100]", "[0,16384]"],
      ["false", "0"],
      ['"gone"', `"${id}"`],
    ] as const;
    for (const [from, to] of wrong) await refuses(whole.replace(from, to), "DATA_CORRUPT");
    for (let end = 0; end < whole.length - 1; end++) {
      await refuses(whole.slice(0, end), "DATA_CORRUPT");
    }
  });

  test("parseOwnershipChange() reads what it is given, or says by name that it cannot", () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        assert.throws(() => parseOwnershipChange(text, "line 9"), /line 9/);
      }),
    );
    const line = JSON.stringify({ format: 2, ...change });
    assert.throws(() => parseOwnershipChange(line, "line 9"), { code: "DATA_UNSUPPORTED" });
  });
});

test("checkInstances() refuses keys that are no names of folders, and too many shards", () => {
  checkInstances([shard.instance]);
  for (const key of ["", ".", "..", "a/b", "a\0", "é", "x".repeat(101)]) {
    assert.throws(() => checkInstances([{ key, members: [] }]), { code: "PROTOCOL_ERROR" });
  }
  const many = Array.from({ length: 1001 }, (_, i) => ({ key: `${i}`, members: [] }));
  assert.throws(() => checkInstances(many), { code: "LIMIT_EXCEEDED" });
});

suite("readHistory()", () => {
  test("gives what append() was given, from any line on, and nothing where there is no file", async () => {
    const disk = await newDisk();
    assert.deepEqual(await Array.fromAsync(readHistory(disk, folder)), []);
    const file = await ClusterFile.open(disk, folder);
    // Some lines are longer than what is read at once.
    const wide = Array.from({ length: 5000 }, (_, i) => [3 * i, 3 * i + 1] as const);
    const all = [0, 1, 2, 3, 4].map((i) => ({
      windowMs: i,
      shards: [{ key: id, slots: i % 2 === 0 ? [] : wide, ms: i, position: null }],
    }));
    for (const each of all) await file.append(each);
    const lines = await Array.fromAsync(readHistory(disk, folder));
    assert.deepEqual(
      lines.map((line) => line.change),
      all,
    );
    for (const [index, { end }] of lines.entries()) {
      const rest = await Array.fromAsync(readHistory(disk, folder, end));
      assert.deepEqual(rest, lines.slice(index + 1));
    }
  });

  test("reads over a line that is damaged, and stops before one that has no end", async () => {
    const disk = await newDisk();
    const good = JSON.stringify({ format: 1, ...change });
    await write(disk, "slots.jsonl", `${good}\n{"format":1\n\n${good}\n${good}`);
    const lines = await Array.fromAsync(readHistory(disk, folder));
    const kinds = lines.map((line) => (line.change instanceof Failure ? line.change.code : "good"));
    assert.deepEqual(kinds, ["good", "DATA_CORRUPT", "DATA_CORRUPT", "good"]);
    await write(disk, "slots.jsonl", "x".repeat(9 * 2 ** 20));
    await assert.rejects(Array.fromAsync(readHistory(disk, folder)), { code: "DATA_CORRUPT" });
  });

  test("ends for any bytes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: fc.constantFrom("{", "}", "1", ",", "\n", '"') }),
        async (text) => {
          const disk = await newDisk();
          await write(disk, "slots.jsonl", text);
          const lines = await Array.fromAsync(readHistory(disk, folder));
          assert.equal(lines.length, text.split("\n").length - 1);
        },
      ),
    );
  });
});
