import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { readKeyChoice, readTtl } from "./key-choice.ts";

const nowMs = Date.parse("2026-11-22T12:00:00Z");
const fromMs = Date.parse("2026-11-22T10:00:00Z");

suite("readKeyChoice()", () => {
  test("chooses everything, and keeps expiries, where nothing is said", () => {
    const { selection, expiry, prefix } = readKeyChoice({ ttl: "keep" }, { fromMs, nowMs });
    assert.deepEqual([selection, expiry, prefix], [{}, { kind: "keep" }, undefined]);
  });

  test("shifts expiries from the moment that is restored, or from the time given, to now", () => {
    const shifted = (ttl: string) => readKeyChoice({ ttl }, { fromMs, nowMs }).expiry;
    assert.deepEqual(shifted("shift"), { kind: "shift", fromMs, toMs: nowMs });
    const noon = Date.parse("2026-11-21T12:00:00.500Z");
    assert.deepEqual(shifted("shift:2026-11-21T12:00:00.500Z"), {
      ...{ kind: "shift", fromMs: noon, toMs: nowMs },
    });
  });

  test("refuses what it does not know, and says what there is", () => {
    const moments = { fromMs, nowMs };
    const ttl = "keep";
    assert.throws(() => readKeyChoice({ ttl, type: ["text"] }, moments), /none of string, list/);
    assert.throws(() => readKeyChoice({ ttl, db: ["-1"] }, moments), /it is no number/);
    assert.throws(() => readKeyChoice({ ttl, regex: "(" }, moments), { code: "USAGE" });
    for (const wrong of ["", "shift:", "shift:latest", "10s"]) {
      assert.throws(() => readTtl(wrong, nowMs), { code: "USAGE" }, wrong);
    }
  });
});
