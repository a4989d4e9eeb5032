import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, Slice, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { RespEncoder } from "./encode.ts";
import { type RequestLimits, RequestParser } from "./request.ts";

type Seen = { readonly commands: string[][]; readonly ends: number[]; readonly error?: string };

function parse(chunks: readonly Uint8Array[], limits: Partial<RequestLimits> = {}): Seen {
  const parser = new RequestParser(limits);
  const slice = new Slice();
  const commands: string[][] = [];
  const ends: number[] = [];
  try {
    for (const chunk of chunks) {
      // A chunk is borrowed: what is read later must not depend on it.
      const borrowed = Buffer.from(chunk);
      parser.push(borrowed);
      while (parser.next()) {
        const args: string[] = [];
        for (let i = 0; i < parser.argc; i++) {
          parser.argument(i, slice);
          args.push(slice.latin1());
        }
        commands.push(args);
        ends.push(parser.end);
        parser.raw(slice);
        assert.equal(slice.length, parser.end - parser.start);
      }
      borrowed.fill(0xee);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    assert.equal(error.code, "PROTOCOL_ERROR");
    assert.throws(() => parser.next(), error);
    return { commands, ends, error: error.message };
  }
  return { commands, ends };
}

const parseText = (text: string, limits?: Partial<RequestLimits>) =>
  parse([fromLatin1(text)], limits);

function split(bytes: Uint8Array, size: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
  return chunks;
}

const argument = fc.oneof(
  fc.constantFrom("", "\r\n", "*3\r\n", "$1\r\na\r\n", "\0"),
  fc.uint8Array({ maxLength: 30 }).map((bytes) => toLatin1(bytes)),
  fc.integer({ min: 500, max: 3000 }).map((size) => "x".repeat(size)),
);
const commandLists = fc.array(fc.array(argument, { minLength: 1, maxLength: 6 }), { maxLength: 8 });

function encode(commands: readonly (readonly string[])[]): Uint8Array {
  const encoder = new RespEncoder();
  for (const command of commands) encoder.command(...command.map(fromLatin1));
  return encoder.take();
}

test("next() gives the commands that were encoded, in chunks of any size", () => {
  fc.assert(
    fc.property(commandLists, fc.integer({ min: 1, max: 3000 }), (commands, size) => {
      const bytes = encode(commands);
      const seen = parse(split(bytes, size));
      assert.deepEqual(seen.commands, commands);
      assert.equal(seen.ends.at(-1) ?? 0, bytes.length);
    }),
  );
});

test("next() gives the same at every single cut between two chunks", () => {
  const text = `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nset "a b" c\n*0\r\n*-5\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\n${"v".repeat(12)}\r\n`;
  const bytes = fromLatin1(text);
  const whole = parse([bytes]);
  assert.deepEqual(whole.commands, [
    ["GET", "k"],
    ["set", "a b", "c"],
    ["SET", "", "v".repeat(12)],
  ]);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), whole);
  }
});

test("next() splits inline commands as redis-cli does", () => {
  const { commands } = parseText(`PING\r\n  set  k "a\\x41 \\n" 'b c'\nGET k\n`);
  assert.deepEqual(commands, [["PING"], ["set", "k", "aA \n", "b c"], ["GET", "k"]]);
});

test("next() passes over empty lines and counts without arguments", () => {
  const { commands, ends } = parseText("\r\n\n  \r\n*0\r\n*-1\r\n*-12\r\nPING\r\n");
  assert.deepEqual(commands, [["PING"]]);
  assert.deepEqual(ends, [28]);
});

test("next() takes any two bytes behind an argument, and any byte behind a CR, as Redis does", () => {
  assert.deepEqual(parseText("*1\rx$4\ryPINGab*1\r\n$4\r\nPING\r\n").commands, [
    ["PING"],
    ["PING"],
  ]);
});

