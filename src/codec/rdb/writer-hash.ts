/**
 * Hashes, with or without expiries of fields.
 *
 *   no field expires   packed pairs (types 13 and 16) within the limits of servers, else plain (4)
 *   Redis, type 25     i64 smallest expiry | listpack of field, value, expiry (0: none), sorted by
 *                      expiry, fields without one last
 *   Redis, type 24     i64 base | length | fields: length expiry - base + 1 (0: none), field, value
 *   Valkey, type 22    length | fields: field, value, i64 expiry (-1: none)
 *
 * WHY HASHES WAIT. The base of type 24 stands before the fields, and should be the smallest expiry.
 * So such a hash waits in memory for its end, up to a limit; a larger one gets the base 1, which
 * makes every expiry absolute: sound, just a few bytes longer.
 */
import assert from "node:assert/strict";
import { Slice } from "../../base/bytes.ts";
import type { PackedEncoder } from "./encode-packed.ts";
import { type Capabilities, compactLimits } from "./target.ts";
import { Elements } from "./writer-elements.ts";
import type { Output } from "./writer-output.ts";

const types = {
  plain: 4,
  ziplist: 13,
  listpack: 16,
  valkeyExpiry: 22,
  redisExpiry: 24,
  redisPackedExpiry: 25,
} as const;

/** A field that does not expire. */
export const noExpiry = -1;
/** Bytes of a hash that are kept in memory to find its smallest expiry. */
export const longestHashWait = 4 * 2 ** 20;
/** With this base what is written is the expiry itself. */
const absoluteBase = 1;

type Form = typeof types.plain | typeof types.valkeyExpiry | typeof types.redisExpiry;

export class HashWriter {
  readonly #output: Output;
  readonly #can: Capabilities;
  readonly #packed: PackedEncoder;
  readonly #limit: number;
  /** Field, value, field, value; the number of a value is its field's expiry. */
  readonly #elements = new Elements();
  readonly #field = new Slice();
  readonly #value = new Slice();
  /** What is written as it comes; undefined while the fields wait. */
  #form: Form | undefined;
  #isCompact = false;
  #mayExpire = false;
  #smallest = Number.POSITIVE_INFINITY;
  #base = absoluteBase;
  #count = 0;
  #seen = 0;

  constructor(output: Output, can: Capabilities, packed: PackedEncoder, limit: number) {
    this.#output = output;
    this.#can = can;
    this.#packed = packed;
    this.#limit = limit;
  }

  begin(count: number, mayExpire: boolean): void {
    this.#count = count;
    this.#seen = 0;
    this.#mayExpire = mayExpire && this.#can.fieldExpiry !== "none";
    this.#smallest = Number.POSITIVE_INFINITY;
    this.#base = absoluteBase;
    this.#form = undefined;
    this.#isCompact = count <= compactLimits.hashFields;
    this.#elements.clear();
    if (!this.#isCompact && !this.#mustWait) this.#spill();
  }

  /** The expiry is `noExpiry` where the target has no field expiries. */
  field(field: Slice, value: Slice, expireAtMs: number | bigint): void {
    this.#seen++;
    // What a number cannot hold exactly cannot wait, and need not: only Valkey takes such times.
    if (typeof expireAtMs === "bigint" && this.#form === undefined) {
      this.#mayExpire = true;
      this.#spill();
    }
    if (this.#form !== undefined) {
      this.#write(this.#form, field, value, expireAtMs);
      return;
    }
    assert(typeof expireAtMs === "number");
    const elements = this.#elements;
    elements.add(field);
    elements.add(value);
    elements.setNumber(expireAtMs);
    if (expireAtMs !== noExpiry) {
      this.#mayExpire = true;
      this.#smallest = Math.min(this.#smallest, expireAtMs);
    }
    const longer = Math.max(field.end - field.start, value.end - value.start);
    if (longer > compactLimits.elementBytes) this.#isCompact = false;
    if (this.#isCompact) return;
    if (!this.#mustWait || elements.sizeBytes > this.#limit) this.#spill();
  }

  end(): undefined {
    assert.equal(this.#seen, this.#count, "Fields other than promised");
    if (this.#form !== undefined) return;
    const expires = this.#smallest !== Number.POSITIVE_INFINITY;
    if (!expires) this.#mayExpire = false;
    if (this.#isCompact && !expires) {
      this.#writePacked();
    } else if (this.#isCompact && this.#can.fieldExpiry === "redis") {
      this.#writePackedExpiring();
    } else {
      if (expires) this.#base = Math.max(this.#smallest, absoluteBase);
      this.#spill();
    }
  }

  get #mustWait(): boolean {
    return this.#mayExpire && this.#can.fieldExpiry === "redis";
  }

  /** From here on fields are written as they come. */
  #spill(): void {
    const elements = this.#elements;
    this.#form = !this.#mayExpire
      ? types.plain
      : this.#can.fieldExpiry === "redis"
        ? types.redisExpiry
        : types.valkeyExpiry;
    this.#output.decide(this.#form);
    if (this.#form === types.redisExpiry) this.#output.int64(this.#base);
    this.#output.rdbLength(this.#count);
    for (let i = 0; i < elements.count; i += 2) {
      elements.select(i, this.#field);
      elements.select(i + 1, this.#value);
      this.#write(this.#form, this.#field, this.#value, elements.number(i + 1));
    }
  }

  #write(form: Form, field: Slice, value: Slice, expireAtMs: number | bigint): void {
    const output = this.#output;
    assert(form !== types.plain || expireAtMs === noExpiry, "A field expires against the promise");
    if (form === types.redisExpiry) {
      output.rdbLength(
        expireAtMs === noExpiry ? 0 : Math.max(Number(expireAtMs), absoluteBase) - this.#base + 1,
      );
    }
    output.string(field.bytes, field.start, field.end);
    output.string(value.bytes, value.start, value.end);
    if (form === types.valkeyExpiry) output.int64(expireAtMs);
  }

  #writePacked(): void {
    const elements = this.#elements;
    const packed = this.#packed;
    packed.begin();
    for (let i = 0; i < elements.count; i++) {
      elements.packInto(packed, i);
    }
    this.#output.container(packed);
    this.#output.decide(types[this.#can.packed]);
  }

  #writePackedExpiring(): void {
    const elements = this.#elements;
    const packed = this.#packed;
    packed.begin();
    for (const i of this.#byExpiry()) {
      elements.packInto(packed, i);
      elements.packInto(packed, i + 1);
      packed.integer(expiryNumber(elements.number(i + 1)));
    }
    this.#output.int64(Math.max(this.#smallest, absoluteBase));
    this.#output.container(packed);
    this.#output.decide(types.redisPackedExpiry);
  }

  /** Where the fields stand in the elements, in the order that type 25 wants. */
  #byExpiry(): number[] {
    const elements = this.#elements;
    const rank = (i: number) => {
      const expireAtMs = elements.number(i + 1);
      return expireAtMs === noExpiry ? Number.MAX_VALUE : expireAtMs;
    };
    return Array.from({ length: elements.count / 2 }, (_, i) => i * 2).sort(
      (a, b) => rank(a) - rank(b),
    );
  }
}

/** Redis says 0 for "none", so that a field of Valkey's that expires at 0, in 1970, expires at 1. */
function expiryNumber(expireAtMs: number): number {
  return expireAtMs === noExpiry ? 0 : Math.max(expireAtMs, absoluteBase);
}
