import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Secret } from "../link/secret.ts";
import { readKey } from "./open-repository.ts";

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
