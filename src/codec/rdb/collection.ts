/**
 * Decodes lists, sets, sorted sets, hashes and arrays, one element at a time.
 *
 * A collection is stored in one of four ways:
 *
 *   plain      a count and that many elements; each element is a unit of its own
 *   packed     one string that holds a container with all elements
 *   quicklist  a count of nodes, each of them a container or (type 18) one large element
 *   template   values in the order of field names that stand elsewhere
 *
 * For the bytes of each type see `layout.ts`; what the elements of hashes look like:
 *
 *   4          field, value                            22 redis   ttl, field, value
 *   24         min i64, n × (ttl, field, value)        22 valkey  field, value, time i64 (-1: none)
 *   25         min i64, listpack of triples            23 redis   listpack of triples
 *
 * In type 24 a ttl is relative to min, plus 1; in 22, 23 and 25 of Redis it is a time; 0 is none.
 */
import { Slice } from "../../base/bytes.ts";
import { Distinct } from "../../base/distinct.ts";
import { corrupt } from "../../base/errors.ts";
import type { Input } from "./input.ts";
import { IntsetCursor } from "./intset.ts";
import type { Layout } from "./layout.ts";
import { ListpackCursor } from "./listpack.ts";
import type { Family } from "./model.ts";
import type { PackedCursor } from "./packed.ts";
import type { Parts, RdbEvent } from "./parts.ts";
import { readArrayHead } from "./pass.ts";
import { formatScore, parseScore } from "./score.ts";
import { quote } from "./target.ts";
import { FieldNames, readFieldNames, type Templates } from "./template.ts";
import { ZiplistCursor } from "./ziplist.ts";
import { ZipmapCursor } from "./zipmap.ts";

/** Redis's largest expiry of a field; Valkey takes all of 63 bits. */
const maxRedisFieldExpireAtMs = 2 ** 48 - 1;

type Phase = "head" | "plain" | "packed" | "nodes" | "node" | "template" | "array" | "end";

export class CollectionReader {
  readonly #input: Input;
  readonly #parts: Parts;
  readonly #templates: Templates;
  /** Members of the collection, where they must be told apart. */
  readonly #seen: Distinct | undefined;
  readonly #blob = new Slice();
  readonly #scratch = new Slice();
  readonly #listpack = new ListpackCursor();
  readonly #ziplist = new ZiplistCursor();
  readonly #intset = new IntsetCursor();
  readonly #zipmap = new ZipmapCursor();
  readonly #plainNode = new PlainNode();
  #layout: Layout | undefined;
  #type = 0;
  #family: Family = "redis";
  #phase: Phase = "head";
  #cursor: PackedCursor = this.#listpack;
  #left = 0;
  #minExpireAtMs = 0;
  #names = new FieldNames();
  #previousIndex = -1n;
  /** Where the container or value started, for errors. */
  #origin = 0;

  constructor(input: Input, parts: Parts, templates: Templates, seen: Distinct | undefined) {
    this.#input = input;
    this.#parts = parts;
    this.#templates = templates;
    this.#seen = seen;
  }

  begin(layout: Layout, type: number, family: Family): void {
    this.#layout = layout;
    this.#type = type;
    this.#family = family;
    this.#phase = "head";
    this.#seen?.clear();
  }

  next(): RdbEvent {
    switch (this.#phase) {
      case "head":
        return this.#head();
      case "plain":
        return this.#left === 0 ? "end value" : this.#plainElement();
      case "packed":
        return this.#packedElement();
      case "nodes":
        return this.#left === 0 ? "end value" : this.#node();
      case "node":
        return this.#nodeElement();
      case "template":
        return this.#left === 0 ? "end value" : this.#templateField();
      case "array":
        return this.#left === 0 ? "end value" : this.#arrayItem();
      case "end":
        return "end value";
    }
  }

  #head(): RdbEvent {
    const input = this.#input;
    const encoding = this.#layout?.encoding;
    this.#origin = input.position;
    switch (encoding) {
      case "plain":
        if (this.#type === 24) this.#minExpireAtMs = this.#fieldTime(Number(input.time()));
        return this.#beginCount("plain", input.length());
      case "quicklist":
      case "quicklist2":
        this.#parts.count = -1;
        this.#left = input.length();
        this.#parts.nodes = this.#left;
        this.#phase = "nodes";
        return "begin";
      case "template":
        return this.#beginTemplate();
      case "array":
        this.#previousIndex = -1n;
        return this.#beginCount("array", readArrayHead(input));
      default:
        return this.#beginPacked();
    }
  }

