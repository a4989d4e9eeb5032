import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { Slice } from "../../base/bytes.ts";
import { encodeStreamNodes, type NewEntry, type NewNode } from "./encode-stream-node.ts";
import { RdbReader } from "./reader.ts";
import { compareIds, formatId } from "./stream.ts";
import { RdbWriter } from "./writer.ts";

const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const id = fc
  .record({ ms: fc.oneof(fc.bigInt({ min: 1n, max: 9n }), uint64), seq: uint64 })
  .filter(({ ms, seq }) => ms + seq > 0n);
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 12 }),
  fc.constantFrom("", "0", "-1", "4095", "123456789012", "007").map((text) => Buffer.from(text)),
);
const names = fc.constantFrom<readonly string[]>(["a"], ["a", "b"], ["b", "a"], ["a", "a"], []);
/** Names of few kinds, so that many entries have the same ones as the first. */
const fields = fc
  .tuple(names, fc.array(bytes, { minLength: 4, maxLength: 4 }))
  .map(([some, values]) =>
    some.length === 0
      ? values
      : some.flatMap((name, i): Uint8Array[] => [Buffer.from(name), values[i] as Uint8Array]),
  );
const entries = fc
  .uniqueArray(fc.record({ id, fields }), {
    selector: (entry) => formatId(entry.id),
    maxLength: 250,
  })
  .map((all): NewEntry[] => all.sort((a, b) => compareIds(a.id, b.id)));

/** The entries of nodes, as a reader finds them in a file. */
function read(nodes: readonly NewNode[], all: readonly NewEntry[]): string[] {
  const writer = new RdbWriter("redis:8");
  const value = writer.key(Buffer.from("s"));
  value.beginStream(nodes.length);
  for (const { masterId, listpack } of nodes)
    value.streamNode(pointAt(masterId), pointAt(listpack));
  const none = { ms: 0n, seq: 0n };
  value.streamInfo({
    length: all.length,
    statedLength: all.length,
    lastId: all.at(-1)?.id ?? none,
    firstId: all[0]?.id ?? none,
    maxDeletedId: none,
    entriesAdded: BigInt(all.length),
    isComplete: true,
    groups: 0,
  });
  value.endValue();
  writer.finish();
  const reader = new RdbReader();
  const found: string[] = [];
  reader.push(writer.take());
  for (let event = reader.next(); event; event = reader.next()) {
    if (event === "entry")
      found.push(describe({ id: reader.parts.id, fields: reader.parts.fields }));
  }
  return found;
}

function pointAt(content: Uint8Array): Slice {
  const slice = new Slice();
  slice.set(content, 0, content.length);
  return slice;
}

function describe(entry: NewEntry): string {
  return `${formatId(entry.id)} ${entry.fields.map((field) => Buffer.from(field).toString("hex")).join()}`;
}

function entryOf(seq: number, ...texts: string[]): NewEntry {
  return { id: { ms: 5n, seq: BigInt(seq) }, fields: texts.map((text) => Buffer.from(text)) };
}

suite("encodeStreamNodes()", () => {
  for (const form of ["old", "minimal"] as const) {
    test(`gives nodes with ${form} back-lengths that read back as the entries`, () => {
      fc.assert(
        fc.property(entries, (all) => {
          assert.deepEqual(read(encodeStreamNodes(all, form), all), all.map(describe));
        }),
      );
    });
  }

  test("gives no node for no entries", () => {
    assert.deepEqual(encodeStreamNodes([], "old"), []);
  });

  test("puts 100 entries into a node, as servers do", () => {
    const all = Array.from({ length: 250 }, (_, i) => entryOf(i + 1, "f", "v"));
    const nodes = encodeStreamNodes(all, "old");
    assert.deepEqual(
      nodes.map(({ masterId }) => Buffer.from(masterId).readBigUInt64BE(8)),
      [1n, 101n, 201n],
    );
  });

  test("puts some 4,096 bytes into a node, and an entry that is longer into its own", () => {
    const all = Array.from({ length: 30 }, (_, i) => entryOf(i + 1, "f", "v".repeat(1000)));
    const sizes = encodeStreamNodes(all, "old").map(({ listpack }) => listpack.length);
    assert(
      sizes.every((size) => size < 4096 + 1100),
      String(sizes),
    );
    assert.equal(sizes.length, 6);
    const long = [entryOf(1, "f", "v".repeat(100_000)), entryOf(2, "f", "v")];
    assert.equal(encodeStreamNodes(long, "old").length, 2);
  });

  test("writes what a server wrote for the same entries", () => {
    // XADD s 1700000000000-0 f v, XADD s 1700000000005-3 f v2 of Redis 6.0.
    const all: NewEntry[] = [
      { id: { ms: 1700000000000n, seq: 0n }, fields: ["f", "v"].map((text) => Buffer.from(text)) },
      { id: { ms: 1700000000005n, seq: 3n }, fields: ["f", "v2"].map((text) => Buffer.from(text)) },
    ];
    const [node] = encodeStreamNodes(all, "old");
    assert.equal(
      Buffer.from(node?.masterId ?? []).toString("hex"),
      "0000018bcfe568000000000000000000",
    );
    assert.equal(
      Buffer.from(node?.listpack ?? []).toString("hex"),
      "290000000f000201000101018166020001" +
        "0201000100018176020401" +
        "020105010301827632030401" +
        "ff",
    );
  });
});