test("next() refuses what servers refuse, in their words", () => {
  const long = "1".repeat(65_537);
  const refusals: readonly [text: string, message: string][] = [
    ["*x\r\n", "invalid multibulk length"],
    ["*\r\n", "invalid multibulk length"],
    ["*+1\r\n", "invalid multibulk length"],
    ["*01\r\n", "invalid multibulk length"],
    ["*-0\r\n", "invalid multibulk length"],
    ["*2147483648\r\n", "invalid multibulk length"],
    ["*-9223372036854775809\r\n", "invalid multibulk length"],
    [`*${"1".repeat(30)}\r\n`, "invalid multibulk length"],
    ["*1\r\n:4\r\n", "expected '$', got ':'"],
    ["*1\r\n\r\n", "expected '$', got '\r'"],
    ["*1\r\n$-1\r\n", "invalid bulk length"],
    ["*1\r\n$\r\n", "invalid bulk length"],
    ["*1\r\n$x\r\n", "invalid bulk length"],
    ["*1\r\n$04\r\n", "invalid bulk length"],
    ["*1\r\n$536870913\r\n", "invalid bulk length"],
    ["*1\r\n$9223372036854775808\r\n", "invalid bulk length"],
    [`*${long}`, "too big mbulk count string"],
    [`*1\r\n$${long}`, "too big bulk count string"],
    [long, "too big inline request"],
    ['GET "k\r\n', "unbalanced quotes in request"],
    ['GET "k"x\r\n', "unbalanced quotes in request"],
    ["GET 'k\r\n", "unbalanced quotes in request"],
  ];
  for (const [text, message] of refusals) {
    const bytes = fromLatin1(`PING\r\n${text}`);
    for (const size of [1, 7, bytes.length]) {
      const { commands, error } = parse(split(bytes, size));
      assert.deepEqual(commands, [["PING"]]);
      assert.equal(error, `Protocol error: ${message}`);
    }
  }
});

test("a failure tells where the command starts that is wrong", () => {
  const parser = new RequestParser();
  parser.push(fromLatin1("PING\r\n*1\r\n:1\r\n"));
  assert.ok(parser.next());
  assert.throws(() => parser.next(), { offset: 6, code: "PROTOCOL_ERROR" });
});

test("the limits are those that were given", () => {
  const limits = { bulkBytes: 10, multibulkLength: 3, inlineBytes: 12 };
  assert.equal(parseText("*1\r\n$10\r\n0123456789\r\n", limits).error, undefined);
  assert.match(parseText("*1\r\n$11\r\n", limits).error ?? "", /invalid bulk length/);
  assert.match(parseText("*4\r\n", limits).error ?? "", /invalid multibulk length/);
  assert.equal(parseText("GET 01234567\n", limits).error, undefined);
  assert.match(parseText("GET 012345678\n", limits).error ?? "", /too big inline request/);
});

test("a client that has not authenticated itself gets ten arguments of 16 KiB", () => {
  const outcome = (text: string) => {
    const parser = new RequestParser();
    parser.isAuthenticated = false;
    parser.push(fromLatin1(text));
    try {
      return parser.next();
    } catch (error) {
      return (error as Failure).message;
    }
  };
  const ten = Array.from({ length: 10 }, () => "a");
  assert.equal(outcome(toLatin1(encode([ten]))), true);
  assert.equal(outcome("*11\r\n"), "Protocol error: unauthenticated multibulk length");
  assert.equal(outcome(toLatin1(encode([["a".repeat(16_384)]]))), true);
  assert.equal(outcome("*1\r\n$16385\r\n"), "Protocol error: unauthenticated bulk length");
});

test("nothing is allocated for a count or a length that was only announced", () => {
  const before = process.memoryUsage().arrayBuffers;
  for (const text of ["*2147483647\r\n", "*2147483647\r\n$536870912\r\n"]) {
    assert.deepEqual(parseText(text), { commands: [], ends: [] });
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
});

test("a long line that comes byte by byte is looked at once", () => {
  const parser = new RequestParser();
  const byte = fromLatin1("a");
  for (let i = 0; i < 65_536; i++) {
    parser.push(byte);
    assert.equal(parser.next(), false);
  }
  parser.push(fromLatin1("\n"));
  assert.ok(parser.next());
});

test("takeRest() gives what came behind the last command", () => {
  const text = "*1\r\n$4\r\nSYNC\r\n$5\r\nREDIS";
  for (let cut = 0; cut < 14; cut++) {
    const parser = new RequestParser();
    const bytes = fromLatin1(text);
    parser.push(bytes.subarray(0, cut));
    assert.equal(parser.next(), false);
    parser.push(bytes.subarray(cut));
    assert.equal(parser.next(), true);
    assert.equal(toLatin1(parser.takeRest()), "$5\r\nREDIS");
    assert.equal(parser.start, text.length);
    parser.push(fromLatin1("PING\n"));
    assert.equal(parser.next(), true);
    assert.equal(parser.start, text.length);
  }
});

test("arbitrary bytes are parsed to an end, the same in any chunks", () => {
  const soup = fc
    .array(fc.constantFrom("*", "$", "1", "2", "9", "0", "\r\n", "\n", "\r", '"', "'", " ", "a"))
    .map((parts) => fromLatin1(parts.join("")));
  const mutated = fc
    .tuple(commandLists, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 3 }))
    .map(([commands, changes]) => {
      const bytes = Uint8Array.from(encode(commands));
      for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(soup, mutated, fc.uint8Array()), fc.nat({ max: 40 }), (bytes, size) => {
      assert.deepEqual(parse(split(bytes, size + 1)), parse([bytes]));
    }),
    { numRuns: 300 },
  );
});
