import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Output } from "./writer-output.ts";

function written(write: (output: Output) => void, compress = true): string {
  const output = new Output(compress);
  write(output);
  return Buffer.from(output.take()).toString("hex");
}

test("rdbLength() takes the shortest form", () => {
  const expected = [
    [0, "00"],
    [63, "3f"],
    [64, "4040"],
    [1000, "43e8"],
    [16383, "7fff"],
    [16384, "8000004000"],
    [2 ** 32 - 1, "80ffffffff"],
    [2 ** 32, "810000000100000000"],
    [1700000000000, "810000018bcfe56800"],
  ] as const;
  for (const [value, hex] of expected) {
    assert.equal(
      written((output) => output.rdbLength(value)),
      hex,
    );
    assert.equal(
      written((output) => output.rdbLength64(BigInt(value))),
      hex,
    );
  }
  assert.equal(
    written((output) => output.rdbLength64(2n ** 64n - 1n)),
    `81${"ff".repeat(8)}`,
  );
});

test("string() takes the form that a server would", () => {
  const expected = [
    ["0", "c000"],
    ["127", "c07f"],
    ["-128", "c080"],
    ["128", "c18000"],
    ["-32768", "c10080"],
    ["32768", "c200800000"],
    ["2147483647", "c2ffffff7f"],
    ["-2147483648", "c200000080"],
    ["2147483648", "0a32313437343833363438"],
    ["", "00"],
    ["007", "03303037"],
    ["a".repeat(20), `14${"61".repeat(20)}`],
    ["a".repeat(60), "c3093c016161e02f00016161"],
    ["x".repeat(70), "c3094046017878e03900017878"],
  ] as const;
  for (const [text, hex] of expected) {
    assert.equal(
      written((output) => output.string(Buffer.from(text))),
      hex,
    );
  }
  assert.equal(
    written((output) => output.string(Buffer.alloc(21, "a")), false),
    `15${"61".repeat(21)}`,
  );
});

test("string() compresses only where that saves four bytes", () => {
  // Of any more than eleven, what repeats takes two or three bytes.
  for (let repeats = 4; repeats < 40; repeats++) {
    const text = `abcdefghijklmnopq${"z".repeat(repeats)}`;
    const bytes = Buffer.from(
      written((output) => output.string(Buffer.from(text))),
      "hex",
    );
    assert.equal(bytes[0] === 0xc3, repeats >= 11);
    if (bytes[0] === 0xc3) assert((bytes[1] as number) <= text.length - 4);
  }
});

test("int64(), uint64() and float64() are little-endian, and exact", () => {
  assert.equal(
    written((output) => output.int64(4102444800000)),
    "00d8c32cbb030000",
  );
  assert.equal(
    written((output) => output.int64(-1)),
    "ff".repeat(8),
  );
  assert.equal(
    written((output) => output.int64(-(2n ** 63n))),
    "0000000000000080",
  );
  assert.equal(
    written((output) => output.uint64(1n)),
    "0100000000000000",
  );
  assert.equal(
    written((output) => output.uint64BigEndian(1n)),
    "0000000000000001",
  );
  assert.equal(
    written((output) => output.float64(-1.5)),
    "000000000000f8bf",
  );
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      const number = written((output) => output.int64(value));
      return number === written((output) => output.int64(BigInt(value)));
    }),
  );
});

test("insertLength() puts a length in front of what was written since", () => {
  for (const value of [1, 63, 64, 16384, 2 ** 32]) {
    const inserted = written((output) => {
      output.byte(7);
      output.byte(0);
      output.raw(Buffer.from("behind"));
      output.insertLength(1, value);
      output.byte(8);
    });
    assert.equal(
      inserted,
      written((output) => {
        output.byte(7);
        output.rdbLength(value);
        output.raw(Buffer.from("behind"));
        output.byte(8);
      }),
    );
  }
});

test("take() holds back an entry until its type is decided, and drop() takes it back", () => {
  const output = new Output(true);
  const entry = () => {
    output.hold();
    output.byte(1);
    output.type();
    output.raw(Buffer.from("key"));
  };
  output.byte(9);
  entry();
  assert.equal(output.ready, 1);
  assert.equal(Buffer.from(output.take()).toString("hex"), "09");
  assert.equal(output.ready, 0);
  output.decide(18);
  assert.equal(Buffer.from(output.take()).toString("hex"), "01126b6579");
  entry();
  output.drop();
  assert.equal(output.ready, 0);
  output.byte(5);
  assert.deepEqual(output.take(), new Uint8Array([5]));
});

test("what take() gave stays as it was", () => {
  const output = new Output(true);
  const pieces = [10, 70_000, 10, 200_000, 3].map((size, i) => {
    output.raw(new Uint8Array(size).fill(i));
    return output.take();
  });
  for (const [i, piece] of pieces.entries()) assert(piece.every((byte) => byte === i));
  assert.deepEqual(
    pieces.map((piece) => piece.length),
    [10, 70_000, 10, 200_000, 3],
  );
});
