import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { fromLatin1 } from "../base/bytes.ts";
import { Spool, type SpoolOptions } from "./spool.ts";
import type { Batch } from "./spool-log.ts";
import { MemoryDisk, seededRandom } from "./testing.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const folder = "/spool";
const log = `${folder}/appendonlydir`;
const startMs = 1_795_328_990_000;

function setup() {
  const time = { ms: startMs };
  const disk = new MemoryDisk(seededRandom(1));
  const clock = { now: () => time.ms };
  const open = (options: SpoolOptions = {}, on = disk) =>
    Spool.open(folder, { disk: on, clock, ...options });
  return { time, disk, open };
}

async function takeBase(spool: Spool, offset: number, content = "REDIS0011"): Promise<void> {
  const at = { replicationId, offset, ms: startMs, database: 0 };
  const base = await spool.beginBase(at, "for the test");
  await base.write(fromLatin1(content));
  await base.commit();
}

const set = fromLatin1("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
const multi = fromLatin1("*1\r\n$5\r\nMULTI\r\n");
const exec = fromLatin1("*1\r\n$4\r\nEXEC\r\n");
const select = (database: number) => fromLatin1(`*2\r\n$6\r\nSELECT\r\n$1\r\n${database}\r\n`);

function append(spool: Spool, bytes: Uint8Array, more: Partial<Batch> = {}): boolean {
  const startOffset = more.startOffset ?? (spool.position?.offset as number);
  const offset = startOffset + bytes.length;
  return spool.append(bytes, { replicationId, startOffset, offset, ms: startMs, ...more });
}

/** For the compiler, which does not know that a call changes it. */
function stateOf(spool: Spool): string {
  return spool.state.kind;
}

function text(disk: MemoryDisk, name: string): string {
  return Buffer.from(disk.peek(`${log}/${name}`) ?? []).toString("latin1");
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

suite("Spool", () => {
  test("starts empty, and is ready when its first base is in force", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    assert.equal(spool.state.kind, "empty");
    await takeBase(spool, 100);
    assert.deepEqual([stateOf(spool), spool.position?.offset], ["ready", 100]);
    const manifest =
      "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    assert.equal(text(disk, "appendonly.aof.manifest"), manifest);
    assert.equal(text(disk, "appendonly.aof.1.base.rdb"), "REDIS0011");
    assert.deepEqual(spool.gaps, []);
  });

  test("goes on where it was closed, in the database that was selected", async () => {
    const { open } = setup();
    {
      await using spool = await open();
      await takeBase(spool, 100);
      append(spool, set, { database: 3 });
    }
    await using spool = await open();
    assert.equal(spool.position?.offset, 100 + set.length);
    assert.equal(spool.database, 3);
  });

  test("says a write is durable with `always` when it is synced", async () => {
    const { disk, open } = setup();
    await using spool = await open({ fsync: "always" });
    await takeBase(spool, 100);
    const slow = Promise.withResolvers<void>();
    disk.slowSync = slow.promise;
    append(spool, set);
    while (spool.written?.offset === 100) await Promise.resolve();
    assert.equal(spool.durable?.offset, 100);
    slow.resolve();
    disk.slowSync = undefined;
    await spool.flush();
    assert.equal(spool.durable?.offset, 100 + set.length);
  });

  test("syncs with `everysec` once a second, one sync at a time, and writes meanwhile", async () => {
    const { disk, time, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    const slow = Promise.withResolvers<void>();
    disk.slowSync = slow.promise;
    append(spool, set);
    await settled();
    const first = spool.written?.offset;
    assert.equal(first, 100 + set.length);
    assert.equal(spool.durable?.offset, first);
    append(spool, set);
    time.ms += 1500;
    spool.tick();
    await settled();
    assert.equal(spool.written?.offset, 100 + 2 * set.length);
    assert.equal(spool.synced?.offset, 100);
    slow.resolve();
    disk.slowSync = undefined;
    await settled();
    assert.equal(spool.synced?.offset, first, "What came after the sync began is not counted");
    spool.tick();
    await settled();
    assert.equal(spool.synced?.offset, 100 + 2 * set.length);
  });

  test("asks for a pause, then refuses, when too much is not written", async () => {
    const { disk, open } = setup();
    await using spool = await open({ fsync: "always", maxPendingBytes: 300 });
    await takeBase(spool, 100);
    const slow = Promise.withResolvers<void>();
    disk.slowSync = slow.promise;
    append(spool, set);
    while (spool.written?.offset === 100) await Promise.resolve();
    while (append(spool, set)) assert.ok(spool.pendingBytes < 300);
    const { position } = spool;
    assert.throws(() => append(spool, set), { code: "LIMIT_EXCEEDED" });
    assert.equal(spool.position, position);
    slow.resolve();
    disk.slowSync = undefined;
    await spool.room();
    assert.ok(append(spool, set));
  });

  test("takes a batch only where the one before ended", async () => {
    const { open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    assert.throws(() => append(spool, set, { startOffset: 99 }), { code: "ERR_ASSERTION" });
  });

  test("writes no position line inside a transaction, however many batches it has", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    append(spool, multi);
    const at = { startOffset: 100 + multi.length };
    append(spool, set, at);
    assert.equal(spool.position?.offset, 100);
    append(spool, exec, { startOffset: at.startOffset + set.length });
    await spool.flush();
    assert.equal(spool.position?.offset, 100 + multi.length + set.length + exec.length);
    const lines = text(disk, "appendonly.aof.1.incr.aof").match(/#TM1:/g);
    assert.equal(lines?.length, 3, "Two of the header, and one");
  });

  test("takes a batch in parts that end anywhere, and selects its database once", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    const batch = Buffer.concat([set, select(5), set]);
    const cuts = [0, 5, set.length, set.length + select(5).length, batch.length];
    const place = { replicationId, startOffset: 100, ms: 1, database: 3 };
    for (const [i, from] of cuts.slice(0, -1).entries()) {
      const isPart = i < cuts.length - 2;
      const offset = isPart ? 100 : 100 + batch.length;
      spool.append(batch.subarray(from, cuts[i + 1]), { ...place, offset, isPart });
      await settled();
    }
    assert.equal(spool.written?.offset, 100 + batch.length);
    const log = text(disk, "appendonly.aof.1.incr.aof");
    assert.ok(log.includes(`${latin1(select(3))}${latin1(batch)}#TM1:`));
  });

  test("takes back the parts of a batch whose rest does not come", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    append(spool, set);
    await settled();
    const before = text(disk, "appendonly.aof.1.incr.aof");
    const at = 100 + set.length;
    const place = { replicationId, startOffset: at, offset: at, ms: 1, database: 7, isPart: true };
    spool.append(Buffer.concat([set, set.subarray(0, 9)]), place);
    await settled();
    assert.notEqual(text(disk, "appendonly.aof.1.incr.aof"), before);
    assert.equal(await spool.goOn({ replicationId, offset: at }, 1), true);
    assert.equal(text(disk, "appendonly.aof.1.incr.aof"), before);
    append(spool, set);
    await spool.flush();
    assert.equal(spool.synced?.offset, at + set.length);
  });

  test("goes on under another id before where it stood, if no record is behind that", async () => {
    const { open } = setup();
    const next = "f".repeat(40);
    {
      await using spool = await open();
      await takeBase(spool, 100);
      append(spool, set);
      append(spool, new Uint8Array(0), { offset: 500 });
      assert.equal(spool.changedOffset, 100 + set.length);
    }
    await using spool = await open();
    assert.equal(spool.changedOffset, 100 + set.length);
    await assert.rejects(() => spool.goOn({ replicationId: next, offset: 120 }, 1), /No record/);
    await spool.goOn({ replicationId: next, offset: 300 }, 1);
    append(spool, set, { replicationId: next });
    await spool.flush();
    assert.deepEqual([spool.synced?.replicationId, spool.synced?.offset], [next, 300 + set.length]);
  });

  test("ends a segment by its size and by its age, each begun with a position line", async () => {
    const { disk, time, open } = setup();
    await using spool = await open({ segmentBytes: 600, segmentMs: 60_000 });
    await takeBase(spool, 100);
    time.ms += 120_000;
    spool.tick();
    await settled();
    assert.equal(spool.generation?.segments.length, 1, "There is nothing in it");
    append(spool, set, { ms: time.ms });
    await settled();
    assert.equal(spool.generation?.segments.length, 2);
    for (let i = 0; i < 10; i++) {
      append(spool, set, { ms: time.ms });
      await settled();
    }
    const segments = spool.generation?.segments ?? [];
    assert.equal(segments.length, 4);
    for (const [i, { name, first, last }] of segments.entries()) {
      assert.match(text(disk, name), /^#TM1:/);
      assert.equal(first.offset, segments[i - 1]?.last.offset ?? 100);
      assert.ok(last.sequence > first.sequence);
    }
    assert.match(text(disk, segments[3]?.name ?? ""), /SELECT/);
  });

  test("keeps what a full disk does not take, and writes it when it is told to", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    const before = text(disk, "appendonly.aof.1.incr.aof");
    disk.spaceBytes = disk.usedBytes + 30;
    append(spool, set);
    await settled();
    assert.equal(spool.state.kind, "failing");
    const cause = spool.state.kind === "failing" ? spool.state.failure.cause : undefined;
    assert.equal((cause as NodeJS.ErrnoException).code, "ENOSPC");
    assert.equal(text(disk, "appendonly.aof.1.incr.aof"), before, "The part is cut off again");
    append(spool, set);
    assert.equal(await spool.retry(), "failing");
    disk.spaceBytes = Number.POSITIVE_INFINITY;
    assert.equal(await spool.retry(), "ready");
    await spool.flush();
    assert.equal(spool.synced?.offset, 100 + 2 * set.length);
  });

  test("goes on in a new file after a failed sync, or goes back if data is gone", async () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const disk = new MemoryDisk(seededRandom(seed));
      await using spool = await setup().open({ fsync: "always" }, disk);
      await takeBase(spool, 100);
      append(spool, set);
      await spool.flush();
      disk.failSyncs = 1;
      append(spool, set);
      await settled();
      assert.equal(spool.state.kind, "failing");
      assert.equal(spool.durable?.offset, 100 + set.length);
      const outcome = await spool.retry();
      outcomes.add(outcome);
      const expected = 100 + (outcome === "ready" ? 2 : 1) * set.length;
      assert.equal(spool.position?.offset, expected);
      assert.equal(spool.durable?.offset, expected);
      assert.deepEqual(await disk.list(`${folder}/damaged`), ["appendonly.aof.1.incr.aof"]);
      append(spool, set);
      await spool.flush();
      const after = disk.restart({ losesPower: true });
      await using next = await setup().open({}, after);
      assert.equal(next.position?.offset, expected + set.length);
    }
    assert.deepEqual([...outcomes].sort(), ["ready", "rewound"]);
  });

  test("retires a log for a new base, and records the gap", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100, "one");
    append(spool, set);
    await takeBase(spool, 5000, "two");
    const [gap] = spool.gaps;
    assert.deepEqual(
      [gap?.base, gap?.from?.offset, gap?.to.offset, gap?.reason],
      [2, 100 + set.length, 5000, "for the test"],
    );
    const [retired] = await spool.retired();
    assert.equal(retired?.segments[0]?.last.offset, 100 + set.length);
    assert.deepEqual(await disk.list(log), [
      "appendonly.aof.2.base.rdb",
      "appendonly.aof.2.incr.aof",
      "appendonly.aof.manifest",
    ]);
    await spool.discard("1");
    assert.deepEqual(await spool.retired(), []);
    await takeBase(spool, 5000, "three");
    assert.equal(spool.gaps.length, 1, "A base at the same position ends no log");
  });

  test("leaves the log in force when a base is not committed", async () => {
    const { disk, open } = setup();
    await using spool = await open();
    await takeBase(spool, 100);
    const base = await spool.beginBase({ replicationId, offset: 9, ms: 1 }, "for the test");
    await base.write(set);
    append(spool, set);
    await base.abort();
    await spool.flush();
    assert.equal(spool.position?.offset, 100 + set.length);
    assert.ok(!(await disk.list(log)).some((name) => name.startsWith("temp-")));
  });

  test("cuts wrong bytes off the last segment, keeps them, and goes on before them", async () => {
    const { disk, open } = setup();
    {
      await using spool = await open();
      await takeBase(spool, 100);
      for (let i = 0; i < 3; i++) {
        append(spool, set);
        await spool.flush();
      }
    }
    const name = "appendonly.aof.1.incr.aof";
    const whole = text(disk, name);
    const damagedAt = whole.lastIndexOf("SET");
    disk.poke(`${log}/${name}`, (bytes) => bytes.fill(0x78, damagedAt, damagedAt + 1));
    await using spool = await open();
    assert.equal(spool.state.kind, "ready");
    assert.equal(spool.position?.offset, 100 + 2 * set.length);
    const damage = spool.recovered.kind === "ready" ? spool.recovered.damage : undefined;
    assert.equal(damage?.code, "DATA_CORRUPT");
    const [kept = ""] = await disk.list(`${folder}/damaged`);
    const tail = Buffer.from(disk.peek(`${folder}/damaged/${kept}`) ?? []).toString("latin1");
    assert.equal(`${text(disk, name)}${tail}`.replace("xET", "SET"), whole);
  });

  test("asks for a new base where files are missing or cannot be read, and keeps the others", async () => {
    for (const damage of ["base", "segment", "manifest", "header"] as const) {
      const { disk, open } = setup();
      {
        await using spool = await open({ segmentBytes: 300 });
        await takeBase(spool, 100);
        for (let i = 0; i < 9; i++) {
          append(spool, set);
          await spool.flush();
        }
      }
      const before = (await disk.list(log)).filter((name) => /\.incr\./.test(name));
      if (damage === "base") await disk.remove(`${log}/appendonly.aof.1.base.rdb`);
      if (damage === "segment") await disk.remove(`${log}/${before.shift()}`);
      if (damage === "manifest")
        disk.poke(`${log}/appendonly.aof.manifest`, () => fromLatin1("x\n"));
      if (damage === "header")
        disk.poke(`${log}/${before.at(-1)}`, (bytes) => bytes.fill(0, 20, 30));
      await using spool = await open();
      assert.equal(spool.state.kind, "damaged", damage);
      assert.throws(() => append(spool, set, { startOffset: 1 }), { code: "ERR_ASSERTION" });
      await takeBase(spool, 9000);
      assert.equal(spool.state.kind, "ready");
      assert.equal(spool.gaps.length, 1);
      const [aside = ""] = await disk.list(`${folder}/retired`);
      assert.match(aside, /^\d+-damaged$/, damage);
      const kept = (await disk.list(`${folder}/retired/${aside}`)).filter((name) =>
        /\.incr\./.test(name),
      );
      assert.deepEqual(kept, before, damage);
      append(spool, set);
      await spool.flush();
      await spool.close();
      await using next = await open();
      assert.equal(next.position?.offset, 9000 + set.length);
      assert.equal(next.gaps.length, 1);
    }
  });

  test("leaves a log alone that a server has written or gone on with", async () => {
    const { disk, open } = setup();
    for (const path of [folder, log]) await disk.makeFolder(path);
    const file = await disk.open(`${log}/appendonly.aof.1.incr.aof`, "create");
    await file.write(set, 0);
    const manifest = await disk.open(`${log}/appendonly.aof.manifest`, "create");
    await manifest.write(fromLatin1("file appendonly.aof.1.incr.aof seq 1 type i\n"), 0);
    await assert.rejects(open(), { code: "FILE_EXISTS", message: /was written by a server/ });
    await disk.rename(`${log}/appendonly.aof.manifest`, `${log}/other.manifest`);
    await assert.rejects(open(), { code: "FILE_EXISTS", message: /another log, "other.manifest"/ });
    assert.equal(text(disk, "appendonly.aof.1.incr.aof"), Buffer.from(set).toString());
  });

  test("refuses bytes that are no records; opened anew, it goes on before them", async () => {
    const { open } = setup();
    const spool = await open();
    await takeBase(spool, 100);
    append(spool, set);
    assert.throws(() => append(spool, fromLatin1("+OK\r\n")), { code: "DATA_CORRUPT" });
    assert.throws(() => append(spool, set), { code: "DATA_CORRUPT" });
    await spool.close();
    await using next = await open();
    assert.equal(next.position?.offset, 100 + set.length);
  });
});

/** Lets everything happen that waits for nothing but its turn. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 3; turns++) await new Promise(setImmediate);
}
