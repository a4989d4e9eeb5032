import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  catalogueOf,
  dayMs,
  histories,
  instance,
  isRestorable,
  linesWith,
  momentsOf,
  type Overlap,
  overlaps,
  policies,
} from "../../test/archive/histories.ts";
import { idOf, manifestOf, storeOf } from "../../test/archive/history-store.ts";
import { type MemoryStore, memoryRepository } from "../../test/archive/memory-store.ts";
import { Failure } from "../base/errors.ts";
import { readCatalogue } from "./catalogue.ts";
import { applyExpiry, planSureExpiry } from "./expire.ts";
import { lineName, parseSetName, pieceObject, setName, setObject } from "./layout.ts";
import { planExpiry, type RetentionPolicy } from "./retention.ts";
import { keepSet } from "./take-set.ts";

const lease = { check: async () => {} };
const trusting = { trustsClock: true };
const origin = { replicationId: "a".repeat(40), offset: 0 };

function namesOf(store: MemoryStore): string[] {
  return [...store.objects.keys()].sort();
}

suite("applyExpiry()", () => {
  test("leaves what the plan says, and all else, and a second time does nothing", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, async (history, policy) => {
        const store = await storeOf(history);
        const before = namesOf(store);
        const catalogue = await readCatalogue(store, instance);
        const plan = planExpiry(catalogue, policy, history.nowMs);
        const gone = await applyExpiry(memoryRepository(store), plan, lease, trusting);
        const going = plan.sets.filter(({ reasons }) => reasons.length === 0);
        assert.deepEqual([gone.sets, gone.pieces], [going.length, plan.pieces.length]);
        const left = await readCatalogue(store, instance);
        const again = planExpiry(left, policy, history.nowMs);
        assert.deepEqual(again.windows, plan.windows);
        assert.deepEqual([again.pieces, again.leftovers], [[], []]);
        assert.ok(again.sets.every(({ reasons }) => reasons.length > 0));
        const removed = before.filter((name) => !store.objects.has(name));
        const wanted = new Set([
          ...plan.pieces.map(({ object }) => object),
          ...plan.leftovers,
          ...going.flatMap(({ set: { name } }) =>
            (["manifest", "snapshot", "verified"] as const).map((part) =>
              setObject(instance, name, part),
            ),
          ),
        ]);
        assert.ok(removed.every((name) => wanted.has(name)));
      }),
      { numRuns: 25 },
    );
  });

  test("leaves the catalogue right wherever it is killed, and the next one goes on", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, fc.nat(), async (history, policy, seed) => {
        const store = await storeOf(history);
        const before = catalogueOf(history.objects);
        const plan = planExpiry(before, policy, history.nowMs);
        const going = plan.sets.filter(({ reasons }) => reasons.length === 0);
        const total = 3 * going.length + plan.pieces.length + plan.leftovers.length;
        if (total === 0) return;
        let left = seed % total;
        store.beforeChange = () => {
          if (left-- === 0) throw new Error("killed");
        };
        const repository = memoryRepository(store);
        await applyExpiry(repository, plan, lease, trusting).catch((error: Error) => {
          assert.equal(error.message, "killed");
        });
        store.beforeChange = () => {};
        const torn = await readCatalogue(store, instance);
        // What stays is restorable, and a set that is listed has all of its objects.
        for (const ms of momentsOf(before).filter((moment) => moment >= plan.windowStartMs)) {
          assert.equal(isRestorable(torn, ms), isRestorable(before, ms));
        }
        for (const { name } of torn.sets) {
          assert.ok(store.objects.has(setObject(instance, name, "snapshot")));
        }
        // A day later, so that leftovers are nobody's.
        const laterMs = history.nowMs + 2 * dayMs;
        const next = planExpiry(torn, policy, laterMs);
        await applyExpiry(repository, next, lease, trusting);
        const healed = await readCatalogue(store, instance);
        for (const { set } of going) {
          const rest = namesOf(store).filter((name) =>
            name.startsWith(`instances/db/sets/${set.name}`),
          );
          assert.deepEqual(rest, []);
        }
        assert.deepEqual(planExpiry(healed, policy, laterMs).windows, next.windows);
      }),
      { numRuns: 25 },
    );
  });

  test("asks for the lease before each call, and stops where it is lost", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, fc.nat(3), async (history, policy, checks) => {
        const store = await storeOf(history);
        const plan = planExpiry(catalogueOf(history.objects), policy, history.nowMs);
        let left = checks;
        let isLost = false;
        let isAsked = false;
        const deleteAll = store.delete.bind(store);
        store.delete = async (names) => {
          assert.ok(isAsked && !isLost, "it deletes without the lease");
          isAsked = false;
          await deleteAll(names);
        };
        const guard = {
          check: async () => {
            isAsked = true;
            isLost = left-- === 0;
            if (isLost) throw new Failure("LEASE_LOST", "lost");
          },
        };
        const applied = applyExpiry(memoryRepository(store), plan, guard, trusting);
        await applied.catch((error: Failure) => assert.equal(error.code, "LEASE_LOST"));
      }),
      { numRuns: 15 },
    );
  });

  test("spares a set that was kept since the plan was made, and what it does not know", async () => {
    const nowMs = Date.parse("2026-06-01T00:00:00Z");
    const old = setName(nowMs - 100 * dayMs, "0000");
    const young = setName(nowMs - dayMs, "0001");
    const objects = [old, young].flatMap((set) =>
      (["manifest", "snapshot", "verified"] as const).map((part) => ({
        ...{ name: setObject(instance, set, part), sizeBytes: 1, modifiedMs: 0 },
      })),
    );
    const odd = `instances/${instance}/sets/${old}/notes.txt`;
    const store = await storeOf({
      objects: [...objects, { name: odd, sizeBytes: 1, modifiedMs: 0 }],
    });
    const repository = memoryRepository(store);
    const plan = planExpiry(await readCatalogue(store, instance), { retentionDays: 7 }, nowMs);
    assert.deepEqual(plan.freedBytes, 1);
    await keepSet(repository, instance, old, { clock: { now: () => nowMs } });
    assert.equal((await applyExpiry(repository, plan, lease, trusting)).sets, 0);
    assert.equal(namesOf(store).length, 8);
    store.objects.delete(setObject(instance, old, "keep"));
    assert.equal((await applyExpiry(repository, plan, lease, trusting)).sets, 1);
    assert.deepEqual(
      namesOf(store).filter((name) => name.includes(old)),
      [odd],
    );
  });

  const nowMs = Date.parse("2026-06-01T00:00:00Z");
  const names = [60, 50, 40].map((days) => setName(nowMs - days * dayMs, "0000")) as [
    string,
    string,
    string,
  ];
  const [, second, newest] = names;

  /** Three good sets, all older than the policy wants. */
  async function threeSets(): Promise<MemoryStore> {
    const objects = names.flatMap((set) =>
      (["manifest", "snapshot", "verified"] as const).map((part) => ({
        ...{ name: setObject(instance, set, part), sizeBytes: 9, modifiedMs: 0 },
      })),
    );
    return await storeOf({ objects });
  }

  const ruins: Readonly<Record<string, readonly [(store: MemoryStore) => void, RegExp]>> = {
    "whose snapshot is gone": [
      (store) => store.objects.delete(setObject(instance, newest, "snapshot")),
      /its snapshot is not there/,
    ],
    "whose snapshot has another size": [
      (store) => {
        const object = setObject(instance, newest, "snapshot");
        store.objects.set(object, { bytes: new Uint8Array(3), modifiedMs: 0 });
      },
      /its snapshot has 3 bytes; its manifest says 9/,
    ],
    "that is a copy of another instance's": [
      (store) => {
        const bytes = manifestOf(`instances/other/sets/${newest}/manifest.json`, 9, origin);
        store.objects.set(setObject(instance, newest, "manifest"), { bytes, modifiedMs: 0 });
      },
      /it is of set ".*" of "other"/,
    ],
    "that was renamed": [
      (store) => {
        const bytes = manifestOf(setObject(instance, second, "manifest"), 9, origin);
        store.objects.set(setObject(instance, newest, "manifest"), { bytes, modifiedMs: 0 });
      },
      /it is of set/,
    ],
    "whose manifest is damaged": [
      (store) => {
        const bytes = new Uint8Array(9);
        store.objects.set(setObject(instance, newest, "manifest"), { bytes, modifiedMs: 0 });
      },
      /no sum at its end/,
    ],
  };
  for (const [words, [ruin, found]] of Object.entries(ruins)) {
    test(`counts on no set ${words}: the newest good one before it stays`, async () => {
      const store = await threeSets();
      ruin(store);
      const repository = memoryRepository(store);
      const catalogue = await readCatalogue(store, instance);
      const policy = { retentionDays: 7 };
      const sure = await planSureExpiry(repository, catalogue, { policy, nowMs });
      assert.match(sure.notes.join("\n"), found);
      // Also where the plan that was shown was made from names alone.
      await applyExpiry(repository, planExpiry(catalogue, policy, nowMs), lease, trusting);
      const left = await readCatalogue(store, instance);
      assert.ok(left.sets.some(({ name, isVerified }) => name === second && isVerified));
      const again = await planSureExpiry(repository, left, { policy, nowMs });
      await applyExpiry(repository, again, lease, trusting);
      assert.ok(store.objects.has(setObject(instance, second, "manifest")));
    });
  }

  test("deletes nothing where a manifest that it relies on cannot be read just now", async () => {
    const store = await threeSets();
    const plan = planExpiry(await readCatalogue(store, instance), { retentionDays: 7 }, nowMs);
    store.read = async function* () {
      yield* [];
      throw new Failure("STORE_BUSY", "away");
    };
    const before = namesOf(store);
    await assert.rejects(applyExpiry(memoryRepository(store), plan, lease), { code: "STORE_BUSY" });
    assert.deepEqual(namesOf(store), before);
  });
});

