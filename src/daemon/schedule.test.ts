import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { type BackupPolicy, dueAt, isDue, weekdays } from "./schedule.ts";

const daily: BackupPolicy = {
  days: weekdays,
  ...{ hour: 3, minute: 15, timeZone: "UTC", jitterMs: 0 },
};
const at = (text: string) => Date.parse(text);
const minutes = 60_000;
const days = 86_400_000;

suite("dueAt()", () => {
  test("gives the moments of the policy on both sides of now", () => {
    const due = dueAt(daily, "db1", at("2026-11-22T10:00:00Z"));
    assert.equal(due.lastMs, at("2026-11-22T03:15:00Z"));
    assert.equal(due.nextMs, at("2026-11-23T03:15:00Z"));
  });

  test("counts a moment as past from its first millisecond on", () => {
    const moment = at("2026-11-22T03:15:00Z");
    assert.equal(dueAt(daily, "db1", moment).lastMs, moment);
    assert.equal(dueAt(daily, "db1", moment - 1).lastMs, moment - days);
    assert.equal(dueAt(daily, "db1", moment - 1).nextMs, moment);
    assert.equal(dueAt(daily, "db1", moment).nextMs, moment + days);
  });

  test("keeps to the weekdays and the time zone", () => {
    const policy = { ...daily, days: ["sunday", "wednesday"], timeZone: "Europe/Prague" } as const;
    const due = dueAt(policy, "db1", at("2026-11-22T10:00:00Z"));
    assert.equal(due.lastMs, at("2026-11-22T02:15:00Z"));
    assert.equal(due.nextMs, at("2026-11-25T02:15:00Z"));
  });

  test("has one moment a day when the clocks change", () => {
    const policy = { ...daily, hour: 2, minute: 30, timeZone: "Europe/Prague" };
    for (const day of ["2026-03-29", "2026-10-25"]) {
      const start = at(`${day}T00:00:00Z`) - 12 * 60 * minutes;
      const moments = new Set<number>();
      for (let ms = start; ms < start + 48 * 60 * minutes; ms += 15 * minutes) {
        moments.add(dueAt(policy, "db1", ms).nextMs);
      }
      assert.equal(moments.size, 3, day);
    }
  });

  test("gives each instance its own share of the jitter, always the same", () => {
    const policy = { ...daily, jitterMs: 30 * minutes };
    const now = at("2026-11-22T10:00:00Z");
    const moments = ["db1", "db2", "db3", "db4"].map((name) => dueAt(policy, name, now).lastMs);
    assert.equal(new Set(moments).size, 4);
    for (const ms of moments) {
      const late = (ms as number) - at("2026-11-22T03:15:00Z");
      assert.ok(late >= 0 && late < 30 * minutes, `${late}`);
    }
    assert.equal(dueAt(policy, "db1", now + days).lastMs, (moments[0] as number) + days);
  });

  test("never puts the last moment behind now, or the next one before", () => {
    const zones = fc.constantFrom("UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe");
    const subset = fc.subarray([...weekdays], { minLength: 1 });
    fc.assert(
      fc.property(
        subset,
        fc.nat(23),
        fc.nat(59),
        zones,
        fc.nat(120 * minutes),
        fc.integer({ min: at("2026-01-01T00:00:00Z"), max: at("2030-01-01T00:00:00Z") }),
        (chosen, hour, minute, timeZone, jitterMs, now) => {
          const policy = { days: chosen, hour, minute, timeZone, jitterMs };
          const { lastMs = now, nextMs } = dueAt(policy, "db1", now);
          assert.ok(lastMs <= now && nextMs > now);
          assert.ok(nextMs - lastMs <= 8 * days);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test("isDue() asks for one set after any number of missed moments, and for none where none is known of", () => {
  const now = at("2026-11-22T10:00:00Z");
  const due = dueAt(daily, "db1", now);
  assert.equal(isDue(due, now - 10 * days), true);
  assert.equal(isDue(due, at("2026-11-22T03:15:00Z")), false);
  assert.equal(isDue(due, undefined), false);
});
