import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  bytes,
  length,
  listpack,
  literalLzf,
  repeatedLzf,
  string,
  uncheckedFile,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf } from "../../../test/support/rdb-events.ts";
import { Slice } from "../../base/bytes.ts";
import { Input } from "./input.ts";
import { FieldNames, readFieldNames, Templates } from "./template.ts";

function inputOf(content: Uint8Array): Input {
  const input = new Input(2 ** 30);
  input.push(content);
  return input;
}

function textsOf(names: FieldNames): string[] {
  const slice = new Slice();
  return Array.from({ length: names.length }, (_, i) => {
    names.select(i, slice);
    return slice.latin1();
  });
}

const lists = fc.array(fc.string({ unit: "binary-ascii", maxLength: 30 }), { maxLength: 40 });

test("FieldNames gives back the names that were added, in little more than their bytes", () => {
  fc.assert(
    fc.property(lists, (texts) => {
      const names = new FieldNames();
      const slice = new Slice();
      for (const text of texts) {
        slice.setLatin1(text);
        names.add(slice);
      }
      assert.deepEqual(textsOf(names), texts);
      const characters = texts.reduce((sum, text) => sum + text.length, 0);
      assert.ok(names.sizeBytes <= 2 * characters + 8 * texts.length + 16);
    }),
  );
});

suite("readFieldNames()", () => {
  test("reads both forms", () => {
    fc.assert(
      fc.property(lists, (texts) => {
        const strings = bytes([1], length(texts.length), ...texts.map((text) => string(text)));
        assert.deepEqual(textsOf(readFieldNames(inputOf(strings))), texts);
        const packed = bytes([0], literalLzf(listpack(...texts)));
        assert.deepEqual(textsOf(readFieldNames(inputOf(packed))), texts);
      }),
    );
  });

  test("refuses another form", () => {
    const damage = { code: "DATA_CORRUPT", offset: 0, message: /Form 2 of the names/ };
    assert.throws(() => readFieldNames(inputOf(Uint8Array.of(2))), damage);
  });
});

suite("Templates", () => {
  const define = (templates: Templates, id: number, ...names: string[]) =>
    templates.define(
      inputOf(bytes(length(id), length(names.length), ...names.map((name) => string(name)))),
    );

  test("keeps names by id", () => {
    const templates = new Templates();
    define(templates, 9, "a", "b");
    define(templates, 70_000, "c");
    assert.deepEqual(textsOf(templates.get(9, 0)), ["a", "b"]);
    assert.deepEqual(textsOf(templates.get(70_000, 0)), ["c"]);
    const unknown = { code: "DATA_CORRUPT", offset: 77, message: /by template 8, which/ };
    assert.throws(() => templates.get(8, 77), unknown);
  });

  test("refuses a template without names, and an id twice", () => {
    const templates = new Templates();
    assert.throws(() => define(templates, 1), { message: /Hash template 1 without fields/ });
    define(templates, 1, "a");
    assert.throws(() => define(templates, 1, "b"), { message: /A second hash template 1/ });
  });

  test("refuses a definition that is long, before its end has come", () => {
    const endless = bytes("REDIS0015", [0xf2, 1], length(2 ** 40), new Uint8Array(2 ** 21));
    const limit = { code: "LIMIT_EXCEEDED", offset: 9, message: /the record at byte 9/ };
    for (const sizes of [[65_536], [2 ** 22]]) {
      assert.throws(() => eventsOf(endless, { sizes }), limit);
    }
  });

  test("refuses more templates than memory is to hold", () => {
    const name = repeatedLzf(0x61, 2 ** 20);
    const many = Array.from({ length: 40 }, (_, id) => bytes([0xf2], length(id), [1], name));
    const limit = { code: "LIMIT_EXCEEDED", message: /Cannot keep the hash templates up to byte/ };
    assert.throws(() => eventsOf(uncheckedFile("REDIS0015", ...many)), limit);
    assert.deepEqual(eventsOf(uncheckedFile("REDIS0015", ...many.slice(0, 30))), ["end"]);
  });
});
