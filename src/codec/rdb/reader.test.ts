import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  bytes,
  double,
  file,
  hex,
  int64,
  intset,
  length,
  listpack,
  literalLzf,
  rawId,
  record,
  repeatedLzf,
  string,
  uncheckedFile,
  ziplist,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf, joinRaw, type Mode } from "../../../test/support/rdb-events.ts";
import { rareFiles } from "../../../test/support/rdb-rare.ts";
import { Failure } from "../../base/errors.ts";
import { RdbReader } from "./reader.ts";

const corrupt = (offset: number, message: RegExp) => ({ code: "DATA_CORRUPT", offset, message });
const unsupported = (offset: number, message: RegExp) => ({
  code: "DATA_UNSUPPORTED",
  offset,
  message,
});

/** Events but for those of AUX fields, databases and ends. */
function contentsOf(whole: Uint8Array): string[] {
  const noise = /^(?:aux |database |size |begin |node$|end|consumers )/;
  return eventsOf(whole).filter((event) => !noise.test(event));
}

suite("RdbReader, given the worked files of the format's description,", () => {
  test("reads the smallest ones", () => {
    assert.deepEqual(eventsOf(hex("524544495330303039 ff 9aac7abcfb0fad74")), ["end"]);
    assert.deepEqual(eventsOf(hex("524544495330303131 ff c0228a8d74389762")), ["end"]);
    assert.deepEqual(eventsOf(hex("56414c4b4559303830 ff 439da48fc1806c23")), ["end"]);
  });

  test("reads the one that every server loads", () => {
    const universal = hex(`
      52 45 44 49 53 30 30 30 39 fa 09 72 65 64 69 73 2d 76 65 72 06 36 2e 30 2e 31 36 fe 00 fb 06 01
      00 03 73 74 72 05 68 65 6c 6c 6f fc 00 d8 c3 2c bb 03 00 00 00 01 6e c0 fb 01 01 6c 02 01 61 c1
      2c 01 02 01 73 02 01 78 c0 05 04 01 68 01 01 66 01 76 05 01 7a 02 01 62 00 00 00 00 00 00 04 40
      01 61 00 00 00 00 00 00 f0 ff 0f 02 73 74 01 10 00 00 00 00 00 00 03 e8 00 00 00 00 00 00 00 00
      1e 1e 00 00 00 0a 00 01 01 00 01 01 01 81 66 02 00 01 02 01 00 01 00 01 82 76 31 03 04 01 ff 01
      43 e8 00 00 ff 59 c4 be 2f fd ec e5 ce`);
    assert.deepEqual(eventsOf(universal), [
      "aux redis-ver=6.0.16",
      "database 0",
      "size 6 1",
      ...["key str of type 0", "string hello"],
      ...["key n of type 0 until 4102444800000", "string -5"],
      ...["key l of type 1", "begin 2", "element a", "element 300", "end value"],
      ...["key s of type 2", "begin 2", "element x", "element 5", "end value"],
      ...["key h of type 4", "begin 1", "field f=v", "end value"],
      ...["key z of type 5", "begin 2", "member b 2.5", "member a -Infinity", "end value"],
      ...["key st of type 15", "begin 1 nodes", "node", "entry 1000-0 f v1"],
      'stream {"length":1,"statedLength":1,"lastId":"1000-0","firstId":"1000-0","maxDeletedId":"0-0","entriesAdded":"1","isComplete":false,"groups":0}',
      "end value",
      "end",
    ]);
  });

  test("reads the compact one", () => {
    const compact = hex(`
      52 45 44 49 53 30 30 31 30 fe 00 fb 06 00 00 03 73 74 72 05 68 65 6c 6c 6f 12 01 6c 01 02 0d 0d
      00 00 00 02 00 81 61 02 c1 2c 02 ff 0b 02 73 69 0c 02 00 00 00 02 00 00 00 05 00 2c 01 10 01 68
      0d 0d 00 00 00 02 00 81 66 02 81 76 02 ff 11 01 7a 18 18 00 00 00 04 00 81 61 02 84 2d 69 6e 66
      05 81 62 02 83 32 2e 35 04 ff 13 02 73 74 01 10 00 00 00 00 00 00 03 e8 00 00 00 00 00 00 00 00
      1e 1e 00 00 00 0a 00 01 01 00 01 01 01 81 66 02 00 01 02 01 00 01 00 01 82 76 31 03 04 01 ff 01
      43 e8 00 43 e8 00 00 00 01 00 ff 6b a1 15 0d 1f 89 09 c6`);
    assert.deepEqual(contentsOf(compact), [
      ...["key str of type 0", "string hello"],
      ...["key l of type 18", "element a", "element 300"],
      ...["key si of type 11", "element 5", "element 300"],
      ...["key h of type 16", "field f=v"],
      ...["key z of type 17", "member a -Infinity", "member b 2.5"],
      ...["key st of type 19", "entry 1000-0 f v1"],
      'stream {"length":1,"statedLength":1,"lastId":"1000-0","firstId":"1000-0","maxDeletedId":"0-0","entriesAdded":"1","isComplete":true,"groups":0}',
    ]);
  });

  test("reads the one of Redis 6.0", () => {
    const redis60 = hex(`
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
    assert.deepEqual(contentsOf(redis60), [
      ...["key s of type 15", "entry 1700000000000-0 f v", "entry 1700000000005-3 f v2"],
      'stream {"length":2,"statedLength":2,"lastId":"1700000000005-3","firstId":"1700000000000-0","maxDeletedId":"0-0","entriesAdded":"2","isComplete":false,"groups":1}',
      'group {"name":"g","lastId":"1700000000000-0","entriesRead":"1","pending":1}',
      'pending {"id":"1700000000000-0","deliveredAtMs":"1795327901729","deliveries":1}',
      'consumer {"name":"c","seenMs":"1795327901729","pending":1}',
      "consumer pending 1700000000000-0",
      ...["key h of type 13", "field f=v", "field n=10"],
      ...["key st of type 2", "element b", "element a"],
      ...["key x of type 0 until 1795427901766", "string -5"],
      ...["key l of type 14", "element a", "element 1", "element -1", "element 4095"],
      ...["element 70000", `element ${"b".repeat(20)}`],
      ...["key i of type 11", "element 1", "element 2", "element 300"],
      ...["key z of type 12", "member b -Infinity", "member a 1.5"],
    ]);
  });

  test("reads the one of Redis 8.6", () => {
    const redis86 = hex(`
      52 45 44 49 53 30 30 31 33 fa 09 72 65 64 69 73 2d 76 65 72 05 38 2e 36 2e 33 fa 0a 72 65 64 69
      73 2d 62 69 74 73 c0 40 fa 05 63 74 69 6d 65 c2 9d 87 02 6b fa 08 75 73 65 64 2d 6d 65 6d c2 30
      c5 0e 00 fa 08 61 6f 66 2d 62 61 73 65 c0 00 fe 00 fb 05 00 1a 01 74 01 10 00 00 00 00 00 00 00
      01 00 00 00 00 00 00 00 01 1d 1d 00 00 00 0a 00 01 01 00 01 01 01 81 61 02 00 01 02 01 00 01 00
      01 81 62 02 04 01 ff 01 01 01 01 01 00 00 01 00 40 64 40 64 00 00 00 07 02 76 73 81 bd e7 2d a2
      bb 1e b4 00 02 02 02 01 02 50 01 02 00 05 01 65 05 02 3f 7f 02 09 02 01 02 80 01 00 00 01 02 00
      02 20 02 00 02 00 02 10 02 00 02 81 3f 64 f9 2e 40 0f 1b bd 00 19 01 68 00 d8 c3 2c bb 03 00 00
      1f 1f 00 00 00 06 00 81 66 02 81 76 02 f4 00 d8 c3 2c bb 03 00 00 09 81 67 02 81 77 02 00 01 ff
      1a 01 73 01 10 00 00 01 a2 01 e1 bf 87 00 00 00 00 00 00 00 00 1d 1d 00 00 00 0a 00 01 01 00 01
      01 01 81 66 02 00 01 02 01 00 01 00 01 81 76 02 04 01 ff 01 81 00 00 01 a2 01 e1 bf 87 00 81 00
      00 01 a2 01 e1 bf 87 00 00 00 01 01 01 67 81 00 00 01 a2 01 e1 bf 87 00 01 01 00 00 01 a2 01 e1
      bf 87 00 00 00 00 00 00 00 00 9a bf e1 01 a2 01 00 00 01 01 01 63 9a bf e1 01 a2 01 00 00 9a bf
      e1 01 a2 01 00 00 01 00 00 01 a2 01 e1 bf 87 00 00 00 00 00 00 00 00 40 c8 37 00 01 00 00 01 6e
      c0 0c ff 6c 4b 76 f8 3c 56 6c 21`);
    assert.deepEqual(contentsOf(redis86), [
      ...["key t of type 26", "entry 1-1 a b"],
      'stream {"length":1,"statedLength":1,"lastId":"1-1","firstId":"1-1","maxDeletedId":"0-0","entriesAdded":"1","isComplete":true,"groups":0}',
      'idempotency {"windowSeconds":100,"maxIds":100,"producers":[],"added":"0","duplicates":"0"}',
      "key vs of type 7",
      "raw 81bde72da2bb1eb40002020201025001020005016505023f7f0209020102800100000102000220020002000210020002813f64f92e400f1bbd00",
      ...["key h of type 25", "field f=v until 4102444800000", "field g=w"],
      ...["key s of type 26", "entry 1795327901575-0 f v"],
      'stream {"length":1,"statedLength":1,"lastId":"1795327901575-0","firstId":"1795327901575-0","maxDeletedId":"0-0","entriesAdded":"1","isComplete":true,"groups":1}',
      'group {"name":"g","lastId":"1795327901575-0","entriesRead":"1","pending":1}',
      'pending {"id":"1795327901575-0","deliveredAtMs":"1795327901594","deliveries":1}',
      'consumer {"name":"c","seenMs":"1795327901594","activeMs":"1795327901594","pending":1}',
      "consumer pending 1795327901575-0",
      'idempotency {"windowSeconds":200,"maxIds":55,"producers":[],"added":"1","duplicates":"0"}',
      ...["key n of type 0", "string 12"],
    ]);
  });

  test("reads the fragments with slots and attributes", () => {
    const key = (name: string) => bytes([0], string(name), string("x"));
    const slots = file(
      "REDIS0012",
      hex("fe 00 fb 03 01 | f4 43 62 01 00"),
      key("hello"),
      hex("f4 6f 96 01 00"),
      hex("f4 71 a2 01 01 | fc 00d8c32cbb030000"),
      key("k1"),
    );
    assert.deepEqual(eventsOf(slots), [
      ...["database 0", "size 3 1", "slot info", "key hello of type 0", "string x"],
      ...["slot info", "slot info", "key k1 of type 0 until 4102444800000", "string x", "end"],
    ]);
    const attributes = file("REDIS0011", hex("f9 05"), key("a"), hex("f8 00"), key("b"), key("c"));
    assert.deepEqual(
      eventsOf(attributes).filter((event) => event.startsWith("key")),
      ["key a of type 0 frequency 5", "key b of type 0 idle 0", "key c of type 0"],
    );
    const aux = hex(`fa 09 ${Buffer.from("slot-info").toString("hex")}
      09 ${Buffer.from("866,1,0,0").toString("hex")}`);
    assert.deepEqual(eventsOf(file("VALKEY080", aux)), ["aux slot-info=866,1,0,0", "end"]);
  });

  test("reads field expiries in the layouts of both families", () => {
    const [plain, packed, valkey] = [
      `52 45 44 49 53 30 30 31 32 fe 00 fb 01 00 18 01 68 00 d8 c3 2c bb 03 00 00 02 00 01 67 01 77
       01 01 66 01 76 ff cd a9 0c 65 bb 72 ed 95`,
      `52 45 44 49 53 30 30 31 32 fe 00 fb 01 00 19 01 68 00 d8 c3 2c bb 03 00 00 1f 1f 00 00 00 06
       00 81 66 02 81 76 02 f4 00 d8 c3 2c bb 03 00 00 09 81 67 02 81 77 02 00 01 ff ff 9a 56 a1 58 af
       66 ba 3a`,
      `56 41 4c 4b 45 59 30 38 30 fe 00 fb 01 00 16 01 68 02 01 66 01 76 00 d8 c3 2c bb 03 00 00 01
       67 01 77 ff ff ff ff ff ff ff ff ff 69 55 69 91 2e 32 9a c2`,
    ].map((text) => contentsOf(hex(text)));
    const [f, g] = ["field f=v until 4102444800000", "field g=w"];
    assert.deepEqual(plain, ["key h of type 24", g, f]);
    assert.deepEqual(packed, ["key h of type 25", f, g]);
    assert.deepEqual(valkey, ["key h of type 22", f, g]);
  });

  test("reads a key's metadata", () => {
    const metadata = hex(`
      52 45 44 49 53 30 30 31 33 fe 00 f3 01 09 2d eb b5 02 07 05 03 61 62 63 00 00 01 61 01 31 ff 4d
      47 4d 5c 38 99 b4 b3`);
    assert.deepEqual(contentsOf(metadata), [
      "key a of type 0 metadata f301092debb50207050361626300",
      "string 1",
    ]);
  });
});

suite("RdbReader, at the header,", () => {
  const end = [0xff];

  test("takes the versions that are known, in both families", () => {
    const magics = ["REDIS0001", "REDIS0009", "REDIS0015", "VALKEY080", "VALKEY011"];
    for (const magic of magics) assert.deepEqual(eventsOf(uncheckedFile(magic)), ["end"]);
  });

  test("refuses newer ones as unsupported, and everything else as no RDB", () => {
    for (const magic of ["REDIS0016", "REDIS9999", "VALKEY081", "VALKEY999"]) {
      assert.throws(() => eventsOf(uncheckedFile(magic)), unsupported(0, /RDB version [RV]/));
    }
    for (const magic of ["REDIS0000", "VALKEY000"]) {
      assert.throws(() => eventsOf(uncheckedFile(magic)), corrupt(0, /RDB version 0/));
    }
    for (const magic of ["redis0009", "REDIS009\n", "REDIS00 9", "VALKEY08x", "*3\r\n$3\r\nS"]) {
      assert.throws(() => eventsOf(bytes(magic, end)), corrupt(0, /No RDB: it starts with "/));
    }
  });

  test("expects a checksum from version 5 on only", () => {
    for (const version of [1, 4]) {
      const reader = new RdbReader();
      reader.push(bytes(`REDIS000${version}`, end, "and more"));
      assert.equal(reader.next(), "end");
      assert.equal(reader.isChecked, false);
      assert.equal(Buffer.from(reader.rest()).toString(), "and more");
    }
    assert.throws(() => eventsOf(bytes("REDIS0005", end)), corrupt(10, /cut off/));
  });
});

suite("RdbReader, at the end,", () => {
  const key = record(0, string("v"));

  test("compares the checksum, and says whether it did", () => {
    for (const [whole, isChecked] of [
      [file("REDIS0011", key), true],
      [uncheckedFile("REDIS0011", key), false],
    ] as const) {
      const reader = new RdbReader();
      reader.push(whole);
      while (reader.next() !== "end");
      assert.equal(reader.isChecked, isChecked);
      assert.equal(reader.position, whole.length);
      reader.finish();
    }
  });

  test("refuses a file in which any one bit is another, however it is read", () => {
    const whole = file("REDIS0011", key, record(2, length(1), string("member")));
    for (let bit = 9 * 8; bit < whole.length * 8; bit++) {
      const flipped = Uint8Array.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      for (const mode of ["decode", "skip"] as const) {
        assert.throws(() => eventsOf(flipped, { mode }), Failure, `bit ${bit}, ${mode}`);
      }
    }
  });

  test("names a wrong checksum with both sums", () => {
    const whole = file("REDIS0011", key);
    whole[whole.length - 1] = (whole.at(-1) as number) ^ 1;
    const message = /A wrong checksum: it says [0-9a-f]+, the bytes give [0-9a-f]+, at byte 15/;
    assert.throws(() => eventsOf(whole), corrupt(15, message));
  });

  test("gives what stands behind it, and asks for no more", () => {
    const reader = new RdbReader();
    reader.push(bytes(file("REDIS0011", key), "*1\r\n"));
    while (reader.next() !== "end");
    assert.equal(Buffer.from(reader.rest()).toString(), "*1\r\n");
    assert.equal(reader.next(), undefined);
    assert.equal(Buffer.from(reader.rest()).toString(), "*1\r\n");
    reader.finish();
  });

  test("finish() refuses a file that is cut off, and names the record that it ends in", () => {
    const whole = file("REDIS0011", key, record(0, string("long".repeat(10))));
    const cut = whole.subarray(0, 30);
    assert.throws(
      () => eventsOf(cut),
      corrupt(30, /ends in the record that starts at 14, at byte 30/),
    );
    assert.throws(() => new RdbReader().finish(), corrupt(0, /cut off/));
  });
});

suite("RdbReader, between keys,", () => {
  test("gives attributes to the next key only, in any order, and the last of each", () => {
    const key = (name: string) => bytes([0], string(name), string("v"));
    const whole = file(
      "REDIS0011",
      [0xf8],
      length(2 ** 40),
      [0xfc],
      int64(5),
      [0xfd],
      hex("00 00 00 80"),
      key("a"),
      key("b"),
      [0xfc],
      int64(-1),
      key("c"),
      [0xfc],
      int64(-(2n ** 63n)),
      [0xf9, 255],
      key("d"),
      [0xfd],
      hex("ff ff ff ff"),
    );
    assert.deepEqual(
      eventsOf(whole).filter((event) => !event.startsWith("string")),
      [
        "key a of type 0 until -2147483648000 idle 1099511627776",
        "key b of type 0",
        "key c of type 0",
        "key d of type 0 until -9223372036854775808 frequency 255",
        "end",
      ],
    );
  });

  test("keeps attributes for their key when other records come between", () => {
    const whole = file(
      "REDIS0013",
      [0xfc],
      int64(77),
      bytes([0xf7], length(2n ** 63n), [2, 1, 5], string("x"), [0]),
      bytes([0xfa], string("n"), string("v")),
      bytes([0xfb, 1, 0]),
      record(0, string("v")),
    );
    for (const sizes of [[1000], [1]]) {
      const events = joinRaw(eventsOf(whole, { sizes }));
      assert.deepEqual(events, [
        "module aux 818000000000000000020105017800",
        "end value",
        "aux n=v",
        "size 1 0",
        "key k of type 0 until 77",
        "string v",
        "end",
      ]);
    }
  });

  test("takes keys without a database for those of database 0, and refuses an absurd one", () => {
    const reader = new RdbReader();
    reader.push(file("REDIS0011", [0xfe], length(2 ** 31 - 1)));
    assert.equal(reader.next(), "database");
    assert.equal(reader.database, 2 ** 31 - 1);
    assert.equal(new RdbReader().database, 0);
    const absurd = uncheckedFile("REDIS0011", [0xfe], length(2 ** 31));
    assert.throws(() => eventsOf(absurd), corrupt(9, /Database 2147483648 at byte 9/));
  });

  test("refuses what it does not know by its number, and where it stands", () => {
    const at =
      (type: number, magic = "REDIS0012") =>
      () =>
        eventsOf(uncheckedFile(magic, [0xfe, 0], [type], new Uint8Array(20)));
    for (const type of [33, 64, 107, 121, 200, 240, 241]) {
      assert.throws(
        at(type),
        unsupported(11, new RegExp(`Value type or opcode ${type} at byte 11`)),
      );
    }
    for (const type of [23, 24, 25, 26, 28, 32]) {
      assert.throws(
        at(type, "VALKEY080"),
        unsupported(11, new RegExp(`Value type or opcode ${type}`)),
      );
    }
    assert.throws(at(0xf2, "VALKEY080"), unsupported(11, /Opcode 242/));
    assert.throws(at(6), unsupported(11, /A module value from before Redis 4.0/));
    assert.throws(at(8), corrupt(11, /Type 8, which was never assigned, at byte 11/));
    assert.throws(at(0xf6), unsupported(11, /A function of a release candidate of Redis 7.0/));
  });

  test("refuses more than seven classes of metadata, and metadata without end", () => {
    const eight = uncheckedFile("REDIS0013", [0xf3, 8]);
    assert.throws(() => eventsOf(eight), corrupt(9, /8 classes of key metadata/));
    const parts = new Uint8Array(2 ** 21).fill(1);
    const endless = bytes("REDIS0013", [0xf3, 1, 0, 0, 0, 0], parts);
    const limit = { code: "LIMIT_EXCEEDED", offset: 9, message: /the record at byte 9/ };
    for (const sizes of [[2 ** 22], [65536]]) {
      assert.throws(() => eventsOf(endless, { sizes }), limit);
    }
    const ranges = bytes("VALKEY080", [0xf3], string("job"), length(2 ** 40), parts);
    assert.throws(() => eventsOf(ranges, { sizes: [65536] }), limit);
  });

  test("tells slot imports of Valkey from metadata of Redis", () => {
    const slots = bytes([0xf3], string("job"), length(1), length(0), length(16383));
    assert.deepEqual(eventsOf(file("VALKEY080", slots)), ["slot import job", "end"]);
  });
});

suite("RdbReader, at a key,", () => {
  test("skip() passes over values of every type, and decodes none of them", () => {
    for (const { name, bytes: whole } of rareFiles) {
      const events = eventsOf(whole, { mode: "skip" });
      const others = eventsOf(whole).filter((event) =>
        /^(?:key|aux|slot|database|size)/.test(event),
      );
      const noise = /^(?:end|module aux)/;
      assert.deepEqual(
        events.filter((event) => !noise.test(event)),
        others,
        name,
      );
    }
    const wrong = file("REDIS0011", record(11, string("no intset")), record(16, literalLzf("x")));
    assert.deepEqual(eventsOf(wrong, { mode: "skip" }), [
      "key k of type 11",
      "key k of type 16",
      "end",
    ]);
  });

  test("skip() passes over values that are cut between any two bytes", () => {
    const scores = bytes(length(2), string("a".repeat(10)), double(1), string("b"), double(2));
    const pending = bytes(length(2), rawId(1, 1), int64(1), [1], rawId(1, 2), int64(1), [1]);
    const ids = bytes(length(1), string("c"), int64(0), length(2), rawId(1, 1), rawId(1, 2));
    const stream = bytes(
      length(0),
      length(0),
      length(0),
      length(0),
      length(1),
      string("g"),
      [0, 0],
      pending,
      ids,
    );
    const whole = file(
      "REDIS0009",
      record(5, scores),
      record(15, stream),
      record(3, [1, 1], "a", [2], "10"),
    );
    for (let cut = 1; cut < whole.length; cut++) {
      const events = eventsOf(whole, { mode: "skip", sizes: [cut, whole.length] });
      assert.equal(events.length, 4, `cut at ${cut}`);
    }
  });

  test("raw() gives the value's bytes, whatever the chunks are", () => {
    const value = bytes(length(3), string("a".repeat(70)), repeatedLzf(0x62, 1000), [0xc0, 5]);
    const whole = file("REDIS0011", record(2, value), record(0, [0xc1, 1, 2]));
    const wanted = [
      "key k of type 2",
      `raw ${Buffer.from(value).toString("hex")}`,
      "end value",
      ...["key k of type 0", "raw c10102", "end value", "end"],
    ];
    for (let size = 1; size <= whole.length; size++) {
      assert.deepEqual(joinRaw(eventsOf(whole, { mode: "raw", sizes: [size] })), wanted);
    }
  });

  test("skip() and raw() are for keys only", () => {
    const reader = new RdbReader();
    assert.throws(() => reader.skip(), /skip\(\) is called at a key/);
    assert.throws(() => reader.raw(), /raw\(\) is called at a key/);
    assert.throws(() => reader.rest(), /rest\(\) is called at the end/);
    reader.push(Uint8Array.of(1));
    assert.throws(() => reader.push(Uint8Array.of(1)), /when next\(\) has returned undefined/);
  });

  test("gives the bytes of module values as they are, since only the module knows more", () => {
    const value = bytes(
      length(0x45e25238df912c03n),
      [5],
      string("text"),
      [4],
      double(1),
      [1, 7, 0],
    );
    const events = eventsOf(file("REDIS0009", record(7, value)));
    assert.deepEqual(joinRaw(events), [
      "key k of type 7",
      `raw ${Buffer.from(value).toString("hex")}`,
      "end value",
      "end",
    ]);
    const wrong = uncheckedFile("REDIS0009", record(7, length(2 ** 40), [6]));
    for (const mode of ["decode", "skip", "raw"] as const) {
      const damage = corrupt(21, /Opcode 6 in the value of a module at byte 21/);
      assert.throws(() => eventsOf(wrong, { mode }), damage);
    }
  });
});

suite("RdbReader with limits", () => {
  test("refuses elements of more than `maxElementBytes`, also to pass over them", () => {
    const whole = file("REDIS0011", record(0, string("x".repeat(20_000))));
    const message = /Cannot read an element of 20000 bytes at byte \d+: the limit is 19999/;
    for (const mode of ["decode", "skip", "raw"] as const) {
      const limit = { code: "LIMIT_EXCEEDED", message };
      assert.throws(() => eventsOf(whole, { mode, maxElementBytes: 19_999 }), limit);
      assert.equal(eventsOf(whole, { mode, maxElementBytes: 20_000 }).at(-1), "end");
    }
  });

  test("`maxDistinct` refuses a key twice in one database, and a member twice in one value", () => {
    const twice: [records: Uint8Array, message: RegExp][] = [
      [bytes(record(0, string("v")), record(2, length(1), string("v"))), /A second key "k"/],
      [record(2, length(2), string("a"), string("a")), /A second "a" in one set/],
      [record(2, length(2), string("5"), [0xc0, 5]), /A second "5" in one set/],
      [record(4, length(2), string("a"), string("1"), string("a"), string("2")), /in one hash/],
      [record(5, length(2), string("a"), double(1), string("a"), double(2)), /in one zset/],
      [record(13, string(ziplist("f", "1", "f", "2"))), /A second "f" in one hash/],
      [record(12, string(ziplist("m", "1", "m", "1"))), /A second "m" in one zset/],
      [record(20, string(listpack("a", "a"))), /A second "a" in one set/],
      [record(20, string(listpack("a\n", "a\n"))), /A second "a\\x0a" in one set/],
    ];
    for (const [records, message] of twice) {
      const whole = file("REDIS0011", records);
      assert.throws(() => eventsOf(whole, { maxDistinct: 100 }), { code: "DATA_CORRUPT", message });
      assert.ok(eventsOf(whole).length > 2);
    }
    const once = file(
      "REDIS0011",
      record(0, string("v")),
      [0xfe, 1],
      record(1, length(2), string("a"), string("a")),
      [0xfe, 2],
      record(11, string(intset(2, 1, 2))),
    );
    assert.equal(eventsOf(once, { maxDistinct: 100 }).at(-1), "end");
  });

  test("`unchecked` counts what was not compared", () => {
    const members = Array.from({ length: 5 }, (_, i) => string(`${i}`));
    const reader = new RdbReader({ maxDistinct: 2 });
    reader.push(file("REDIS0011", record(2, length(5), ...members)));
    while (reader.next() !== "end");
    assert.equal(reader.unchecked, 3);
  });

  test("messages do not repeat long keys and members", () => {
    const long = string("x".repeat(100_000));
    const whole = file("REDIS0011", record(2, length(2), long, long));
    assert.throws(
      () => eventsOf(whole, { maxDistinct: 9 }),
      (error: Failure) => error.message.length < 300,
    );
  });
});

test("arbitrary bytes behind a header are read or refused, in every mode", () => {
  const magic = fc.constantFrom("REDIS0001", "REDIS0009", "REDIS0015", "VALKEY080");
  const opcode = fc.oneof(fc.integer({ min: 0, max: 33 }), fc.integer({ min: 0xf0, max: 0xff }));
  const body = fc.array(fc.oneof(opcode, fc.integer({ min: 0, max: 255 })), { maxLength: 80 });
  const mode = fc.constantFrom<Mode>("decode", "skip", "raw");
  fc.assert(
    fc.property(magic, body, mode, fc.integer({ min: 1, max: 20 }), (start, rest, how, size) => {
      const whole = bytes(start, rest);
      const outcome = (sizes: number[]) => {
        try {
          eventsOf(whole, { mode: how, sizes, maxDistinct: 100 });
          return "read";
        } catch (error) {
          assert(error instanceof Failure, String(error));
          assert(Number.isSafeInteger(error.offset) && Number(error.offset) <= whole.length);
          return error.message;
        }
      };
      assert.equal(outcome([size]), outcome([whole.length]));
    }),
    { numRuns: 3000 },
  );
});
