import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { SlotRange, SlotsChange } from "../archive/cluster-slots.ts";
import { rangesOf, rulesOf, slotOwners, slotRules } from "./cluster-rules.ts";

const { left, own, next, open, copy } = slotRules;

function change(shards: Readonly<Record<string, readonly SlotRange[]>>): SlotsChange {
  const all = Object.entries(shards).map(([key, slots]) => ({ key, slots, ms: 1, position: null }));
  return { windowMs: null, shards: all };
}

const before = change({ a: [[0, 9]], b: [[10, 19]], c: [[20, 29]] });
const first = change({ a: [[0, 8]], b: [[9, 19]], c: [[20, 29]] });
const second = change({
  a: [[0, 7]],
  b: [[10, 19]],
  c: [
    [8, 9],
    [20, 29],
  ],
});
const owners = slotOwners(before, [first, second]);

test("slotOwners() finds who has a slot, and who has it next, by the first change that says so", () => {
  assert.equal(owners.owners[9], "a");
  assert.equal(owners.next[9]?.key, "b");
  assert.equal(owners.next[9]?.change, first);
  assert.equal(owners.next[8]?.key, "c");
  assert.equal(owners.next[7], undefined);
  assert.equal(owners.owners[30], undefined);
});

test("rulesOf() lets the owner's keys count, then the next owner's, and nobody else's", () => {
  const rules = (key: string) => [...rulesOf(key, owners, () => false).slice(7, 11)];
  assert.deepEqual(rules("a"), [own, own, own, open]);
  assert.deepEqual(rules("b"), [open, left, next, own]);
  assert.deepEqual(rules("c"), [open, next, left, open]);
});

test("rulesOf() has the next owner give nothing where a slot moved as a whole", () => {
  const rules = (key: string) => [...rulesOf(key, owners, (slot) => slot === 9).slice(8, 10)];
  assert.deepEqual(rules("a"), [own, own]);
  assert.deepEqual(rules("b"), [left, copy]);
});

test("rulesOf() has one owner and at most one next owner for a slot, whatever the changes are", () => {
  const shards = ["a", "b", "c", "d"];
  const owned = fc.array(fc.constantFrom(...shards), { minLength: 20, maxLength: 20 });
  const changes = fc.array(owned, { minLength: 1, maxLength: 5 }).map((all) =>
    all.map((slots) => {
      const of = (key: string) =>
        rangesOf(slots.flatMap((owner, slot) => (owner === key ? [slot] : [])));
      return change(Object.fromEntries(shards.map((key) => [key, of(key)])));
    }),
  );
  fc.assert(
    fc.property(changes, fc.nat(2), ([at, ...later], whole) => {
      const found = slotOwners(at as SlotsChange, later);
      const rules = shards.map((key) => rulesOf(key, found, (slot) => slot % 3 === whole));
      const count = (slot: number, rule: number) =>
        rules.filter((each) => each[slot] === rule).length;
      for (let slot = 0; slot < 20; slot++) {
        assert.equal(count(slot, own), 1);
        const isOpen = found.next[slot] === undefined;
        assert.equal(count(slot, open), isOpen ? 3 : 0);
        assert.equal(count(slot, next) + count(slot, copy), isOpen ? 0 : 1);
      }
    }),
  );
});

test("rangesOf() makes ranges of what stands side by side", () => {
  assert.deepEqual(rangesOf([1, 2, 3, 7, 9, 10]), [
    [1, 3],
    [7, 7],
    [9, 10],
  ]);
});
