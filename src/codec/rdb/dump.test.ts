import assert from "node:assert/strict";
import { test } from "node:test";
import { Slice } from "../../base/bytes.ts";
import {
  createDumpPayload,
  dumpVersion,
  encodeDump,
  encodeFunctionDump,
  openDumpPayload,
} from "./dump.ts";
import type { Target } from "./model.ts";
import type { ValueOptions, ValueWriter } from "./writer-value.ts";

const slice = (text: string) => {
  const into = new Slice();
  into.setLatin1(text);
  return into;
};
const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("hex");
const compact = (text: string) => text.replaceAll(" ", "");
const fromHex = (text: string) => Buffer.from(compact(text), "hex");
const expiry = 4102444800000;

type Case = { name: string; target: Target; write: (writer: ValueWriter) => void; payload: string };

/** Payloads of real servers: Redis 7.0.15, 8.0.6, Valkey 9.1.2. */
const cases: Case[] = [
  {
    name: "an integer",
    target: "redis:7.0",
    write: (writer) => writer.string(slice("-5")),
    payload: "00 c0 fb 0a 00 49 c4 c6 f4 d7 26 3f 68",
  },
  {
    name: "a compressed string",
    target: "redis:7.0",
    write: (writer) => writer.string(slice("a".repeat(60))),
    payload: "00 c3 09 3c 01 61 61 e0 2f 00 01 61 61 0a 00 a6 7e 08 b2 17 d0 97 80",
  },
  {
    name: "a list",
    target: "redis:7.0",
    write: (writer) => {
      writer.beginList({ nodes: 1 });
      writer.node();
      for (const text of ["a", "1", "-1", "4095", "70000"]) writer.element(slice(text));
      writer.endValue();
    },
    payload:
      "12 01 02 17 17 00 00 00 05 00 81 61 02 01 01 df ff 02 cf ff 02 f2 70 11 01 04 ff 0a 00 6b f3 2c b2 be 28 77 81",
  },
  {
    name: "a set of integers",
    target: "redis:7.0",
    write: (writer) => {
      writer.beginSet(3);
      for (const text of ["300", "1", "2"]) writer.element(slice(text));
      writer.endValue();
    },
    payload: "0b 0e 02 00 00 00 03 00 00 00 01 00 02 00 2c 01 0a 00 e5 10 b2 8e 7b 95 29 aa",
  },
  {
    name: "a small sorted set",
    target: "redis:7.0",
    write: (writer) => {
      writer.beginZset(3);
      writer.member(slice("b"), 2.5);
      writer.member(slice("a"), 1);
      writer.member(slice("c"), Number.NEGATIVE_INFINITY);
      writer.endValue();
    },
    payload:
      "11 1d 1d 00 00 00 06 00 81 63 02 84 2d 69 6e 66 05 81 61 02 01 01 81 62 02 83 32 2e 35 04 ff 0a 00 39 92 33 9b e1 1f 32 3d",
  },
  {
    name: "a hash",
    target: "redis:7.0",
    write: (writer) => {
      writer.beginHash(2);
      writer.field(slice("f"), slice("v"));
      writer.field(slice("n"), slice("10"));
      writer.endValue();
    },
    payload:
      "10 12 12 00 00 00 04 00 81 66 02 81 76 02 81 6e 02 0a 01 ff 0a 00 45 f8 42 d8 ea 06 93 ca",
  },
  {
    name: "a sorted set with a long member",
    target: "redis:7.0",
    write: (writer) => {
      writer.beginZset(2);
      writer.member(slice("m"), 3);
      writer.member(slice("x".repeat(65)), -1.5);
      writer.endValue();
    },
    payload:
      "05 02 01 6d 00 00 00 00 00 00 08 40 c3 09 40 41 01 78 78 e0 34 00 01 78 78 00 00 00 00 00 00 f8 bf 0a 00 67 40 c2 b1 e8 3f c6 60",
  },
  {
    name: "a small set",
    target: "redis:8",
    write: (writer) => {
      writer.beginSet(3);
      for (const text of ["a", "b", "5"]) writer.element(slice(text));
      writer.endValue();
    },
    payload: "14 0f 0f 00 00 00 03 00 81 61 02 81 62 02 05 01 ff 0c 00 f4 66 cd 9c fe a4 69 70",
  },
  {
    name: "a hash with a field that expires",
    target: "redis:8",
    write: writeExpiringHash,
    payload:
      "19 00 d8 c3 2c bb 03 00 00 1f 1f 00 00 00 06 00 81 66 02 81 76 02 f4 00 d8 c3 2c bb 03 00 00 09 81 67 02 81 77 02 00 01 ff 0c 00 84 36 d9 88 88 06 ec 99",
  },
  {
    name: "the same hash",
    target: "valkey:9",
    write: writeExpiringHash,
    payload:
      "16 02 01 66 01 76 00 d8 c3 2c bb 03 00 00 01 67 01 77 ff ff ff ff ff ff ff ff 50 00 e6 0a 2f 75 e1 b4 5a 59",
  },
];