/** Sets have the positions of their own logs, whatever else has their times. */
async function storeOfOverlap(overlap: Overlap): Promise<MemoryStore> {
  const catalogue = catalogueOf(overlap.objects);
  return await storeOf(overlap, (set) => {
    const line = catalogue.lines.find(({ name }) => name === overlap.lineOf.get(set));
    const ms = parseSetName(set) ?? 0;
    const pieces = line?.runs.flatMap((run) => run.pieces) ?? [];
    const piece = pieces.find(({ fromMs, toMs }) => ms >= fromMs && ms <= toMs);
    // One whose piece is missing is nowhere.
    const replicationId = piece === undefined ? "e".repeat(40) : idOf(line?.idPrefix ?? "");
    return { replicationId, offset: piece?.toOffset ?? 0 };
  });
}

suite("applyExpiry() with logs that overlap in time", () => {
  /** A failover with a full resynchronization, to a server whose clock was five minutes behind. */
  async function failover() {
    const [hourMs, minuteMs] = [3_600_000, 60_000];
    const atMs = Date.parse("2026-06-02T00:00:00Z");
    const objects: { name: string; sizeBytes: number; modifiedMs: number }[] = [];
    const lineOf = new Map<string, string>();
    const addLog = (digit: string, fromMs: number, toMs: number) => {
      const line = lineName({ replicationId: digit.repeat(40), offset: 0, ms: fromMs });
      for (let ms = fromMs, number = 0; ms < toMs; ms += hourMs, number++) {
        const [sequence, offset] = [10 * number, 100 * number];
        const name = pieceObject(instance, line, {
          ...{ firstSequence: sequence, lastSequence: sequence + 9, fromOffset: offset },
          ...{ toOffset: offset + 100, fromMs: ms, toMs: Math.min(toMs, ms + hourMs) },
          ...{ rawBytes: 10, sha256: String(objects.length).padStart(64, "0") },
        });
        objects.push({ name, sizeBytes: 10, modifiedMs: ms });
      }
      return line;
    };
    const addSet = (ms: number, line: string) => {
      const set = setName(ms, "0000");
      lineOf.set(set, line);
      for (const part of ["manifest", "snapshot", "verified"] as const) {
        objects.push({ name: setObject(instance, set, part), sizeBytes: 1, modifiedMs: ms });
      }
      return set;
    };
    const old = addLog("1", atMs - 24 * hourMs, atMs);
    const line = addLog("2", atMs - 5 * minuteMs, atMs + 9 * dayMs);
    addSet(atMs - 24 * hourMs, old);
    const base = addSet(atMs - 5 * minuteMs, line);
    const stranger = addSet(atMs - 3 * minuteMs, old);
    addSet(atMs + dayMs, line);
    addSet(atMs + 7 * dayMs, line);
    objects.sort((a, b) => (a.name < b.name ? -1 : 1));
    const nowMs = atMs + 7 * dayMs + 2 * hourMs;
    return { store: await storeOfOverlap({ objects, lineOf, nowMs }), nowMs, base, stranger };
  }

  test("keeps the base of a log, where the set behind it in time is of another log", async () => {
    const { store, nowMs, base, stranger } = await failover();
    const policy: RetentionPolicy = { retentionDays: 7, logWindowDays: 7 };
    const listed = await readCatalogue(store, instance);
    const plan = planExpiry(listed, policy, nowMs);
    await applyExpiry(memoryRepository(store), plan, lease);
    const { sets } = await readCatalogue(store, instance);
    const names = sets.map(({ name }) => name);
    assert.ok(names.includes(base));
    const sure = await planSureExpiry(memoryRepository(store), listed, { policy, nowMs });
    const reasons = new Map(sure.sets.map(({ set, reasons: why }) => [set.name, why]));
    assert.deepEqual([reasons.get(base), reasons.get(stranger)], [["window"], []]);
  });

  test("loses no moment of any log in the window that one of its own sets gives", async () => {
    await fc.assert(
      fc.asyncProperty(overlaps, policies, async (overlap, policy) => {
        const store = await storeOfOverlap(overlap);
        const catalogue = await readCatalogue(store, instance);
        const plan = planExpiry(catalogue, policy, overlap.nowMs);
        await applyExpiry(memoryRepository(store), plan, lease, trusting);
        const left = await readCatalogue(store, instance);
        for (const ms of [plan.windowStartMs, ...momentsOf(catalogue)]) {
          if (ms < plan.windowStartMs) continue;
          for (const isGood of [false, true]) {
            const was = linesWith(catalogue, overlap, ms, isGood);
            assert.deepEqual(linesWith(left, overlap, ms, isGood), was, new Date(ms).toISOString());
          }
        }
      }),
      { numRuns: 25 },
    );
  });
});

