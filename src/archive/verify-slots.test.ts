import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { DirectoryStore } from "../store/directory.ts";
import { putSlots, type SlotsChange, slotsObject } from "./cluster-slots.ts";
import { verifySlots } from "./verify-slots.ts";

const changes = [1000, 2000, 3000].map((ms): SlotsChange => {
  return { windowMs: null, shards: [{ key: "a", slots: [[0, 16_383]], ms, position: null }] };
});

test("verifySlots() counts what is sound, and names what is not", async () => {
  using folder = temporaryFolder();
  const store = new DirectoryStore(folder.path);
  for (const change of changes) await putSlots(store, "shop", change);
  assert.deepEqual(await verifySlots(store, "shop"), {
    cluster: "shop",
    changes: 3,
    findings: [],
  });
  const objects = changes.map((change) => slotsObject("shop", change)) as [string, string, string];
  const path = (object: string) => join(folder.path, object);
  const text = readFileSync(path(objects[0]), "utf8");
  writeFileSync(path(objects[0]), text.replace("16383", "16382"));
  writeFileSync(path(objects[2]), "{");
  const { findings, changes: sound } = await verifySlots(store, "shop");
  assert.equal(sound, 1);
  assert.deepEqual(
    findings.map(({ object }) => object),
    [objects[0], objects[2]],
  );
});
