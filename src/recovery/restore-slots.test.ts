import assert from "node:assert/strict";
import { test } from "node:test";
import { keyInSlots, slotOf } from "./restore-slots.ts";

test("slotOf() gives what CLUSTER KEYSLOT gives", () => {
  const slots = { "123456789": 12739, foo: 12182, "{user}a": 5474, "{user}b": 5474, "": 0 };
  for (const [key, slot] of Object.entries(slots))
    assert.equal(slotOf(Buffer.from(key)), slot, key);
});

test("slotOf() takes empty braces, and braces without an end, for parts of the key", () => {
  assert.notEqual(slotOf(Buffer.from("{}a")), slotOf(Buffer.from("{}b")));
  assert.notEqual(slotOf(Buffer.from("{a")), slotOf(Buffer.from("{b")));
  assert.equal(slotOf(Buffer.from("x{a}{b}")), slotOf(Buffer.from("a")));
});

test("keyInSlots() finds a key in any range", () => {
  for (const range of [
    [0, 5460],
    [16383, 16383],
    [7, 7],
  ] as const) {
    const slot = slotOf(Buffer.from(keyInSlots("tidemark:restore", [range])));
    assert.ok(slot >= range[0] && slot <= range[1]);
  }
});
