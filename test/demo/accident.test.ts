import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { checkout } from "../support/checkout.ts";
import { missingServers } from "../support/servers.ts";

test("the story of an accident ends well", { skip: missingServers("redis-8.0") }, () => {
  const script = join(checkout, "demo/accident.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /All of it is there/);
});
