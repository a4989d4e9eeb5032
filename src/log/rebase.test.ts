import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { fromLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { LogChecker } from "../codec/aof/check.ts";
import type { RebaseParts } from "./rebase.ts";
import { Spool, type SpoolOptions } from "./spool.ts";
import { MemoryDisk, seededRandom } from "./testing.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const folder = "/spool";
const log = `${folder}/appendonlydir`;
const manifestPath = `${log}/appendonly.aof.manifest`;
const startMs = 1_795_328_990_000;
const never = new AbortController().signal;
const keeper = "12345678-1234-1234-1234-123456789abc/shop";

/** Fails where names are changed or made durable, or waits there. */
class BadDisk extends MemoryDisk {
  readonly #isBad: () => boolean;
  gate: Promise<void> | undefined;

  constructor(isBad: () => boolean) {
    super(seededRandom(1));
    this.#isBad = isBad;
  }

  override async rename(from: string, to: string): Promise<void> {
    this.#fail();
    await super.rename(from, to);
  }

  override async syncFolder(path: string): Promise<void> {
    this.#fail();
    await this.gate;
    await super.syncFolder(path);
  }

  #fail(): void {
    if (this.#isBad()) throw new Failure("FILE_FAILED", "The disk is bad");
  }
}

async function setup(options: SpoolOptions = {}, isBad = () => false) {
  const disk = new BadDisk(isBad);
  const time = { ms: startMs };
  const clock = { now: () => time.ms };
  const open = (on = disk) =>
    Spool.open(folder, { disk: on, clock, segmentBytes: 600, ...options });
  const spool = await open();
  const base = await spool.beginBase({ replicationId, offset: 100, ms: startMs, database: 2 }, "");
  await base.write(fromLatin1("REDIS0011 the old base"));
  await base.commit();
  return { disk, time, open, spool };
}

const set = (value: number) => fromLatin1(`*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n${value}\r\n`);
const setBytes = set(0).length;

/** Batches of two records. */
async function write(spool: Spool, batches: number, ms = startMs): Promise<void> {
  for (let i = 0; i < batches; i++) {
    const startOffset = spool.position?.offset as number;
    const bytes = Buffer.concat([set(i % 10), set((i + 1) % 10)]);
    const offset = startOffset + bytes.length;
    spool.append(bytes, { replicationId, startOffset, offset, ms });
    await spool.flush();
  }
}

function partsOf(spool: Spool, text = "REDIS0011 the new base", more: Partial<RebaseParts> = {}) {
  const first = spool.generation?.segments[0]?.first;
  const origin = spool.generation?.rebased?.origin ?? first;
  assert.ok(origin !== undefined);
  return {
    ...{ origin, keeper, sizeBytes: text.length },
    async *content() {
      yield fromLatin1(text);
    },
    ...more,
  };
}

async function rebase(spool: Spool, offset: number, more: Partial<RebaseParts> = {}) {
  const plan = await spool.planRebase({ replicationId, offset });
  assert.ok(plan !== undefined);
  return await spool.rebase(plan, partsOf(spool, undefined, more), never);
}

function text(disk: MemoryDisk, path: string): string {
  return Buffer.from(disk.peek(path) ?? []).toString("latin1");
}

/** The records of the log in force; all of it is proved. */
function recordsOf(disk: MemoryDisk, spool: Spool): string {
  const checker = new LogChecker();
  const parts: string[] = [];
  for (const { path } of spool.generation?.segments ?? []) {
    checker.push(disk.peek(path) as Uint8Array);
    parts.push(text(disk, path));
  }
  const result = checker.finish();
  assert.equal(result.verdict, "ok");
  assert.deepEqual([result.backwards.times, result.unsealedRecords], [0, 0]);
  return parts.join("").replaceAll(/#[^\n]*\n/g, "");
}

suite("Spool.rebase()", () => {
  test("begins the log at a position within a batch, and removes what is before", async () => {
    const { disk, spool } = await setup();
    await write(spool, 30);
    const before = spool.generation?.segments ?? [];
    const { position } = spool;
    const [, , third] = before;
    assert.ok(third !== undefined && before.length > 4);
    assert.ok(third.last.offset > third.first.offset + 3 * setBytes);
    const offset = third.first.offset + 3 * setBytes;
    const old = recordsOf(disk, spool);
    const usedBytes = disk.usedBytes;
    const freed = await rebase(spool, offset);
    // The manifest has grown.
    const manifestBytes = text(disk, manifestPath).length;
    assert.ok(Math.abs(usedBytes - disk.usedBytes - (freed ?? 0)) < manifestBytes);
    const [first, second] = spool.generation?.segments ?? [];
    assert.equal(first?.first.offset, offset);
    assert.deepEqual(first?.was, { first: third.first, last: third.last });
    assert.deepEqual(
      [first?.last.sequence, first?.last.offset],
      [third.last.sequence, third.last.offset],
    );
    assert.equal(second?.path, before[3]?.path);
    assert.deepEqual(spool.position, position);
    assert.equal(text(disk, spool.generation?.base?.path ?? ""), "REDIS0011 the new base");
    const select = "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n";
    const rest = old.replaceAll(select, "").slice(offset - 100);
    assert.equal(recordsOf(disk, spool).replaceAll(select, ""), rest);
    assert.ok(recordsOf(disk, spool).startsWith(select), "The database is said anew");
    const named = spool.generation?.segments.map(({ name }) => name) ?? [];
    const manifest = "appendonly.aof.manifest";
    assert.deepEqual(
      new Set(await disk.list(log)),
      new Set([manifest, "appendonly.aof.2.base.rdb", ...named]),
    );
    await spool.close();
  });

  test("leaves every sequence number and checksum behind the batch as it was", async () => {
    const { disk, spool } = await setup();
    await write(spool, 6);
    const [, second] = spool.generation?.segments ?? [];
    const whole = text(disk, second?.path ?? "");
    await rebase(spool, (second?.first.offset ?? 0) + setBytes);
    const [first] = spool.generation?.segments ?? [];
    const lines = (log: string) => log.match(/#TM1[^\n]*/g) ?? [];
    const [was, is] = [lines(whole), lines(text(disk, first?.path ?? ""))];
    const place = (line: string | undefined) => line?.split(":").slice(1, 5).join(":");
    assert.ok(is.length > 2);
    const behind = was.slice(was.length - is.length + 1);
    assert.deepEqual(is.slice(1).map(place), behind.map(place));
    assert.deepEqual(is.slice(2), behind.slice(1));
    await spool.close();
  });

  test("takes a position at which a segment begins, ends, or has nothing but what no log needs", async () => {
    for (const at of ["begin", "end", "between"] as const) {
      const { disk, spool } = await setup();
      await write(spool, 5);
      const offset = (spool.position?.offset ?? 0) + 14;
      const ping = { replicationId, startOffset: offset - 14, offset, ms: startMs };
      spool.append(new Uint8Array(0), ping);
      await write(spool, 5);
      const old = recordsOf(disk, spool);
      const { segments } = spool.generation ?? { segments: [] };
      const has = segments.findIndex(({ last }) => last.offset >= offset);
      const wanted = {
        begin: segments[2]?.first.offset,
        end: segments[2]?.last.offset,
        between: offset,
      };
      assert.ok(has >= 0 && has < segments.length - 1);
      await rebase(spool, wanted[at] as number);
      assert.equal(spool.generation?.segments[0]?.first.offset, wanted[at]);
      const isSet = /\*3\r\n[^*]*/g;
      const [was, is] = [old.match(isSet) ?? [], recordsOf(disk, spool).match(isSet) ?? []];
      assert.deepEqual(is, was.slice(-is.length));
      const skipped = was.length - is.length;
      const bytes = (wanted[at] as number) - 100 - ((wanted[at] as number) >= offset ? 14 : 0);
      assert.equal(skipped * setBytes, bytes);
      await spool.close();
    }
  });

  test("plans nothing for a position inside of a unit, of another history, or not in a closed segment", async () => {
    const { spool } = await setup();
    await write(spool, 8);
    const inside = { replicationId, offset: 101 };
    const other = { replicationId: "f".repeat(40), offset: 100 + setBytes };
    const [open] = spool.generation?.segments.slice(-1) ?? [];
    const late = { replicationId, offset: (spool.position?.offset ?? 0) + 1 };
    assert.ok(open !== undefined);
    for (const position of [inside, other, late, { replicationId, offset: 99 }]) {
      assert.equal(await spool.planRebase(position), undefined);
    }
    await spool.close();
  });

  test("goes on where it was after a restart, and can be rebased again", async () => {
    const { disk, spool, open } = await setup();
    await write(spool, 12);
    const origin = spool.generation?.segments[0]?.first;
    await rebase(spool, 100 + 5 * setBytes);
    await spool.close();
    await using next = await open();
    assert.deepEqual(next.generation?.rebased, { origin, keeper });
    const [was, kept] = [next.generation?.segments[0]?.was, next.generation?.segments[0]];
    assert.equal(next.state.kind, "ready");
    // Within the segment that was begun anew already.
    await rebase(next, (kept?.last.offset ?? 0) - setBytes);
    assert.deepEqual(next.generation?.segments[0]?.was, was);
    await write(next, 12);
    await rebase(next, 100 + 20 * setBytes, { keeper: "another" });
    assert.equal(next.generation?.rebased?.keeper, "another");
    recordsOf(disk, next);
    const base = await next.beginBase({ replicationId, offset: 9000, ms: startMs }, "it was time");
    await base.write(fromLatin1("REDIS0011"));
    await base.commit();
    const [retired] = await next.retired();
    assert.deepEqual([retired?.damaged, retired?.rebased?.origin], [[], origin]);
    assert.equal(next.generation?.rebased, undefined);
    await next.discard(retired?.name ?? "");
    assert.deepEqual(await disk.list(`${folder}/retired`), []);
  });

  test("is given up for a new base, and when the spool is closed", async () => {
    for (const end of ["base", "close"] as const) {
      const { disk, spool } = await setup();
      await write(spool, 12);
      const plan = await spool.planRebase({ replicationId, offset: 100 + 5 * setBytes });
      assert.ok(plan !== undefined);
      const begun = Promise.withResolvers<void>();
      const parts = partsOf(spool, "x", {
        content: async function* (signal: AbortSignal) {
          begun.resolve();
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
          yield fromLatin1("x");
        },
      });
      const work = assert.rejects(spool.rebase(plan, parts, never), { code: "ABORTED" });
      await begun.promise;
      if (end === "close") await spool.close();
      else {
        const base = await spool.beginBase({ replicationId, offset: 9000, ms: startMs }, "");
        await base.write(fromLatin1("REDIS0011"));
        await base.commit();
        assert.equal((await spool.retired())[0]?.damaged.length, 0);
      }
      await work;
      const names = await disk.list(log);
      assert.deepEqual(
        names.filter((name) => name.startsWith("temp-")),
        [],
      );
      await spool.close();
    }
  });

  test("harms no base that comes into force while it waits for a rotation", async () => {
    const { disk, spool, open } = await setup();
    await write(spool, 12);
    const plan = await spool.planRebase({ replicationId, offset: 100 + 5 * setBytes });
    assert.ok(plan !== undefined);
    const gate = Promise.withResolvers<void>();
    const base = await spool.beginBase({ replicationId, offset: 9000, ms: startMs }, "");
    await base.write(fromLatin1("REDIS0011"));
    disk.gate = gate.promise;
    const rotating = write(spool, 12);
    const rebasing = Promise.allSettled([spool.rebase(plan, partsOf(spool), never)]);
    // Both are as far as they come.
    for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
    const committing = base.commit();
    disk.gate = undefined;
    gate.resolve();
    await Promise.allSettled([rotating]);
    const [result] = await rebasing;
    // It may have been let through before the log was ended.
    if (result.status === "rejected") assert.equal((result.reason as Failure).code, "ABORTED");
    await committing;
    assert.deepEqual([spool.position?.offset, spool.generation?.rebased], [9000, undefined]);
    assert.deepEqual(
      (await spool.retired()).flatMap(({ damaged }) => damaged),
      [],
    );
    await spool.close();
    await using next = await open();
    assert.equal(next.position?.offset, 9000);
  });

  test("takes batches, writes and rotates while it goes on", async () => {
    const { disk, spool } = await setup();
    await write(spool, 12);
    const plan = await spool.planRebase({ replicationId, offset: 100 + 5 * setBytes });
    assert.ok(plan !== undefined);
    const segments = spool.generation?.segments.length ?? 0;
    const parts = partsOf(spool, "REDIS0011 the new base", {
      content: async function* () {
        yield fromLatin1("REDIS0011");
        await write(spool, 12);
        yield fromLatin1(" the new base");
      },
    });
    assert.ok(((await spool.rebase(plan, parts, never)) ?? 0) > 0);
    assert.ok((spool.generation?.segments.length ?? 0) > segments);
    assert.equal(spool.position?.offset, 100 + 48 * setBytes);
    recordsOf(disk, spool);
    await spool.close();
  });

  test("changes nothing where the snapshot is not what was said, or the disk has no room for it", async () => {
    const { disk, spool } = await setup();
    await write(spool, 12);
    const before = await disk.list(log);
    const at = 100 + 5 * setBytes;
    await assert.rejects(rebase(spool, at, { sizeBytes: 5 }), { code: "DATA_CORRUPT" });
    const away = new Failure("STORE_BUSY", "The storage is away");
    const failing = async function* () {
      yield fromLatin1("REDIS");
      throw away;
    };
    await assert.rejects(rebase(spool, at, { content: failing }), { code: "STORE_BUSY" });
    disk.spaceBytes = disk.usedBytes + 610;
    await assert.rejects(rebase(spool, at), { code: "FILE_FAILED", message: /bytes are needed/ });
    assert.deepEqual(await disk.list(log), before);
    await spool.close();
  });

  test("goes on with either beginning where it is not known which one is on disk", async () => {
    for (let failed = 1; failed <= 8; failed++) {
      let isBad = () => false;
      const { disk, spool, open } = await setup({}, () => isBad());
      await write(spool, 12);
      let calls = 0;
      isBad = () => ++calls === failed;
      const [result] = await Promise.allSettled([rebase(spool, 100 + 5 * setBytes)]);
      assert.equal(result.status, failed <= 6 ? "rejected" : "fulfilled", `call ${failed}`);
      isBad = () => false;
      await write(spool, 12);
      const { position } = spool;
      recordsOf(disk, spool);
      await rebase(spool, 100 + 9 * setBytes);
      await spool.close();
      await using next = await open();
      assert.deepEqual(next.position, position);
      const { base, segments } = next.generation ?? { segments: [] };
      const named = [base?.name, ...segments.map(({ name }) => name), "appendonly.aof.manifest"];
      assert.deepEqual(new Set(await disk.list(log)), new Set(named), `call ${failed}`);
    }
  });

  test("is not believed where the manifest says its beginning wrong or in part", async () => {
    const changes: ((manifest: string) => string)[] = [
      (manifest) => manifest.replace(/(tidemark-origin \S{60})./, "$1x"),
      (manifest) => manifest.replace(/(tidemark-began \S{60})./, "$1x"),
      (manifest) => manifest.replace(/ tidemark-origin \S+/, ""),
      (manifest) => manifest.replace(/ tidemark-keeper \S+/, ""),
      (manifest) => manifest.replace(/ tidemark-began \S+/, ""),
      (manifest) => manifest.replace(/ tidemark-ended \S+/, ""),
      (manifest) => manifest.replace(/ tidemark-(began|ended) \S+/g, ""),
    ];
    for (const change of changes) {
      const { disk, spool, open } = await setup();
      await write(spool, 12);
      await rebase(spool, 100 + 5 * setBytes);
      await spool.close();
      disk.poke(manifestPath, (bytes) => {
        const was = Buffer.from(bytes).toString("latin1");
        assert.notEqual(change(was), was);
        return fromLatin1(change(was));
      });
      await using next = await open();
      assert.ok(next.state.kind === "damaged");
      assert.match(next.state.failure.message, /[Mm]anifest/);
    }
  });
});
