import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { SetManifest } from "../archive/backup-set.ts";
import { Failure } from "../base/errors.ts";
import { type BackupEvent, BackupLoop } from "./backup-loop.ts";
import { weekdays } from "./schedule.ts";
import { Turns } from "./supervise.ts";

const at = (text: string) => Date.parse(text);
const policy = { days: weekdays, hour: 3, minute: 0, timeZone: "UTC", jitterMs: 0 };
const dayMs = 86_400_000;

/** An instance whose sets are a list of times, with a clock that is set by hand. */
class Bench {
  nowMs = at("2026-11-22T10:00:00Z");
  readonly sets: number[] = [];
  readonly events: BackupEvent[] = [];
  readonly stop = new AbortController();
  readonly loop: BackupLoop;
  failures = 0;
  wanted: string | undefined;
  expiryFailure: Failure | undefined;
  expiries = 0;
  #heard = Promise.withResolvers<void>();

  constructor(turns = new Turns()) {
    this.loop = new BackupLoop({
      ...{ instance: "db1", policy, turns, lookEveryMs: 1 },
      clock: { now: () => this.nowMs },
      onEvent: (event) => {
        this.events.push(event);
        this.#heard.resolve();
      },
      take: async () => this.take(),
      look: async () => ({ newestGoodMs: this.sets.at(-1), wanted: this.wanted, isSure: true }),
      expire: async () => {
        this.expiries++;
        if (this.expiryFailure !== undefined) throw this.expiryFailure;
        return { sets: 1, pieces: 0, bytes: 0 };
      },
    });
  }

  async take(): Promise<SetManifest> {
    if (this.failures-- > 0) throw new Failure("SERVER_BUSY", "Cannot now");
    this.sets.push(this.nowMs);
    const times = { ms: this.nowMs, startedMs: this.nowMs, endedMs: this.nowMs };
    return { set: "set", ...times, snapshot: { rawBytes: 1 } } as SetManifest;
  }

  async until(kind: BackupEvent["kind"]): Promise<void> {
    while (!this.events.some((event) => event.kind === kind)) {
      await this.#heard.promise;
      this.#heard = Promise.withResolvers();
    }
  }
}

suite("BackupLoop", () => {
  test("catches a missed moment up once, and then lets old ones go", async () => {
    const bench = new Bench();
    bench.sets.push(bench.nowMs - 5 * dayMs);
    const running = bench.loop.run(bench.stop.signal);
    await bench.until("set taken");
    await bench.until("expired");
    bench.stop.abort();
    await running;
    assert.equal(bench.sets.length, 2);
    assert.ok(bench.expiries >= 1);
    assert.equal(bench.loop.nextMs, at("2026-11-23T03:00:00Z"));
  });

  test("tries again what failed, later each time", async () => {
    const bench = new Bench();
    bench.sets.push(bench.nowMs - dayMs);
    bench.failures = 1;
    const running = bench.loop.run(bench.stop.signal);
    await bench.until("set failed");
    assert.equal(bench.loop.trouble?.failure.message, "Cannot now");
    assert.equal(bench.sets.length, 1);
    bench.nowMs += 61_000;
    await bench.until("set taken");
    bench.stop.abort();
    await running;
    assert.equal(bench.loop.trouble, undefined);
  });

  test("take() refuses a second one by name while one runs", async () => {
    const bench = new Bench();
    const gate = Promise.withResolvers<void>();
    const taken = bench.take.bind(bench);
    bench.take = async () => {
      await gate.promise;
      return await taken();
    };
    const first = bench.loop.take({ kind: "manual" }, bench.stop.signal);
    await assert.rejects(bench.loop.take({ kind: "manual" }, bench.stop.signal), {
      code: "SERVER_BUSY",
      message: "Cannot take a set of db1: a manual one runs since 2026-11-22T10:00:00.000Z",
    });
    gate.resolve();
    await first;
    assert.equal(bench.loop.running, undefined);
  });

  test("waits for its turn with an automatic set, and not with a manual one", async () => {
    const turns = new Turns();
    const other = await turns.take(new AbortController().signal);
    const bench = new Bench(turns);
    await bench.loop.take({ kind: "manual" }, bench.stop.signal);
    bench.nowMs += dayMs;
    const running = bench.loop.run(bench.stop.signal);
    assert.equal(bench.sets.length, 1);
    other[Symbol.dispose]();
    while (bench.sets.length < 2)
      await bench.until("set taken").then(() => new Promise(setImmediate));
    bench.stop.abort();
    await running;
  });

  test("takes none before the log has its base", async () => {
    const bench = new Bench();
    const running = bench.loop.run(bench.stop.signal);
    for (let i = 0; i < 10; i++) await new Promise(setImmediate);
    assert.deepEqual([bench.sets.length, bench.expiries], [0, 0]);
    bench.stop.abort();
    await running;
  });

  test("takes a set at once where one is wanted, and another one for that after an hour", async () => {
    const bench = new Bench();
    bench.wanted = "no good set is there";
    const running = bench.loop.run(bench.stop.signal);
    await bench.until("set taken");
    for (let i = 0; i < 10; i++) await new Promise(setImmediate);
    assert.deepEqual([bench.sets.length, bench.expiries], [1, 0]);
    assert.equal(bench.loop.wanted, "no good set is there");
    bench.nowMs += 61 * 60_000;
    while (bench.sets.length < 2) await new Promise(setImmediate);
    bench.wanted = undefined;
    await bench.until("expired");
    bench.stop.abort();
    await running;
    assert.equal(bench.loop.wanted, undefined);
    assert.equal(bench.events.filter(({ kind }) => kind === "set wanted").length, 1);
  });

  test("looks again when its clock was set back behind the newest set", async () => {
    const bench = new Bench();
    const rightMs = bench.nowMs;
    bench.nowMs += 400 * dayMs;
    bench.sets.push(bench.nowMs);
    const running = bench.loop.run(bench.stop.signal);
    await bench.until("expired");
    bench.sets.length = 0;
    bench.wanted = "all are stamped in the future";
    bench.nowMs = rightMs;
    await bench.until("set taken");
    bench.stop.abort();
    await running;
    assert.deepEqual(bench.sets, [rightMs]);
  });

  test("says why nothing expires, and goes on", async () => {
    const bench = new Bench();
    bench.sets.push(bench.nowMs);
    bench.expiryFailure = new Failure("USAGE", "Cannot expire: the clock is ahead");
    const running = bench.loop.run(bench.stop.signal);
    await bench.until("expiry failed");
    assert.equal(bench.loop.expiryFailure?.message, "Cannot expire: the clock is ahead");
    bench.expiryFailure = undefined;
    bench.nowMs += 61 * 60_000;
    await bench.until("expired");
    assert.equal(bench.loop.expiryFailure, undefined);
    bench.stop.abort();
    await running;
  });

  test("a set by hand that failed is no trouble when the storage works again, or an hour later", async () => {
    const { signal } = new AbortController();
    for (const code of ["STORE_FAILED", "SERVER_LOST"] as const) {
      const bench = new Bench();
      bench.take = () => Promise.reject(new Failure(code, "Cannot now"));
      await assert.rejects(bench.loop.take({ kind: "manual" }, signal), { code });
      assert.deepEqual([bench.loop.trouble?.set, bench.loop.trouble?.ms], ["manual", bench.nowMs]);
      bench.loop.storageHasWorked();
      assert.equal(bench.loop.trouble === undefined, code === "STORE_FAILED");
      bench.nowMs += 61 * 60_000;
      assert.equal(bench.loop.trouble, undefined);
    }
  });
});
