import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  bytes,
  hex,
  length,
  literalLzf,
  repeatedLzf,
  string,
} from "../../../test/support/rdb-bytes.ts";
import { moduleOf, readVectorSet } from "./vector-set.ts";

/** What Redis 8.6 wrote: one element of two dimensions. */
const real = hex(`81bde72da2bb1eb400 0202 0201 025001 0200 050165 05023f7f 0209 0201 028001000001
  0200 0220 0200 0200 0210 0200 02813f64f92e400f1bbd 00`);

const uint = (value: number) => bytes([2], length(value));
const text = (content: string) => bytes([5], string(content));
const id = hex("81bde72da2bb1eb400");
const links = bytes(uint(1), uint(0));

test("moduleOf() gives the name and the encoding version", () => {
  assert.deepEqual(moduleOf(real), { name: "vectorset", version: 0 });
  assert.deepEqual(moduleOf(length(0x45e25238df912c03n)), { name: "ReJSON-RL", version: 3 });
});

test("readVectorSet() reads what Redis 8.6 wrote", () => {
  assert.deepEqual(readVectorSet(real), {
    quantization: "int8",
    dimensions: 2,
    elements: [{ name: Uint8Array.of(0x65), attributes: null }],
  });
});

test("readVectorSet() reads projections, attributes and each quantization", () => {
  const names = ["f32", "int8", "bin"];
  for (const [i, name] of names.entries()) {
    const set = bytes(
      ...[id, uint(3), uint(2), uint(i + (16 << 8)), uint(3), uint(300), text("matrix")],
      ...[text("a"), text('{"x":1}'), text("vector"), links],
      ...[text("b"), text(""), text("vector"), links, [0]],
    );
    const read = readVectorSet(set);
    assert.deepEqual([read?.quantization, read?.dimensions], [name, 3]);
    const elements = read?.elements.map((element) => element.attributes?.length ?? null);
    assert.deepEqual(elements, [7, null]);
  }
});

test("readVectorSet() takes strings that were compressed to less than a tenth", () => {
  const json = bytes([5], repeatedLzf(0x61, 8000));
  const set = bytes(
    id,
    uint(1),
    uint(1),
    uint(0),
    uint(2),
    text("a"),
    json,
    text("vec!"),
    links,
    [0],
  );
  assert.ok(set.length < 200);
  assert.equal(readVectorSet(set)?.elements[0]?.attributes?.length, 8000);
  assert.deepEqual(
    readVectorSet(bytes(real.subarray(0, 18), [5], literalLzf("e"), real.subarray(21)))?.dimensions,
    2,
  );
});

test("readVectorSet() gives nothing for other modules, and for layouts that it does not know", () => {
  const others: Uint8Array[] = [
    bytes(length(0x45e25238df912c03n), [0]),
    bytes(real, [0]),
    bytes(real.subarray(0, -1), [1]),
    bytes(id, uint(1), uint(0), uint(3), uint(0), [0]),
    bytes(id, uint(1), uint(0), uint(0), uint(4), [0]),
    bytes(id, text("x"), [0]),
    bytes(id, uint(1), uint(2 ** 40), uint(0), uint(0), [0]),
  ];
  for (const raw of others) assert.equal(readVectorSet(raw), undefined);
  for (let end = 9; end < real.length; end++) {
    assert.equal(readVectorSet(real.subarray(0, end)), undefined);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (rest) => {
      const set = readVectorSet(bytes(id, rest));
      assert.ok(set === undefined || set.elements.length <= rest.length);
    }),
  );
});
