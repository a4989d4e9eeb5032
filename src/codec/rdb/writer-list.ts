/**
 * Lists: as quicklists, that is, nodes of packed elements (types 14 and 18), or plain (type 1).
 *
 * WHY IT IS NOT SIMPLE. A quicklist begins with the number of its nodes, a plain list with that of
 * its elements. A source that is itself a quicklist knows its nodes but not its elements, and how
 * many nodes we will make shows only at the end. So the elements wait, up to `longestWait`. A list
 * larger than that is written as it comes: plain where the elements were counted, else one node for
 * each node of the source, so that the number of nodes is known.
 *
 *   quicklist    nodes, then each: ziplist string (14) | container 2, listpack (18)
 *                                  | container 1, the only element as it is (18)
 *
 * REJECTED. To guess the number of nodes high and fill up with empty ones, which servers skip:
 * bounded memory for any list, but a file full of tricks.
 */
import assert from "node:assert/strict";
import type { Slice } from "../../base/bytes.ts";
import { isBoundary } from "./encode-listpack.ts";
import type { PackedEncoder } from "./encode-packed.ts";
import { type Capabilities, compactLimits } from "./target.ts";
import { Elements } from "./writer-elements.ts";
import type { Output } from "./writer-output.ts";

/** Bytes of a list that are kept in memory to write it compact. */
export const longestWait = 16 * 2 ** 20;

/** As servers do: what an element is assumed to need in its node besides its bytes. */
const entryEstimate = 8;
const endMarkBytes = 1;
const plainType = 1;
const containers = { plain: 1, packed: 2 } as const;

/** What is known before the first element. */
export type ListSize =
  | { readonly elements: number; readonly nodes?: undefined }
  | { readonly nodes: number; readonly elements?: undefined };

export class ListWriter {
  readonly #output: Output;
  readonly #can: Capabilities;
  readonly #packed: PackedEncoder;
  readonly #limit: number;
  /** Everything while the list waits; then the first element of a node if it may be a plain one. */
  readonly #elements = new Elements();
  /** Where in the elements each node of the source ends. */
  #nodeEnds: number[] = [];
  #mode: "waiting" | "plain" | "nodes" = "waiting";
  #size: ListSize = { elements: 0 };
  #elementsSeen = 0;
  #nodesWritten = 0;
  /** Elements of the node that is being packed, where the list is written node for node. */
  #inNode = 0;

  constructor(output: Output, can: Capabilities, packed: PackedEncoder, limit: number) {
    this.#output = output;
    this.#can = can;
    this.#packed = packed;
    this.#limit = limit;
  }

  begin(size: ListSize): void {
    this.#size = size;
    this.#mode = "waiting";
    this.#elements.clear();
    this.#nodeEnds = [];
    this.#elementsSeen = 0;
    this.#nodesWritten = 0;
    this.#inNode = 0;
  }

  /** A node of the source starts. */
  node(): void {
    if (this.#mode === "nodes") this.#endNode();
    else if (this.#elements.count > 0) this.#nodeEnds.push(this.#elements.count);
  }

  element(value: Slice): void {
    const { bytes, start, end } = value;
    this.#elementsSeen++;
    if (this.#mode === "plain") {
      this.#output.string(bytes, start, end);
    } else if (this.#mode === "waiting") {
      this.#elements.add(value);
      if (this.#elements.sizeBytes > this.#limit) this.#overflow();
    } else {
      if (this.#inNode++ === 0) {
        this.#packed.begin();
        this.#elements.clear();
        if (this.#isPlain(end - start)) this.#elements.add(value);
      }
      this.#packed.element(bytes, start, end);
    }
  }

  /** False when there is no element, which shows only here where the nodes were counted. */
  end(): boolean {
    if (this.#size.elements !== undefined) {
      assert.equal(this.#elementsSeen, this.#size.elements, "Elements other than promised");
    }
    if (this.#elementsSeen === 0) return false;
    if (this.#mode === "waiting") this.#writeQuicklist();
    if (this.#mode === "nodes") this.#endNodes(this.#size.nodes ?? 0);
    return true;
  }

  /** The list is too large to wait for its end. */
  #overflow(): void {
    const elements = this.#elements;
    if (this.#size.elements !== undefined) {
      this.#mode = "plain";
      this.#output.decide(plainType);
      this.#output.rdbLength(this.#size.elements);
      for (let i = 0; i < elements.count; i++) elements.writeTo(this.#output, i);
      elements.clear();
      return;
    }
    this.#mode = "nodes";
    this.#output.decide(this.#quicklistType);
    this.#output.rdbLength(this.#size.nodes);
    let from = 0;
    for (const end of this.#nodeEnds) {
      this.#writeNode(from, end, Number.POSITIVE_INFINITY);
      from = end;
    }
    elements.dropFirst(from);
    this.#inNode = elements.count;
    this.#packed.begin();
    for (let i = 0; i < elements.count; i++) elements.packInto(this.#packed, i);
  }

  /** Writes the node that has been packed, if it has any elements. */
  #endNode(): void {
    if (this.#inNode === 0) return;
    const isAlone = this.#inNode === 1 && this.#elements.count === 1;
    if (isAlone && this.#isPlain(this.#elements.length(0))) this.#writePlain(0);
    else this.#writePacked();
    this.#inNode = 0;
  }

  #endNodes(nodes: number): void {
    this.#endNode();
    assert(this.#nodesWritten <= nodes, "More nodes than promised");
    // Nodes of the source that were empty: servers skip them, but they are counted.
    while (this.#nodesWritten < nodes) {
      this.#packed.begin();
      this.#writePacked();
    }
  }

  /** Everything is here: nodes as large as a server would make them. */
  #writeQuicklist(): void {
    const countAt = this.#output.length;
    this.#output.byte(0);
    for (let from = 0; from < this.#elements.count; ) {
      from = this.#writeNode(from, this.#elements.count, compactLimits.listNodeBytes);
    }
    this.#output.insertLength(countAt, this.#nodesWritten);
    this.#output.decide(this.#quicklistType);
  }

  /** Writes one node of as many elements as the limit allows; returns the first one left over. */
  #writeNode(from: number, end: number, limit: number): number {
    const elements = this.#elements;
    const packed = this.#packed;
    const mayBeAlone = end - from === 1 || limit !== Number.POSITIVE_INFINITY;
    if (mayBeAlone && this.#isPlain(elements.length(from))) {
      this.#writePlain(from);
      return from + 1;
    }
    packed.begin();
    let at = from;
    while (at < end) {
      const needed = packed.size + endMarkBytes + elements.length(at) + entryEstimate;
      if (at > from && needed > limit) break;
      elements.packInto(packed, at);
      at++;
    }
    this.#writePacked();
    return at;
  }

  #writePlain(index: number): void {
    const { bytes } = this.#elements;
    this.#nodesWritten++;
    this.#output.byte(containers.plain);
    this.#output.blob(bytes, this.#elements.start(index), this.#elements.end(index));
  }

  #writePacked(): void {
    this.#nodesWritten++;
    if (this.#can.packed === "listpack") this.#output.byte(containers.packed);
    this.#output.container(this.#packed);
  }

  #isPlain(length: number): boolean {
    if (this.#can.packed === "ziplist") return false;
    return length > this.#can.plainNodeBytes || isBoundary(length);
  }

  get #quicklistType(): number {
    return this.#can.packed === "ziplist" ? 14 : 18;
  }
}
