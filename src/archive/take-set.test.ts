import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { instance, makeRdb } from "../../test/archive/filled.ts";
import { MemoryStore, memoryRepository } from "../../test/archive/memory-store.ts";
import { Failure } from "../base/errors.ts";
import { faultyStore } from "../store/testing.ts";
import { readCatalogue } from "./catalogue.ts";
import { setObject, setObjects } from "./layout.ts";
import {
  keepSet,
  type OpenSnapshot,
  releaseSet,
  runningSets,
  type SnapshotSource,
  type TakeSetOptions,
  takeSet,
} from "./take-set.ts";
import { openSet, verifySet } from "./verify.ts";

const nowMs = Date.parse("2026-05-01T10:00:00.250Z");
const clock = { now: () => nowMs };
const lease = { check: async () => {} };
const options: TakeSetOptions = { kind: "manual", clock, lease };
const rdb = makeRdb(1000);

function snapshotOf(
  chunks: () => AsyncIterable<Uint8Array>,
  onClose: () => void = () => {},
): OpenSnapshot {
  return {
    position: { replicationId: "a".repeat(40), offset: 77 },
    ...{ ms: nowMs, database: 3, chunks: chunks() },
    source: { name: "127.0.0.1:6379", role: "replica", version: "redis 7.0.15" },
    cost: {
      ...{ preparedMs: 1, transferredMs: 2, forkMicros: 3, copyOnWriteBytes: 4 },
      ...{ p99BeforeMs: 0.5, p99DuringMs: null },
    },
    [Symbol.asyncDispose]: async () => onClose(),
  };
}

/** Chunks that are overwritten when the next one is asked for. */
async function* borrowed(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 5000) {
    const chunk = new Uint8Array(bytes.subarray(at, at + 5000));
    yield chunk;
    chunk.fill(0xee);
  }
}

const sourceOf =
  (bytes: Uint8Array): SnapshotSource =>
  async () =>
    snapshotOf(() => borrowed(bytes));

function make() {
  const store = new MemoryStore();
  store.nowMs = nowMs;
  return { store, repository: memoryRepository(store) };
}

