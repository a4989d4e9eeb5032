import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Progress } from "./progress.ts";

function screen(isTTY: boolean) {
  const written: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  return { written, isTTY, columns: 60, write };
}

suite("Progress", () => {
  test("tells bytes, share, rate and what is left of a large input", () => {
    const terminal = screen(true);
    let now = 0;
    {
      using progress = new Progress(400_000_000, terminal, () => now);
      now = 1000;
      progress.add(100_000_000);
      now = 1050;
      progress.add(1);
    }
    assert.deepEqual(terminal.written, [
      "\r\x1b[K25%  100 MB of 400 MB  100 MB/s  3s left",
      "\r\x1b[K",
    ]);
  });

  test("says nothing of a small input that is read at once, and of one that takes long, a line", () => {
    const terminal = screen(true);
    let now = 0;
    using progress = new Progress(1000, terminal, () => now);
    now = 900;
    progress.add(500);
    assert.deepEqual(terminal.written, []);
    now = 1100;
    progress.add(1);
    assert.equal(terminal.written.length, 1);
  });

  test("says nothing where there is no terminal", () => {
    const file = screen(false);
    {
      using progress = new Progress(1e9, file, () => 0);
      progress.add(5e8);
    }
    assert.deepEqual(file.written, []);
  });

  test("fits into one line of the terminal", () => {
    const terminal = { ...screen(true), columns: 20 };
    using progress = new Progress(1e9, terminal, () => 1000);
    progress.add(5e8);
    assert.ok(terminal.written.every((text) => text.replace("\r\x1b[K", "").length < 20));
  });
});
