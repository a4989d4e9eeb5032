/**
 * Sets: as an intset (type 11) or a listpack (type 20) while servers would have them so, else plain
 * (type 2). What is larger than those limits streams through.
 */
import assert from "node:assert/strict";
import type { Slice } from "../../base/bytes.ts";
import { IntsetEncoder } from "./encode-intset.ts";
import type { PackedEncoder } from "./encode-packed.ts";
import { Int64 } from "./integer.ts";
import { type Capabilities, compactLimits } from "./target.ts";
import { Elements } from "./writer-elements.ts";
import type { Output } from "./writer-output.ts";

const types = { plain: 2, intset: 11, listpack: 20 } as const;

export class SetWriter {
  readonly #output: Output;
  readonly #can: Capabilities;
  readonly #packed: PackedEncoder;
  readonly #elements = new Elements();
  readonly #intset = new IntsetEncoder(compactLimits.intsetMembers);
  readonly #integer = new Int64();
  #mode: "integers" | "small" | "plain" = "plain";
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
    this.#mode = "integers";
    this.#elements.clear();
    this.#intset.begin();
    if (count > compactLimits.intsetMembers) this.#spill();
  }

  element(value: Slice): void {
    const { bytes, start, end } = value;
    this.#seen++;
    if (this.#mode === "plain") {
      this.#output.string(bytes, start, end);
      return;
    }
    this.#elements.add(value);
    if (this.#mode === "integers") {
      if (this.#integer.parse(bytes, start, end)) {
        this.#intset.add(this.#integer);
        return;
      }
      this.#mode = "small";
    }
    const isCompact =
      this.#can.hasSetListpack &&
      this.#count <= compactLimits.setMembers &&
      end - start <= compactLimits.elementBytes;
    if (!isCompact) this.#spill();
  }

  /** False when the same integer came twice: an intset has no place for that. */
  end(): boolean {
    assert.equal(this.#seen, this.#count, "Elements other than promised");
    if (this.#mode === "plain") return true;
    if (this.#mode === "integers") {
      const size = this.#intset.finish();
      if (size === 0) return false;
      this.#output.blob(this.#intset.bytes, 0, size);
      this.#output.decide(types.intset);
      return true;
    }
    const elements = this.#elements;
    this.#packed.begin();
    for (let i = 0; i < elements.count; i++) {
      elements.packInto(this.#packed, i);
    }
    this.#output.container(this.#packed);
    this.#output.decide(types.listpack);
    return true;
  }

  #spill(): void {
    const elements = this.#elements;
    this.#mode = "plain";
    this.#output.decide(types.plain);
    this.#output.rdbLength(this.#count);
    for (let i = 0; i < elements.count; i++) {
      elements.writeTo(this.#output, i);
    }
  }
}
