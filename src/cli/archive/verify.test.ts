import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { fillRepository } from "../../../test/archive/filled.ts";
import { placeRepository } from "../../../test/archive/placed.ts";
import { tidemark } from "../../../test/cli/tidemark.ts";
import { temporaryFolder } from "../../../test/support/folder.ts";

const verify = async (isLeft: (object: string) => boolean, ...flags: readonly string[]) => {
  using folder = temporaryFolder();
  const path = join(folder.path, "repository");
  await placeRepository(path, isLeft);
  return await tidemark("verify", "--repo", path, ...flags);
};

test("`verify` finds log bad that goes on behind all sets, or has none", async () => {
  const whole = await verify(() => true);
  assert.equal(whole.status, 0, whole.stdout + whole.stderr);
  for (const flags of [[], ["--log"], ["--all"]]) {
    const { status, stdout } = await verify((object) => !object.includes("/sets/"), ...flags);
    assert.equal(status, 3, stdout);
    assert.match(stdout, /BAD {3}no set for the log from 2026-05-01T10:00:00Z to /);
  }
  const { pieces } = await fillRepository();
  const broken = await verify((object) => object !== pieces[2]);
  assert.equal(broken.status, 3);
  assert.match(broken.stdout, /no set for the log from .*: log before it is missing, and no set/);
  const { stranded } = JSON.parse((await verify(() => true, "--json")).stdout).instances[0];
  assert.equal(stranded, null);
});
