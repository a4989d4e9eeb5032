import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { RecordCopy } from "./record-copy.ts";

function record(...args: string[]): string {
  return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join("")}`;
}

const annotation = fc.constantFrom("#TS:1\r\n", "#\n", `#${"x".repeat(900)}\r\n`);
const argument = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 20 }),
  fc.constantFrom("a\r\n#TS:5\r\n*1\r\n$4\r\nPING\r\n", "#".repeat(300), "\0\n#TS:1\n"),
);
const command = fc
  .array(argument, { minLength: 1, maxLength: 5 })
  .map((args) => record("SET", ...args));
type Item = { readonly kind: "annotation" | "record"; readonly text: string };
const items: fc.Arbitrary<Item[]> = fc.array(
  fc.oneof(
    annotation.map((text): Item => ({ kind: "annotation", text })),
    command.map((text): Item => ({ kind: "record", text })),
  ),
  { maxLength: 12 },
);

type Copied = { readonly text: string; readonly records: number };

/** Copies a log that stands behind some bytes of a file, in chunks of these sizes in turn. */
function copy(text: string, keepsAnnotations: boolean, sizes: readonly number[]): Copied {
  const parts: Buffer[] = [];
  const write = (bytes: Uint8Array) => parts.push(Buffer.from(bytes));
  const copying = new RecordCopy("log.aof", 1000, write, keepsAnnotations);
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] as number;
    const chunk = Uint8Array.from(bytes.subarray(at, at + size));
    at += size;
    copying.push(chunk);
    chunk.fill(0x58);
  }
  copying.finish();
  return { text: Buffer.concat(parts).toString("latin1"), records: copying.records };
}

const chunkSizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });

suite("RecordCopy", () => {
  test("passes on every byte when it keeps annotations, however they are cut", () => {
    fc.assert(
      fc.property(items, chunkSizes, (all, sizes) => {
        const text = all.map((item) => item.text).join("");
        const records = all.filter(({ kind }) => kind === "record").length;
        assert.deepEqual(copy(text, true, sizes), { text, records });
      }),
    );
  });

  test("leaves out annotations between records and nothing inside of them, however they are cut", () => {
    fc.assert(
      fc.property(items, chunkSizes, (all, sizes) => {
        const kept = all.filter(({ kind }) => kind === "record").map((item) => item.text);
        const text = all.map((item) => item.text).join("");
        assert.deepEqual(copy(text, false, sizes), { text: kept.join(""), records: kept.length });
      }),
    );
  });

  test("copies records that are longer than what a scanner keeps", () => {
    const long = record("SET", "k", "\n#TS:1\r\n".repeat(30_000));
    const text = `#TS:1\r\n${long}#TS:2\r\n${long}`;
    for (const size of [1000, 65_536, text.length]) {
      assert.deepEqual(copy(text, false, [size]), { text: long + long, records: 2 });
    }
  });

  test("says by file and offset within what a log ends", () => {
    const set = record("SET", "k", "v");
    const cases: readonly (readonly [text: string, what: string, offset: number])[] = [
      [`${set}${set.slice(0, -1)}`, "record", 1000 + set.length],
      [`${set}#TS:1`, "annotation", 1000 + set.length],
      [`${set}${record("MULTI")}${set}`, "transaction", 1000 + set.length],
    ];
    for (const [text, what, offset] of cases) {
      assert.throws(() => copy(text, false, [7]), {
        code: "DATA_TORN",
        message: `Cannot convert "log.aof": it ends within the ${what} at byte ${offset}`,
        offset,
      });
    }
  });

  test("stops at damage with its offset in the file", () => {
    const set = record("SET", "k", "v");
    assert.throws(() => copy(`${set}?`, true, [3]), {
      code: "DATA_CORRUPT",
      offset: 1000 + set.length,
    });
  });
});
