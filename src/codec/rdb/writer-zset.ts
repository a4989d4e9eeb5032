/**
 * Sorted sets: packed (types 12 and 17), sorted by score and then by the member's bytes, while
 * servers would have them so; else plain with binary scores (type 5), in any order.
 */
import assert from "node:assert/strict";
import { Slice } from "../../base/bytes.ts";
import type { PackedEncoder } from "./encode-packed.ts";
import { formatScore, isIntegerScore } from "./score.ts";
import { type Capabilities, compactLimits } from "./target.ts";
import { Elements } from "./writer-elements.ts";
import type { Output } from "./writer-output.ts";

const types = { plain: 5, ziplist: 12, listpack: 17 } as const;

export class ZsetWriter {
  readonly #output: Output;
  readonly #can: Capabilities;
  readonly #packed: PackedEncoder;
  readonly #elements = new Elements();
  readonly #order: number[] = [];
  readonly #text = new Slice();
  #isPlain = false;
  #count = 0;
  #seen = 0;

  constructor(output: Output, can: Capabilities, packed: PackedEncoder) {
    this.#output = output;
    this.#can = can;
    this.#packed = packed;
  }

  begin(count: number): void {
    this.#count = count;
    this.#seen = 0;
    this.#isPlain = false;
    this.#elements.clear();
    if (count > compactLimits.zsetMembers) this.#spill();
  }

  /** The score is a number: not NaN. */
  member(value: Slice, score: number): void {
    this.#seen++;
    if (this.#isPlain) {
      this.#output.string(value.bytes, value.start, value.end);
      this.#output.float64(score);
      return;
    }
    this.#elements.add(value);
    this.#elements.setNumber(score);
    if (value.end - value.start > compactLimits.elementBytes) this.#spill();
  }

  end(): undefined {
    assert.equal(this.#seen, this.#count, "Members other than promised");
    if (this.#isPlain) return;
    const elements = this.#elements;
    const packed = this.#packed;
    packed.begin();
    for (const i of this.#sorted()) {
      elements.packInto(packed, i);
      this.#packScore(elements.number(i));
    }
    this.#output.container(packed);
    this.#output.decide(types[this.#can.packed]);
  }

  #packScore(score: number): void {
    if (isIntegerScore(score)) {
      this.#packed.integer(score);
      return;
    }
    this.#text.setLatin1(formatScore(score));
    this.#packed.element(this.#text.bytes, this.#text.start, this.#text.end);
  }

  #sorted(): number[] {
    const elements = this.#elements;
    const order = this.#order;
    order.length = 0;
    for (let i = 0; i < elements.count; i++) order.push(i);
    return order.sort((a, b) => elements.number(a) - elements.number(b) || elements.compare(a, b));
  }

  #spill(): void {
    const elements = this.#elements;
    this.#isPlain = true;
    this.#output.decide(types.plain);
    this.#output.rdbLength(this.#count);
    for (let i = 0; i < elements.count; i++) {
      elements.writeTo(this.#output, i);
      this.#output.float64(elements.number(i));
    }
  }
}
