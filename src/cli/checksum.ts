import type { Failure } from "../base/errors.ts";
import type { RdbReader } from "../codec/rdb/reader.ts";

/** "none": the RDB has none, or zeros in its place. "not reached": the reading ended before it. */
export type Checksum = "right" | "wrong" | "none" | "not reached";

/** What is known of a checksum when the reading has ended, with a failure perhaps. */
export function checksumOf(reader: RdbReader, hasEnded: boolean, failure?: Failure): Checksum {
  const { checksumAt, isChecked } = reader;
  if (checksumAt > 0 && failure?.offset === checksumAt) return "wrong";
  if (!hasEnded) return "not reached";
  return isChecked ? "right" : "none";
}