suite("applyExpiry() and the clock", () => {
  const startMs = Date.parse("2026-06-01T00:00:00Z");
  const policy: RetentionPolicy = { retentionDays: 7 };

  /** Sets of the days, all good. */
  async function setsOf(days: readonly number[]): Promise<MemoryStore> {
    const objects = days.flatMap((day) =>
      (["manifest", "snapshot", "verified"] as const).map((part) => {
        const name = setObject(instance, setName(startMs + day * dayMs, "0000"), part);
        return { name, sizeBytes: 1, modifiedMs: 0 };
      }),
    );
    return await storeOf({ objects });
  }

  const countOf = async (store: MemoryStore) => (await readCatalogue(store, instance)).sets.length;

  test("deletes nothing by a clock that has jumped ahead, unless somebody says that it is right", async () => {
    for (const days of [
      [0, 1, 2, 3],
      [0, 1, 2, 3, 465.9],
    ]) {
      const store = await setsOf(days);
      const repository = memoryRepository(store);
      const nowMs = startMs + 466 * dayMs;
      const plan = planExpiry(await readCatalogue(store, instance), policy, nowMs);
      await assert.rejects(applyExpiry(repository, plan, lease), {
        code: "CLOCK_DOUBTED",
        message:
          /^Cannot expire what db has: it is 2027-09-10T.* by this machine's clock.* 2026-06-04/,
        hint: /tidemark expire db --apply --trust-clock/,
      });
      assert.equal(await countOf(store), days.length);
      await applyExpiry(repository, plan, lease, trusting);
      assert.equal(await countOf(store), 1);
    }
  });

  test("is quiet where nothing would go", async () => {
    const store = await setsOf([3]);
    const plan = planExpiry(await readCatalogue(store, instance), policy, startMs + 466 * dayMs);
    assert.equal((await applyExpiry(memoryRepository(store), plan, lease)).sets, 0);
  });
});
