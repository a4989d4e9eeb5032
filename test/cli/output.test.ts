import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type Outcome, runProgram, shell, tidemark } from "./tidemark.ts";

const noFull = !existsSync("/dev/full") && "no /dev/full";
const noScript = !existsSync("/usr/bin/script") && "no script(1)";

/** Runs it with a terminal for its output. */
function onTerminal(...args: string[]): Promise<Outcome> {
  const line = [process.execPath, join(checkout, "src/cli/main.ts"), ...args].join(" ");
  return runProgram("script", "-qefc", line, "/dev/null");
}

/** A repository in a folder, with an object of so many bytes. */
async function repositoryWith(folder: string, object: string, sizeBytes: number): Promise<string> {
  const repository = join(folder, "repository");
  await tidemark("init", repository);
  mkdirSync(join(repository, "instances"));
  writeFileSync(join(repository, object), Buffer.alloc(sizeBytes, "0123456789"));
  return repository;
}

suite("standard output", () => {
  test("that takes only a part of what is written is found out", async () => {
    using folder = temporaryFolder();
    const repository = await repositoryWith(folder.path, "instances/object", 1_000_000);
    const into = join(folder.path, "out");
    const cat = ["cat", "instances/object", "--repo", repository] as const;
    const whole = await shell(`"$@" > ${into}`, ...cat);
    assert.equal(whole.status, 0, whole.stderr);
    assert.ok(readFileSync(into).equals(readFileSync(join(repository, "instances/object"))));
    // The kernel cuts the write at the limit, as a full disk does.
    const cut = await shell(`trap '' XFSZ; ulimit -f 100; "$@" > ${into}`, ...cat);
    assert.equal(cut.status, 9);
    assert.match(cut.stderr, /^tidemark: Cannot write to standard output: file too large\nhint: /);
    assert.ok(statSync(into).size < 1_000_000);
  });

  test("on a full disk is what is told, and no bug", { skip: noFull }, async () => {
    using folder = temporaryFolder();
    const repository = await repositoryWith(folder.path, "instances/object", 10);
    for (const args of [
      ["cat", "instances/object", "--repo", repository],
      ["backups", "--repo", repository],
      ["init", "--example"],
      ["inspect", join(checkout, "test/fixtures/redis-7.0/rdb/binary.rdb")],
      ["--help"],
    ]) {
      const { status, stderr } = await shell('"$@" > /dev/full', ...args);
      assert.equal(status, 9, `${args[0]}: ${stderr}`);
      assert.match(stderr, /^tidemark: Cannot write to standard output: no space left on device\n/);
    }
  });

  test("that nobody reads ends it quietly, and not as if it were done", async () => {
    const main = join(checkout, "src/cli/main.ts");
    const child = spawn(process.execPath, [main, "init", "--example"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.destroy();
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    assert.deepEqual([await once(child, "close"), said], [[141, null], ""]);
  });

  test("on a terminal gets no binary data", { skip: noScript }, async () => {
    using folder = temporaryFolder();
    const repository = await repositoryWith(folder.path, "instances/o.zst", 10);
    const lines = join(folder.path, "in.jsonl");
    writeFileSync(lines, "");
    for (const args of [
      ["cat", "instances/o.zst", "--repo", repository],
      ["download", "2026", "-", "--repo", repository],
      ["convert", lines, "-", "--to", "rdb"],
    ]) {
      const { status, stdout } = await onTerminal(...args);
      assert.equal(status, 2, stdout);
      assert.match(stdout, /Cannot write .* to a terminal\r?\nhint: Redirect it/);
    }
    const text = await onTerminal("cat", "tidemark.json", "--repo", repository);
    assert.equal(text.status, 0, text.stdout);
  });
});

test("a text of any length is shown short", async () => {
  const name = "x".repeat(100_000);
  const { status, stderr } = await tidemark("inspect", `/${name}/${name}`.slice(0, 120_000));
  assert.notEqual(status, 0);
  assert.ok(stderr.length < 3000, String(stderr.length));
  assert.match(stderr, /^tidemark: Cannot .* … .*\nhint: /);
});
