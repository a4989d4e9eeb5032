import { Failure } from "../base/errors.ts";
import { RecordScanner } from "../codec/aof/framing.ts";

/**
 * Copies the records of a log as they are, with or without the annotations between them.
 *
 * Every byte that is passed on has been framed: a log that is damaged or torn is refused, at the
 * latest by `finish()`.
 */
export class RecordCopy {
  readonly #scanner: RecordScanner;
  readonly #path: string;
  readonly #write: (bytes: Uint8Array) => void;
  readonly #keepsAnnotations: boolean;
  /** Up to where in the file bytes have been passed on, or left out. */
  #done: number;
  #offset: number;
  records = 0;

  constructor(
    path: string,
    offset: number,
    write: (bytes: Uint8Array) => void,
    keepsAnnotations: boolean,
  ) {
    this.#scanner = new RecordScanner({ offset });
    this.#path = path;
    this.#write = write;
    this.#keepsAnnotations = keepsAnnotations;
    this.#done = offset;
    this.#offset = offset;
  }

  push(chunk: Uint8Array): void {
    const scanner = this.#scanner;
    const start = this.#offset;
    this.#offset += chunk.length;
    scanner.push(chunk);
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item === "record") this.records++;
      else if (!this.#keepsAnnotations) this.#leaveOut(chunk, start, scanner.start, scanner.end);
    }
    if (!this.#keepsAnnotations && scanner.pending === "annotation") {
      this.#leaveOut(chunk, start, scanner.start, this.#offset);
    }
    this.#copy(chunk, start, this.#offset);
  }

  #leaveOut(chunk: Uint8Array, start: number, from: number, to: number): void {
    this.#copy(chunk, start, from);
    this.#done = to;
  }

  /** Passes on the bytes of the chunk up to an offset in the file. */
  #copy(chunk: Uint8Array, start: number, to: number): void {
    if (to <= this.#done) return;
    this.#write(chunk.subarray(this.#done - start, to - start));
    this.#done = to;
  }

  /** Says that no more bytes come. @throws Failure DATA_TORN */
  finish(): void {
    const tail = this.#scanner.tail();
    if (tail.kind === "whole") return;
    const { offset } = tail;
    const found = `it ends within the ${tail.kind} at byte ${offset}`;
    throw new Failure("DATA_TORN", `Cannot convert "${this.#path}": ${found}`, { offset });
  }
}
