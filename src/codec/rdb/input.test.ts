import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { countAllocations } from "../../../test/hostile/allocations.ts";
import {
  bytes,
  double,
  hex,
  int64,
  length,
  literalLzf,
  repeatedLzf,
  string,
} from "../../../test/support/rdb-bytes.ts";
import { Slice } from "../../base/bytes.ts";
import { defaultMaxElementBytes, hungry, Input } from "./input.ts";

function inputOf(...chunks: readonly Uint8Array[]): Input {
  const input = new Input(defaultMaxElementBytes);
  for (const chunk of chunks) input.push(chunk);
  return input;
}

function readString(...pieces: readonly Uint8Array[]): string {
  const slice = new Slice();
  inputOf(bytes(...pieces)).string(slice);
  return slice.latin1();
}

suite("length() and length64()", () => {
  const lengths: [bytes: string, value: bigint][] = [
    ["00", 0n],
    ["3f", 63n],
    ["40 40", 64n],
    ["43 e8", 1000n],
    ["7f ff", 16383n],
    ["80 00 00 40 00", 16384n],
    ["80 ff ff ff ff", 2n ** 32n - 1n],
    ["81 00 00 00 01 00 00 00 00", 2n ** 32n],
    ["81 00 00 01 8b cf e5 68 00", 1700000000000n],
    ["81 00 1f ff ff ff ff ff ff", 2n ** 53n - 1n],
    ["40 05", 5n],
    ["80 00 00 00 05", 5n],
    ["81 00 00 00 00 00 00 00 05", 5n],
  ];

  test("read each form, the shortest or not", () => {
    for (const [form, value] of lengths) {
      assert.equal(inputOf(hex(form)).length(), Number(value), form);
      assert.equal(inputOf(hex(form)).length64(), value, form);
    }
  });

  test("give back any length", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        assert.equal(inputOf(length(value)).length64(), value);
      }),
    );
    fc.assert(fc.property(fc.maxSafeNat(), (value) => inputOf(length(value)).length() === value));
  });

  test("refuse what starts no length, with its offset", () => {
    for (const first of [0x82, 0x9f, 0xbf, 0xc0, 0xc3, 0xff]) {
      const input = inputOf(bytes([7], [first], new Uint8Array(9)));
      input.byte();
      const damage = { code: "DATA_CORRUPT", offset: 1, message: /starts no length at byte 1/ };
      assert.throws(() => input.length(), damage);
      const again = inputOf(Uint8Array.of(first, 0, 0, 0, 0, 0, 0, 0, 0));
      assert.throws(() => again.length64(), { code: "DATA_CORRUPT", offset: 0 });
    }
  });

  test("differ in what is above 2^53: a count of that is corrupt", () => {
    const damage = { code: "DATA_CORRUPT", offset: 0, message: /A count of 9007199254740992/ };
    assert.throws(() => inputOf(length(2n ** 53n)).length(), damage);
    assert.equal(inputOf(length(2n ** 64n - 1n)).length64(), 2n ** 64n - 1n);
  });
});

suite("string()", () => {
  test("reads each form, as servers write them", () => {
    const strings: [form: string, text: string][] = [
      ["c0 00", "0"],
      ["c0 7f", "127"],
      ["c0 80", "-128"],
      ["c1 80 00", "128"],
      ["c1 00 80", "-32768"],
      ["c2 00 80 00 00", "32768"],
      ["c2 ff ff ff 7f", "2147483647"],
      ["c2 00 00 00 80", "-2147483648"],
      ["0a 32 31 34 37 34 38 33 36 34 38", "2147483648"],
      ["00", ""],
      ["c3 09 3c 01 61 61 e0 2f 00 01 61 61", "a".repeat(60)],
      ["c3 09 40 46 01 78 78 e0 39 00 01 78 78", "x".repeat(70)],
      ["c3 00 00", ""],
      ["40 01 61", "a"],
      ["80 00 00 00 01 61", "a"],
      ["81 00 00 00 00 00 00 00 01 61", "a"],
    ];
    for (const [form, text] of strings) assert.equal(readString(hex(form)), text, form);
  });

  test("gives back any bytes, plain or compressed", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (content) => {
        const text = Buffer.from(content).toString("latin1");
        assert.equal(readString(string(content)), text);
        assert.equal(readString(literalLzf(content)), text);
      }),
    );
    assert.equal(readString(repeatedLzf(0x61, 100_000)), "a".repeat(100_000));
  });

  test("refuses what starts no string, with its offset", () => {
    for (const first of [0x82, 0xbf, 0xc4, 0xd0, 0xff]) {
      assert.throws(() => readString(Uint8Array.of(first, 0, 0)), {
        code: "DATA_CORRUPT",
        offset: 0,
      });
    }
  });

  test("refuses more than the limit before it has come, and allocates nothing for it", () => {
    const limit = {
      code: "LIMIT_EXCEEDED",
      message: /Cannot read an element of \d+ bytes at byte 0/,
    };
    const { largest } = countAllocations(() => {
      for (const size of [2 ** 30 + 1, 2 ** 40, 2n ** 53n, 2n ** 64n - 1n]) {
        assert.throws(() => readString(length(size, 64)), limit);
        if (size < 2n ** 53n) {
          assert.throws(() => readString(bytes([0xc3], length(size, 64), length(5))), limit);
          assert.throws(() => readString(bytes([0xc3], length(5), length(size, 64))), limit);
        }
      }
      assert.throws(() => readString(length(2 ** 30, 64)), hungry);
      assert.throws(() => readString(bytes([0xc3], length(2 ** 30), length(2 ** 30))), hungry);
    });
    assert.ok(largest < 100, `${largest}`);
  });

  test("refuses a compressed string that says it grows more than LZF can", () => {
    const damage = { code: "DATA_CORRUPT", offset: 0, message: /An LZF string of 3 bytes said/ };
    assert.throws(() => readString(hex("c3 03 41 09 00 61 00")), damage);
  });
});

