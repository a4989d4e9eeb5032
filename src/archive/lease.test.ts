import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { hostname } from "node:os";
import { suite, test } from "node:test";
import { ManualClock } from "../../test/archive/manual-clock.ts";
import { type SharedStore, sharedStore } from "../../test/archive/shared-store.ts";
import type { Failure } from "../base/errors.ts";
import { seededRandom } from "../log/testing.ts";
import type { Store } from "../store/store.ts";
import { faultyStore } from "../store/testing.ts";
import { Lease, type LeaseOptions, type LeaseWaiting } from "./lease.ts";
import { type Here, systemHere } from "./lease-process.ts";
import type { Repository } from "./repository.ts";

const ttlMs = 60_000;
const here: Here = { host: "here", machine: "a boot", process: 41, isRunning: () => true };

function repositoryOn(store: Store, isConditional: boolean): Repository {
  const all = { ranges: true, parts: true, overwrite: true, listing: true, deletes: true };
  return {
    ...{ store, id: "0", madeMs: 0, key: undefined, keys: () => undefined, level: undefined },
    abilities: { ...all, conditionalCreate: isConditional },
  };
}

type World = {
  readonly clock: ManualClock;
  readonly store: SharedStore;
  readonly repository: Repository;
  readonly acquire: (owner: string, options?: Partial<LeaseOptions>) => Promise<Lease>;
  readonly names: () => string[];
};

function world(isConditional: boolean): World {
  const clock = new ManualClock();
  const store = sharedStore(clock.now, isConditional);
  const repository = repositoryOn(store, isConditional);
  return {
    ...{ clock, store, repository },
    acquire: (owner, options) => Lease.acquire(repository, "shop", { owner, clock, ...options }),
    names: () => [...store.objects.keys()].map((name) => name.replace("instances/shop/lease/", "")),
  };
}

/** What comes of it when so much time has passed. */
async function after<T>(clock: ManualClock, ms: number, promise: Promise<T>): Promise<T> {
  const settled = Promise.allSettled([promise]);
  await clock.pass(ms);
  const [result] = await settled;
  if (result.status === "rejected") throw result.reason;
  return result.value;
}

