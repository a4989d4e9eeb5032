import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Slice } from "../../base/bytes.ts";
import { crc64 } from "./crc64.ts";
import { type StreamInfo, type Target, targets } from "./model.ts";
import { RdbWriter, type WriterOptions } from "./writer.ts";
import type { ValueWriter } from "./writer-value.ts";

const slice = (text: string) => {
  const into = new Slice();
  into.setLatin1(text);
  return into;
};
const key = (text: string) => Buffer.from(text, "latin1");
const fromHex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const hexSlice = (text: string) => slice(fromHex(text).toString("latin1"));
const inTheFuture = 4102444800000;

function file(target: Target, write: (writer: RdbWriter) => void, options?: WriterOptions): string {
  const writer = new RdbWriter(target, { version: null, ...options });
  write(writer);
  writer.finish();
  return Buffer.from(writer.take()).toString("hex");
}

/** The one entry of a file, after the magic, without end and checksum. */
function entry(
  target: Target,
  write: (writer: RdbWriter) => void,
  options?: WriterOptions,
): Buffer {
  return Buffer.from(file(target, write, options), "hex").subarray(9, -9);
}

function addList(value: ValueWriter, elements: readonly string[]): void {
  value.beginList({ elements: elements.length });
  for (const element of elements) value.element(slice(element));
  value.endValue();
}

function addSet(value: ValueWriter, elements: readonly string[]): void {
  value.beginSet(elements.length);
  for (const element of elements) value.element(slice(element));
  value.endValue();
}

function addZset(value: ValueWriter, members: readonly (readonly [string, number])[]): void {
  value.beginZset(members.length);
  for (const [member, score] of members) value.member(slice(member), score);
  value.endValue();
}

function addHash(
  value: ValueWriter,
  fields: readonly (readonly [string, string, number?])[],
): void {
  value.beginHash(
    fields.length,
    fields.some(([, , at]) => at !== undefined),
  );
  for (const [field, content, at] of fields) value.field(slice(field), slice(content), at);
  value.endValue();
}

function about(stream: Partial<StreamInfo>): StreamInfo {
  const none = { ms: 0n, seq: 0n };
  const length = stream.length ?? 0;
  return {
    length,
    statedLength: length,
    lastId: none,
    firstId: none,
    maxDeletedId: none,
    entriesAdded: 0n,
    isComplete: true,
    groups: 0,
    ...stream,
  };
}

// Files of the format's description, byte for byte.

test("a file without keys is its header, its end and its checksum", () => {
  const nothing = () => {};
  assert.equal(file("redis:6.0", nothing), "524544495330303039ff9aac7abcfb0fad74");
  assert.equal(file("redis:7.2", nothing), "524544495330303131ffc0228a8d74389762");
  assert.equal(file("valkey:8", nothing), "524544495330303131ffc0228a8d74389762");
  assert.equal(file("valkey:9", nothing), "56414c4b4559303830ff439da48fc1806c23");
  const unchecked = file("redis:6.0", nothing, { checksum: false });
  assert.equal(unchecked, "524544495330303039ff0000000000000000");
});

test("a compact file for redis:7.0 is the one of the format's description", () => {
  const expected = fromHex(`
    52 45 44 49 53 30 30 31 30 fe 00 fb 06 00 00 03 73 74 72 05 68 65 6c 6c 6f 12 01 6c 01 02 0d 0d
    00 00 00 02 00 81 61 02 c1 2c 02 ff 0b 02 73 69 0c 02 00 00 00 02 00 00 00 05 00 2c 01 10 01 68
    0d 0d 00 00 00 02 00 81 66 02 81 76 02 ff 11 01 7a 18 18 00 00 00 04 00 81 61 02 84 2d 69 6e 66
    05 81 62 02 83 32 2e 35 04 ff 13 02 73 74 01 10 00 00 00 00 00 00 03 e8 00 00 00 00 00 00 00 00
    1e 1e 00 00 00 0a 00 01 01 00 01 01 01 81 66 02 00 01 02 01 00 01 00 01 82 76 31 03 04 01 ff 01
    43 e8 00 43 e8 00 00 00 01 00 ff 6b a1 15 0d 1f 89 09 c6`);
  const found = file("redis:7.0", (writer) => {
    writer.database(0, { keys: 6, expires: 0 });
    writer.key(key("str")).string(slice("hello"));
    addList(writer.key(key("l")), ["a", "300"]);
    addSet(writer.key(key("si")), ["300", "5"]);
    addHash(writer.key(key("h")), [["f", "v"]]);
    addZset(writer.key(slice("z")), [
      ["b", 2.5],
      ["a", Number.NEGATIVE_INFINITY],
    ]);
    const stream = writer.key(key("st"));
    stream.beginStream(1);
    stream.streamNode(
      hexSlice("00000000000003e80000000000000000"),
      hexSlice("1e0000000a000101000101018166020001020100010001827631030401ff"),
    );
    const id = { ms: 1000n, seq: 0n };
    stream.streamInfo(about({ length: 1, lastId: id, firstId: id, entriesAdded: 1n }));
    stream.endValue();
  });
  assert.equal(found, expected.toString("hex"));
});

