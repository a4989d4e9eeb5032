import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import fc from "fast-check";
import { ExternalSort } from "./external-sort.ts";

type Entry = readonly [key: string, line: string];

const text = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
});
/** Keys are different, as those of a data set are. */
const entries = fc.uniqueArray(fc.tuple(text, text), { selector: ([key]) => key, maxLength: 300 });

function sorted(all: readonly Entry[]): string[] {
  return all.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, line]) => line);
}

function sort(sorter: ExternalSort, all: readonly Entry[]): string[] {
  for (const [key, line] of all) sorter.add(key, line);
  return [...sorter.drain()];
}

suite("ExternalSort", () => {
  test("gives lines in memory order of their keys, from memory or from files", () => {
    fc.assert(
      fc.property(entries, fc.integer({ min: 0, max: 3000 }), (all, limit) => {
        using inMemory = new ExternalSort();
        using spilling = new ExternalSort(limit);
        assert.deepEqual(sort(inMemory, all), sorted(all));
        assert.deepEqual(sort(spilling, all), sorted(all));
      }),
    );
  });

  test("merges runs of runs when there are very many", () => {
    const all = Array.from({ length: 2500 }, (_, i): Entry => {
      const key = `${(i * 7919) % 2500}`.padStart(5, "0");
      return [key, `line ${key}\n`];
    });
    using sorter = new ExternalSort(0);
    assert.deepEqual(sort(sorter, all), sorted(all));
  });

  test("sorts lines that are longer than its buffers", () => {
    const all = [3, 1, 2].map((n): Entry => [`${n}`.repeat(100_000), `${n}`.repeat(n * 200_000)]);
    using sorter = new ExternalSort(1000);
    assert.deepEqual(sort(sorter, all), sorted(all));
  });

  test("is empty when it has been drained, and can be used again", () => {
    using sorter = new ExternalSort(10);
    assert.deepEqual(
      sort(sorter, [
        ["b", "2"],
        ["a", "1"],
      ]),
      ["1", "2"],
    );
    assert.deepEqual([...sorter.drain()], []);
    assert.deepEqual(
      sort(sorter, [
        ["d", "4"],
        ["c", "3"],
      ]),
      ["3", "4"],
    );
  });

  test("leaves no files, drained or not", () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-"));
    const usual = process.env["TMPDIR"];
    process.env["TMPDIR"] = folder;
    try {
      using drained = new ExternalSort(0);
      sort(drained, [
        ["b", "2"],
        ["a", "1"],
      ]);
      using half = new ExternalSort(0);
      half.add("b", "2");
      half.add("a", "1");
      assert.equal(half.drain().next().value, "1");
      using filled = new ExternalSort(0);
      filled.add("a", "1");
      assert.equal(readdirSync(folder).length, 2);
    } finally {
      if (usual === undefined) delete process.env["TMPDIR"];
      else process.env["TMPDIR"] = usual;
    }
    assert.deepEqual(readdirSync(folder), []);
    rmdirSync(folder);
  });
});
