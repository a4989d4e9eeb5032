import assert from "node:assert/strict";
import { test } from "node:test";
import { beganMs, fillRepository, instance, pieceMs } from "../../../test/archive/filled.ts";
import { setObject, setPrefix } from "../../archive/layout.ts";
import type { InstanceStatus } from "../../daemon/instance.ts";
import { readStatus, renderLive, renderStatus } from "./instance-status.ts";

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

async function statusOf({ repository }: Awaited<ReturnType<typeof fillRepository>>) {
  const opened = { ...repository, [Symbol.asyncDispose]: async () => {} };
  const place = { repository: opened, instance, config: undefined, shard: undefined };
  return await readStatus(place, null);
}

test("readStatus() tells of log behind the last window, and what makes what follows restorable", async () => {
  const filled = await fillRepository();
  filled.store.objects.delete(filled.pieces[2] as string);
  const status = await statusOf(filled);
  const [first, ...more] = status.stranded;
  assert.deepEqual(more, []);
  const [fromMs, toMs] = [beganMs + 3 * pieceMs, beganMs + 4 * pieceMs];
  assert.deepEqual([first?.fromMs, first?.toMs, first?.isNewest], [fromMs, toMs, true]);
  assert.deepEqual(status.gaps, []);
  const text = renderStatus(status).join("\n");
  assert.match(text, /restores +2026-05-01T10:00:00Z to 2026-05-01T10:02:00Z/);
  assert.match(
    text,
    /no restore +2026-05-01T10:03:00Z to 2026-05-01T10:04:00Z .*: log before it is/,
  );
  assert.match(text, /: log before it is missing, .*; start `tidemark up`: what follows a set can/);
});

test("readStatus() tells of log without any set", async () => {
  const filled = await fillRepository();
  const { objects } = filled.store;
  for (const name of objects.keys()) if (name.startsWith(setPrefix(instance))) objects.delete(name);
  const text = renderStatus(await statusOf(filled)).join("\n");
  assert.match(
    text,
    /restores +nothing yet\n +no restore +2026-05-01T10:00:00Z to .* are not there;/,
  );
});

test("readStatus() tells of what is stamped in the future", async (context) => {
  context.mock.timers.enable({ apis: ["Date"], now: beganMs + pieceMs });
  const filled = await fillRepository();
  const { clockTroubles } = await statusOf(filled);
  assert.equal(clockTroubles.length, 1);
  assert.match(
    clockTroubles[0] ?? "",
    /^log is stamped in the future, up to 2026-05-01T10:04:00Z: /,
  );
  context.mock.timers.setTime(beganMs - pieceMs);
  const [, set, ...more] = (await statusOf(filled)).clockTroubles;
  assert.deepEqual(more, []);
  assert.match(
    set ?? "",
    /^set 2026-05-01T10-01-30.* is stamped in the future, 2026-05-01T10:01:30Z/,
  );
});

test("renderLive() says why a set is wanted, when one failed, and why nothing expires", () => {
  const set = {
    ...{ running: null, sinceMs: null, newestGoodMs: null, nextMs: null },
    ...{ trouble: "Cannot write", troubleMs: beganMs, wanted: "no good set is there" },
    expiryTrouble: "the clock is doubted",
  };
  const archive = { state: "archiving", trouble: null, lastShippedMs: null, set };
  const live = { instance, state: "streaming", source: "", lagBytes: 0, trouble: null, archive };
  const said = renderLive(live as unknown as InstanceStatus).flatMap(([name, text]) => {
    return name === "trouble" ? [text] : [];
  });
  assert.deepEqual(
    said.map((text) => text.replace(/failed .* ago/, "failed … ago")),
    [
      `no good set is there: take one: tidemark backup ${instance}`,
      "Cannot write (the set failed … ago)",
      "nothing expires: the clock is doubted",
    ],
  );
});