  #beginCount(phase: Phase, count: number): RdbEvent {
    this.#parts.count = count;
    this.#left = count;
    this.#phase = phase;
    return "begin";
  }

  #beginPacked(): RdbEvent {
    // The minimum in front of a type 25 may be stale: it says nothing.
    if (this.#type === 25) this.#input.int64();
    this.#open(this.#input.position);
    const { type } = this.#layout as Layout;
    const width = type === "zset" ? 2 : type !== "hash" ? 1 : this.#hasTriples() ? 3 : 2;
    if (this.#cursor.count % width !== 0) {
      throw corrupt(this.#origin, `${this.#cursor.count} elements in a packed ${type}`);
    }
    this.#beginCount("packed", this.#cursor.count / width);
    return "begin";
  }

  #hasTriples(): boolean {
    return this.#type === 25 || this.#type === 23;
  }

  /** Reads a container and opens the cursor for it. */
  #open(origin: number): void {
    this.#input.string(this.#blob);
    this.#origin = origin;
    this.#cursor = this.#cursorOf();
    this.#cursor.open(this.#blob, origin);
  }

  #cursorOf(): PackedCursor {
    switch (this.#layout?.encoding) {
      case "intset":
        return this.#intset;
      case "zipmap":
        return this.#zipmap;
      case "ziplist":
      case "quicklist":
        return this.#ziplist;
      default:
        return this.#listpack;
    }
  }

  #plainElement(): RdbEvent {
    const parts = this.#parts;
    const input = this.#input;
    const type = this.#type;
    let event: RdbEvent;
    if (type === 1 || type === 2) {
      input.string(parts.first);
      event = "element";
    } else if (type === 5 || type === 3) {
      input.string(parts.first);
      parts.score = type === 5 ? input.double() : this.#textDouble();
      event = "member";
      if (Number.isNaN(parts.score)) throw corrupt(input.position, "A score that is not a number");
    } else {
      this.#plainField();
      event = "field";
    }
    if (type !== 1) this.#distinguish();
    this.#left--;
    return event;
  }

  #plainField(): void {
    const parts = this.#parts;
    const input = this.#input;
    parts.fieldExpireAtMs = -1;
    const hasTtl = this.#type === 24 || (this.#type === 22 && this.#family === "redis");
    const ttl = hasTtl ? input.length() : 0;
    input.string(parts.first);
    input.string(parts.second);
    if (hasTtl) {
      if (ttl !== 0) {
        const base = this.#type === 24 ? this.#minExpireAtMs - 1 : 0;
        parts.fieldExpireAtMs = this.#fieldTime(base + ttl);
      }
    } else if (this.#type === 22) {
      const time = input.time();
      if (time < -1) throw corrupt(input.position, `A field that expires at ${time}`);
      parts.fieldExpireAtMs = time;
    }
  }

  #fieldTime(time: number): number {
    if (time >= 0 && time <= maxRedisFieldExpireAtMs) return time;
    throw corrupt(this.#input.position, `A field that expires at ${time}`);
  }

  #textDouble(): number {
    const size = this.#input.byte();
    if (size === 254) return Number.POSITIVE_INFINITY;
    if (size === 255) return Number.NEGATIVE_INFINITY;
    if (size === 253) return Number.NaN;
    this.#input.bytes(size, this.#scratch);
    return this.#parseScore();
  }

  #parseScore(): number {
    const { bytes, start, end } = this.#scratch;
    const score = parseScore(bytes, start, end);
    if (!Number.isNaN(score)) return score;
    throw corrupt(this.#origin, `A score of ${quote(this.#scratch.view())}`);
  }

  #packedElement(): RdbEvent {
    const parts = this.#parts;
    if (!this.#cursor.next(parts.first)) return "end value";
    const { type } = this.#layout as Layout;
    if (type === "list") return "element";
    this.#distinguish();
    if (type === "set") return "element";
    if (type === "zset") {
      this.#cursor.next(this.#scratch);
      parts.score = this.#cursor.isInteger ? this.#cursor.integer : this.#parseScore();
      return "member";
    }
    this.#cursor.next(parts.second);
    parts.fieldExpireAtMs = -1;
    if (this.#hasTriples()) {
      this.#cursor.next(this.#scratch);
      if (!this.#cursor.isInteger) throw corrupt(this.#origin, "A field whose time is no number");
      if (this.#cursor.integer !== 0) {
        parts.fieldExpireAtMs = this.#fieldTime(this.#cursor.integer);
      }
    }
    return "field";
  }

  #distinguish(): void {
    if (this.#seen?.add(this.#parts.first) === false) {
      throw corrupt(
        this.#origin,
        `A second ${quote(this.#parts.first.view())} in one ${this.#layout?.type}`,
      );
    }
  }

  #node(): RdbEvent {
    const origin = this.#input.position;
    const container = this.#type === 18 ? this.#input.length() : 2;
    if (container === 1) {
      this.#input.string(this.#blob);
      if (this.#blob.length === 0)
        throw corrupt(origin, "A list node of one element without bytes");
      this.#cursor = this.#plainNode;
      this.#plainNode.open(this.#blob);
    } else if (container === 2) this.#open(origin);
    else throw corrupt(origin, `Container ${container} of a list node`);
    this.#phase = "node";
    this.#left--;
    return "node";
  }

  #nodeElement(): RdbEvent {
    if (this.#cursor.next(this.#parts.first)) return "element";
    this.#phase = "nodes";
    return this.next();
  }

  #beginTemplate(): RdbEvent {
    const input = this.#input;
    const offset = input.position;
    if (this.#type === 29 || this.#type === 31) this.#names = readFieldNames(input);
    if (this.#type === 32) this.#names = this.#templates.get(input.length(), offset);
    if (this.#type === 31 || this.#type === 32)
      return this.#beginCount("template", this.#names.length);
    this.#open(offset);
    const id = this.#listpack.nextInteger(this.#scratch);
    if (this.#type === 30) this.#names = this.#templates.get(Number(id), offset);
    if (this.#names.length !== this.#listpack.count - 1) {
      throw corrupt(offset, `${this.#listpack.count - 1} values for ${this.#names.length} fields`);
    }
    return this.#beginCount("template", this.#names.length);
  }

  #templateField(): RdbEvent {
    const parts = this.#parts;
    if (this.#type === 31 || this.#type === 32) this.#input.string(parts.second);
    else this.#listpack.next(parts.second);
    this.#names.select(this.#names.length - this.#left, parts.first);
    parts.fieldExpireAtMs = -1;
    this.#distinguish();
    this.#left--;
    return "field";
  }

  #arrayItem(): RdbEvent {
    const parts = this.#parts;
    const input = this.#input;
    const offset = input.position;
    const index = input.length64();
    const tag = input.length();
    if (index <= this.#previousIndex || index === 2n ** 64n - 1n) {
      throw corrupt(offset, `Index ${index} of an array after ${this.#previousIndex}`);
    }
    if (tag === 1) parts.first.setLatin1(input.int64().toString());
    else if (tag === 2) parts.first.setLatin1(arrayNumberText(input.double()));
    else if (tag === 0 || tag === 3) input.string(parts.first);
    else throw corrupt(offset, `Tag ${tag} of an array element`);
    parts.index = index;
    this.#previousIndex = index;
    this.#left--;
    return "item";
  }
}

/** Shortest decimal, with `.0` where it would look like an integer. */
function arrayNumberText(value: number): string {
  const text = formatScore(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** A list node that is one element, under the interface of those that hold many. */
class PlainNode implements PackedCursor {
  readonly count = 1;
  readonly isInteger = false;
  readonly integer = 0;
  #blob: Slice | undefined;

  open(blob: Slice): void {
    this.#blob = blob;
  }

  next(into: Slice): boolean {
    const blob = this.#blob;
    if (!blob) return false;
    into.set(blob.bytes, blob.start, blob.end);
    this.#blob = undefined;
    return true;
  }
}
