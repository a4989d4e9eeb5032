import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { cutTail } from "./cut-tail.ts";

suite("cutTail()", () => {
  test("cuts the file, and keeps it as it was beside", () => {
    using dir = folder();
    const { path, stats } = dir.write("good bytes, torn");
    const copy = cutTail({ path, stats, truncateTo: 10 });
    assert.equal(readFileSync(path, "utf8"), "good bytes");
    assert.equal(copy, `${path}.before-repair`);
    assert.equal(readFileSync(copy, "utf8"), "good bytes, torn");
  });

  test("never writes over a copy that is there", () => {
    using dir = folder();
    for (const round of ["one", "two", "three"]) {
      const { path, stats } = dir.write(round);
      const copy = cutTail({ path, stats, truncateTo: 0 });
      assert.equal(readFileSync(copy, "utf8"), round);
    }
    const names = ["log", "log.before-repair", "log.before-repair-2", "log.before-repair-3"];
    assert.deepEqual(readdirSync(dir.path).sort(), names);
  });

  test("leaves a file alone that has changed since it was checked", () => {
    using dir = folder();
    const { path, stats } = dir.write("good bytes, torn");
    appendFileSync(path, " no more");
    const attempt = () => cutTail({ path, stats, truncateTo: 10 });
    assert.throws(attempt, { code: "FILE_FAILED", message: /it has changed since/ });
    assert.equal(readFileSync(path, "utf8"), "good bytes, torn no more");
    assert.deepEqual(readdirSync(dir.path), ["log"]);
  });

  test("leaves the file alone when it cannot be copied", {
    skip: process.getuid?.() === 0 && "root writes everywhere",
  }, () => {
    using dir = folder();
    const { path, stats } = dir.write("good bytes, torn");
    chmodSync(dir.path, 0o500);
    assert.throws(() => cutTail({ path, stats, truncateTo: 10 }), { code: "FILE_FAILED" });
    assert.equal(readFileSync(path, "utf8"), "good bytes, torn");
    chmodSync(dir.path, 0o700);
  });

  test("says that a file is missing", () => {
    using dir = folder();
    const { stats } = dir.write("x");
    const path = join(dir.path, "none");
    assert.throws(() => cutTail({ path, stats, truncateTo: 0 }), { code: "FILE_MISSING" });
  });
});

function folder() {
  const path = mkdtempSync(join(tmpdir(), "tidemark-"));
  const file = join(path, "log");
  const write = (text: string) => {
    writeFileSync(file, text);
    return { path: file, stats: statSync(file) };
  };
  const dispose = () => rmSync(path, { recursive: true, force: true });
  return { path, write, [Symbol.dispose]: dispose };
}
