/**
 * Random data for the RDB writer: how they are made, how they are written, and how a server that
 * holds them shows them (as `support/dump.ts` has it).
 */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { Slice } from "../src/base/bytes.ts";
import { ListpackEncoder } from "../src/codec/rdb/encode-listpack.ts";
import type { StreamId, Target } from "../src/codec/rdb/model.ts";
import { formatScore } from "../src/codec/rdb/score.ts";
import { capabilities } from "../src/codec/rdb/target.ts";
import { RdbWriter, type WriterOptions } from "../src/codec/rdb/writer.ts";
import type { ValueWriter } from "../src/codec/rdb/writer-value.ts";
import type { KeyLine, Line } from "./support/dump.ts";

type Entry = { readonly id: bigint; readonly isDeleted: boolean; readonly fields: string[] };
type Field = readonly [field: string, value: string, expireAtMs: number];
export type Value =
  | { readonly type: "string"; readonly text: string }
  | { readonly type: "list"; readonly elements: string[]; readonly byNodes: boolean }
  | { readonly type: "set"; readonly elements: string[] }
  | { readonly type: "zset"; readonly members: (readonly [string, number])[] }
  | { readonly type: "hash"; readonly fields: Field[] }
  | { readonly type: "stream"; readonly entries: Entry[]; readonly consumers: string[] };
export type Key = {
  readonly key: string;
  readonly expireAtMs: number | null;
  readonly value: Value;
};

export const never = -1;
export const inTheFuture = 4_102_444_800_000;

const integerText = fc.oneof(
  fc.integer({ min: -200, max: 9000 }),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }),
);
const shortText = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 70 }),
  integerText.map(String),
  fc.constantFrom("007", "-0", "", "x".repeat(64), "y".repeat(65)),
);
const longText = fc
  .tuple(
    fc.constantFrom(66, 255, 4095, 4096, 8191, 8192, 8193, 16377, 16378, 16379, 70_000),
    shortText,
  )
  .map(([length, text]) => `${length}${text}-`.repeat(length).slice(0, length));
