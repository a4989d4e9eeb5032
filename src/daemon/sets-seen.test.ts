import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { beganMs, fillRepository, instance, pieceMs } from "../../test/archive/filled.ts";
import { readCatalogue } from "../archive/catalogue.ts";
import { setObject } from "../archive/layout.ts";
import { lookAtSets } from "./sets-seen.ts";

const automaticMs = beganMs + 1.5 * pieceMs;
const nowMs = beganMs + 10 * pieceMs;

/** A log of four pieces with two good sets; `objects` are deleted. */
async function look(
  missing: (filled: Awaited<ReturnType<typeof fillRepository>>) => readonly string[],
  options: Partial<Parameters<typeof lookAtSets>[2]> = {},
) {
  const filled = await fillRepository();
  const { store, repository } = filled;
  for (const object of missing(filled)) store.objects.delete(object);
  const catalogue = await readCatalogue(store, instance);
  const line = catalogue.lines[0]?.name;
  return await lookAtSets(repository, catalogue, { line, toVerify: [], nowMs, ...options });
}

const all = ({ sets }: { readonly sets: readonly string[] }, what: "manifest" | "verified") =>
  sets.map((set) => setObject(instance, set, what));

suite("lookAtSets()", () => {
  test("tells when the newest good set was begun, and wants none", async () => {
    assert.deepEqual(await look(() => []), {
      newestGoodMs: automaticMs,
      wanted: undefined,
      isSure: true,
    });
  });

  test("wants one where the log that is written to has none that is good", async () => {
    for (const what of ["manifest", "verified"] as const) {
      const { newestGoodMs, wanted } = await look((filled) => all(filled, what));
      assert.equal(newestGoodMs, undefined);
      assert.match(wanted ?? "", /^no good set is there to restore the log since 2026-05-01T10:00/);
    }
  });

  test("wants one where a piece behind the newest set is missing", async () => {
    const { newestGoodMs, wanted } = await look(({ pieces }) => [pieces[2] as string]);
    assert.equal(newestGoodMs, automaticMs);
    assert.match(wanted ?? "", /since 2026-05-01T10:03/);
  });

  test("waits for a base that is to be read back, and for a log that is not known yet", async () => {
    const { sets } = await fillRepository();
    const unread = await look((filled) => all(filled, "verified"), { toVerify: [sets[0]] });
    assert.equal(unread.wanted, undefined);
    const early = await look((filled) => all(filled, "manifest"), { line: undefined });
    assert.deepEqual(early, { newestGoodMs: undefined, wanted: undefined, isSure: false });
  });

  test("counts no set whose snapshot is gone, or whose manifest cannot be read", async () => {
    const gone = await look(({ sets }) => [setObject(instance, sets[1], "snapshot")]);
    assert.equal(gone.newestGoodMs, beganMs);
    const filled = await fillRepository();
    const object = setObject(instance, filled.sets[1], "manifest");
    filled.store.objects.set(object, { bytes: Buffer.from("{}"), modifiedMs: 0 });
    const catalogue = await readCatalogue(filled.store, instance);
    const options = { line: catalogue.lines[0]?.name, toVerify: [], nowMs };
    const seen = await lookAtSets(filled.repository, catalogue, options);
    assert.deepEqual(seen, { newestGoodMs: beganMs, wanted: undefined, isSure: true });
  });

  test("counts no set that was begun in the future, and wants one where there is no other", async () => {
    const between = await look(() => [], { nowMs: automaticMs - pieceMs - 1 });
    assert.deepEqual(between, { newestGoodMs: beganMs, wanted: undefined, isSure: true });
    const before = await look(() => [], { nowMs: beganMs - 2 * pieceMs });
    assert.equal(before.newestGoodMs, undefined);
    assert.match(before.wanted ?? "", /^set 2026-05-01T10-01-30.* is stamped in the future/);
  });
});
