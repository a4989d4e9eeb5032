import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  bytes,
  hex,
  int64,
  length,
  rawId,
  record,
  string,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf } from "../../../test/support/rdb-events.ts";
import { rareFiles } from "../../../test/support/rdb-rare.ts";
import { Slice } from "../../base/bytes.ts";
import { hungry, Input } from "./input.ts";
import { layoutOf } from "./layout.ts";
import { readModulePart, ValuePasser } from "./pass.ts";
import { Templates } from "./template.ts";

function passIn(chunks: readonly Uint8Array[], type: number): number {
  const input = new Input(2 ** 30);
  const passer = new ValuePasser(input, new Templates());
  const layout = layoutOf("redis", type);
  assert(layout);
  passer.begin(layout);
  for (const chunk of chunks) {
    input.push(chunk);
    if (input.beginUnit()) {
      try {
        passer.finish();
      } catch (error) {
        assert.equal(error, hungry);
        input.abandonUnit();
      }
    }
    input.release();
  }
  return input.position;
}

suite("ValuePasser", () => {
  test("passes over bytes that come later before it goes on to what follows them", () => {
    const pel = bytes(rawId(1, 1), int64(5), length(1));
    const value = bytes([0, 0, 0, 0, 1], string("g"), [0, 0, 3], pel, pel, pel, [0]);
    for (let cut = 1; cut < value.length; cut++) {
      const position = passIn([value.subarray(0, cut), value.subarray(cut), hex("77")], 15);
      assert.equal(position, value.length, `cut at ${cut}`);
    }
    assert.equal(
      passIn(
        [...value].map((byte) => Uint8Array.of(byte)),
        15,
      ),
      value.length,
    );
  });

  test("does not count through a number of pieces that have not come", () => {
    const group = bytes([0, 0, 0, 0, 1], string("g"), [0, 0], length(2 ** 52), rawId(1, 1));
    const whole = bytes("REDIS0009", record(15, group));
    const cut = { code: "DATA_CORRUPT", offset: whole.length, message: /cut off/ };
    assert.throws(() => eventsOf(whole, { mode: "skip" }), cut);
  });
});

test("layoutOf() has each type of each family, and no other", () => {
  const known = (family: "redis" | "valkey") =>
    Array.from({ length: 256 }, (_, type) => type).filter((type) => layoutOf(family, type));
  const common = [0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];
  assert.deepEqual(known("redis"), [...common, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]);
  assert.deepEqual(known("valkey"), [...common, 22]);
});

test("each type is in one of the files that the tests of all ways of reading go through", () => {
  const types = new Set<number>();
  for (const { bytes: whole } of rareFiles) {
    for (const event of eventsOf(whole)) {
      const type = /^key .* of type (\d+)/.exec(event)?.[1];
      if (type !== undefined) types.add(Number(type));
    }
  }
  const missing = Array.from({ length: 33 }, (_, type) => type)
    .filter((type) => layoutOf("redis", type) && !types.has(type))
    // A binary and a later form of the same pieces stand in the servers' own files.
    .filter((type) => type !== 5 && type !== 21);
  assert.deepEqual(missing, []);
});

test("readModulePart() reads each kind of part, and says which one was the last", () => {
  const parts = bytes(
    [1],
    length(2n ** 64n - 1n),
    [2, 7, 3],
    hex("0000803f"),
    [4],
    new Uint8Array(8),
    [5],
    string("text"),
    [0],
    [6],
  );
  const input = new Input(100);
  input.push(parts);
  const scratch = new Slice();
  const more = Array.from({ length: 6 }, () => readModulePart(input, scratch));
  assert.deepEqual(more, [true, true, true, true, true, false]);
  const damage = { code: "DATA_CORRUPT", message: /Opcode 6 in the value of a module/ };
  assert.throws(() => readModulePart(input, scratch), damage);
});
