import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { tidemark } from "../../test/cli/tidemark.ts";
import { checkout } from "../../test/support/checkout.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { exitStatuses } from "../base/errors.ts";
import { codesOfCommands, describeExitStatuses } from "./exit-statuses.ts";

test("each command's help lists the exit statuses that it can give; the program's, all", async () => {
  const { stdout } = await tidemark("--help");
  const names = [...stdout.matchAll(/^ {2}([a-z]+) .*[[<]/gm)].map(([, name]) => name);
  const commands = names.filter((name) => name !== "help" && name !== "tidemark");
  assert.deepEqual(new Set(commands), new Set(Object.keys(codesOfCommands)));
  assert.ok(stdout.includes(describeExitStatuses()));
  const cat = await tidemark("cat", "--help");
  assert.ok(cat.stdout.includes(describeExitStatuses("cat")));
  assert.match(cat.stdout, /^ {3}18 {2}aborted$/m);
  assert.match(cat.stdout, /^ {3}27 {2}key needed$/m);
  assert.doesNotMatch(cat.stdout, /replication refused|target not empty/);
});

/** Where each command begins, of those that are not in a file of their name. */
const entries: Readonly<Record<string, string>> = {
  status: "record.ts",
  show: "backups.ts",
  keep: "backups.ts",
  unkeep: "backups.ts",
};
const isNoSource = /\/(errors|exit-statuses)\.ts$/;

/** The codes that are written anywhere in what a file imports, at once or when it is needed. */
function codesWrittenFor(entry: string): Set<string> {
  const seen = new Set<string>();
  const texts: string[] = [];
  const toRead = [entry];
  for (let path = toRead.pop(); path !== undefined; path = toRead.pop()) {
    if (seen.has(path) || isNoSource.test(path)) continue;
    seen.add(path);
    const text = readFileSync(path, "utf8").replaceAll(/^import type .*;$/gm, "");
    texts.push(text);
    for (const [, name = ""] of text.matchAll(/(?:from|import\() ?"(\.[^"]+)"/g)) {
      toRead.push(join(path, "..", name));
    }
  }
  const all = texts.join("\n");
  const codes = exitStatuses.map(([, code]) => code).filter((code) => all.includes(`"${code}"`));
  return new Set([
    ...codes,
    ...(/\bcorrupt\(/.test(all) ? ["DATA_CORRUPT"] : []),
    ...(/\bunsupported\(/.test(all) ? ["DATA_UNSUPPORTED"] : []),
  ]);
}

suite("the table of exit statuses", () => {
  for (const [command, codes] of Object.entries(codesOfCommands)) {
    test(`lists nothing for ${command} that nobody throws there`, () => {
      const written = codesWrittenFor(
        join(checkout, "src/cli", entries[command] ?? `${command}.ts`),
      );
      assert.deepEqual(
        codes.filter((code) => !written.has(code)),
        [],
      );
    });
  }

  test("has what commands end with when something is wrong", async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    writeFileSync(at("empty.yaml"), "");
    writeFileSync(at("torn.aof"), "*1\r\n$4\r\nPI");
    writeFileSync(at("damaged.rdb"), "REDIS00xx");
    writeFileSync(at("in.jsonl"), "");
    const repository = at("repository");
    assert.equal((await tidemark("init", repository)).status, 0);
    const repo = ["--repo", repository];
    const lines: readonly (readonly [number, ...string[]])[] = [
      [7, "inspect", at("none")],
      [3, "inspect", at("damaged.rdb")],
      [3, "check", at("torn.aof")],
      [3, "convert", at("damaged.rdb"), at("out.rdb")],
      [8, "convert", at("in.jsonl"), at("torn.aof")],
      [10, "convert", at("torn.aof"), at("out.jsonl")],
      [8, "init", repository],
      [2, "up", "--config", at("empty.yaml")],
      [7, "up", "--config", at("none.yaml")],
      [13, "status", at("nothing")],
      [19, "backups", "--repo", at("nothing")],
      [19, "show", "2026", ...repo],
      [19, "keep", "2026", ...repo],
      [19, "verify", "2026", ...repo],
      [19, "download", "2026", at("out.rdb"), ...repo],
      [19, "cat", "instances/none", ...repo],
      [2, "restore", "db1", "--at", "latest", "--to-dir", at("out"), ...repo],
      [7, "init", at("new"), "--key-file", at("none")],
    ];
    const ended = lines.map(async ([expected, ...args]) => {
      const { status, stderr } = await tidemark(...args);
      const line = `${args.join(" ")}: ${stderr}`;
      assert.equal(status, expected, line);
      const listed = describeExitStatuses(args[0]);
      assert.match(listed, new RegExp(`^ +${status} `, "m"), line);
    });
    await Promise.all(ended);
  });
});