suite("takeSet()", () => {
  test("stores a snapshot with its manifest, and has read all of it back", async () => {
    const { store, repository } = make();
    const phases: string[] = [];
    const manifest = await takeSet(repository, instance, sourceOf(rdb), {
      ...options,
      ...{ note: "before the migration", keep: true, writer: "tidemark 0.1" },
      onProgress: ({ phase }) => phases.push(phase),
    });
    assert.match(manifest.set, /^2026-05-01T10-00-00\.250Z-[0-9a-f]{4}$/);
    assert.deepEqual([...new Set(phases)], ["preparing", "uploading", "verifying"]);
    const { sets, unfinished, unknown } = await readCatalogue(store, instance);
    assert.deepEqual([unfinished.size, unknown], [0, []]);
    const [set] = sets;
    assert.deepEqual([sets.length, set?.isVerified, set?.isKept], [1, true, true]);
    const opened = await openSet(repository, instance, manifest.set);
    assert.deepEqual(opened.manifest, manifest);
    assert.deepEqual([manifest.note, manifest.position.offset], ["before the migration", 77]);
    assert.deepEqual([manifest.snapshot.keys, manifest.snapshot.magic], [1000, "REDIS0010"]);
    assert.ok(Buffer.concat(await Array.fromAsync(opened.reader.rawBytes())).equals(rdb));
    assert.deepEqual(runningSets(repository, instance), []);
  });

  test("refuses a second one, and says which runs; a base may run beside", async () => {
    const { repository } = make();
    const gate = Promise.withResolvers<void>();
    const slow: SnapshotSource = async () => {
      await gate.promise;
      return snapshotOf(() => borrowed(rdb));
    };
    const first = takeSet(repository, instance, slow, { ...options, kind: "automatic" });
    await assert.rejects(takeSet(repository, instance, sourceOf(rdb), options), {
      code: "SERVER_BUSY",
      message: "Cannot back up db: a set (automatic) is being taken since 2026-05-01T10:00:00.250Z",
    });
    assert.equal(runningSets(repository, instance)[0]?.kind, "automatic");
    await takeSet(repository, "other", sourceOf(rdb), options);
    await takeSet(repository, instance, sourceOf(rdb), { ...options, kind: "base" });
    gate.resolve();
    await first;
    await takeSet(repository, instance, sourceOf(rdb), options);
  });

  test("leaves nothing where the source fails, and lets go of it", async () => {
    const { store, repository } = make();
    let isClosed = false;
    async function* torn() {
      yield rdb.subarray(0, 1000);
      throw new Failure("SERVER_LOST", "the source is gone");
    }
    const source: SnapshotSource = async () =>
      snapshotOf(torn, () => {
        isClosed = true;
      });
    await assert.rejects(takeSet(repository, instance, source, options), { code: "SERVER_LOST" });
    assert.deepEqual([isClosed, store.objects.size], [true, 0]);
    assert.deepEqual(runningSets(repository, instance), []);
  });

  test("makes no set of an RDB that is damaged when it comes, or is no RDB", async () => {
    const damaged = new Uint8Array(rdb);
    damaged[rdb.length - 20] = (damaged[rdb.length - 20] as number) ^ 1;
    const cut = rdb.subarray(0, rdb.length - 100);
    const more = Buffer.concat([rdb, Buffer.from("*1\r\n")]);
    for (const bytes of [damaged, cut, more, Buffer.from("nothing of the kind"), Buffer.alloc(0)]) {
      const { store, repository } = make();
      await assert.rejects(takeSet(repository, instance, sourceOf(bytes), options), {
        code: "DATA_CORRUPT",
      });
      assert.equal(store.objects.size, 0);
    }
  });

  test("takes an RDB that is not understood as it is, and says that it has not", async () => {
    const { repository } = make();
    const newer = Buffer.concat([Buffer.from("REDIS0099"), rdb.subarray(9)]);
    const { set, snapshot } = await takeSet(repository, instance, sourceOf(newer), options);
    assert.deepEqual([snapshot.keys, snapshot.rawBytes], [null, newer.length]);
    const result = await verifySet(repository, instance, set, { clock });
    assert.deepEqual([result.isGood, result.what], [true, "bytes"]);
    assert.match(result.notUnderstood ?? "", /RDB version REDIS0099/);
  });

  test("writes no manifest where the lease is lost", async () => {
    const { store, repository } = make();
    const lost = {
      check: async () => {
        throw new Failure("FILE_EXISTS", "another one writes");
      },
    };
    const taking = takeSet(repository, instance, sourceOf(rdb), { ...options, lease: lost });
    await assert.rejects(taking, { code: "FILE_EXISTS" });
    assert.equal(store.objects.size, 0);
  });

  test("does not call a set good that does not come back as it was", async () => {
    const { store, repository } = make();
    const upload = store.upload.bind(store);
    store.upload = async (name, chunks) => {
      const result = await upload(name, chunks);
      const object = store.objects.get(name);
      if (object) object.bytes[200] = (object.bytes[200] as number) ^ 4;
      return result;
    };
    await assert.rejects(takeSet(repository, instance, sourceOf(rdb), options), {
      code: "DATA_CORRUPT",
      message: /Cannot rely on set 2026.*block 0 is damaged/,
    });
    const { sets } = await readCatalogue(store, instance);
    assert.deepEqual(
      sets.map(({ isVerified }) => isVerified),
      [false],
    );
  });

  test("leaves a whole set or none, wherever it is killed, and the next one cleans up", async () => {
    for (let changes = 0; ; changes++) {
      const { store, repository } = make();
      let left = changes;
      store.beforeChange = () => {
        if (left-- <= 0) throw new Error("killed");
      };
      const keep = { ...options, keep: true };
      const outcome = await takeSet(repository, instance, sourceOf(rdb), keep).then(
        () => "done",
        (error: Error) => error.message,
      );
      store.beforeChange = () => {};
      const { sets } = await readCatalogue(store, instance);
      for (const { name } of sets) {
        const { isGood } = await verifySet(repository, instance, name, { clock, records: false });
        assert.ok(isGood && store.objects.has(setObject(instance, name, "keep")));
      }
      if (outcome === "done") {
        assert.equal(changes, Object.keys(setObjects).length);
        break;
      }
      assert.equal(outcome, "killed");
      // Not before a day has passed: it may be somebody else's that is under way.
      await takeSet(repository, instance, sourceOf(rdb), options);
      const { unfinished } = await readCatalogue(store, instance);
      assert.equal(unfinished.size, sets.length === 1 || changes === 0 ? 0 : 1);
      const later = { now: () => nowMs + 25 * 60 * 60 * 1000 };
      await takeSet(repository, instance, sourceOf(rdb), { ...options, clock: later });
      assert.equal((await readCatalogue(store, instance)).unfinished.size, 0);
    }
  });

  test("with a storage that fails at random makes whole sets or none", async () => {
    let seed = 20261122;
    const below = (bound: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * bound);
    };
    const random = { below, chance: (share: number) => below(1e6) < share * 1e6 };
    let good = 0;
    for (let round = 0; round < 60; round++) {
      const { store } = make();
      const faults = { errorBefore: 0.05, errorAfter: 0.05, tornUpload: 0.1, tornRead: 0.05 };
      const faulty = faultyStore(store, random, { ...faults, wrongByte: 0.1, slowTurns: 2 });
      try {
        await takeSet(memoryRepository(faulty), instance, sourceOf(rdb), options);
        good++;
      } catch (error) {
        assert.match((error as Failure).code, /STORE_BUSY|DATA_CORRUPT/);
      }
      const { sets } = await readCatalogue(store, instance);
      for (const { name } of sets) {
        const verdict = await verifySet(memoryRepository(store), instance, name, { clock });
        assert.ok(verdict.isGood, JSON.stringify(verdict.findings));
      }
    }
    assert.ok(good > 5 && good < 60, `${good}`);
  });
});

test("keepSet() and releaseSet() put the mark there, and take it away", async () => {
  const { store, repository } = make();
  const { set } = await takeSet(repository, instance, sourceOf(rdb), options);
  const isKept = async () => (await readCatalogue(store, instance)).sets[0]?.isKept;
  assert.equal(await isKept(), false);
  await keepSet(repository, instance, set, { clock, note: "audit" });
  assert.equal(await isKept(), true);
  await releaseSet(repository, instance, set);
  assert.equal(await isKept(), false);
});