test("a file for redis:6.0 is the one that Redis 6.0.16 wrote of the same data", () => {
  const expected = fromHex(`
    52 45 44 49 53 30 30 30 39 fa 09 72 65 64 69 73 2d 76 65 72 06 36 2e 30 2e 31 36 fa 0a 72 65 64
    69 73 2d 62 69 74 73 c0 40 fa 05 63 74 69 6d 65 c2 9d 87 02 6b fa 08 75 73 65 64 2d 6d 65 6d c2
    10 53 0d 00 fa 0c 61 6f 66 2d 70 72 65 61 6d 62 6c 65 c0 00 fe 00 fb 07 01 0f 01 73 01 10 00 00
    01 8b cf e5 68 00 00 00 00 00 00 00 00 00 29 29 00 00 00 0f 00 02 01 00 01 01 01 81 66 02 00 01
    02 01 00 01 00 01 81 76 02 04 01 02 01 05 01 03 01 82 76 32 03 04 01 ff 02 81 00 00 01 8b cf e5
    68 05 03 01 01 67 81 00 00 01 8b cf e5 68 00 00 01 00 00 01 8b cf e5 68 00 00 00 00 00 00 00 00
    00 21 c0 e1 01 a2 01 00 00 01 01 01 63 21 c0 e1 01 a2 01 00 00 01 00 00 01 8b cf e5 68 00 00 00
    00 00 00 00 00 00 0d 01 68 16 16 00 00 00 13 00 00 00 04 00 00 01 66 03 01 76 03 01 6e 03 fb ff
    02 02 73 74 02 01 62 01 61 fc 46 a1 d7 07 a2 01 00 00 00 01 78 c0 fb 0e 01 6c 01 c3 24 32 04 32
    00 00 00 1b 20 03 15 06 00 00 01 61 03 f2 02 fe ff 03 c0 ff 0f 04 f0 70 11 01 05 14 62 e0 0a 00
    00 ff 0b 01 69 0e 02 00 00 00 03 00 00 00 01 00 02 00 2c 01 0c 01 7a 1c 1c 00 00 00 16 00 00 00
    04 00 00 01 62 03 04 2d 69 6e 66 06 01 61 03 03 31 2e 35 ff ff a2 c4 34 62 9f 96 28 63`);
  const found = file(
    "redis:6.0",
    (writer) => {
      writer.aux("used-mem", 873232);
      writer.aux("aof-preamble", "0");
      writer.database(0, { keys: 7, expires: 1 });
      addStreamOf60(writer.key(key("s")));
      addHash(writer.key(key("h")), [
        ["f", "v"],
        ["n", "10"],
      ]);
      addSet(writer.key(key("st")), ["b", "a"]);
      writer.key(key("x"), { expireAtMs: 1795427901766 }).string(slice("-5"));
      addList(writer.key(key("l")), ["a", "1", "-1", "4095", "70000", "b".repeat(20)]);
      addSet(writer.key(key("i")), ["1", "2", "300"]);
      addZset(writer.key(key("z")), [
        ["b", Number.NEGATIVE_INFINITY],
        ["a", 1.5],
      ]);
    },
    { version: "6.0.16", ctimeSeconds: 1795327901 },
  );
  assert.equal(found, expected.toString("hex"));
});