for (const isConditional of [true, false]) {
  suite(isConditional ? "a lease, by conditional creation" : "a lease, by claims", () => {
    test("is given at once where there is none", async () => {
      const { clock, acquire } = world(isConditional);
      const lease = await after(clock, 5000, acquire("a"));
      assert.equal(lease.epoch, 1);
      await lease.check();
      await lease.release();
    });

    test("is refused while the holder is alive, who is named", async () => {
      const { clock, acquire } = world(isConditional);
      const since = new Date(clock.now()).toISOString();
      const first = await after(clock, 5000, acquire("tidemark up"));
      const second = acquire("b");
      await assert.rejects(after(clock, ttlMs, second), (error: Error) => {
        const { message } = error;
        const who = `Cannot write "shop" in memory: tidemark up, process ${process.pid} on ${hostname()} does`;
        assert.ok(
          message.startsWith(`${who}, since ${since}; its last sign of life was at `),
          message,
        );
        assert.equal((error as { code?: string }).code, "LEASE_HELD");
        return true;
      });
      await first.check();
      await first.release();
    });

    test("is kept for as long as it is held, with few objects", async () => {
      const { clock, acquire, names } = world(isConditional);
      const lease = await after(clock, 5000, acquire("a"));
      await clock.pass(50 * ttlMs);
      await lease.check();
      assert.equal(names().length, 2, names().join());
      await assert.rejects(after(clock, ttlMs, acquire("b")), { code: "LEASE_HELD" });
      await lease.release();
    });

    test("is given at once when it was let go of, under the next epoch", async () => {
      const { clock, acquire, names } = world(isConditional);
      for (const epoch of [1, 2, 3]) {
        const lease = await after(clock, 5000, acquire("a"));
        assert.equal(lease.epoch, epoch);
        await clock.pass(ttlMs);
        await lease.release();
        await lease.release();
      }
      assert.ok(names().length <= 3, "What is old is gone");
    });

    test("is taken over when its holder has been silent for long enough, not before", async () => {
      const { clock, acquire, repository } = world(isConditional);
      const dead = new ManualClock();
      const options = { owner: "a", clock: dead };
      const lost = await after(dead, 5000, Lease.acquire(repository, "shop", options));
      const order: string[] = [];
      const taking = acquire("b").then((lease) => {
        order.push("taken");
        return lease;
      });
      await clock.pass(ttlMs - 5000);
      assert.deepEqual(order, []);
      await clock.pass(20_000);
      const lease = await taking;
      assert.equal(lease.epoch, 2);
      await assert.rejects(lost.check(), {
        code: "LEASE_LOST",
        message: /b, process .* has taken over$/,
      });
      assert.ok(lost.isLost && lost.signal.aborted);
      await lost.release();
      await lease.check();
      await lease.release();
    });

    test("is waited for with a word about who has it, and until when", async () => {
      const { clock, acquire } = world(isConditional);
      await using first = await after(clock, 5000, acquire("a"));
      const told: LeaseWaiting[] = [];
      const nowMs = clock.now();
      const second = acquire("b", { onWait: (waiting) => told.push(waiting) });
      await assert.rejects(after(clock, ttlMs, second), {
        code: "LEASE_HELD",
        hint: /`tidemark up --steal`/,
      });
      assert.equal(told.length, 1);
      assert.match(told[0]?.holder ?? "", /^a, process \d+ on /);
      assert.equal(told[0]?.untilMs, nowMs + ttlMs);
      await first.check();
    });

    test("is lost by a holder that wakes up too late, which gives no sign of life then", async () => {
      const { clock, acquire, repository, names } = world(isConditional);
      const asleep = new ManualClock();
      const options = { owner: "a", clock: asleep };
      const lost = await after(asleep, 5000, Lease.acquire(repository, "shop", options));
      const lease = await after(clock, 2 * ttlMs, acquire("b"));
      await clock.pass(ttlMs);
      const before = names();
      await asleep.pass(3 * ttlMs);
      assert.deepEqual(names(), before);
      assert.ok(lost.isLost);
      await lost[Symbol.asyncDispose]();
      await lease.release();
    });

    test("is taken over at once by the same holder, started again on the same machine", async () => {
      const { clock, acquire } = world(isConditional);
      const dead = { ...here, process: 41, isRunning: () => assert.fail("It is the one before") };
      const first = await after(clock, 5000, acquire("a", { holder: "spool 1", here: dead }));
      const next = { ...here, process: 43, isRunning: (number: number) => number !== 41 };
      const again = await after(clock, 5000, acquire("a", { holder: "spool 1", here: next }));
      await assert.rejects(first.check(), { code: "LEASE_LOST" });
      await again.check();
      await assert.rejects(after(clock, ttlMs, acquire("b", { holder: "spool 2", here: next })), {
        code: "LEASE_HELD",
      });
      await again.release();
      await first.release();
    });

    test("is taken over at once by the process that had it, when it has ended it", async () => {
      const { clock, acquire, store } = world(isConditional);
      const options = { holder: "spool 1", here };
      const first = await after(clock, 5000, acquire("a", options));
      await assert.rejects(after(clock, ttlMs, acquire("a", options)), { code: "LEASE_HELD" });
      await first.release();
      for (const name of store.objects.keys()) {
        if (name.endsWith(".released.json")) store.objects.delete(name);
      }
      const again = await after(clock, 5000, acquire("a", options));
      await again.release();
    });

    test("is left to a living one by a clone, and taken when that one is silent", async () => {
      const clones: Here[] = [
        { ...here, process: 42 },
        { ...here, host: "another", isRunning: () => false },
        { ...here, machine: "another boot", isRunning: () => false },
        { ...here, machine: null, isRunning: () => false },
      ];
      for (const clone of clones) {
        const { clock, acquire, repository } = world(isConditional);
        const alone = new ManualClock();
        const options = { owner: "a", holder: "spool", here, clock: alone };
        const taking = Lease.acquire(repository, "shop", options);
        const first = await after(alone, 5000, taking);
        const waiting = acquire("b", { holder: "spool", here: clone });
        await clock.pass(ttlMs / 2);
        await alone.pass(ttlMs / 2);
        await assert.rejects(after(clock, ttlMs, waiting), { code: "LEASE_HELD" });
        await first.check();
        const lease = await after(clock, 2 * ttlMs, acquire("b", { holder: "spool", here: clone }));
        await assert.rejects(first.check(), { code: "LEASE_LOST" });
        const back = acquire("a", { holder: "spool", here });
        await assert.rejects(after(clock, ttlMs, back), { code: "LEASE_HELD" });
        await lease.check();
        await first.release();
        await lease.release();
      }
    });

    test("is refused where somebody has used up its numbers, naming the object", async () => {
      const { clock, acquire, store } = world(isConditional);
      const object = "instances/shop/lease/9999999999.json";
      await store.put(object, Buffer.from("{}"));
      for (const steal of [false, true]) {
        await assert.rejects(after(clock, 5000, acquire("a", { steal })), (error: Failure) => {
          assert.equal(error.code, "DATA_CORRUPT");
          assert.ok(error.message.includes(object) && /Delete it/.test(error.hint));
          return true;
        });
      }
      await store.delete([object]);
      const lease = await after(clock, 5000, acquire("a"));
      await lease.check();
      await lease.release();
    });

    test("is taken over from a living holder where that was said", async () => {
      const { clock, acquire } = world(isConditional);
      const first = await after(clock, 5000, acquire("a"));
      const second = await after(clock, 5000, acquire("b", { steal: true }));
      await assert.rejects(first.check(), { code: "LEASE_LOST" });
      await second.check();
      await second.release();
      await first.release();
    });

    test("is given to one of any number that want it at the same time", async () => {
      for (let seed = 1; seed <= 20; seed++) {
        const { clock, acquire } = world(isConditional);
        const random = seededRandom(seed);
        const late = async (owner: string) => {
          await clock.wait(random.below(3) * 700);
          return await acquire(owner);
        };
        const wanting = Promise.allSettled(["a", "b", "c", "d", "e"].map(late));
        await clock.pass(2 * ttlMs);
        const results = await wanting;
        const leases = results.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
        assert.equal(leases.length, 1, `seed ${seed}`);
        await leases[0]?.check();
        await leases[0]?.release();
      }
    });

    test("is not lost by a storage that is away or lists late", async () => {
      const { clock, store } = world(isConditional);
      const faults = { errorBefore: 0.3, errorAfter: 0.2, staleList: 0.5 };
      let lease: Lease | undefined;
      let faulty = faultyStore(store, seededRandom(1), {});
      for (let seed = 1; lease === undefined; seed++) {
        faulty = faultyStore(store, seededRandom(seed), faults);
        const repository = repositoryOn(faulty, isConditional);
        const options = { owner: "a", clock, holder: "spool" };
        const [result] = await after(
          clock,
          2 * ttlMs,
          Promise.allSettled([Lease.acquire(repository, "shop", options)]),
        );
        if (result.status === "fulfilled") lease = result.value;
      }
      for (let i = 0; i < 30; i++) {
        await clock.pass(5000);
        await lease.check().catch((error) => assert.equal(error.code, "STORE_BUSY"));
      }
      faulty.heal();
      await lease.check();
      await lease.release();
    });

    test("is not taken over behind a release that was not its own", async () => {
      const { clock, acquire, store } = world(isConditional);
      const lease = await after(clock, 5000, acquire("a"));
      const stop = new AbortController();
      const waiting = acquire("b", { signal: stop.signal });
      stop.abort();
      await assert.rejects(after(clock, 100, waiting), { code: "ABORTED" });
      await store.put("instances/shop/lease/notes.txt", Buffer.from("by hand"));
      await lease.check();
      await lease.release();
    });
  });
}

test("a lease whose objects were removed is lost after a while", async () => {
  const { clock, acquire, store } = world(true);
  const lease = await after(clock, 5000, acquire("a"));
  store.objects.clear();
  await assert.rejects(lease.check(), { code: "STORE_BUSY" });
  for (let i = 0; i < 4; i++) {
    await clock.pass(ttlMs / 3);
    for (const name of [...store.objects.keys()]) store.objects.delete(name);
  }
  await assert.rejects(lease.check(), { code: "LEASE_LOST", message: /was removed$/ });
  await lease.release();
});

test("what a process is, is known of this one, and of one that has ended", () => {
  assert.ok(systemHere.isRunning(process.pid));
  const { pid } = spawnSync(process.execPath, ["--version"]);
  assert.ok(!systemHere.isRunning(pid));
  if (process.platform === "linux") assert.ok(systemHere.machine !== null);
});
