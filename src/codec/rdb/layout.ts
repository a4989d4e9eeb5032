/**
 * The value types of RDB as data: what each is called, and of which pieces it consists.
 *
 * WHY. A value can only be passed over by parsing it: there is no length in front. To pass over one
 * takes much less than to decode it, and is the same little loop for every type when the pieces are
 * a table. The table also says which type numbers exist at all, for each family of servers.
 */
import type { DataType, Family } from "./model.ts";

/**
 * A piece of a value: so many bytes, a length, a string, a double as text (type 3), the tagged
 * values of a module up to its end mark, or a length n and n times some pieces. The others are
 * irregular parts of Redis 8.8's arrays and 8.10's hashes by template.
 */
export type Piece =
  | number
  | "length"
  | "string"
  | "text double"
  | "module"
  | "array"
  | "array element"
  | "template id"
  | "template names"
  | "template values"
  | { readonly each: readonly Piece[] };

/** How a value is stored; the words are those of OBJECT ENCODING where it has one. */
export type Encoding =
  | "plain"
  | "ziplist"
  | "listpack"
  | "intset"
  | "zipmap"
  | "quicklist"
  | "quicklist2"
  | "stream"
  | "module"
  | "array"
  | "template";

export type Layout = {
  readonly type: DataType;
  readonly encoding: Encoding;
  readonly pieces: readonly Piece[];
  /** Whether fields of the hash may expire. */
  readonly hasFieldExpiry?: true;
};

const each = (...pieces: Piece[]): Piece => ({ each: pieces });
const expiring = (base: Layout): Layout => ({ ...base, hasFieldExpiry: true });
const layout = (type: DataType, encoding: Encoding, ...pieces: Piece[]): Layout => ({
  type,
  encoding,
  pieces,
});

/** Types that mean the same in every family. */
const common: Readonly<Record<number, Layout>> = {
  0: layout("string", "plain", "string"),
  1: layout("list", "plain", each("string")),
  2: layout("set", "plain", each("string")),
  3: layout("zset", "plain", each("string", "text double")),
  4: layout("hash", "plain", each("string", "string")),
  5: layout("zset", "plain", each("string", 8)),
  7: layout("module", "module", "length", "module"),
  9: layout("hash", "zipmap", "string"),
  10: layout("list", "ziplist", "string"),
  11: layout("set", "intset", "string"),
  12: layout("zset", "ziplist", "string"),
  13: layout("hash", "ziplist", "string"),
  14: layout("list", "quicklist", each("string")),
  15: stream(1),
  16: layout("hash", "listpack", "string"),
  17: layout("zset", "listpack", "string"),
  18: layout("list", "quicklist2", each("length", "string")),
  19: stream(2),
  20: layout("set", "listpack", "string"),
  21: stream(3),
};

const redis: Readonly<Record<number, Layout>> = {
  ...common,
  // 22 and 23 were written by release candidates of Redis 7.4 only.
  22: expiring(layout("hash", "plain", each("length", "string", "string"))),
  23: expiring(layout("hash", "listpack", "string")),
  24: expiring(layout("hash", "plain", 8, each("length", "string", "string"))),
  25: expiring(layout("hash", "listpack", 8, "string")),
  26: stream(4),
  27: stream(5),
  28: layout("array", "array", "array"),
  29: layout("hash", "template", "template names", "string"),
  30: layout("hash", "template", "string"),
  31: layout("hash", "template", "template names", "template values"),
  32: layout("hash", "template", "template id", "template values"),
};

const valkey: Readonly<Record<number, Layout>> = {
  ...common,
  22: expiring(layout("hash", "plain", each("string", "string", 8))),
};

const layouts: Readonly<Record<Family, Readonly<Record<number, Layout>>>> = { redis, valkey };

/** The layout of a value type, or undefined where the family has no such type. */
export function layoutOf(family: Family, type: number): Layout | undefined {
  return layouts[family][type];
}

/** The stream layouts differ by what later versions (2: 7.0, 3: 7.2, 4: 8.6, 5: 8.8) added. */
function stream(version: 1 | 2 | 3 | 4 | 5): Layout {
  const id: Piece[] = ["length", "length"];
  const consumer: Piece[] = ["string", version >= 3 ? 16 : 8, each(16)];
  const group: Piece[] = ["string", ...id];
  if (version >= 2) group.push("length");
  group.push(each(16, 8, "length"), each(...consumer));
  if (version >= 5) group.push(each(16));
  const pieces: Piece[] = [each("string", "string"), "length", ...id];
  if (version >= 2) pieces.push(...id, ...id, "length");
  pieces.push(each(...group));
  if (version >= 4) {
    pieces.push("length", "length", each("string", each("string", "length", "length")));
    pieces.push("length", "length");
  }
  return layout("stream", "stream", ...pieces);
}