function addStreamOf60(stream: ValueWriter): void {
  const first = { ms: 1700000000000n, seq: 0n };
  const lastId = { ms: 1700000000005n, seq: 3n };
  const read = 1795327901729n;
  stream.beginStream(1);
  stream.streamNode(
    hexSlice("0000018bcfe568000000000000000000"),
    hexSlice("290000000f0002010001010181660200010201000100018176020401020105010301827632030401ff"),
  );
  stream.streamInfo(
    about({ length: 2, lastId, firstId: first, entriesAdded: 2n, isComplete: false, groups: 1 }),
  );
  stream.streamGroup({ name: key("g"), lastId: first, entriesRead: null, pending: 1 });
  stream.streamPending({ id: first, deliveredAtMs: read, deliveries: 1 });
  stream.streamConsumers(1);
  stream.streamConsumer({ name: key("c"), seenMs: read, activeMs: undefined, pending: 1 });
  stream.streamConsumerPending(first);
  stream.endValue();
}

test("field expiries are written in the form of each family", () => {
  const write = (writer: RdbWriter) => {
    writer.database(0, { keys: 1, expires: 0 });
    addHash(writer.key(key("h")), [
      ["f", "v", inTheFuture],
      ["g", "w", -1],
    ]);
  };
  const redis = fromHex(`
    52 45 44 49 53 30 30 31 32 fe 00 fb 01 00 19 01 68 00 d8 c3 2c bb 03 00 00 1f 1f 00 00 00 06 00
    81 66 02 81 76 02 f4 00 d8 c3 2c bb 03 00 00 09 81 67 02 81 77 02 00 01 ff ff 9a 56 a1 58 af 66
    ba 3a`);
  const valkey = fromHex(`
    56 41 4c 4b 45 59 30 38 30 fe 00 fb 01 00 16 01 68 02 01 66 01 76 00 d8 c3 2c bb 03 00 00 01 67
    01 77 ff ff ff ff ff ff ff ff ff 69 55 69 91 2e 32 9a c2`);
  assert.equal(file("redis:7.4", write), redis.toString("hex"));
  assert.equal(file("redis:8", write), redis.toString("hex"));
  assert.equal(file("valkey:9", write), valkey.toString("hex"));
});

test("a large hash counts its expiries from the smallest, or from 1 where it could not wait", () => {
  const content = "w".repeat(65);
  const write = (writer: RdbWriter) =>
    addHash(writer.key(key("h")), [
      ["g", content],
      ["f", "v", inTheFuture],
      ["e", "u", inTheFuture + 5],
    ]);
  const options = { compress: false };
  const plain = `00 01 67 4041 ${"77".repeat(65)}`;
  const relative = `18 01 68 00d8c32cbb030000 03 ${plain} 01 01 66 01 76 06 01 65 01 75`;
  const absolute = `18 01 68 0100000000000000 03 ${plain} 81 000003bb2cc3d800 01 66 01 76
    81 000003bb2cc3d805 01 65 01 75`;
  assert.deepEqual(entry("redis:8", write, options), fromHex(relative));
  assert.deepEqual(entry("redis:8", write, { ...options, hashWaitBytes: 1 }), fromHex(absolute));
});

// Headers and records besides keys.

test("the header names a version of the target, and is told about an AOF", () => {
  const head = (target: Target, options: WriterOptions) =>
    Buffer.from(new RdbWriter(target, options).take()).toString("latin1");
  assert.equal(
    head("redis:7.2", {}),
    "REDIS0011\xfa\x09redis-ver\x057.2.0\xfa\x0aredis-bits\xc0\x40",
  );
  const ends = (target: Target, options: WriterOptions, end: string) =>
    assert(head(target, options).endsWith(end));
  assert(head("valkey:9", { version: "9.1" }).startsWith("VALKEY080\xfa\x0avalkey-ver\x039.1"));
  ends("redis:6.0", { aofBase: true }, "\xfa\x0caof-preamble\xc0\x01");
  ends("redis:7.0", { aofBase: true }, "\xfa\x08aof-base\xc0\x01");
  ends("redis:7.0", { aofBase: false }, "\xfa\x08aof-base\xc0\x00");
  ends("redis:8", { ctimeSeconds: 1 }, "\xfa\x05ctime\xc0\x01");
});

