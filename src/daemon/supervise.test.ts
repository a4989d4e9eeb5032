import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Failure } from "../base/errors.ts";
import { supervise, type Trouble, Turns } from "./supervise.ts";

const delays = { firstMs: 1, longestMs: 4, goodMs: 1000 };

suite("supervise()", () => {
  test("begins again after each failure, later each time, and tells of it", async () => {
    const stop = new AbortController();
    const told: Trouble[] = [];
    let runs = 0;
    await supervise(
      async () => {
        runs++;
        if (runs < 5) throw new Failure("STORE_BUSY", `run ${runs}`);
      },
      stop.signal,
      (trouble) => told.push(trouble),
      delays,
    );
    assert.deepEqual(
      told.map(({ failure, retryInMs }) => [failure.message, retryInMs]),
      [
        ["run 1", 1],
        ["run 2", 2],
        ["run 3", 4],
        ["run 4", 4],
      ],
    );
  });

  test("tells a bug as one, and goes on", async () => {
    const told: Trouble[] = [];
    let runs = 0;
    const run = async () => {
      if (++runs === 1) throw new TypeError("x is no function");
    };
    await supervise(run, new AbortController().signal, (trouble) => told.push(trouble), delays);
    assert.match(told[0]?.failure.message ?? "", /bug in Tidemark: TypeError: x is no function/);
    assert.equal(runs, 2);
  });

  test("ends when the signal is given, also while it waits", async () => {
    const stop = new AbortController();
    await supervise(
      async () => {
        throw new Failure("STORE_BUSY", "again");
      },
      stop.signal,
      () => stop.abort(),
      { ...delays, firstMs: 1_000_000 },
    );
  });
});

suite("Turns", () => {
  test("take() lets one at a time through, in order", async () => {
    const turns = new Turns();
    const { signal } = new AbortController();
    const order: number[] = [];
    let inside = 0;
    const jobs = [1, 2, 3].map(async (number) => {
      using _turn = await turns.take(signal);
      assert.equal(++inside, 1);
      await Promise.resolve();
      order.push(number);
      inside--;
    });
    await Promise.all(jobs);
    assert.deepEqual(order, [1, 2, 3]);
  });

  test("take() gives its place up when the signal is given", async () => {
    const turns = new Turns();
    const { signal } = new AbortController();
    const stop = new AbortController();
    const first = await turns.take(signal);
    const second = turns.take(stop.signal);
    const third = turns.take(signal);
    stop.abort(new Failure("ABORTED", "enough"));
    await assert.rejects(second, { code: "ABORTED" });
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
  });
});
