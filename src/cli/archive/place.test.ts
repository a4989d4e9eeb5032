import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { instance } from "../../../test/archive/filled.ts";
import { placeRepository } from "../../../test/archive/placed.ts";
import { temporaryFolder } from "../../../test/support/folder.ts";
import { readStatus, renderStatus } from "./instance-status.ts";
import { findSet, Places, placeTitle } from "./place.ts";

test("of two repositories that have an instance, the configuration says which is meant", async () => {
  using folder = temporaryFolder();
  const [old, current] = ["old", "current"].map((name) => join(folder.path, name)) as [
    string,
    string,
  ];
  await placeRepository(old);
  await placeRepository(current);
  const config = join(folder.path, "tidemark.yaml");
  const repositories = "repositories: {a: {address: old}, b: {address: current}}\n";
  writeFileSync(
    config,
    `${repositories}instances: {${instance}: {source: "redis://a", repository: b}}\n`,
  );
  await using places = await Places.open({ config });
  const [first, copy] = places.named(instance);
  assert.ok(first && copy);
  assert.equal(first.movedTo, undefined);
  assert.equal(places.one(instance), first);
  assert.deepEqual([copy.movedTo, copy.config], [current, undefined]);
  assert.equal(placeTitle(copy), `${instance}, older copy in ${copy.repository.store.name}`);
  assert.equal((await findSet(places, "2026-05-01T10-00", undefined)).place, first);
  const text = renderStatus(await readStatus(copy, null)).join("\n");
  assert.ok(text.includes(`older copy     the configuration has it in ${current}, `), text);

  writeFileSync(config, repositories);
  await using neither = await Places.open({ config });
  assert.throws(() => neither.one(instance), {
    code: "USAGE",
    message: /two repositories have it/,
  });
});