function writeExpiringHash(writer: ValueWriter): void {
  writer.beginHash(2, true);
  writer.field(slice("f"), slice("v"), expiry);
  writer.field(slice("g"), slice("w"));
  writer.endValue();
}

for (const { name, target, write, payload } of cases) {
  test(`encodeDump() writes ${name} as a server of ${target} does, but for the version`, () => {
    const real = openDumpPayload(fromHex(payload));
    const made = openDumpPayload(encodeDump(target, Buffer.from("key"), write) as Uint8Array);
    assert.equal(hex(made.content), hex(real.content));
    assert(made.version <= real.version);
    assert.equal(made.family, target.startsWith("valkey") ? real.family : "redis");
    assert.equal(hex(createDumpPayload(real.content, real.version)), compact(payload));
  });
}

test("encodeDump() gives the lowest version that knows the type", () => {
  const version = (target: Target, write: (writer: ValueWriter) => void) =>
    openDumpPayload(encodeDump(target, Buffer.from("key"), write) as Uint8Array).version;
  assert.equal(
    version("redis:8", (writer) => writer.string(slice("s"))),
    9,
  );
  assert.equal(
    version("valkey:9", (writer) => writer.string(slice("s"))),
    9,
  );
  assert.equal(version("redis:8", writeExpiringHash), 12);
  assert.equal(version("valkey:9", writeExpiringHash), 80);
  assert.deepEqual(
    [15, 16, 19, 20, 21, 24].map((type) => dumpVersion(type, "redis")),
    [9, 10, 10, 11, 11, 12],
  );
});

test("encodeDump() names the key when the target cannot hold the value", () => {
  assert.throws(() => encodeDump("redis:7.2", Buffer.from("my key"), writeExpiringHash), {
    code: "TARGET_CANNOT_HOLD",
    message: 'Cannot write key "my key" for redis:7.2: it has a field that expires',
  });
});

test("encodeDump() gives nothing when the whole key is lost", () => {
  const lossy: ValueOptions = { lossy: true };
  const write = (writer: ValueWriter) => {
    writer.omit("array");
    writer.endValue();
  };
  assert.equal(encodeDump("redis:8", Buffer.from("key"), write, lossy), undefined);
});

test("encodeFunctionDump() writes what FUNCTION DUMP of Redis 7.0.15 gives", () => {
  const code = '#!lua name=L\nredis.register_function("f",function(k,a) return 1 end)';
  const payload = encodeFunctionDump([Buffer.from(code)]);
  assert.equal(hex(payload), `f54044${Buffer.from(code).toString("hex")}0a00ef33b705f099fbdb`);
});

test("openDumpPayload() refuses what RESTORE refuses", () => {
  const sound = fromHex("00 c0 fb 0a 00 49 c4 c6 f4 d7 26 3f 68");
  for (let end = 0; end < sound.length; end++) {
    assert.throws(() => openDumpPayload(sound.subarray(0, end)), { code: "DATA_CORRUPT" });
  }
  for (let at = 0; at < sound.length; at++) {
    const damaged = sound.slice();
    damaged[at] = (damaged[at] as number) ^ 0x10;
    assert.throws(() => openDumpPayload(damaged), { code: "DATA_CORRUPT" });
  }
  const unchecked = Buffer.concat([sound.subarray(0, -8), Buffer.alloc(8)]);
  assert.throws(() => openDumpPayload(unchecked), { code: "DATA_CORRUPT", offset: 5 });
});

test("openDumpPayload() takes ten zero bytes: an empty string of version 0", () => {
  assert.deepEqual(openDumpPayload(new Uint8Array(10)).version, 0);
});
