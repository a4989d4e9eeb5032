import type { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { JsonLineWriter, libraryLine, libraryOf } from "../codec/json-lines.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import type { Parts, RdbEvent } from "../codec/rdb/parts.ts";
import { ExternalSort } from "./external-sort.ts";

/** Writes a data set as canonical JSON lines: libraries, then keys by database and bytes. */
export class JsonSink implements KeySink, Disposable {
  readonly #emit: (text: string) => void;
  readonly #lines = new ExternalSort();
  readonly #members = new ExternalSort();
  readonly #writer: JsonLineWriter;
  #key = "";

  /** @param whole gives values of any length instead of digests */
  constructor(emit: (text: string) => void, whole = false) {
    this.#emit = emit;
    this.#writer = new JsonLineWriter(this.#members, whole);
  }

  library(code: Slice): void {
    this.#lines.add(`${firstRank}${libraryOf(code).name}`, libraryLine(code));
  }

  /** Modules' own records belong to no key, and JSON lines have keys only. */
  moduleAux(): void {}

  begin(head: KeyHead): void {
    this.#writer.begin(head);
    this.#key = `${keyRank(head.database)}${head.key.latin1()}`;
  }

  accept(event: RdbEvent, parts: Parts): void {
    const line = this.#writer.take(event, parts);
    if (line !== undefined) this.#lines.add(this.#key, line);
  }

  /** @throws Failure DATA_CORRUPT where a key is there twice: the two come together here */
  finish(): void {
    let previous = "";
    for (const line of this.#lines.drain()) {
      const key = line.slice(0, line.indexOf(',"type"'));
      if (key === previous) {
        throw new Failure("DATA_CORRUPT", `Cannot write JSON lines: ${key}} is there twice`);
      }
      previous = key;
      this.#emit(line);
    }
  }

  [Symbol.dispose](): void {
    this.#lines[Symbol.dispose]();
    this.#members[Symbol.dispose]();
  }
}

/** Libraries stand before keys, and keys by database, whose number has 31 bits. */
const firstRank = "\0";

function keyRank(database: number): string {
  const bytes = [24, 16, 8, 0].map((shift) => (database >> shift) & 0xff);
  return `\x01${String.fromCharCode(...bytes)}`;
}
