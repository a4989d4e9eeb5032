import assert from "node:assert/strict";
import { test } from "node:test";
import { fillRepository, instance } from "../../../test/archive/filled.ts";
import { setObject } from "../../archive/layout.ts";
import { readStatus } from "./instance-status.ts";

test("readStatus() counts no set as good whose snapshot is gone, or of another size", async () => {
  for (const size of [undefined, 10]) {
    const { repository, store, sets } = await fillRepository();
    const [first, newest] = sets;
    const object = setObject(instance, newest, "snapshot");
    store.objects.delete(object);
    if (size !== undefined) {
      store.objects.set(object, { bytes: new Uint8Array(size), modifiedMs: 0 });
    }
    const opened = { ...repository, [Symbol.asyncDispose]: async () => {} };
    const status = await readStatus(
      { repository: opened, instance, config: undefined, shard: undefined },
      null,
    );
    const { count, good, damaged, newestGood } = status.sets;
    assert.deepEqual([count, good, damaged, newestGood?.set], [2, 1, 1, first]);
    assert.deepEqual(status.windows[0]?.sets, [first]);
  }
});
