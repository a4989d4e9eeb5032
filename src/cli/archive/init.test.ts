import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tidemark } from "../../../test/cli/tidemark.ts";
import { checkout } from "../../../test/support/checkout.ts";
import { temporaryFolder } from "../../../test/support/folder.ts";
import { DirectoryStore } from "../../store/directory.ts";

test("`init` of a repository that is in use is refused, and changes nothing", async () => {
  using folder = temporaryFolder();
  const repository = join(folder.path, "repository");
  assert.equal((await tidemark("init", repository)).status, 0);
  const store = new DirectoryStore(repository);
  await store.put("instances/one", Buffer.from("1"));
  mkdirSync(join(repository, "probe/of-another"), { recursive: true });
  const list = () => new Set(readdirSync(repository, { recursive: true, encoding: "utf8" }));
  const before = list();
  assert.ok(before.has(".tmp"));
  const { status, stderr } = await tidemark("init", repository);
  assert.equal(status, 8);
  assert.match(stderr, /^tidemark: Cannot make a repository in file:.*: there is one\nhint: /);
  assert.deepEqual(list(), before);
});

const nobody = 65_534;

/** Runs it as somebody who may not do everything. */
function asNobody(...args: string[]) {
  const main = join(checkout, "src/cli/main.ts");
  const options = { encoding: "utf8", ...(process.getuid?.() === 0 && { uid: nobody }) } as const;
  return spawnSync(process.execPath, [main, ...args], options);
}

const skip = asNobody("--version").status !== 0 && "nobody else can run it from here";

test("`init` of a folder that may not be read says so, and what to do", { skip }, () => {
  using folder = temporaryFolder();
  chmodSync(folder.path, 0o755);
  const path = join(folder.path, "closed");
  mkdirSync(path, { mode: 0o000 });
  for (const place of [path, join(path, "new/repository")]) {
    const { status, stderr } = asNobody("init", place);
    assert.equal(status, 21, stderr);
    assert.match(stderr, /^tidemark: Cannot [^\n]*: permission denied\nhint: Check who owns/);
  }
  rmSync(path, { recursive: true });
});
