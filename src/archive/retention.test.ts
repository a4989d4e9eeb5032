import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  catalogueOf,
  dayMs,
  histories,
  hourMs,
  instance,
  isRestorable,
  linesWith,
  momentsOf,
  type Overlap,
  overlaps,
  policies,
  startMs,
} from "../../test/archive/histories.ts";
import type { ObjectInfo } from "../store/store.ts";
import { type Catalogue, type ListedSet, type Run, windowsOf } from "./catalogue.ts";
import { setsToRemove } from "./expire.ts";
import { lineName, pieceObject, setName, setObject } from "./layout.ts";
import {
  checkPolicy,
  doubtOf,
  type ExpiryPlan,
  planExpiry,
  type RetentionPolicy,
  without,
} from "./retention.ts";

function after(catalogue: Catalogue, plan: ExpiryPlan): Catalogue {
  return without(catalogue, setsToRemove(plan), plan.pieces);
}

function planned(
  history: { readonly objects: readonly ObjectInfo[]; readonly nowMs: number },
  policy: RetentionPolicy,
) {
  const catalogue = catalogueOf(history.objects);
  const plan = planExpiry(catalogue, policy, history.nowMs);
  return { catalogue, plan, left: after(catalogue, plan) };
}

suite("planExpiry() with any catalogue and any policy", () => {
  test("loses no moment of the log window, and none that a good set gives", () => {
    fc.assert(
      fc.property(histories, policies, (history, policy) => {
        const { catalogue, plan, left } = planned(history, policy);
        for (const ms of [plan.windowStartMs, ...momentsOf(catalogue)]) {
          if (ms < plan.windowStartMs) continue;
          for (const isGood of [false, true]) {
            const was = isRestorable(catalogue, ms, { isGood });
            assert.equal(isRestorable(left, ms, { isGood }), was, `${new Date(ms).toISOString()}`);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("keeps what is kept, young, or the newest good one", () => {
    fc.assert(
      fc.property(histories, policies, (history, policy) => {
        const { catalogue, plan } = planned(history, policy);
        const going = setsToRemove(plan);
        const youngMs = history.nowMs - policy.retentionDays * dayMs;
        assert.ok(going.every(({ isKept, ms }) => !isKept && ms <= youngMs));
        const good = catalogue.sets.filter(({ isVerified }) => isVerified);
        const newest = good.at(-1) ?? catalogue.sets.at(-1);
        assert.ok(newest === undefined || !going.includes(newest));
        const last = good.slice(-(policy.keepLast ?? 0) || good.length);
        assert.ok(last.every((set) => !going.includes(set)));
      }),
    );
  });

  test("makes no hole: of a run its beginning goes, or all of it", () => {
    fc.assert(
      fc.property(histories, policies, (history, policy) => {
        const { catalogue, plan, left } = planned(history, policy);
        const gone = new Set(plan.pieces);
        for (const { runs, covered } of catalogue.lines) {
          for (const { pieces } of runs) {
            const first = pieces.findIndex((piece) => !gone.has(piece));
            const rest = first < 0 ? [] : pieces.slice(first);
            assert.ok(rest.every((piece) => !gone.has(piece)));
          }
          // What remains of what was covered is covered still.
          const restored = left.lines.flatMap((line) => line.runs.flatMap((run) => run.pieces));
          assert.ok(covered.every((piece) => !restored.includes(piece)));
        }
      }),
    );
  });

  test("promises the windows that remain, and lets the newest log go on", () => {
    fc.assert(
      fc.property(histories, policies, (history, policy) => {
        const { catalogue, plan, left } = planned(history, policy);
        assert.deepEqual(plan.windows, windowsOf(left));
        const end = Math.max(
          0,
          ...catalogue.lines.map(({ runs }) => runs.at(-1)?.pieces.at(-1)?.toMs ?? 0),
        );
        assert.equal(isRestorable(left, end), isRestorable(catalogue, end));
      }),
    );
  });

  test("has nothing more to say of what it has left", () => {
    fc.assert(
      fc.property(histories, policies, (history, policy) => {
        const { plan, left } = planned(history, policy);
        const again = planExpiry(left, policy, history.nowMs);
        assert.deepEqual([setsToRemove(again), again.pieces], [[], []]);
        assert.deepEqual(again.windows, plan.windows);
      }),
    );
  });
});

/** As whoever has read all manifests knows it. */
function knownOf({ lineOf }: Overlap) {
  return ({ name }: ListedSet, { pieces }: Run) =>
    pieces[0]?.object.includes(`/${lineOf.get(name)}/`) === true;
}

suite("planExpiry() with logs that overlap in time", () => {
  test("loses no moment of any log in the window, where it is known which sets are of it", () => {
    fc.assert(
      fc.property(overlaps, policies, (overlap, policy) => {
        const catalogue = catalogueOf(overlap.objects);
        const plan = planExpiry(catalogue, policy, overlap.nowMs, knownOf(overlap));
        const left = after(catalogue, plan);
        for (const ms of [plan.windowStartMs, ...momentsOf(catalogue)]) {
          if (ms < plan.windowStartMs) continue;
          for (const isGood of [false, true]) {
            const was = linesWith(catalogue, overlap, ms, isGood);
            assert.deepEqual(linesWith(left, overlap, ms, isGood), was, new Date(ms).toISOString());
          }
        }
        const again = planExpiry(left, policy, overlap.nowMs, knownOf(overlap));
        assert.deepEqual([setsToRemove(again), again.pieces], [[], []]);
      }),
      { numRuns: 300 },
    );
  });
});

suite("doubtOf()", () => {
  const setsAt = (...days: readonly number[]) =>
    catalogueOf(
      days.flatMap((day, i) => {
        const name = setName(startMs + day * dayMs, i.toString(16).padStart(4, "0"));
        return [
          { name: setObject(instance, name, "manifest"), sizeBytes: 1, modifiedMs: 0 },
          { name: setObject(instance, name, "snapshot"), sizeBytes: 1, modifiedMs: 0 },
        ];
      }),
    );
  const doubtAt = (now: number, days: readonly number[], setEveryDays?: number) =>
    doubtOf(setsAt(...days), startMs + now * dayMs, { setEveryDays });

  test("has none of a time that the archive has known for more than a day, or from its start", () => {
    assert.equal(doubtAt(0, []), undefined);
    assert.equal(doubtAt(0.1, [0]), undefined);
    assert.equal(doubtAt(9.5, [0, 1, 8, 9]), undefined);
    assert.equal(doubtAt(9.99, [8, 9]), undefined);
    assert.equal(doubtAt(21.5, [0, 7, 14, 21], 7), undefined);
    assert.equal(doubtAt(20.9, [0, 7, 14], 7), undefined);
    // What is stamped later than now says nothing of now.
    assert.equal(doubtAt(9.5, [8, 9, 400]), undefined);
  });

  test("doubts a time that nothing in the archive is near to", () => {
    assert.match(doubtAt(470, [7, 8, 9]) ?? "", /it is 2027-04-16.* newer than 2026-01-10/);
    assert.match(doubtAt(12, [9]) ?? "", /nothing in the archive is newer/);
    assert.match(doubtAt(8, [7, 8, 9, 600], 1) ?? "none", /none/);
  });

  test("doubts a time that only sets and log of today are near to", () => {
    assert.match(doubtAt(470, [8, 9, 469.9]) ?? "", /since less than a day.* 2026-01-10/);
    assert.match(doubtAt(470, [8, 9, 469.5, 469.9, 470]) ?? "", /since less than a day/);
    assert.equal(doubtAt(470, [8, 9, 468.9, 469.9]), undefined);
  });
});

const week: RetentionPolicy = { retentionDays: 7, logWindowDays: 2 };

/** A set each day at 02:00, all good, and a log of hours. */
function daily(days: number, isVerified: (day: number) => boolean = () => true) {
  const objects: ObjectInfo[] = [];
  const line = lineName({ replicationId: "b".repeat(40), offset: 0, ms: startMs });
  for (let hour = 0; hour < days * 24; hour++) {
    const fromMs = startMs + hour * hourMs;
    const facts = { firstSequence: hour, lastSequence: hour, fromOffset: hour, toOffset: hour + 1 };
    const times = { fromMs, toMs: fromMs + hourMs };
    const sha256 = "0".repeat(64);
    const name = pieceObject(instance, line, { ...facts, ...times, rawBytes: 1, sha256 });
    objects.push({ name, sizeBytes: 1, modifiedMs: fromMs });
  }
  for (let day = 0; day < days; day++) {
    const name = setName(startMs + day * dayMs + 2 * hourMs, "0000");
    const parts = ["manifest", "snapshot"] as const;
    for (const part of isVerified(day) ? [...parts, "verified" as const] : parts) {
      objects.push({ name: setObject(instance, name, part), sizeBytes: 10, modifiedMs: 0 });
    }
  }
  objects.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { objects, nowMs: startMs + days * dayMs };
}

suite("planExpiry()", () => {
  const remaining = ({ left }: { readonly left: Catalogue }) =>
    left.sets.map(({ name }) => name.slice(0, 10));

  test("keeps a week of sets and two days of log, from the set before them", () => {
    const { plan, left } = planned(daily(30), week);
    assert.equal(left.sets.length, 7);
    const [window] = plan.windows;
    assert.equal(plan.windows.length, 1);
    assert.equal(window?.fromMs, startMs + 27 * dayMs + 2 * hourMs);
    assert.equal(window?.toMs, startMs + 30 * dayMs);
    assert.equal(plan.pieces.length, 27 * 24 + 1);
    assert.equal(plan.freedBytes, 23 * 10 + plan.pieces.length);
    assert.deepEqual(plan.sets.at(-1)?.reasons, ["young", "newest"]);
    assert.deepEqual(plan.sets.find(({ set }) => set.ms === window?.fromMs)?.reasons, [
      "young",
      "window",
    ]);
  });

  test("keeps the set that a window longer than the retention starts from", () => {
    const { left, plan } = planned(daily(30), { retentionDays: 7, logWindowDays: 20 });
    assert.equal(plan.windows[0]?.fromMs, startMs + 9 * dayMs + 2 * hourMs);
    assert.deepEqual(remaining({ left })[0], "2026-01-10");
    assert.equal(left.sets.length, 8);
  });

  test("keeps one of each of the last weeks and months, by the policy's time zone", () => {
    const policy = { ...week, keepWeekly: 3, keepMonthly: 2 };
    const utc = remaining(planned(daily(60), policy));
    const young = ["02-23", "02-24", "02-25", "02-26", "02-27", "02-28", "03-01"];
    assert.deepEqual(
      utc,
      ["02-15", "02-22", ...young].map((day) => `2026-${day}`),
    );
    // 02:00 UTC on the 1st is still the last day of the month in Los Angeles.
    const west = remaining(planned(daily(60), { ...policy, timeZone: "America/Los_Angeles" }));
    assert.ok(west.includes("2026-02-01") && !west.includes("2026-01-31"), west.join(" "));
  });

  test("does not count sets that were not verified", () => {
    const history = daily(30, (day) => day === 3 || day === 20);
    const { plan, left } = planned(history, { ...week, keepLast: 1 });
    // Of the window's start: the newest good one before it.
    assert.equal(plan.windows[0]?.fromMs, startMs + 20 * dayMs + 2 * hourMs);
    assert.deepEqual(remaining({ left }).slice(0, 2), ["2026-01-21", "2026-01-24"]);
    assert.deepEqual(plan.sets[20]?.reasons, ["last", "newest", "window"]);
  });

  test("counts on no set whose snapshot is gone: the newest good one, and its log, stay", () => {
    const { objects, nowMs } = daily(3);
    const newest = setName(startMs + 2 * dayMs + 2 * hourMs, "0000");
    const left = objects.filter(({ name }) => name !== setObject(instance, newest, "snapshot"));
    const history = { objects: left, nowMs: nowMs + 30 * dayMs };
    const { plan, ...after30 } = planned(history, week);
    assert.deepEqual(remaining(after30), ["2026-01-02"]);
    assert.deepEqual(plan.notes, [`set ${newest} is not counted on: its snapshot is not there`]);
    assert.equal(plan.windows[0]?.fromMs, startMs + dayMs + 2 * hourMs);
  });

  test("keeps the last log of an instance that nobody writes to", () => {
    const history = daily(10);
    const { left, plan } = planned({ ...history, nowMs: history.nowMs + 100 * dayMs }, week);
    assert.deepEqual(remaining({ left }), ["2026-01-10"]);
    assert.equal(plan.windows[0]?.toMs, history.nowMs);
  });

  test("names what an unfinished set has left behind, when a day has passed", () => {
    const name = setObject(instance, setName(startMs, "abcd"), "snapshot");
    const objects = [{ name, sizeBytes: 5, modifiedMs: startMs }];
    const leftovers = (nowMs: number) => planned({ objects, nowMs }, week).plan.leftovers;
    assert.deepEqual(leftovers(startMs + dayMs), []);
    assert.deepEqual(leftovers(startMs + dayMs + 1), [name]);
  });

  test("takes a second at most for two years of pieces of an hour", () => {
    const { objects, nowMs } = daily(730);
    const catalogue = catalogueOf(objects);
    const began = performance.now();
    planExpiry(catalogue, { retentionDays: 30, keepMonthly: 24, logWindowDays: 700 }, nowMs);
    assert.ok(performance.now() - began < 1000);
  });
});

suite("checkPolicy()", () => {
  test("refuses a retention outside of 7 to 730 days, unless any is allowed", () => {
    for (const retentionDays of [0, 6, 731, 10_000]) {
      assert.throws(() => checkPolicy({ retentionDays }), {
        code: "USAGE",
        message: `Cannot use the retention policy: a retention of ${retentionDays} days is not between 7 and 730`,
        hint: /allow_any_retention/,
      });
      checkPolicy({ retentionDays, allowAnyRetention: true });
    }
    for (const retentionDays of [7, 30, 730]) checkPolicy({ retentionDays });
  });

  test("refuses what is no number, no count and no time zone", () => {
    const wrong: readonly Partial<RetentionPolicy>[] = [
      { retentionDays: Number.NaN, allowAnyRetention: true },
      { retentionDays: -1, allowAnyRetention: true },
      { retentionDays: Number.POSITIVE_INFINITY, allowAnyRetention: true },
      { logWindowDays: -1 },
      { logWindowDays: Number.NaN },
      { keepDaily: 1.5 },
      { keepLast: -1 },
      { timeZone: "Europe/Nowhere" },
    ];
    for (const part of wrong) {
      assert.throws(() => checkPolicy({ retentionDays: 7, ...part }), { code: "USAGE" });
    }
  });
});
