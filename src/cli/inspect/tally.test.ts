import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { others, Tally } from "./tally.ts";

function count(tally: Tally, name: string): number {
  const bytes = Buffer.from(`<${name}>`, "latin1");
  return tally.count(bytes, 1, bytes.length - 1);
}

function namesOf(tally: Tally): Record<string, number> {
  const slots = tally.top(tally.counts, tally.size);
  return Object.fromEntries(
    slots.map((slot) => [
      Buffer.from(tally.name(slot)).toString("latin1"),
      tally.counts[slot] ?? 0,
    ]),
  );
}

suite("Tally", () => {
  test("counts every name as often as it came", () => {
    const names = fc.array(fc.stringMatching(/^[ab]{0,8}$/), { maxLength: 2000 });
    fc.assert(
      fc.property(names, (list) => {
        const tally = new Tally({ maxNames: 10_000, maxNameBytes: 16 });
        for (const name of list) tally.add(count(tally, name), name.length);
        const groups = Map.groupBy(list, (name) => name);
        const expected = [...groups].map(([name, all]) => [name, all.length]);
        assert.deepEqual(namesOf(tally), Object.fromEntries(expected));
        for (let slot = 1; slot <= tally.size; slot++) {
          const each = tally.name(slot).length;
          assert.equal(tally.amounts[slot], each * (tally.counts[slot] ?? 0));
        }
      }),
    );
  });

  test("keeps the first names, and counts those for which there is no room as others", () => {
    const tally = new Tally({ maxNames: 2, maxNameBytes: 4 });
    for (const name of ["a", "b", "c", "a", "c", "b", "too long"]) count(tally, name);
    assert.deepEqual(namesOf(tally), { a: 2, b: 2 });
    assert.equal(tally.counts[others], 3);
    assert.equal(tally.size, 2);
  });

  test("takes upper and lower case for the same where it is asked to", () => {
    const tally = new Tally({ maxNames: 10, maxNameBytes: 16, foldsCase: true });
    for (const name of ["set", "SET", "sEt", "get\xe9", "GET\xc9"]) count(tally, name);
    assert.deepEqual(namesOf(tally), { SET: 3, "GET\xe9": 1, "GET\xc9": 1 });
  });

  test("is not slowed down by names that were chosen to have the same hash", () => {
    const tally = new Tally({ maxNames: 65_536, maxNameBytes: 64 });
    const colliding = collisions(80);
    for (const name of [...colliding, ...colliding]) tally.count(name, 0, name.length);
    assert.equal(tally.size, 64);
    assert.equal(tally.counts[others], 2 * (80 - 64));
  });
});

/** Names of five bytes with the same FNV-1a hash: two of them are found by running it backwards. */
function collisions(wanted: number): Uint8Array[] {
  const inverse = 0x359c449b;
  const target = 0x12345678;
  const found: Uint8Array[] = [];
  const suffixes = new Map<number, number[]>();
  for (let tail = 0; tail < 2 ** 16; tail++) {
    const bytes = [tail & 255, tail >> 8];
    let state = target;
    for (const byte of bytes.toReversed()) state = Math.imul(state, inverse) ^ byte;
    suffixes.set(state | 0, bytes);
  }
  for (let head = 0; found.length < wanted; head++) {
    const bytes = [head & 255, (head >> 8) & 255, (head >> 16) & 255];
    let state = 0x811c9dc5;
    for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
    const tail = suffixes.get(state | 0);
    if (tail !== undefined) found.push(Uint8Array.from([...bytes, ...tail]));
  }
  return found;
}
