/**
 * The records of a log for servers before 7.0: without annotations, and without what only later ones
 * know and a recorder writes.
 *
 *   SET key value … PXAT time     becomes SET key value … and PEXPIREAT key time (PXAT is of 6.2)
 *
 * Other commands pass as they are: a log that was recorded of such a server has no newer ones.
 *
 * INVARIANT. Memory: one record, and what it became. One of more than `keptBytes` is refused.
 */
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import { RespEncoder } from "../codec/resp/encode.ts";

const keptBytes = 600 * 2 ** 20;

export class OldRecords {
  readonly #scanner = new RecordScanner({ keepBytes: keptBytes });
  readonly #out = new RespEncoder();
  readonly #slice = new Slice();

  /** What the records that end in the chunk become. Owned. */
  push(chunk: Uint8Array): Uint8Array {
    const scanner = this.#scanner;
    scanner.push(chunk);
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      if (this.#isSetWithTime()) this.#split();
      else this.#copy();
    }
    return this.#out.take();
  }

  /** @throws Failure DATA_TORN where a record or a transaction is not whole */
  finish(): void {
    const tail = this.#scanner.tail();
    if (tail.kind === "whole") return;
    const found = `it ends inside the ${tail.kind} that starts at byte ${tail.offset}`;
    throw new Failure("DATA_TORN", `Cannot restore a log: ${found}`, { offset: tail.offset });
  }

  #isSetWithTime(): boolean {
    const { argc } = this.#scanner;
    return argc >= 5 && this.#is(0, "SET") && this.#is(argc - 2, "PXAT");
  }

  #is(index: number, word: string): boolean {
    const slice = this.#slice;
    const isThere = this.#scanner.argument(index, slice) && slice.length === word.length;
    return isThere && slice.latin1().toUpperCase() === word;
  }

  #split(): void {
    const { argc } = this.#scanner;
    this.#out.array(argc - 2);
    for (let i = 0; i < argc - 2; i++) this.#argument(i);
    this.#out.array(3);
    this.#out.bulkText("PEXPIREAT");
    this.#argument(1);
    this.#argument(argc - 1);
  }

  #argument(index: number): void {
    const { bytes, start, end } = this.#argumentOf(index);
    this.#out.bulk(bytes, start, end);
  }

  #argumentOf(index: number): Slice {
    if (this.#scanner.argument(index, this.#slice)) return this.#slice;
    throw this.#tooLong();
  }

  #copy(): void {
    if (!this.#scanner.raw(this.#slice)) throw this.#tooLong();
    const { bytes, start, end } = this.#slice;
    this.#out.raw(bytes, start, end);
  }

  #tooLong(): Failure {
    const offset = this.#scanner.start;
    const message = `Cannot restore for redis:6.0: a record of more than ${keptBytes} bytes at byte ${offset}`;
    return new Failure("LIMIT_EXCEEDED", message, { offset });
  }
}
