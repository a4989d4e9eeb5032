import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "../base/errors.ts";
import { describeTarget, formatTarget, notesOfTarget, parseTarget } from "./target.ts";

process.env["TZ"] = "Europe/Berlin";
const now = Date.parse("2026-11-22T10:41:05.500Z");
const at = (text: string, nowMs = now) => {
  const target = parseTarget(text, nowMs);
  assert.equal(target.kind, "time");
  return new Date(target.kind === "time" ? target.ms : Number.NaN).toISOString();
};

test("parseTarget() reads times with a zone, and takes the whole of a second", () => {
  assert.equal(at("2026-11-22T10:41:05Z"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("2026-11-22T10:41:05.123Z"), "2026-11-22T10:41:05.123Z");
  assert.equal(at("2026-11-22T10:41:05.1Z"), "2026-11-22T10:41:05.100Z");
  assert.equal(at("2026-11-22T10:41:05.123456Z"), "2026-11-22T10:41:05.123Z");
  assert.equal(at("2026-11-22T11:41:05+01:00"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("2026-11-22 05:11:05 -0530"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("2026-11-22t10:41z"), "2026-11-22T10:41:00.999Z");
});

test("parseTarget() takes a time without a zone as local, and says which zone that is", () => {
  assert.equal(at("2026-11-22T11:41:05"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("2026-07-01 11:41"), "2026-07-01T09:41:00.999Z");
  assert.equal(at("2026-11-22"), "2026-11-21T23:00:00.999Z");
  assert.equal(at("2026-11-22  11:41:05"), "2026-11-22T10:41:05.999Z");
  const target = parseTarget("2026-11-22T11:41:05", now);
  assert.deepEqual(target.kind === "time" && target.zone, "Europe/Berlin");
  const utc = parseTarget("2026-11-22T11:41:05Z", now);
  assert.equal("zone" in utc, false);
});

test("parseTarget() takes a time of day as the last one that was", () => {
  assert.equal(at("11:41:05"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("11:41:06"), "2026-11-21T10:41:06.999Z");
  assert.equal(at("9:00"), "2026-11-22T08:00:00.999Z");
  assert.equal(at("10:41:05Z"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("23:59:59.5Z"), "2026-11-21T23:59:59.500Z");
  // The clock went forward in the night of the 29th of March.
  assert.equal(at("23:00", Date.parse("2026-03-29T12:00:00Z")), "2026-03-28T22:00:00.999Z");
});

test("parseTarget() says where it took yesterday", () => {
  const target = parseTarget("11:41:06", now);
  const note = "11:41:06 of today is still to come: yesterday's is taken";
  assert.deepEqual(notesOfTarget(target), [note]);
  assert.deepEqual(notesOfTarget(parseTarget("11:41:05", now)), []);
  assert.deepEqual(notesOfTarget(parseTarget("before:FLUSHALL@11:41:06", now)), [note]);
});

test("parseTarget() reads a time of today and of yesterday", () => {
  assert.equal(at("yesterday 11:41"), "2026-11-21T10:41:00.999Z");
  assert.equal(at("Yesterday 10:41:05.25Z"), "2026-11-21T10:41:05.250Z");
  assert.equal(at("today 11:41:06"), "2026-11-22T10:41:06.999Z");
});

test("parseTarget() takes the first of two hours of one name, and says the other", () => {
  const target = parseTarget("2026-10-25 02:30", now);
  assert.equal(formatTarget(target), "2026-10-25T00:30:00.999Z");
  assert.match(notesOfTarget(target)[0] ?? "", /twice: .* the other is 2026-10-25T01:30:00.999Z/);
  assert.deepEqual(notesOfTarget(parseTarget("2026-10-25 03:00", now)), []);
  assert.equal(at("2026-10-25 03:00"), "2026-10-25T02:00:00.999Z");
});

test("describeTarget() tells what was understood, on both clocks", () => {
  const said = (text: string) => describeTarget(parseTarget(text, now));
  const both = "2026-11-22T10:05:00.999Z (2026-11-22 11:05:00.999 +01:00 in Europe/Berlin)";
  assert.equal(said("11:05"), both);
  assert.equal(said("before:FLUSHALL@11:05"), `before:FLUSHALL@${both}`);
  assert.equal(said("2026-11-22T10:05Z"), "2026-11-22T10:05:00.999Z");
  assert.equal(said("before:FLUSHALL"), "before:FLUSHALL");
});

test("parseTarget() reads what clocks count", () => {
  assert.equal(at("1795344065"), "2026-11-22T10:41:05.999Z");
  assert.equal(at("1795344065123"), "2026-11-22T10:41:05.123Z");
});

test("parseTarget() reads ages", () => {
  assert.equal(at("1 h ago"), "2026-11-22T09:41:05.500Z");
  assert.equal(at("5 min ago"), "2026-11-22T10:36:05.500Z");
  assert.equal(at("1 day 2 Hours 30 minutes ago"), "2026-11-21T08:11:05.500Z");
  assert.equal(at("1sec 500 ms ago"), "2026-11-22T10:41:04.000Z");
  assert.equal(at("0s ago"), "2026-11-22T10:41:05.500Z");
  assert.equal(at("5m ago"), "2026-11-22T10:36:05.500Z");
  assert.equal(at("2h30m ago"), "2026-11-22T08:11:05.500Z");
  assert.equal(at("1d 250ms ago"), "2026-11-21T10:41:05.250Z");
});

test("parseTarget() reads positions, sets, the latest moment, and commands", () => {
  assert.deepEqual(parseTarget("latest", now), { kind: "latest" });
  assert.deepEqual(parseTarget("NOW", now), { kind: "latest" });
  assert.deepEqual(parseTarget("@0aB:17", now), { kind: "position", idPrefix: "0ab", offset: 17 });
  assert.deepEqual(parseTarget("set:2026-11-22T10-41-05.123Z-3fa9", now), {
    kind: "set",
    name: "2026-11-22T10-41-05.123Z-3fa9",
  });
  assert.deepEqual(parseTarget("before:flushall", now), {
    kind: "before",
    command: "FLUSHALL",
    untilMs: undefined,
  });
  assert.deepEqual(parseTarget("before:function  flush@10:41Z", now), {
    kind: "before",
    command: "FUNCTION FLUSH",
    untilMs: Date.parse("2026-11-22T10:41:00.999Z"),
  });
});

const wrong: readonly (readonly [text: string, found: RegExp])[] = [
  ["", /none of the forms/],
  ["yesterday", /none of the forms/],
  ["yesterday 25:00", /no such date/],
  ["179534406", /none of the forms/],
  ["5 moons ago", /none of the forms/],
  ["2026-03-29 02:30", /put forward/],
  ["22/11/2026", /none of the forms/],
  ["2026-02-30T00:00:00Z", /no such date/],
  ["2026-11-22T25:00:00Z", /no such date/],
  ["25:00", /no such date/],
  ["2026-11-22T10:41:05+24:00", /no such zone/],
  ["999999999999d ago", /before 1970/],
  ["@xyz:1", /no position/],
  ["@ab", /no position/],
  ["@ab:99999999999999999", /no position/],
  ["set:", /names no set/],
  ["set:a/b", /names no set/],
  ["before:", /no name of a command/],
  ["before:FLUSHALL@soon", /no time/],
];
for (const [text, found] of wrong) {
  test(`parseTarget() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parseTarget(text, now),
      (error) => error instanceof Failure && error.code === "USAGE" && found.test(error.message),
    );
  });
}

test("parseTarget() of what formatTarget() gives is the same target", () => {
  const ms = fc.integer({ min: 0, max: 4e12 });
  const target = fc.oneof(
    ms.map((value) => ({ kind: "time" as const, ms: value })),
    fc.record({
      kind: fc.constant("position" as const),
      idPrefix: fc.stringMatching(/^[0-9a-f]{1,40}$/),
      offset: fc.maxSafeNat(),
    }),
    fc.record({
      kind: fc.constant("before" as const),
      command: fc.constantFrom("FLUSHALL", "FUNCTION FLUSH", "FT.DROPINDEX"),
      untilMs: ms,
    }),
  );
  fc.assert(
    fc.property(target, (value) => {
      // fast-check's records may have no prototype.
      assert.deepEqual(parseTarget(formatTarget(value), now), { ...value });
    }),
  );
});

test("parseTarget() of anything gives a target or a Failure", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseTarget(text, now);
      } catch (error) {
        assert(error instanceof Failure);
      }
    }),
  );
});
