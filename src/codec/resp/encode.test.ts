import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { ByteWriter, RespEncoder } from "./encode.ts";

function encode(write: (encoder: RespEncoder) => void, protocol: 2 | 3 = 2): string {
  const encoder = new RespEncoder(protocol);
  write(encoder);
  return toLatin1(encoder.take());
}

test("command() writes bytes as they are, texts as UTF-8 and numbers as digits", () => {
  const text = encode((encoder) => encoder.command("SET", fromLatin1("\0\xff"), "ž", 12, -3n));
  const expected = "*5\r\n$3\r\nSET\r\n$2\r\n\0\xff\r\n$2\r\n\xc5\xbe\r\n$2\r\n12\r\n$2\r\n-3\r\n";
  assert.equal(text, expected);
});

test("each reply is written as its protocol has it", () => {
  const cases: readonly [write: (encoder: RespEncoder) => void, resp2: string, resp3: string][] = [
    [(e) => e.simple("OK"), "+OK\r\n", "+OK\r\n"],
    [(e) => e.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"],
    [(e) => e.integer(-7), ":-7\r\n", ":-7\r\n"],
    [(e) => e.integer(2n ** 63n - 1n), ":9223372036854775807\r\n", ":9223372036854775807\r\n"],
    [(e) => e.bulk(fromLatin1("a\r\n")), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"],
    [(e) => e.bulk(fromLatin1("abcd"), 1, 3), "$2\r\nbc\r\n", "$2\r\nbc\r\n"],
    [(e) => e.array(2), "*2\r\n", "*2\r\n"],
    [(e) => e.map(2), "*4\r\n", "%2\r\n"],
    [(e) => e.set(2), "*2\r\n", "~2\r\n"],
    [(e) => e.push(3), "*3\r\n", ">3\r\n"],
    [(e) => e.null(), "$-1\r\n", "_\r\n"],
    [(e) => e.nullArray(), "*-1\r\n", "_\r\n"],
    [(e) => e.boolean(true), ":1\r\n", "#t\r\n"],
    [(e) => e.boolean(false), ":0\r\n", "#f\r\n"],
    [(e) => e.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"],
    [(e) => e.double(Number.NEGATIVE_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"],
    [(e) => e.double(Number.POSITIVE_INFINITY), "$3\r\ninf\r\n", ",inf\r\n"],
    [(e) => e.double(Number.NaN), "$3\r\nnan\r\n", ",nan\r\n"],
    [(e) => e.double(-0), "$2\r\n-0\r\n", ",-0\r\n"],
    [
      (e) => e.bigNumber(10n ** 20n),
      "$21\r\n100000000000000000000\r\n",
      "(100000000000000000000\r\n",
    ],
    [(e) => e.verbatim("txt", fromLatin1("ab")), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"],
    [(e) => e.bulkError(fromLatin1("ERR a\nb")), "-ERR a b\r\n", "!7\r\nERR a\nb\r\n"],
    [(e) => e.raw(fromLatin1("x+OK\r\ny"), 1, 6), "+OK\r\n", "+OK\r\n"],
  ];
  for (const [write, resp2, resp3] of cases) {
    assert.equal(encode(write, 2), resp2);
    assert.equal(encode(write, 3), resp3);
  }
});

test("attributes are for RESP3 only", () => {
  assert.equal(
    encode((encoder) => encoder.attribute(1), 3),
    "|1\r\n",
  );
  assert.throws(() => encode((encoder) => encoder.attribute(1), 2), /RESP2 has no attributes/);
});

test("what take() gave is not written to again", () => {
  const pieces = fc.array(fc.tuple(fc.uint8Array({ maxLength: 100 }), fc.boolean()));
  fc.assert(
    fc.property(pieces, (list) => {
      const writer = new ByteWriter();
      const taken: Uint8Array[] = [];
      for (const [bytes, isTaken] of list) {
        writer.append(bytes);
        if (isTaken) taken.push(writer.take());
      }
      taken.push(writer.take());
      const all = list.map(([bytes]) => bytes);
      assert.deepEqual(Buffer.concat(taken), Buffer.concat(all));
    }),
  );
});

test("appendHeader() writes every whole number", () => {
  fc.assert(
    fc.property(fc.oneof(fc.maxSafeInteger(), fc.nat({ max: 2000 })), (number) => {
      const writer = new ByteWriter();
      writer.appendHeader(58, number);
      assert.equal(toLatin1(writer.take()), `:${number}\r\n`);
    }),
  );
});

test("truncate() takes back what was written last", () => {
  const writer = new ByteWriter();
  writer.appendLatin1("taken");
  writer.take();
  writer.appendLatin1("keep");
  writer.appendLatin1("drop");
  writer.truncate(4);
  assert.equal(toLatin1(writer.peek(2)), "ep");
  assert.equal(toLatin1(writer.take()), "keep");
});
