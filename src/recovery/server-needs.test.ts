import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { writeCommands } from "../codec/commands/table.ts";
import { createDumpPayload } from "../codec/rdb/dump.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import { formatVersions, loaderOf, loaderOfTarget, ServerNeeds } from "./server-needs.ts";

type Records = readonly (string | readonly (string | Uint8Array)[])[];

function bytesOf(records: Records): Uint8Array {
  const encoder = new RespEncoder();
  for (const record of records) {
    const words = typeof record === "string" ? record.split(" ") : record;
    encoder.command(...(words as [string, ...string[]]));
  }
  return encoder.take();
}

function needsOf(...records: Records): ServerNeeds {
  const needs = new ServerNeeds();
  needs.push(bytesOf(records));
  return needs;
}

suite("ServerNeeds", () => {
  test("goes by the RDB where the log has nothing newer", () => {
    const needs = needsOf("SET k v PXAT 1", "ZADD z NX 1 GT", "XADD s 1-1 NOMKSTREAM v", "LPOP l");
    const cases = [
      ["REDIS0009", "redis:6.0 valkey:7.2"],
      ["REDIS0011", "redis:7.2 valkey:7.2"],
      ["REDIS0012", "redis:7.4"],
      ["REDIS0013", "redis:8.6"],
      ["VALKEY080", "valkey:9"],
      ["REDIS0099", ""],
    ] as const;
    for (const [magic, least] of cases) {
      assert.equal(formatVersions(needs.least(magic)).join(" "), least, magic);
    }
    assert.deepEqual(formatVersions(needs.least(null)), []);
  });

  test("goes by the newest that the log has", () => {
    const cases = [
      ["COPY a b", "redis:6.2 valkey:7.2"],
      ["copy a b", "redis:6.2 valkey:7.2"],
      ["HPEXPIREAT h 1 FIELDS 1 f", "redis:7.4 valkey:9"],
      ["HSETEX h PXAT 1 FIELDS 1 f v", "redis:8 valkey:9"],
      ["DELIFEQ k v", "valkey:9"],
      ["VADD v VALUES 1 1 e", "redis:8"],
      ["XGROUP CREATECONSUMER s g c", "redis:6.2 valkey:7.2"],
      ["XGROUP SETID s g 1-1 ENTRIESREAD 4", "redis:7.0 valkey:7.2"],
      ["XGROUP SETID s g 1-1", "redis:6.0 valkey:7.2"],
      ["PEXPIREAT k 1 NX", "redis:7.0 valkey:7.2"],
      ["SET k v IFEQ other", "redis:8.4 valkey:8.1"],
      ["XADD s MINID = 1-1 KEEPREF 2-1 f v", "redis:8.2"],
      ["XADD s MAXLEN = 5 2-1 KEEPREF v", "redis:6.0 valkey:7.2"],
      ["ZADD z XX GT 1 m", "redis:6.2 valkey:7.2"],
      ["LPOP l 2", "redis:6.2 valkey:7.2"],
    ] as const;
    for (const [record, least] of cases) {
      const needs = needsOf("SET k v", record, "SET k v");
      assert.equal(formatVersions(needs.least("REDIS0009")).join(" "), least, record);
    }
  });

  test("names what a server lacks", () => {
    const needs = needsOf("COPY a b", "HSETEX h FIELDS 1 f v", "LPOP l 2", "COPY c d");
    const missing = (family: string, version: string) =>
      needs.missing({ name: "it", ...loaderOf(family, version) });
    assert.deepEqual(missing("redis", "6.0.16"), ["COPY", "HSETEX", "LPOP with a count"]);
    assert.deepEqual(missing("redis", "7.4.1"), ["HSETEX"]);
    assert.deepEqual(missing("redis", "8.10.0"), []);
    assert.deepEqual(missing("valkey", "8.1.1"), ["HSETEX"]);
    assert.deepEqual(needs.missing(loaderOfTarget("valkey:9")), []);
  });

  test("looks into the values of RESTORE", () => {
    const value = (version: number) => createDumpPayload(Buffer.from("\0\x01v"), version);
    const needs = needsOf(["RESTORE", "k", "0", value(9)], ["RESTORE", "k", "0", value(12)]);
    assert.deepEqual(needs.missing(loaderOfTarget("redis:7.2")), [
      "RESTORE of a value of RDB version 12",
    ]);
    assert.deepEqual(needs.missing(loaderOfTarget("redis:7.4")), []);
  });

  test("names commands that it does not know, and goes on", () => {
    const needs = needsOf(
      "MYMODULE.SET k v",
      "COPY a b",
      ...Array.from({ length: 99 }, (_, i) => `X${i}`),
    );
    assert.equal(needs.strange[0], "MYMODULE.SET");
    assert.equal(needs.strange.length, 10);
    assert.deepEqual(needs.missing(loaderOfTarget("redis:6.0")), ["COPY"]);
  });

  test("does not depend on how the bytes were cut", () => {
    const bytes = bytesOf(["COPY a b", "ZADD z GT 1 m", "FUNCTION LOAD x", "SET k v"]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: bytes.length })), (cuts) => {
        const needs = new ServerNeeds();
        const ends = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        for (let i = 1; i < ends.length; i++) needs.push(bytes.subarray(ends[i - 1], ends[i]));
        const missing = needs.missing(loaderOfTarget("redis:6.0"));
        assert.deepEqual(missing, ["COPY", "ZADD GT", "FUNCTION LOAD"]);
      }),
    );
  });

  test("knows every command that Tidemark knows", () => {
    const needs = needsOf(
      ...writeCommands.flatMap(({ name }) => (name === "EXEC" ? [] : [name])),
      "EXEC",
    );
    assert.deepEqual(needs.strange, []);
  });
});