const text = fc.oneof({ weight: 9, arbitrary: shortText }, { weight: 1, arbitrary: longText });
const noise = fc
  .uint8Array({ maxLength: 3000 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"));

/** Lengths on both sides of what is compact. */
const lengths = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(128, 129, 512, 513));
/** So many different texts, most of them of one kind. */
function distinct(kind: fc.Arbitrary<string>): fc.Arbitrary<string[]> {
  return fc.tuple(lengths, kind, fc.integer({ min: 1, max: 70_000 })).chain(([length, one, step]) =>
    fc.array(kind, { maxLength: 8 }).map((some) => {
      const many = Array.from({ length }, (_, i) => (i % 3 === 0 ? `${i * step}` : `${one}${i}`));
      return [...new Set([...some, ...many])].slice(0, length);
    }),
  );
}
const integers = fc
  .tuple(
    lengths,
    fc.bigInt({ min: 1n, max: 2n ** 40n }),
    fc.constantFrom(0n, 2n ** 14n, -(2n ** 31n)),
  )
  .map(([length, step, from]) => Array.from({ length }, (_, i) => `${from + step * BigInt(i)}`));
const scores = fc.oneof(
  fc.integer({ min: -100, max: 100 }),
  fc.double({ noNaN: true }).map((score) => score || 0),
  fc.constantFrom(0.1, 1e17, 2 ** 53, 2 ** 62, Infinity, -Infinity),
);
const expiries = fc.oneof(
  fc.constant(never),
  fc.integer({ min: 0, max: 5_000_000 }).map((ms) => inTheFuture + ms),
);

const values: fc.Arbitrary<Value> = fc.oneof(
  fc.record({ type: fc.constant("string"), text: fc.oneof(text, noise) }),
  fc.record({
    type: fc.constant("list"),
    elements: fc.oneof(
      fc.array(text, { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1000, max: 3000 }).map((n) => Array.from({ length: n }, (_, i) => `e${i}`)),
    ),
    byNodes: fc.boolean(),
  }),
  fc.record({
    type: fc.constant("set"),
    elements: fc.oneof(integers, distinct(text), distinct(shortText)),
  }),
  fc.tuple(distinct(text), fc.array(scores, { minLength: 1, maxLength: 20 })).map(
    ([names, some]): Value => ({
      type: "zset",
      members: names.map((name, i) => [name, some[i % some.length] as number] as const),
    }),
  ),
  fc
    .tuple(
      distinct(text),
      fc.array(fc.tuple(text, expiries), { minLength: 1, maxLength: 9 }),
      fc.boolean(),
    )
    .map(
      ([names, some, expire]): Value => ({
        type: "hash",
        fields: names.map((name, i): Field => {
          const [value, at] = some[i % some.length] as [string, number];
          return [name, value, expire ? at : never];
        }),
      }),
    ),
  fc.record({
    type: fc.constant("stream"),
    entries: fc
      .array(
        fc.record({
          id: fc.bigInt({ min: 1n, max: 2n ** 100n }),
          isDeleted: fc.boolean(),
          fields: fc.array(text, { minLength: 2, maxLength: 2 }),
        }),
        { maxLength: 9 },
      )
      .map((entries) =>
        entries
          .toSorted((a, b) => (a.id < b.id ? -1 : 1))
          .filter((entry, i, all) => i === 0 || entry.id !== all[i - 1]?.id),
      ),
    consumers: fc.uniqueArray(shortText, { maxLength: 3 }),
  }),
);

export const dataSets = fc.uniqueArray(
  fc.record({
    key: text,
    expireAtMs: fc.option(fc.constant(inTheFuture)),
    value: values,
  }),
  { minLength: 40, maxLength: 80, selector: ({ key }) => key },
);

export const options = fc.record({
  compress: fc.boolean(),
  listWaitBytes: fc.constantFrom(2000, 2 ** 24),
  hashWaitBytes: fc.constantFrom(2000, 2 ** 22),
});
export type Options = { compress: boolean; listWaitBytes: number; hashWaitBytes: number };

// Writing them.

export const slice = (latin1: string) => {
  const into = new Slice();
  into.setLatin1(latin1);
  return into;
};
export const bytesOf = (latin1: string) => Buffer.from(latin1, "latin1");
const idOf = (id: bigint): StreamId => ({ ms: id >> 64n, seq: BigInt.asUintN(64, id) });
const textOfId = (id: bigint) => `${id >> 64n}-${BigInt.asUintN(64, id)}`;

export function writeValue(writer: ValueWriter, value: Value, canExpire: boolean): void {
  switch (value.type) {
    case "string":
      return writer.string(slice(value.text));
    case "list": {
      const perNode = 7;
      const { elements } = value;
      const nodes = Math.ceil(elements.length / perNode);
      writer.beginList(value.byNodes ? { nodes } : { elements: elements.length });
      for (const [i, element] of elements.entries()) {
        if (value.byNodes && i % perNode === 0) writer.node();
        writer.element(slice(element));
      }
      return writer.endValue();
    }
    case "set":
      writer.beginSet(value.elements.length);
      for (const element of value.elements) writer.element(slice(element));
      return writer.endValue();
    case "zset":
      writer.beginZset(value.members.length);
      for (const [member, score] of value.members) writer.member(slice(member), score);
      return writer.endValue();
    case "hash":
      writer.beginHash(
        value.fields.length,
        canExpire && value.fields.some(([, , at]) => at !== never),
      );
      for (const [field, content, at] of value.fields) {
        writer.field(slice(field), slice(content), canExpire ? at : never);
      }
      return writer.endValue();
    case "stream":
      return writeStream(writer, value);
  }
}

/** All entries in one node; every consumer of the one group has every third live entry pending. */
function writeStream(
  writer: ValueWriter,
  { entries, consumers }: Value & { type: "stream" },
): void {
  const { live, last, owned } = describe(entries, consumers);
  writer.beginStream(live.length === 0 ? 0 : 1);
  if (live.length > 0) writer.streamNode(masterId(entries), slice(nodeListpack(entries)));
  writer.streamInfo({
    length: live.length,
    statedLength: live.length,
    lastId: idOf(last),
    firstId: idOf(live[0]?.id ?? 0n),
    maxDeletedId: idOf(0n),
    entriesAdded: BigInt(entries.length),
    isComplete: true,
    groups: 1,
  });
  const pending = owned.flat().toSorted((a, b) => (a < b ? -1 : 1));
  writer.streamGroup({
    name: bytesOf("group"),
    lastId: idOf(last),
    entriesRead: null,
    pending: pending.length,
  });
  for (const id of pending) {
    writer.streamPending({ id: idOf(id), deliveredAtMs: 1_700_000_000_123n, deliveries: 3 });
  }
  writer.streamConsumers(consumers.length);
  for (const [i, name] of consumers.entries()) {
    const mine = owned[i] as bigint[];
    writer.streamConsumer({
      name: bytesOf(name),
      seenMs: 1_700_000_000_456n,
      activeMs: -1n,
      pending: mine.length,
    });
    for (const id of mine) writer.streamConsumerPending(idOf(id));
  }
  writer.endValue();
}

function describe(entries: readonly Entry[], consumers: readonly string[]) {
  const live = entries.filter(({ isDeleted }) => !isDeleted);
  const owned = consumers.map((_, of) => live.filter((__, i) => i % 3 === of).map(({ id }) => id));
  return { live, last: entries.at(-1)?.id ?? 5n, owned };
}

function masterId(entries: readonly Entry[]): Slice {
  const id = Buffer.alloc(16);
  id.writeBigUInt64BE((entries[0] as Entry).id >> 64n, 0);
  id.writeBigUInt64BE(BigInt.asUintN(64, (entries[0] as Entry).id), 8);
  return slice(id.toString("latin1"));
}

/** The master entry has the first one's field name. In the old form, as most sources have it. */
function nodeListpack(entries: readonly Entry[]): string {
  const listpack = new ListpackEncoder("old");
  const add = (content: string) => listpack.element(bytesOf(content), 0, content.length);
  const live = entries.filter(({ isDeleted }) => !isDeleted).length;
  const [first] = entries as [Entry];
  const [name] = first.fields as [string];
  const master = idOf(first.id);
  listpack.begin();
  for (const n of [live, entries.length - live, 1]) listpack.integer(n);
  add(name);
  listpack.integer(0);
  for (const { id, isDeleted, fields } of entries) {
    const isSame = fields[0] === name;
    listpack.integer((isDeleted ? 1 : 0) + (isSame ? 2 : 0));
    add(`${BigInt.asIntN(64, idOf(id).ms - master.ms)}`);
    add(`${BigInt.asIntN(64, idOf(id).seq - master.seq)}`);
    if (!isSame) listpack.integer(1);
    for (const content of isSame ? fields.slice(1) : fields) add(content);
    listpack.integer(isSame ? 4 : 6);
  }
  const size = listpack.finish();
  return Buffer.from(listpack.bytes.subarray(0, size)).toString("latin1");
}

export function writeFile(target: Target, data: readonly Key[], options?: WriterOptions): Buffer {
  const canExpire = capabilities[target].fieldExpiry !== "none";
  const writer = new RdbWriter(target, options);
  const parts: Uint8Array[] = [];
  for (const [db, keys] of inDatabases(data)) {
    writer.database(db, { keys: keys.length, expires: 0 });
    for (const { key, expireAtMs, value } of keys) {
      writeValue(writer.key(slice(key), { expireAtMs }), value, canExpire);
      if (writer.pendingBytes > 1000) parts.push(writer.take());
    }
  }
  writer.finish();
  parts.push(writer.take());
  return Buffer.concat(parts);
}

function inDatabases(data: readonly Key[]): [number, Key[]][] {
  const half = Math.floor(data.length / 2);
  return [
    [0, data.slice(0, half)],
    [9, data.slice(half)],
  ];
}

// What a server should show.

export function expectedLines(target: Target, data: readonly Key[]): Line[] {
  return inDatabases(data).flatMap(([db, keys]) =>
    keys.map(({ key, expireAtMs, value }) => {
      const shown = shorten(value.type, valueLine(target, value));
      return {
        db,
        key: base64(key),
        type: value.type,
        encoding: null,
        expireAtMs,
        ...shown,
      } as KeyLine;
    }),
  );
}

function valueLine(target: Target, value: Value): unknown {
  switch (value.type) {
    case "string":
      return base64(value.text);
    case "list":
      return value.elements.map(base64);
    case "set":
      return value.elements.toSorted().map(base64);
    case "zset":
      return value.members
        .toSorted(([a, x], [b, y]) => (x === y ? Buffer.compare(bytesOf(a), bytesOf(b)) : x - y))
        .map(([member, score]) => [base64(member), formatScore(score)]);
    case "hash":
      return value.fields
        .toSorted(([a], [b]) => Buffer.compare(bytesOf(a), bytesOf(b)))
        .map(([field, content, at]) => {
          const expires = at !== never && capabilities[target].fieldExpiry !== "none";
          return [base64(field), base64(content), ...(expires ? [at] : [])];
        });
    case "stream":
      return streamLine(target, value);
  }
}

function streamLine(target: Target, { entries, consumers }: Value & { type: "stream" }): unknown {
  const { live, last, owned } = describe(entries, consumers);
  const { streamType } = capabilities[target];
  const pel = consumers.flatMap((name, i) => (owned[i] as bigint[]).map((id) => ({ id, name })));
  return {
    entries: live.map(({ id, fields }) => [textOfId(id), fields.map(base64)]),
    lastId: textOfId(last),
    ...(streamType >= 19
      ? {
          firstId: textOfId(live[0]?.id ?? 0n),
          maxDeletedId: "0-0",
          entriesAdded: entries.length,
        }
      : {}),
    groups: [
      {
        name: base64("group"),
        lastId: textOfId(last),
        ...(streamType >= 19 ? { entriesRead: null } : {}),
        pel: pel
          .toSorted((a, b) => (a.id < b.id ? -1 : 1))
          .map(({ id, name }) => [textOfId(id), base64(name), 1_700_000_000_123, 3]),
        consumers: consumers
          .map((name, i) => ({
            name: base64(name),
            seenMs: 1_700_000_000_456,
            ...(streamType >= 21 ? { activeMs: -1 } : {}),
            pel: (owned[i] as bigint[]).map(textOfId),
          }))
          .sort((a, b) =>
            Buffer.compare(Buffer.from(a.name, "base64"), Buffer.from(b.name, "base64")),
          ),
      },
    ],
  };
}

const base64 = (latin1: string) => bytesOf(latin1).toString("base64");

/** As the dump of a server has it. */
function shorten(type: string, value: unknown): object {
  const json = JSON.stringify(value);
  if (json.length <= 16 * 1024) return { value };
  const digest = (content: unknown[]) => {
    const text = JSON.stringify(content);
    const sha256 = createHash("sha256").update(text).digest("hex");
    return { sha256, jsonBytes: text.length, count: content.length };
  };
  if (type === "string") {
    const count = Buffer.from(value as string, "base64").length;
    const sha256 = createHash("sha256").update(json).digest("hex");
    return { valueDigest: { sha256, jsonBytes: json.length, count } };
  }
  if (type !== "stream") return { valueDigest: digest(value as unknown[]) };
  const { entries, ...rest } = value as { entries: unknown[] };
  return { value: { entriesDigest: digest(entries), ...rest } };
}
