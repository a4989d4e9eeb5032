import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  escapeBytes,
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  plural,
  printable,
  quoteName,
} from "./text.ts";

suite("escapeBytes()", () => {
  test("writes bytes as redis-cli does", () => {
    const bytes = Buffer.from('a"b\\c\x00\x07\x08\t\n\r\x1b\x7f\xff ~', "latin1");
    assert.equal(escapeBytes(bytes), 'a\\"b\\\\c\\x00\\a\\b\\t\\n\\r\\x1b\\x7f\\xff ~');
  });

  test("gives text without control characters, from which the bytes can be had back", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const text = escapeBytes(bytes);
        assert.match(text, /^[ -~]*$/);
        assert.deepEqual(unescape(text), Buffer.from(bytes));
      }),
    );
  });

  function unescape(text: string): Buffer {
    const names: Record<string, string> = { a: "\x07", b: "\b", t: "\t", n: "\n", r: "\r" };
    const plain = text.replace(/\\(?:x(..)|(.))/g, (_, hex: string | undefined, name: string) =>
      hex === undefined ? (names[name] ?? name) : String.fromCharCode(Number.parseInt(hex, 16)),
    );
    return Buffer.from(plain, "latin1");
  }
});

test("quoteName() cuts a long name off before an escape, not within", () => {
  assert.equal(quoteName("short"), '"short"');
  assert.equal(quoteName("abc\\x00d", 6), '"abc"…');
  assert.equal(quoteName("abc\\x00d", 7), '"abc\\x00"…');
  assert.equal(quoteName("abc\\nd", 4), '"abc"…');
});

test("printable() leaves words, and disarms what a terminal would obey", () => {
  assert.equal(printable("žluťoučký kůň"), "žluťoučký kůň");
  assert.equal(printable("\n\x1b[2J\r\u202e\u0085"), "\\x0a\\x1b[2J\\x0d\\u{202e}\\x85");
});

test("numbers are formatted for people", () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(formatCount), ["0", "999", "1,000", "1,234,567"]);
  assert.deepEqual(
    [0, 999, 1000, 99_949, 99_950, 999_499, 999_500, 227_026_309, 5e12].map(formatBytes),
    ["0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB", "227 MB", "5.0 TB"],
  );
  assert.deepEqual([0, 350, 999, 1000, 61_000, 3_600_000, 90_061_000].map(formatDuration), [
    "0ms",
    "350ms",
    "999ms",
    "1s",
    "1m 1s",
    "1h",
    "1d 1h",
  ]);
  assert.deepEqual([plural(1, "key"), plural(2000, "key")], ["1 key", "2,000 keys"]);
});

test("formatTime() says a time to the millisecond where it has any, and numbers beyond dates", () => {
  assert.equal(formatTime(1_700_000_000_000), "2023-11-14T22:13:20Z");
  assert.equal(formatTime(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
  assert.equal(formatTime(9e15), "9000000000000000 ms");
});