test("functions and records of known modules are written, others refused or counted", () => {
  const code = Buffer.from("#!lua name=a\n");
  assert.equal(
    entry("redis:7.0", (writer) => writer.functionLibrary(code)).toString("latin1"),
    `\xf5\x0d${code.toString()}`,
  );
  const add = (writer: RdbWriter) => writer.moduleAux("ReJSON-RL", Buffer.from([1, 2, 2, 2, 1, 0]));
  assert.equal(entry("redis:8", add, { modules: ["ReJSON-RL"] }).toString("hex"), "f7010202020100");
  assert.throws(() => entry("redis:8", add), {
    code: "TARGET_CANNOT_HOLD",
    message: "Cannot write the record of module type ReJSON-RL for redis:8: it has no such module",
  });
  const lossy = new RdbWriter("redis:6.0", { lossy: true });
  add(lossy);
  lossy.functionLibrary(code);
  assert.deepEqual(
    [...lossy.dropped],
    [
      ["module aux", 1],
      ["function", 1],
    ],
  );
});

test("an entry has its attributes in front of the type, and no expiry of -1", () => {
  const attributes = { expireAtMs: inTheFuture, idleSeconds: 64, frequency: 5 };
  const found = entry("redis:8", (writer) => writer.key(key("k"), attributes).string(slice("v")));
  assert.equal(found.toString("hex"), "fc00d8c32cbb030000f84040f90500016b0176");
  for (const expireAtMs of [-1, -1n, null, undefined]) {
    const none = entry("redis:8", (writer) =>
      writer.key(key("k"), { expireAtMs }).string(slice("v")),
    );
    assert.equal(none.toString("hex"), "00016b0176");
  }
});

// Forms of collections.

const typeOf = (target: Target, write: (value: ValueWriter) => void, options?: WriterOptions) =>
  entry(target, (writer) => write(writer.key(key("k"))), options)[0];
const names = (count: number, length = 4) =>
  Array.from({ length: count }, (_, i) => `n${i}`.padEnd(length, "-"));
