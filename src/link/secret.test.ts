import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { inspect } from "node:util";
import { temporaryFolder } from "../../test/support/folder.ts";
import { Secret } from "./secret.ts";

suite("Secret", () => {
  test("file() is read each time, without the line end behind it", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "password");
    const secret = Secret.file(path);
    await assert.rejects(secret.reveal(), { code: "FILE_MISSING" });
    writeFileSync(path, "first\r\n");
    assert.equal(await secret.reveal(), "first");
    writeFileSync(path, " second \n\n");
    assert.equal(await secret.reveal(), " second \n");
    writeFileSync(path, "\n");
    await assert.rejects(secret.reveal(), { code: "USAGE", message: /gives nothing/ });
    await assert.rejects(Secret.file(folder.path).reveal(), { code: "FILE_FAILED" });
  });

  test("command() is run by a shell each time; what it printed is in no failure", async () => {
    assert.equal(await Secret.command("printf 'a%s\\n' b").reveal(), "ab");
    await assert.rejects(Secret.command("echo hush; exit 3").reveal(), (error: unknown) => {
      assert.match(inspect(error), /it ended with 3/);
      // The command itself is not shown either: it may have the password in it.
      assert.ok(!inspect(error).includes("hush"));
      return true;
    });
    await assert.rejects(Secret.command("true").reveal(), { message: /gives nothing/ });
  });

  test("what it is of is named where it cannot be had", async () => {
    using folder = temporaryFolder();
    const file = Secret.file(join(folder.path, "none"), "key");
    await assert.rejects(file.reveal(), { message: /^Cannot read the key from ".*none": / });
    const command = Secret.command("true", "key");
    await assert.rejects(command.reveal(), { message: /^Cannot get the key from the command/ });
  });

  test("nothing that prints values shows it", () => {
    const secret = Secret.text("hush");
    assert.ok(!(inspect(secret, { showHidden: true }) + JSON.stringify(secret)).includes("hush"));
  });
});
