import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { beganMs, fillRepository, instance, pieceMs } from "../../test/archive/filled.ts";
import { type Catalogue, readCatalogue, withFaults } from "./catalogue.ts";
import { setPrefix } from "./layout.ts";
import { newestRunOf, strandedOf } from "./stranded.ts";

const endMs = beganMs + 4 * pieceMs;

/** Four pieces; sets at the beginning and in the second. What is named is not there. */
async function catalogueWithout(names: readonly string[]): Promise<Catalogue> {
  const { store } = await fillRepository();
  for (const object of store.objects.keys()) {
    if (names.some((name) => object.startsWith(name))) store.objects.delete(object);
  }
  return await readCatalogue(store, instance);
}

suite("strandedOf()", () => {
  test("is nothing where every run has a set", async () => {
    assert.deepEqual(strandedOf(await catalogueWithout([])), []);
  });

  test("is all log where no set is left", async () => {
    const [only, ...more] = strandedOf(await catalogueWithout([setPrefix(instance)]));
    assert.deepEqual(more, []);
    assert.deepEqual([only?.fromMs, only?.toMs, only?.isNewest], [beganMs, endMs, true]);
    assert.match(only?.reason ?? "", /are not there$/);
  });

  test("is the log behind a missing piece, behind the last window", async () => {
    const { pieces } = await fillRepository();
    const found = strandedOf(await catalogueWithout([pieces[2] as string]));
    assert.equal(found.length, 1);
    assert.deepEqual([found[0]?.fromMs, found[0]?.toMs], [beganMs + 3 * pieceMs, endMs]);
    assert.deepEqual(
      [found[0]?.isNewest, found[0]?.reason.split(",")[0]],
      [true, "log before it is missing"],
    );
  });

  test("names the set that is damaged", async () => {
    const catalogue = await catalogueWithout([]);
    const faults = new Map(catalogue.sets.map(({ name }) => [name, "it is cut short"]));
    const found = strandedOf(withFaults(catalogue, faults));
    assert.match(found[0]?.reason ?? "", /^set 2026-.* cannot be used: it is cut short$/);
  });

  test("is not the newest where a good set was taken behind it", async () => {
    const { pieces } = await fillRepository();
    const catalogue = await catalogueWithout([pieces[0] as string, pieces[1] as string]);
    const [set] = catalogue.sets;
    assert.ok(set);
    assert.deepEqual(
      strandedOf(catalogue).map(({ isNewest }) => isNewest),
      [true],
    );
    const later = { ...catalogue, sets: [{ ...set, ms: endMs + 1 }] };
    assert.deepEqual(
      strandedOf(later).map(({ isNewest }) => isNewest),
      [false],
    );
  });

  test("leaves out what a window of another log has", async () => {
    const catalogue = await catalogueWithout([]);
    const [line] = catalogue.lines;
    assert.ok(line);
    const [run] = line.runs;
    const inner = { pieces: run?.pieces.slice(2, 3) ?? [] };
    const other = { ...line, name: "other", runs: [inner] };
    const later = { ...inner, pieces: inner.pieces.map((each) => ({ ...each, toMs: endMs + 9 })) };
    const both = { ...catalogue, lines: [line, other, { ...other, runs: [later] }] };
    const found = strandedOf(both);
    assert.deepEqual(
      found.map(({ fromMs, toMs }) => [fromMs, toMs]),
      [[endMs, endMs + 9]],
    );
  });
});

test("newestRunOf() is the last run of the log that goes furthest, or of the one named", async () => {
  const catalogue = await catalogueWithout([]);
  const [line] = catalogue.lines;
  assert.equal(newestRunOf(catalogue), line?.runs[0]?.pieces[0]);
  assert.equal(newestRunOf(catalogue, line?.name), line?.runs[0]?.pieces[0]);
  assert.equal(newestRunOf(catalogue, "another"), undefined);
});