suite("numbers", () => {
  test("int32(), int64(), time() and double() are little-endian", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        assert.equal(inputOf(int64(value)).int64(), value);
        const time = inputOf(int64(value)).time();
        assert.equal(BigInt(time), value);
        assert.equal(typeof time === "number", Number.isSafeInteger(Number(value)));
        const low = Number(BigInt.asIntN(32, value));
        assert.equal(inputOf(int64(value)).int32(), low);
      }),
    );
    fc.assert(
      fc.property(fc.double(), (value) => Object.is(inputOf(double(value)).double(), value)),
    );
  });
});

suite("Input", () => {
  /** What each primitive reads, and how much of it must have come. */
  const whole = bytes(
    length(1000),
    string("abc"),
    literalLzf("defgh"),
    [0xc2, 1, 2, 3, 4],
    int64(5),
  );
  const readAll = (input: Input, slice: Slice) => {
    const texts: string[] = [String(input.length())];
    for (let i = 0; i < 3; i++) {
      input.string(slice);
      texts.push(slice.latin1());
    }
    texts.push(String(input.int64()));
    return texts;
  };

  test("gives a unit up until all of it has come, and then reads it from its start", () => {
    const slice = new Slice();
    const wanted = readAll(inputOf(whole), slice);
    const input = new Input(1000);
    for (let i = 0; i < whole.length; i++) {
      const chunk = Uint8Array.of(whole[i] as number);
      input.push(chunk);
      if (input.beginUnit()) {
        if (i + 1 === whole.length) break;
        assert.throws(
          () => readAll(input, slice),
          (error) => error === hungry,
        );
        input.abandonUnit();
      }
      assert.equal(input.position, 0);
      input.release();
      chunk.fill(0);
    }
    assert.deepEqual(readAll(input, slice), wanted);
    assert.equal(input.position, whole.length);
    assert.equal(input.held, 0);
  });

  test("does not try a unit again before what it lacked has come", () => {
    const input = inputOf(length(100));
    assert.ok(input.beginUnit());
    assert.throws(
      () => input.string(new Slice()),
      (error) => error === hungry,
    );
    input.abandonUnit();
    for (let i = 0; i < 100; i++) {
      assert.ok(!input.beginUnit());
      input.push(Uint8Array.of(i));
    }
    assert.ok(input.beginUnit());
  });

  test("passes over strings whose bytes have not come, and sums them all the same", () => {
    const forms = [string("abcdef"), repeatedLzf(0x61, 500), Uint8Array.of(0xc2, 1, 2, 3, 4)];
    for (const form of forms) {
      const input = new Input(1000);
      const content = bytes(form, [0x77]);
      let isPassed = false;
      for (const byte of content) {
        input.push(Uint8Array.of(byte));
        if (!input.beginUnit()) continue;
        try {
          if (isPassed) assert.equal(input.byte(), 0x77);
          else input.passString();
          isPassed = true;
        } catch (error) {
          assert.equal(error, hungry);
          input.abandonUnit();
        }
        input.release();
      }
      assert.equal(input.position, content.length);
      assert.equal(input.checksum(), inputOfAll(content).checksum());
    }
  });

  test("checksum() covers what was read, however it was cut", () => {
    const content = fc.uint8Array({ minLength: 1, maxLength: 100 });
    fc.assert(
      fc.property(content, fc.integer({ min: 1, max: 9 }), fc.nat(100), (whole, size, read) => {
        const count = Math.min(read, whole.length);
        const input = new Input(1000);
        let left = count;
        for (let at = 0; at < whole.length; at += size) {
          input.push(whole.slice(at, at + size));
          for (; left > 0 && input.held > 0; left--) input.byte();
          input.release();
        }
        assert.equal(input.checksum(), inputOfAll(whole.subarray(0, count)).checksum());
        assert.deepEqual(Buffer.from(input.rest()), Buffer.from(whole.subarray(count)));
      }),
    );
  });

  test("keeps no more than twice what has come of an element, whatever is still to come", () => {
    const { total } = countAllocations(() => {
      const input = new Input(2 ** 30);
      const chunk = Buffer.alloc(1000);
      input.push(length(2 ** 29));
      for (let i = 0; i < 200; i++) {
        if (input.beginUnit()) {
          assert.throws(
            () => input.string(new Slice()),
            (error) => error === hungry,
          );
          input.abandonUnit();
        }
        input.release();
        input.push(chunk);
      }
    });
    assert.ok(total < 4 * 200_000, `${total}`);
  });

  function inputOfAll(content: Uint8Array): Input {
    const input = inputOf(content);
    input.bytes(content.length, new Slice());
    return input;
  }
});
