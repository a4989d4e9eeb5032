import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { initRepository } from "../archive/repository.ts";
import { Secret } from "../link/secret.ts";
import { openStore } from "../store/open.ts";
import { openConfigured, readKey } from "./open-repository.ts";

suite("readKey()", () => {
  const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i));

  test("takes 32 bytes as hexadecimal digits or base64", async () => {
    for (const text of [
      key.toString("hex"),
      key.toString("hex").toUpperCase(),
      key.toString("base64"),
    ]) {
      assert.deepEqual(Buffer.from(await readKey(Secret.text(`${text}\n`))), key);
    }
  });

  test("refuses anything else without repeating it", async () => {
    for (const text of ["hunter2", key.toString("hex").slice(2), `${key.toString("hex")}00`]) {
      await assert.rejects(readKey(Secret.text(text)), (error: Error) => {
        assert.match(error.message, /neither of the forms/);
        return !error.message.includes(text);
      });
    }
  });
});

suite("openConfigured()", () => {
  const right = Secret.text("01".repeat(32));
  const wrong = Secret.text("02".repeat(32));
  const id = "k1";

  test("takes the right one of several keys with one id, and refuses where there is none", async () => {
    using folder = temporaryFolder();
    const address = folder.path;
    {
      await using store = await openStore(address);
      const key = { id, key: await readKey(right) };
      await initRepository(store, { key, probe: { lateListingMs: 1 } });
    }
    const configured = (key: Secret, ...older: readonly Secret[]) => {
      const olderKeys = older.map((each) => ({ id, key: each }));
      return openConfigured({ address, key: { id, key }, olderKeys, level: undefined });
    };
    for (const keys of [[right], [wrong, right], [wrong, wrong, right]]) {
      const [key = right, ...older] = keys;
      await using opened = await configured(key, ...older);
      assert.deepEqual(opened.key, { id, key: await readKey(right) });
    }
    await assert.rejects(configured(wrong), { code: "KEY_NEEDED", message: /is another one$/ });
    await assert.rejects(configured(wrong, wrong), {
      code: "KEY_NEEDED",
      message: /none of the 2/,
    });
  });
});
