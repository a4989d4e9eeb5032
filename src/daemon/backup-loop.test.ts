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
      newestGoodMs: async () => this.sets.at(-1),
      expire: async () => {
        this.expiries++;
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
    assert.equal(bench.loop.failure?.message, "Cannot now");
    assert.equal(bench.sets.length, 1);
    bench.nowMs += 61_000;
    await bench.until("set taken");
    bench.stop.abort();
    await running;
    assert.equal(bench.loop.failure, undefined);
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
});