const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i * 1000}`);

test("sets, hashes and sorted sets are compact up to the limits of servers", () => {
  const set = (list: string[]) => (value: ValueWriter) => addSet(value, list);
  const hash = (list: string[]) => (value: ValueWriter) =>
    addHash(
      value,
      list.map((name) => [name, name] as const),
    );
  const zset = (list: string[]) => (value: ValueWriter) =>
    addZset(
      value,
      list.map((name, i) => [name, i] as const),
    );
  const types = (write: (value: ValueWriter) => void) =>
    (["redis:6.0", "redis:7.0", "redis:7.2", "valkey:9"] as const).map((to) => typeOf(to, write));
  assert.deepEqual(types(set(numbers(512))), [11, 11, 11, 11]);
  assert.deepEqual(types(set(numbers(513))), [2, 2, 2, 2]);
  assert.deepEqual(types(set(names(128, 64))), [2, 2, 20, 20]);
  assert.deepEqual(types(set([...numbers(127), "x"])), [2, 2, 20, 20]);
  assert.deepEqual(types(set([...numbers(128), "x"])), [2, 2, 2, 2]);
  assert.deepEqual(types(set(names(2, 65))), [2, 2, 2, 2]);
  assert.deepEqual(types(hash(names(512, 64))), [13, 16, 16, 16]);
  assert.deepEqual(types(hash(names(513))), [4, 4, 4, 4]);
  assert.deepEqual(types(hash(names(1, 65))), [4, 4, 4, 4]);
  assert.deepEqual(types(zset(names(128, 64))), [12, 17, 17, 17]);
  assert.deepEqual(types(zset(names(129))), [5, 5, 5, 5]);
  assert.deepEqual(types(zset(names(1, 65))), [5, 5, 5, 5]);
});

test("a packed sorted set is sorted by score, then by the bytes of its members", () => {
  const members = ["b", "aa", "a", "\xff", "B"].map((name) => [name, 1] as const);
  const found = entry("redis:8", (writer) =>
    addZset(writer.key(key("k")), [["z", -1], ...members, ["0", 2]]),
  );
  const order = found.toString("latin1").replaceAll(/[^zaAbB\xff0]/g, "");
  assert.match(order, /z.Baaab\xff/);
});

/** Containers and sizes of the nodes of a list of type 18, uncompressed. */
function nodesOf(target: Target, elements: string[], options: WriterOptions = {}): string[] {
  const bytes = entry(target, (writer) => addList(writer.key(key("k")), elements), {
    compress: false,
    ...options,
  });
  assert.equal(bytes[0], 18);
  const nodes: string[] = [];
  let at = 3;
  const length = () => {
    const first = bytes[at++] as number;
    if (first < 0x40) return first;
    if (first < 0x80) return ((first & 0x3f) << 8) | (bytes[at++] as number);
    at += 4;
    return bytes.readUInt32BE(at - 4);
  };
  for (let left = length(), i = 0; i < left; i++) {
    const container = length() === 1 ? "plain" : "packed";
    const size = length();
    nodes.push(`${container} ${size}`);
    at += size;
  }
  assert.equal(at, bytes.length);
  return nodes;
}

test("a list's nodes have at most 8192 bytes, or one element", () => {
  const small = nodesOf("redis:8", names(4000));
  assert(small.length > 2 && small.every((node) => Number(node.split(" ")[1]) <= 8192));
  const fits = ["a", "x".repeat(8192), "b"];
  assert.deepEqual(nodesOf("redis:8", fits), ["packed 10", "packed 8206", "packed 10"]);
  const large = ["a", "x".repeat(8193), "b"];
  assert.deepEqual(nodesOf("redis:8", large), ["packed 10", "plain 8193", "packed 10"]);
  assert.deepEqual(nodesOf("redis:7.0", large), ["packed 10", "packed 8207", "packed 10"]);
});

test("an element that not all servers can walk over is a node of its own", () => {
  for (const target of ["redis:7.0", "redis:8", "valkey:9"] as const) {
    assert.equal(nodesOf(target, ["a", "x".repeat(16378), "b"])[1], "plain 16378");
  }
});

test("a list too large to wait is plain where its elements were counted", () => {
  const elements = names(100);
  const found = entry("redis:8", (writer) => addList(writer.key(key("k")), elements), {
    listWaitBytes: 1000,
  });
  const expected = [1, 1, 0x6b, 0x40, 100, ...elements.flatMap((e) => [4, ...Buffer.from(e)])];
  assert.deepEqual([...found], expected);
});

test("a list too large to wait has the nodes of its source where those were counted", () => {
  const write = (nodes: number) => (value: ValueWriter) => {
    value.beginList({ nodes });
    for (const node of [["a", "b"], ["x".repeat(9000)], ["c"], ["d", "e", "f"]]) {
      value.node();
      for (const element of node) value.element(slice(element));
    }
    value.endValue();
  };
  const found = entry("redis:8", (writer) => write(5)(writer.key(key("k"))), {
    listWaitBytes: 50,
    compress: false,
  });
  const expected = [
    "12 01 6b 05",
    "02 0d 0d000000 0200 816102 816202 ff",
    `01 63 28 ${"78".repeat(9000)}`,
    "02 0a 0a000000 0100 816302 ff",
    "02 10 10000000 0300 816402 816502 816602 ff",
    "02 07 07000000 0000 ff",
  ];
  assert.deepEqual(found, fromHex(expected.join("")));
  assert.throws(() => typeOf("redis:8", write(3), { listWaitBytes: 50 }), /nodes than promised/);
});

// What is refused.

test("what a target cannot hold is refused with the key's name, or dropped and counted", () => {
  const write = (writer: RdbWriter) => {
    addHash(writer.key(key("session:1")), [
      ["token", "v", inTheFuture],
      ["name", "w", inTheFuture],
    ]);
  };
  for (const target of ["redis:6.0", "redis:7.0", "redis:7.2", "valkey:8"] as const) {
    assert.throws(() => file(target, write), {
      code: "TARGET_CANNOT_HOLD",
      message: `Cannot write key "session:1" for ${target}: it has a field that expires`,
    });
    const plain = (writer: RdbWriter) =>
      addHash(writer.key(key("session:1")), [
        ["token", "v"],
        ["name", "w"],
      ]);
    assert.equal(file(target, write, { lossy: true }), file(target, plain));
  }
  const writer = new RdbWriter("redis:7.0", { lossy: true });
  write(writer);
  assert.deepEqual([...writer.dropped], [["field expiry", 2]]);
});

test("a key that is lost whole leaves nothing in the file", () => {
  const addModule = (value: ValueWriter) => {
    value.beginModule("vectorset");
    value.moduleBytes(slice("anything"));
    value.endValue();
  };
  const write = (writer: RdbWriter) => {
    writer.key(key("a")).string(slice("1"));
    addModule(writer.key(key("v"), { expireAtMs: inTheFuture, idleSeconds: 7 }));
    const array = writer.key(key("arr"));
    array.omit("array");
    array.endValue();
    writer.key(key("b")).string(slice("2"));
  };
  const without = (writer: RdbWriter) => {
    writer.key(key("a")).string(slice("1"));
    writer.key(key("b")).string(slice("2"));
  };
  assert.equal(file("redis:7.4", write, { lossy: true }), file("redis:7.4", without));
  assert.throws(() => file("redis:7.4", write), {
    code: "TARGET_CANNOT_HOLD",
    message: 'Cannot write key "v" for redis:7.4: it is a value of module type vectorset',
  });
  const held = entry("redis:8", (writer) => addModule(writer.key(key("v"))));
  assert.equal(held.toString("latin1"), "\x07\x01vanything");
});

test("what a target has no place for in a stream is counted", () => {
  const write = (writer: RdbWriter) => {
    const value = writer.key(key("s"));
    const lastId = { ms: 5n, seq: 0n };
    value.beginStream(0);
    value.streamInfo(about({ lastId, maxDeletedId: lastId, entriesAdded: 9n, groups: 1 }));
    value.streamGroup({ name: key("g"), lastId, entriesRead: 3n, pending: 0 });
    value.streamConsumers(1);
    value.streamConsumer({ name: key("c"), seenMs: 9n, activeMs: -1n, pending: 0 });
    value.endValue();
  };
  const dropped = (target: Target) => {
    const writer = new RdbWriter(target);
    write(writer);
    return Object.fromEntries(writer.dropped);
  };
  assert.deepEqual(dropped("redis:6.0"), { "stream history": 1, "consumer activity": 1 });
  assert.deepEqual(dropped("redis:7.0"), { "consumer activity": 1 });
  assert.deepEqual(dropped("redis:7.2"), {});
});

test("producers of a stream are refused or counted, unless there never were any", () => {
  const write = (writer: RdbWriter, added: bigint) => {
    const value = writer.key(key("s"));
    value.beginStream(0);
    value.streamInfo(about({}));
    const rest = { windowSeconds: 100, maxIds: 100, producers: [], duplicates: 0n };
    value.streamIdempotency({ ...rest, added });
    value.endValue();
  };
  assert.equal(
    file("redis:8", (writer) => write(writer, 1n), { lossy: true }),
    file("redis:8", (writer) => write(writer, 0n)),
  );
  assert.throws(() => file("redis:8", (writer) => write(writer, 1n)), /"s".*idempotent producers/);
});

test("a stream whose pending entries are nobody's is refused: servers crash on it", () => {
  const write = (writer: RdbWriter) => {
    const value = writer.key(key("s"));
    const id = { ms: 1n, seq: 1n };
    value.beginStream(0);
    value.streamInfo(about({ lastId: id, maxDeletedId: id, entriesAdded: 1n, groups: 1 }));
    value.streamGroup({ name: key("g"), lastId: id, entriesRead: 1n, pending: 1 });
    value.streamPending({ id, deliveredAtMs: 1n, deliveries: 1 });
    value.streamConsumers(0);
    value.endValue();
  };
  assert.throws(() => file("redis:8", write), { code: "DATA_CORRUPT" });
});

test("what no server may get is refused", () => {
  const refused = (write: (value: ValueWriter) => void) =>
    assert.throws(() => file("redis:8", (writer) => write(writer.key(key("k")))), {
      code: "DATA_CORRUPT",
      message: /^Cannot write key "k": /,
    });
  refused((value) => addList(value, []));
  refused((value) => addSet(value, []));
  refused((value) => addZset(value, []));
  refused((value) => addHash(value, []));
  refused((value) => {
    value.beginList({ nodes: 2 });
    value.node();
    value.node();
    value.endValue();
  });
  refused((value) => addZset(value, [["m", Number.NaN]]));
  refused((value) => addSet(value, ["1", "2", "1"]));
});

test("a field's expiry of 2^48 ms or more is refused or dropped for Redis, and kept for Valkey", () => {
  const late = 2n ** 62n;
  const write = (writer: RdbWriter, expireAtMs?: number | bigint) => {
    const value = writer.key(key("h"));
    value.beginHash(2, expireAtMs !== undefined);
    value.field(slice("e"), slice("u"));
    value.field(slice("f"), slice("v"), expireAtMs);
    value.endValue();
  };
  for (const expireAtMs of [2 ** 48, late]) {
    const expiring = (writer: RdbWriter) => write(writer, expireAtMs);
    assert.throws(() => file("redis:8", expiring), { code: "TARGET_CANNOT_HOLD" });
    assert.equal(
      file("redis:8", expiring, { lossy: true }),
      file("redis:8", (to) => write(to)),
    );
  }
  const kept = entry("valkey:9", (writer) => write(writer, late));
  const none = "ff".repeat(8);
  assert.equal(
    kept.toString("hex"),
    `160168020165 0175 ${none} 0166 0176 0000000000000040`.replaceAll(" ", ""),
  );
});

// How bytes are taken.

test("the file is the same whenever its bytes are taken, and so is its checksum", () => {
  const whole = (target: Target, takes: boolean[]) => {
    const writer = new RdbWriter(target);
    const parts: Uint8Array[] = [];
    let step = 0;
    const maybeTake = () => {
      if (takes[step++ % takes.length]) parts.push(writer.take());
    };
    const value = () => writer.key(key(`k${step}`), { expireAtMs: inTheFuture });
    for (const text of ["a", "b".repeat(100), "12"]) {
      value().string(slice(text));
      maybeTake();
    }
    for (const count of [3, 200, 600]) {
      const set = value();
      maybeTake();
      set.beginSet(count);
      for (const name of names(count)) {
        maybeTake();
        set.element(slice(name));
      }
      set.endValue();
      addList(value(), names(count));
      maybeTake();
    }
    writer.finish();
    maybeTake();
    parts.push(writer.take());
    return Buffer.concat(parts);
  };
  const takes = fc.array(fc.boolean(), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(takes, fc.constantFrom(...targets), (some, target) => {
      const once = whole(target, [false]);
      assert.deepEqual(whole(target, some), once);
      assert.equal(once.readBigUInt64LE(once.length - 8), crc64(once, 0, once.length - 8));
    }),
    { numRuns: 20 },
  );
});

test("a huge collection streams through", () => {
  const count = 300_000;
  const writer = new RdbWriter("redis:8");
  const element = slice("an element of 30 bytes or more");
  let largest = 0;
  let total = 0;
  const step = () => {
    largest = Math.max(largest, writer.pendingBytes);
    if (writer.pendingBytes > 1 << 16) total += writer.take().length;
  };
  const list = writer.key(key("list"));
  list.beginList({ nodes: count / 100 });
  const set = (value: ValueWriter) => {
    value.beginSet(count);
    for (let i = 0; i < count; i++, step()) value.element(element);
    value.endValue();
  };
  for (let i = 0; i < count; i++, step()) {
    if (i % 100 === 0) list.node();
    list.element(element);
  }
  list.endValue();
  set(writer.key(key("set")));
  assert(total > 4_000_000);
  assert(largest < 17 * 2 ** 20, `${largest}`);
});

test("promises that are not kept are found", () => {
  const broken = (write: (value: ValueWriter) => void) =>
    assert.throws(() => file("redis:8", (writer) => write(writer.key(key("k")))), {
      code: "ERR_ASSERTION",
    });
  broken((value) => {
    value.beginSet(2);
    value.element(slice("a"));
    value.endValue();
  });
  broken((value) => {
    value.beginHash(600);
    value.field(slice("f"), slice("v"), inTheFuture);
  });
  broken(() => {});
  broken((value) => {
    value.beginList({ elements: 1 });
    value.string(slice("s"));
  });
  broken((value) => {
    value.beginStream(1);
    value.endValue();
  });
});
