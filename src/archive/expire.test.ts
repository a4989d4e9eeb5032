import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  catalogueOf,
  dayMs,
  type History,
  histories,
  instance,
  isRestorable,
  momentsOf,
  policies,
} from "../../test/archive/histories.ts";
import { MemoryStore, memoryRepository } from "../../test/archive/memory-store.ts";
import { Failure } from "../base/errors.ts";
import { formatSetManifest } from "./backup-set.ts";
import { readCatalogue } from "./catalogue.ts";
import { applyExpiry, planSureExpiry } from "./expire.ts";
import { setName, setObject } from "./layout.ts";
import { planExpiry } from "./retention.ts";
import { keepSet } from "./take-set.ts";

const lease = { check: async () => {} };

function storeOf({ objects }: History): MemoryStore {
  const store = new MemoryStore();
  for (const { name, sizeBytes, modifiedMs } of objects) {
    const isManifest = name.endsWith("/manifest.json");
    const bytes = isManifest ? manifestOf(name, sizeBytes) : new Uint8Array(sizeBytes);
    store.objects.set(name, { bytes, modifiedMs });
  }
  return store;
}

/** Of a snapshot of that size. */
function manifestOf(object: string, sizeBytes: number): Uint8Array {
  const [, of = "", , set = ""] = object.split("/");
  const sum = "0".repeat(64);
  return formatSetManifest({
    ...{ format: 1, set, instance: of, kind: "automatic", ms: 0, startedMs: 0, endedMs: 0 },
    position: { replicationId: "a".repeat(40), offset: 0 },
    database: null,
    source: { name: "", role: "master", version: "" },
    cost: {
      ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
      ...{ p99BeforeMs: null, p99DuringMs: null },
    },
    snapshot: { sizeBytes, sha256: sum, rawBytes: 1, rawSha256: sum, magic: null, keys: null },
    writer: "test",
  });
}

function namesOf(store: MemoryStore): string[] {
  return [...store.objects.keys()].sort();
}

suite("applyExpiry()", () => {
  test("leaves what the plan says, and all else, and a second time does nothing", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, async (history, policy) => {
        const store = storeOf(history);
        const before = namesOf(store);
        const catalogue = await readCatalogue(store, instance);
        const plan = planExpiry(catalogue, policy, history.nowMs);
        const gone = await applyExpiry(memoryRepository(store), plan, lease);
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
    );
  });

  test("leaves the catalogue right wherever it is killed, and the next one goes on", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, fc.nat(), async (history, policy, seed) => {
        const store = storeOf(history);
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
        await applyExpiry(repository, plan, lease).catch((error: Error) => {
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
        await applyExpiry(repository, next, lease);
        const healed = await readCatalogue(store, instance);
        for (const { set } of going) {
          const rest = namesOf(store).filter((name) =>
            name.startsWith(`instances/db/sets/${set.name}`),
          );
          assert.deepEqual(rest, []);
        }
        assert.deepEqual(planExpiry(healed, policy, laterMs).windows, next.windows);
      }),
    );
  });

  test("asks for the lease before each call, and stops where it is lost", async () => {
    await fc.assert(
      fc.asyncProperty(histories, policies, fc.nat(3), async (history, policy, checks) => {
        const store = storeOf(history);
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
        await applyExpiry(memoryRepository(store), plan, guard).catch((error: Failure) => {
          assert.equal(error.code, "LEASE_LOST");
        });
      }),
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
    const store = storeOf({
      objects: [...objects, { name: odd, sizeBytes: 1, modifiedMs: 0 }],
      nowMs,
    });
    const repository = memoryRepository(store);
    const plan = planExpiry(await readCatalogue(store, instance), { retentionDays: 7 }, nowMs);
    assert.deepEqual(plan.freedBytes, 1);
    await keepSet(repository, instance, old, { clock: { now: () => nowMs } });
    assert.equal((await applyExpiry(repository, plan, lease)).sets, 0);
    assert.equal(namesOf(store).length, 8);
    store.objects.delete(setObject(instance, old, "keep"));
    assert.equal((await applyExpiry(repository, plan, lease)).sets, 1);
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
  function threeSets(): MemoryStore {
    const objects = names.flatMap((set) =>
      (["manifest", "snapshot", "verified"] as const).map((part) => ({
        ...{ name: setObject(instance, set, part), sizeBytes: 9, modifiedMs: 0 },
      })),
    );
    return storeOf({ objects, nowMs });
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
        const bytes = manifestOf(`instances/other/sets/${newest}/manifest.json`, 9);
        store.objects.set(setObject(instance, newest, "manifest"), { bytes, modifiedMs: 0 });
      },
      /it is of set ".*" of "other"/,
    ],
    "that was renamed": [
      (store) => {
        const bytes = manifestOf(setObject(instance, second, "manifest"), 9);
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
      const store = threeSets();
      ruin(store);
      const repository = memoryRepository(store);
      const catalogue = await readCatalogue(store, instance);
      const policy = { retentionDays: 7 };
      const sure = await planSureExpiry(repository, catalogue, { policy, nowMs });
      assert.match(sure.notes.join("\n"), found);
      // Also where the plan that was shown was made from names alone.
      await applyExpiry(repository, planExpiry(catalogue, policy, nowMs), lease);
      const left = await readCatalogue(store, instance);
      assert.ok(left.sets.some(({ name, isVerified }) => name === second && isVerified));
      const again = await planSureExpiry(repository, left, { policy, nowMs });
      await applyExpiry(repository, again, lease);
      assert.ok(store.objects.has(setObject(instance, second, "manifest")));
    });
  }

  test("deletes nothing where a manifest that it relies on cannot be read just now", async () => {
    const store = threeSets();
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
