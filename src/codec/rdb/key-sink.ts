import type { Slice } from "../../base/bytes.ts";
import type { Layout } from "./layout.ts";
import type { Parts, RdbEvent } from "./parts.ts";

/** A key and what stands with it. A reader at a key is one of these. */
export type KeyHead = {
  readonly database: number;
  readonly key: Slice;
  /** The number of the value's type, and the version of the file that it is from. */
  readonly type: number;
  readonly version: number;
  readonly layout: Layout;
  /** Unix milliseconds; null where the key does not expire. */
  readonly expireAtMs: number | bigint | null;
  readonly idleSeconds: number | null;
  /** The LFU counter, 0 to 255. */
  readonly frequency: number | null;
  /** Metadata of Redis 8.6, as it stands in the file, opcode included. */
  readonly metadata: Uint8Array | null;
};

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
