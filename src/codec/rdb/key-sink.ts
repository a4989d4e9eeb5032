import type { Slice } from "../../base/bytes.ts";
import type { KeyHead } from "./model.ts";
import type { Parts, RdbEvent } from "./parts.ts";

/**
 * What takes a data set, key by key, in the events of a reader.
 *
 * For each key: `begin()`, then its events from "begin", "string" or "raw" on, up to "string" or
 * "end value". Everything is borrowed for the time of a call.
 */
export interface KeySink {
  library(code: Slice): void;
  /** What a module keeps outside of keys, from the module's id on. */
  moduleAux(raw: Uint8Array): void;
  begin(head: KeyHead): void;
  accept(event: RdbEvent, parts: Parts): void;
  finish(): void;
}
