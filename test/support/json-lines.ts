/** RDB files as the canonical lines of `test/fixtures/README.md`, read by the codec. */
import { JsonLineWriter, libraryLine, type Sorter } from "../../src/codec/json-lines.ts";
import type { RdbEvent } from "../../src/codec/rdb/parts.ts";
import { RdbReader, type RdbReaderOptions } from "../../src/codec/rdb/reader.ts";
import { readInChunks } from "./rdb-events.ts";

/** Sorts in memory. */
class MemorySorter implements Sorter {
  #entries: [key: string, line: string][] = [];

  add(key: string, line: string): void {
    this.#entries.push([key, line]);
  }

  drain(): Iterable<string> {
    const entries = this.#entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#entries = [];
    return entries.map(([, line]) => line);
  }
}

/** Takes the events of a reader, and gives the lines of all that it came upon. */
export class LineCollector {
  readonly #libraries: string[] = [];
  readonly #keys = new MemorySorter();
  readonly #writer: JsonLineWriter;
  #sortKey: string | undefined;

  constructor(whole = false) {
    this.#writer = new JsonLineWriter(new MemorySorter(), whole);
  }

  take(event: RdbEvent, reader: RdbReader): void {
    if (event === "function") this.#libraries.push(libraryLine(reader.parts.first));
    if (event === "key") {
      this.#writer.begin(reader);
      this.#sortKey = sortKey(reader);
    }
    // Between keys there is no line: a module's own record ends with "end value" too.
    if (this.#sortKey === undefined) return;
    const line = this.#writer.take(event, reader.parts);
    if (line === undefined) return;
    this.#keys.add(this.#sortKey, line);
    this.#sortKey = undefined;
  }

  text(): string {
    return [...this.#libraries.sort(), ...this.#keys.drain()].join("");
  }
}

export type LineOptions = RdbReaderOptions & {
  readonly sizes?: readonly number[];
  /** Values of any length instead of digests. */
  readonly whole?: boolean;
};

/** The lines of a file that is read in chunks of these sizes in turn. */
export function linesOf(bytes: Uint8Array, options: LineOptions = {}): string {
  const { sizes = [Math.max(1, bytes.length)], whole, ...rest } = options;
  const collector = new LineCollector(whole);
  readInChunks(new RdbReader({ maxDistinct: 1_000_000, ...rest }), bytes, sizes, (event, reader) =>
    collector.take(event, reader),
  );
  return collector.text();
}

/** Without `encoding`, which no file tells for certain: it is information, not contents. */
export function withoutEncodings(lines: string): string {
  return lines.replaceAll(/,"encoding":"[a-z0-9]*"/g, "");
}

function sortKey({ database, key }: RdbReader): string {
  return String.fromCharCode(database >>> 16, database & 0xffff) + key.latin1();
}
