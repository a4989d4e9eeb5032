import type { Slice } from "../../base/bytes.ts";
import { escapeBytes } from "./text.ts";

/** Of a longer name only the beginning is shown. */
export const maxNameBytes = 1024;

/** A copy of the name that was met last, for when there turns out to be something to say of it. */
export class HeldName {
  readonly #bytes = new Uint8Array(maxNameBytes);
  /** Of all of it. */
  sizeBytes = 0;

  hold({ bytes, start, end }: Slice): void {
    const own = this.#bytes;
    this.sizeBytes = end - start;
    const size = Math.min(end - start, maxNameBytes);
    // Names are short: a loop is faster than a view and a call.
    for (let i = 0; i < size; i++) own[i] = bytes[start + i] as number;
  }

  text(): string {
    return escapeBytes(this.#bytes, 0, Math.min(this.sizeBytes, maxNameBytes));
  }
}
