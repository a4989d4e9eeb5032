import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { RespEncoder } from "./encode.ts";
import { type Reply, type ReplyLimits, ReplyParser } from "./reply.ts";

type Seen = { readonly replies: Reply[]; readonly error?: string };

function parse(chunks: readonly Uint8Array[], limits: Partial<ReplyLimits> = {}): Seen {
  const parser = new ReplyParser(limits);
  const replies: Reply[] = [];
  try {
    for (const chunk of chunks) {
      const borrowed = Buffer.from(chunk);
      parser.push(borrowed);
      for (let reply = parser.next(); reply; reply = parser.next()) replies.push(reply);
      borrowed.fill(0xee);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    assert.throws(() => parser.next(), error);
    return { replies, error: `${error.code} ${error.message}` };
  }
  return { replies };
}

const parseText = (text: string, limits?: Partial<ReplyLimits>) =>
  parse([fromLatin1(text)], limits);

function split(bytes: Uint8Array, size: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
  return chunks;
}

const bytes = (text: string) => Uint8Array.from(fromLatin1(text));
const bulk = (text: string): Reply => ({ type: "bulk", bytes: bytes(text) });
const integer = (value: number | bigint): Reply => ({ type: "integer", value });

test("next() reads every type of RESP2 and RESP3", () => {
  const cases: readonly [text: string, reply: Reply][] = [
    ["+OK\r\n", { type: "simple", bytes: bytes("OK") }],
    ["-ERR no\r\n", { type: "error", bytes: bytes("ERR no") }],
    [":-12\r\n", integer(-12)],
    [":+12\r\n", integer(12)],
    [":9223372036854775807\r\n", integer(9223372036854775807n)],
    ["$3\r\na\r\n\r\n", bulk("a\r\n")],
    ["$0\r\n\r\n", bulk("")],
    ["$-1\r\n", { type: "null" }],
    ["*-1\r\n", { type: "null" }],
    ["_\r\n", { type: "null" }],
    ["#t\r\n", { type: "boolean", value: true }],
    ["#f\r\n", { type: "boolean", value: false }],
    [",1.5e3\r\n", { type: "double", value: 1500 }],
    [",10\r\n", { type: "double", value: 10 }],
    [",inf\r\n", { type: "double", value: Number.POSITIVE_INFINITY }],
    [",-inf\r\n", { type: "double", value: Number.NEGATIVE_INFINITY }],
    [",-nan\r\n", { type: "double", value: Number.NaN }],
    [
      "(-123456789012345678901234567890\r\n",
      { type: "bigNumber", value: -123456789012345678901234567890n },
    ],
    ["!6\r\nERR\r\nx\r\n", { type: "bulkError", bytes: bytes("ERR\r\nx") }],
    ["=6\r\ntxt:ab\r\n", { type: "verbatim", format: "txt", bytes: bytes("ab") }],
    ["*0\r\n", { type: "array", items: [] }],
    [
      "*2\r\n:1\r\n*1\r\n$1\r\na\r\n",
      { type: "array", items: [integer(1), { type: "array", items: [bulk("a")] }] },
    ],
    ["~1\r\n:1\r\n", { type: "set", items: [integer(1)] }],
    [">1\r\n:1\r\n", { type: "push", items: [integer(1)] }],
    ["%1\r\n:1\r\n:2\r\n", { type: "map", pairs: [[integer(1), integer(2)]] }],
    [
      "|1\r\n:1\r\n:2\r\n*0\r\n",
      {
        type: "attributed",
        attributes: [[integer(1), integer(2)]],
        reply: { type: "array", items: [] },
      },
    ],
    ["|0\r\n:1\r\n", { type: "attributed", attributes: [], reply: integer(1) }],
    ["$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n", bulk("abc")],
    [
      "*?\r\n:1\r\n*?\r\n.\r\n.\r\n",
      { type: "array", items: [integer(1), { type: "array", items: [] }] },
    ],
    ["%?\r\n:1\r\n:2\r\n.\r\n", { type: "map", pairs: [[integer(1), integer(2)]] }],
  ];
  for (const [text, reply] of cases) {
    const twice = fromLatin1(text + text);
    for (const size of [1, 3, twice.length]) {
      assert.deepEqual(
        parse(split(twice, size)),
        { replies: [reply, reply] },
        JSON.stringify(text),
      );
    }
  }
});

test("attributes stand before the item that they are about", () => {
  const { replies } = parseText("*2\r\n|1\r\n+ttl\r\n:9\r\n:1\r\n:2\r\n");
  const attributes: [Reply, Reply][] = [[{ type: "simple", bytes: bytes("ttl") }, integer(9)]];
  const first: Reply = { type: "attributed", attributes, reply: integer(1) };
  assert.deepEqual(replies, [{ type: "array", items: [first, integer(2)] }]);
});

test("line feeds before a reply are passed over: a primary keeps a link alive with them", () => {
  const { replies } = parseText("\n\n+OK\r\n\n:1\r\n");
  assert.deepEqual(replies, [{ type: "simple", bytes: bytes("OK") }, integer(1)]);
});

test("next() refuses what is no reply, with the place", () => {
  const refusals: readonly [text: string, message: RegExp][] = [
    ["hello\r\n", /Reply "hello" at byte 0/],
    ["\r\n", /Reply "\\r.*" at byte 0/],
    [":1x\r\n", /Reply ":1x" at byte 0/],
    [":9223372036854775808\r\n", /Reply ":9223372036854775808" at byte 0/],
    ["$x\r\n", /Length "x" at byte 0/],
    ["$-2\r\n", /Length "-2" at byte 0/],
    ["$1\r\nabc", /String without a line end at byte 4/],
    ["#x\r\n", /Reply "#x" at byte 0/],
    [",x\r\n", /Reply ",x" at byte 0/],
    ["(1.5\r\n", /Reply "\(1.5" at byte 0/],
    ["_x\r\n", /Reply "_x" at byte 0/],
    ["=3\r\nabc\r\n", /Verbatim string without a format at byte 0/],
    ["=5\r\nabcde\r\n", /Verbatim string without a format at byte 4/],
    ["%?\r\n:1\r\n.\r\n", /Map with a key that has no value at byte 8/],
    [".\r\n", /End mark outside of a streamed aggregate at byte 0/],
    ["*1\r\n.\r\n", /End mark outside of a streamed aggregate at byte 4/],
    ["*?\r\n.x\r\n", /End mark outside of a streamed aggregate at byte 4/],
    ["$?\r\n+OK\r\n", /"\+" where a part of a streamed string must start at byte 4/],
    [";1\r\n", /Reply ";1" at byte 0/],
  ];
  for (const [text, message] of refusals) {
    const { replies, error } = parseText(text);
    assert.deepEqual(replies, []);
    assert.match(error ?? "", /^PROTOCOL_ERROR Cannot read the reply: /, text);
    assert.match(error ?? "", message);
  }
});

test("every limit is kept, by its name", () => {
  const cases: readonly [text: string, limits: Partial<ReplyLimits>, message: RegExp][] = [
    ["$11\r\n", { bulkBytes: 10 }, /More than 10 bytes in a string/],
    [
      "$?\r\n;6\r\n123456\r\n;6\r\n123456\r\n;0\r\n",
      { bulkBytes: 10 },
      /More than 10 bytes in a string/,
    ],
    [`+${"a".repeat(40)}`, { lineBytes: 10 }, /More than 10 bytes in a line/],
    ["*1\r\n*1\r\n*1\r\n", { nesting: 2 }, /More than 2 aggregates within each other/],
    ["*3\r\n", { items: 2 }, /More than 2 items in a reply/],
    ["*2\r\n*1\r\n:1\r\n:2\r\n", { items: 3 }, /More than 3 items in a reply/],
    ["*2\r\n$10\r\n0123456789\r\n$9\r\n", { replyBytes: 25 }, /More than 25 bytes in a reply/],
    ["*?\r\n:1\r\n:1\r\n:1\r\n:1\r\n", { replyBytes: 10 }, /More than 10 bytes in a reply/],
  ];
  for (const [text, limits, message] of cases) {
    assert.match(parseText(text, limits).error ?? "", /^LIMIT_EXCEEDED /, text);
    assert.match(parseText(text, limits).error ?? "", message);
    assert.equal(parseText(text).error, undefined);
  }
});

test("nothing is allocated for a length that was only announced", () => {
  const before = process.memoryUsage().arrayBuffers;
  assert.deepEqual(parseText("*60000000\r\n%30000000\r\n$536870912\r\n"), { replies: [] });
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
});

test("takeRest() gives what came behind a reply", () => {
  const parser = new ReplyParser();
  parser.push(fromLatin1("+FULLRESYNC abc 0\r\n$4\r\nREDI"));
  assert.equal(parser.next()?.type, "simple");
  assert.equal(toLatin1(parser.takeRest()), "$4\r\nREDI");
  assert.equal(parser.offset, 27);
});

const replies: fc.Arbitrary<Reply> = fc.letrec<{ reply: Reply; pair: [Reply, Reply] }>((tie) => ({
  pair: fc.tuple(tie("reply"), tie("reply")),
  reply: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.uint8Array({ maxLength: 2000 }).map((value): Reply => ({ type: "bulk", bytes: value })),
    fc.integer().map(integer),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }).map(integer),
    fc.bigInt().map((value): Reply => ({ type: "bigNumber", value })),
    fc.double().map((value): Reply => ({ type: "double", value })),
    fc.boolean().map((value): Reply => ({ type: "boolean", value })),
    fc.constant<Reply>({ type: "null" }),
    fc.uint8Array().map((value): Reply => ({ type: "verbatim", format: "mkd", bytes: value })),
    fc.uint8Array().map((value): Reply => ({ type: "bulkError", bytes: value })),
    fc.array(tie("reply")).map((items): Reply => ({ type: "array", items })),
    fc.array(tie("reply")).map((items): Reply => ({ type: "set", items })),
    fc.array(tie("pair")).map((pairs): Reply => ({ type: "map", pairs })),
    fc
      .tuple(fc.array(tie("pair")), tie("reply"))
      .map(([attributes, reply]): Reply => ({ type: "attributed", attributes, reply })),
  ),
})).reply;

