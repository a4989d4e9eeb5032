import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type Bytes,
  bytes,
  file,
  hex,
  id,
  int64,
  length,
  listpack,
  rawId,
  record,
  string,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf } from "../../../test/support/rdb-events.ts";
import { rareFiles } from "../../../test/support/rdb-rare.ts";
import { KeyPipe } from "../../recovery/key-pipe.ts";
import { type Target, targets } from "./model.ts";
import { RdbTranscoder } from "./transcode.ts";
import { RdbWriter, type WriterOptions } from "./writer.ts";

type Transcoded = { readonly file: Uint8Array; readonly dropped: Record<string, number> };

function transcode(
  target: Target,
  source: Uint8Array,
  options: WriterOptions = {},
  chunkBytes = source.length,
): Transcoded {
  const writer = new RdbWriter(target, { version: null, ...options });
  const pipe = new KeyPipe(new RdbTranscoder(writer));
  const parts: Uint8Array[] = [];
  for (let at = 0; at < source.length; at += chunkBytes) {
    const chunk = Uint8Array.from(source.subarray(at, at + chunkBytes));
    pipe.reader.push(chunk);
    pipe.drain();
    parts.push(writer.take());
    chunk.fill(0x58);
  }
  pipe.reader.finish();
  return { file: Buffer.concat(parts), dropped: Object.fromEntries(writer.dropped) };
}

const newest = (...records: readonly Bytes[]) => file("REDIS0015", ...records);
const node = bytes(string(rawId(5, 1)), string(listpack(1, 0, 1, "f", 0, 2, 0, 0, "v", 4)));
const about = bytes([1], id(5, 1), id(5, 1), id(0, 0), [1]);
const redisJson = 0x45e25238df912c03n;

suite("RdbTranscoder", () => {
  test("gives the same file wherever the source is cut", () => {
    for (const { name, bytes: source } of rareFiles.filter(
      (each) => each.name !== "newest forms",
    )) {
      const { file: whole } = transcode("valkey:9", source, { modules: "any" });
      for (const size of [1, 2, 3, 7, 61]) {
        const { file: cut } = transcode("valkey:9", source, { modules: "any" }, size);
        assert.deepEqual(cut, whole, `${name} in chunks of ${size}`);
      }
    }
  });

  test("gives a file that it does not change any more", () => {
    for (const { name, bytes: source } of rareFiles.filter(
      (each) => each.name !== "newest forms",
    )) {
      for (const target of targets) {
        const options = { modules: "any", lossy: true } as const;
        const { file: once } = transcode(target, source, options);
        assert.deepEqual(transcode(target, once, options).file, once, `${name} for ${target}`);
      }
    }
  });

  test("passes on what belongs to no key", () => {
    const moduleAux = bytes(length(redisJson), [2, 2, 5], string("x"), [0]);
    const source = newest(
      [0xfa],
      string("ctime"),
      string("5"),
      [0xf7],
      moduleAux,
      [0xf5],
      string("code"),
    );
    const { file: found } = transcode("redis:8", source, { modules: "any" });
    assert.deepEqual(eventsOf(found), [
      `module aux ${Buffer.from(moduleAux).toString("hex")}`,
      "end value",
      "function code",
      "end",
    ]);
  });

  test("tells of a database where it changes", () => {
    const key = (name: string) => bytes([0], string(name), string("v"));
    const source = newest(key("a"), [0xfe, 0], key("b"), [0xfe, 7], [0xfe, 9], key("c"), key("d"));
    assert.deepEqual(
      eventsOf(transcode("redis:6.0", source).file).filter((event) => event !== "string v"),
      [
        ...["database 0", "key a of type 0", "key b of type 0"],
        ...["database 9", "key c of type 0", "key d of type 0", "end"],
      ],
    );
  });

  const lost: readonly (readonly [
    feature: string,
    source: Uint8Array,
    left: number,
    message: RegExp,
  ])[] = [
    [
      "array",
      newest(record(28, length(1), [0], [0], [0], string("text")), [0], string("l"), string("v")),
      1,
      /^Cannot write key "k" for redis:8: it is an array$/,
    ],
    [
      "key metadata",
      newest(hex("f3 01 092debb5 0207 0503616263 00"), record(0, string("v"))),
      1,
      /^Cannot write key "k" for redis:8: it has metadata of a module$/,
    ],
    [
      "stream producers",
      newest(
        record(
          26,
          [1],
          node,
          about,
          [0],
          bytes(length(100), length(100), [1], string("p"), [0, 0, 0]),
        ),
      ),
      1,
      /^Cannot write key "k" for redis:8: it keeps the ids of idempotent producers$/,
    ],
    [
      "module value",
      newest(record(7, length(redisJson), [5], string("x"), [0])),
      0,
      /^Cannot write key "k" for redis:8: it is a value of module type \S+$/,
    ],
    [
      "module aux",
      newest([0xf7], length(redisJson), [2, 2, 5], string("x"), [0]),
      0,
      /^Cannot write the record of module type \S+ for redis:8: it has no such module$/,
    ],
  ];
  for (const [feature, source, left, message] of lost) {
    test(`refuses what has ${feature}, or drops and counts it`, () => {
      assert.throws(() => transcode("redis:8", source), { code: "TARGET_CANNOT_HOLD", message });
      const { file: found, dropped } = transcode("redis:8", source, { lossy: true }, 3);
      assert.deepEqual(dropped, { [feature]: 1 });
      const keys = eventsOf(found).filter((event) => event.startsWith("key "));
      assert.equal(keys.length, left);
    });
  }

  test("never drops just the marks of entries that a consumer gave back", () => {
    const group = bytes(
      string("g"),
      id(5, 1),
      length(1),
      bytes([1], rawId(5, 1), int64(77), [3]),
      [0],
      bytes([1], rawId(5, 1)),
    );
    const source = newest(
      record(27, [1], node, about, [1], group, length(100), length(100), [0, 0, 0]),
    );
    assert.throws(() => transcode("redis:8", source, { lossy: true }), {
      code: "TARGET_CANNOT_HOLD",
      message: /^Cannot write key "k" for redis:8: it has entries that a consumer gave back$/,
    });
  });
});
