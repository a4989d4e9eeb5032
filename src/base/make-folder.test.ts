import assert from "node:assert/strict";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { makeFolder } from "./make-folder.ts";

suite("makeFolder()", () => {
  test("makes what is missing, and says what the topmost of it is", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "a/b/c");
    assert.equal(await makeFolder(path, 0o700), join(folder.path, "a"));
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.equal(await makeFolder(path), undefined);
    assert.equal(await makeFolder(join(path, "d")), join(path, "d"));
  });

  test("says so when something else is in the way", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "file");
    writeFileSync(path, "");
    await assert.rejects(makeFolder(path), { code: "EEXIST" });
    await assert.rejects(makeFolder(join(path, "a/b")), { code: "ENOTDIR" });
  });

  test("ends where a folder takes no new ones and says that it is not there", {
    skip: !existsSync("/proc/self") && "no /proc",
  }, async () => {
    await assert.rejects(makeFolder("/proc/nope"), { code: "ENOENT" });
    await assert.rejects(makeFolder("/proc/nope/a/b"), { code: "ENOENT" });
  });
});
