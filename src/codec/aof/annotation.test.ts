import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import {
  formatPositionLine,
  formatTimestamp,
  type PositionLine,
  parseAnnotation,
} from "./annotation.ts";
import { maxAnnotationBytes } from "./framing.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const example: PositionLine = {
  replicationId,
  offset: 4711,
  ms: 1_795_328_997_123,
  sequence: 42,
  dataCrc: 0x0c0ffee0,
};
const fields = {
  replicationId: fc.stringMatching(/^[0-9a-f]{40}$/),
  offset: fc.maxSafeNat(),
  ms: fc.maxSafeNat(),
  sequence: fc.maxSafeNat(),
  dataCrc: fc.nat({ max: 0xffffffff }),
};
const lines = fc.record(fields, { noNullPrototype: true });

test("formatPositionLine() writes the line as the specification shows it", () => {
  const covered = `#TM1:${replicationId}:4711:1795328997123:42:0c0ffee0:`;
  assert.equal(toLatin1(formatPositionLine(example)), `${covered}a9c744fd\r\n`);
  assert.equal(crc32(covered), 0xa9c744fd);
});

test("parseAnnotation() gives what formatPositionLine() was given, in a line that servers take", () => {
  fc.assert(
    fc.property(lines, (line) => {
      const bytes = formatPositionLine(line);
      assert.ok(bytes.length <= 116 && bytes.length < maxAnnotationBytes);
      assert.deepEqual(parseAnnotation(bytes, 0), { kind: "position", line });
    }),
  );
});

test("parseAnnotation() finds every flipped bit in a position line", () => {
  const bytes = formatPositionLine(example);
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const flipped = Uint8Array.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
    const kind = kindOf(flipped);
    // What does not begin as ours does is a comment; the next line's checksum finds that out.
    assert.match(kind, bit < 24 ? /comment|DATA_CORRUPT/ : /DATA_CORRUPT|DATA_UNSUPPORTED/);
  }
});

test("parseAnnotation() refuses every position line that is cut or in another form", () => {
  const text = toLatin1(formatPositionLine(example));
  for (let size = 4; size < text.length; size++) {
    assert.equal(kindOf(fromLatin1(text.slice(0, size))), "DATA_CORRUPT");
  }
  for (const changed of [
    sealed(`#TM1:${replicationId}:04711:1:42:0c0ffee0:`),
    sealed(`#TM1:${replicationId}:9007199254740992:1:42:0c0ffee0:`),
    sealed(`#TM1:${replicationId.toUpperCase()}:4711:1:42:0c0ffee0:`),
    sealed(`#TM1:${replicationId}:4711:1:42:c0ffee0:`),
    text.replace("\r\n", "\n"),
    ` ${text}`.slice(1).replace(":", "::"),
  ]) {
    assert.equal(kindOf(fromLatin1(changed)), "DATA_CORRUPT", changed);
  }
});

test("parseAnnotation() names a version that it does not know", () => {
  assert.throws(() => parseAnnotation(fromLatin1("#TM2:anything\r\n"), 99), {
    code: "DATA_UNSUPPORTED",
    offset: 99,
    message: "Position line of version 2 at byte 99",
  });
});

test("parseAnnotation() reads timestamps, and refuses those that the stock tool refuses", () => {
  const timestamp = parseAnnotation(formatTimestamp(1_795_328_997), 0);
  assert.deepEqual(timestamp, { kind: "timestamp", seconds: 1_795_328_997 });
  for (const text of ["#TS:\r\n", "#TS:1\n", "#TS:1x\r\n", "#TS:-1\r\n"]) {
    assert.equal(kindOf(fromLatin1(text)), "DATA_CORRUPT");
  }
});

test("parseAnnotation() takes any other line as a comment", () => {
  for (const text of ["#\n", "# note\r\n", "#ts:1\r\n", "#T\n"]) {
    assert.equal(kindOf(fromLatin1(text)), "comment");
  }
});

function sealed(covered: string): string {
  return `${covered}${crc32(covered).toString(16).padStart(8, "0")}\r\n`;
}

function kindOf(bytes: Uint8Array): string {
  try {
    return parseAnnotation(bytes, 0).kind;
  } catch (error) {
    return (error as { code: string }).code;
  }
}
