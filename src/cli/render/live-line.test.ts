import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { LiveLine } from "./live-line.ts";

function screen(isTTY: boolean, columns: number) {
  const written: string[] = [];
  const write = (text: string) => written.push(text) > 0;
  return { written, isTTY, columns, write };
}

suite("LiveLine", () => {
  test("writes over what it has shown, at most ten times a second, and takes it away", () => {
    const terminal = screen(true, 60);
    let now = 0;
    {
      using line = new LiveLine(terminal, () => now);
      for (now = 0; now < 200; now += 50) line.show(`at ${now}`);
      line.clear();
      line.clear();
      now = 300;
      line.show("later\x1b[2J");
    }
    assert.deepEqual(terminal.written, [
      ...["\r\x1b[Kat 0", "\r\x1b[Kat 100", "\r\x1b[K"],
      ...["\r\x1b[Klater\\x1b[2J", "\r\x1b[K"],
    ]);
  });

  test("fits into the terminal, and into a usual one where that says 0 columns", () => {
    for (const [columns, width] of [
      [20, 19],
      [0, 79],
    ] as const) {
      const terminal = screen(true, columns);
      new LiveLine(terminal).show("x".repeat(200));
      assert.deepEqual(terminal.written, [`\r\x1b[K${"x".repeat(width)}`]);
    }
  });

  test("says nothing where there is no terminal", () => {
    const file = screen(false, 80);
    {
      using line = new LiveLine(file);
      line.show("x");
      assert.deepEqual([line.isDue, line.isOnTerminal], [false, false]);
    }
    assert.deepEqual(file.written, []);
  });
});
