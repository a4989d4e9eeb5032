import assert from "node:assert/strict";
import { test } from "node:test";
import { tidemark } from "../../test/cli/tidemark.ts";
import { codesOfCommands, describeExitStatuses } from "./exit-statuses.ts";

test("each command's help lists the exit statuses that it can give; the program's, all", async () => {
  const { stdout } = await tidemark("--help");
  const names = [...stdout.matchAll(/^ {2}([a-z]+) .*[[<]/gm)].map(([, name]) => name);
  const commands = names.filter((name) => name !== "help" && name !== "tidemark");
  assert.deepEqual(new Set(commands), new Set(Object.keys(codesOfCommands)));
  assert.ok(stdout.includes(describeExitStatuses()));
  const cat = await tidemark("cat", "--help");
  assert.ok(cat.stdout.includes(describeExitStatuses("cat")));
  assert.match(cat.stdout, /^ {3}27 {2}key needed$/m);
  assert.doesNotMatch(cat.stdout, /replication refused|target not empty/);
});
