import assert from "node:assert/strict";
import { test } from "node:test";
import { targets } from "./model.ts";
import { capabilities, type Feature, Losses, losesKey, quote } from "./target.ts";

test("each target has the header of its oldest server", () => {
  assert.deepEqual(
    targets.map((target) => capabilities[target].header),
    ["REDIS0009", "REDIS0010", "REDIS0011", "REDIS0012", "REDIS0012", "REDIS0011", "VALKEY080"],
  );
});

test("field expiries are held by redis:7.4 and later and by valkey:9, each in its own way", () => {
  assert.deepEqual(
    targets.map((target) => capabilities[target].fieldExpiry),
    ["none", "none", "none", "redis", "redis", "none", "valkey"],
  );
});

test("Losses.take() refuses, naming object, target and feature", () => {
  const losses = new Losses("redis:6.0", false);
  assert.throws(() => losses.take("function", "a function library"), {
    code: "TARGET_CANNOT_HOLD",
    message: "Cannot write a function library for redis:6.0: it has no functions",
  });
  assert.equal(losses.counts.size, 0);
});

test("Losses.take() counts where losses are allowed", () => {
  const losses = new Losses("redis:6.0", true);
  const features: Feature[] = ["field expiry", "field expiry", "array"];
  for (const feature of features) losses.take(feature, "key");
  assert.deepEqual(
    [...losses.counts],
    [
      ["field expiry", 2],
      ["array", 1],
    ],
  );
});

test("Losses.take() never lets pending entries without an owner pass", () => {
  const losses = new Losses("redis:8", true);
  assert.throws(() => losses.take("stream nacks", "key"), { code: "TARGET_CANNOT_HOLD" });
});

test("losesKey() is true for what is a key's whole value", () => {
  assert(losesKey("array") && losesKey("module value"));
  assert(!losesKey("field expiry") && !losesKey("key metadata"));
});

test("quote() shows any key on one line of plain ASCII", () => {
  assert.equal(quote(Buffer.from("user:1")), '"user:1"');
  assert.equal(quote(Buffer.from('a"b\\c\n\u00e9', "latin1")), '"a\\"b\\\\c\\x0a\\xe9"');
  assert.equal(quote(Buffer.alloc(1000, "k")), `"${"k".repeat(128)}"…`);
});