function write(encoder: RespEncoder, reply: Reply): void {
  switch (reply.type) {
    case "bulk":
      return encoder.bulk(reply.bytes);
    case "integer":
      return encoder.integer(reply.value);
    case "bigNumber":
      return encoder.bigNumber(reply.value);
    case "double":
      return encoder.double(reply.value);
    case "boolean":
      return encoder.boolean(reply.value);
    case "null":
      return encoder.null();
    case "verbatim":
      return encoder.verbatim(reply.format, reply.bytes);
    case "bulkError":
      return encoder.bulkError(reply.bytes);
    case "array":
    case "set":
    case "push":
      encoder[reply.type](reply.items.length);
      for (const item of reply.items) write(encoder, item);
      return;
    case "map":
      encoder.map(reply.pairs.length);
      for (const item of reply.pairs.flat()) write(encoder, item);
      return;
    case "attributed":
      encoder.attribute(reply.attributes.length);
      for (const item of reply.attributes.flat()) write(encoder, item);
      return write(encoder, reply.reply);
    case "simple":
    case "error":
      throw new Error("Not made here");
  }
}

test("next() gives the replies that were encoded, in chunks of any size", () => {
  fc.assert(
    fc.property(fc.array(replies, { maxLength: 4 }), fc.nat({ max: 300 }), (list, size) => {
      const encoder = new RespEncoder(3);
      for (const reply of list) write(encoder, reply);
      assert.deepEqual(parse(split(encoder.take(), size + 1)), { replies: list });
    }),
  );
});

test("arbitrary bytes are parsed to an end, the same in any chunks", () => {
  const parts = "* ~ > % | $ ! = + - : ( , # _ ; . ? 0 1 2 9 t inf a".split(" ");
  const soup = fc
    .array(fc.constantFrom(...parts, "\r\n", "\r\n", "\r\n", "\n"))
    .map((list) => fromLatin1(list.join("")));
  fc.assert(
    fc.property(fc.oneof(soup, fc.uint8Array()), fc.nat({ max: 40 }), (input, size) => {
      assert.deepEqual(parse(split(input, size + 1)), parse([input]));
    }),
    { numRuns: 500 },
  );
});

test("next() gives bytes that stay, also where the chunk is a Buffer that is used again", () => {
  const parser = new ReplyParser();
  const chunk = Buffer.from("+status\r\n$4\r\nbulk\r\n");
  parser.push(chunk);
  const replies = [parser.next(), parser.next()];
  chunk.fill(0);
  assert.deepEqual(
    replies.map((reply) => reply && "bytes" in reply && Buffer.from(reply.bytes).toString()),
    ["status", "bulk"],
  );
});
