import type { Failure } from "../../base/errors.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { checksumOf } from "../checksum.ts";
import { HeldName } from "../render/held-name.ts";
import { formatCount, quoteName } from "../render/text.ts";
import type { SnapshotCheck } from "./report.ts";

/**
 * Keys of a database, and members of a collection, that are compared to find duplicates. Two tables
 * of 2^22 places that may be three quarters full, at 8 bytes a place: together 64 MB at most, and
 * as much again for a moment when one of them grows.
 */
const maxDistinct = 3 * 2 ** 20;

/** Decodes every value of an RDB. */
export class SnapshotChecker {
  readonly reader = new RdbReader({ maxDistinct });
  readonly #key = new HeldName();
  #keys = 0;
  #isInKey = false;
  #hasEnded = false;

  drain(): boolean {
    const { reader } = this;
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      if (event === "key") {
        this.#key.hold(reader.key);
        this.#isInKey = true;
      } else if (event === "string" || event === "end value") {
        // A module's own record ends in "end value" too.
        if (this.#isInKey) this.#keys++;
        this.#isInKey = false;
      } else if (event === "end") {
        this.#hasEnded = true;
        return true;
      }
    }
    return false;
  }

  /** Which key is being read. */
  where(): string {
    if (!this.#isInKey) return "";
    return ` (in key ${quoteName(this.#key.text())} of database ${this.reader.database})`;
  }

  report(failure?: Failure): SnapshotCheck {
    const { version } = this.reader;
    const checksum = checksumOf(this.reader, this.#hasEnded, failure);
    return { version, keys: this.#keys, checksum };
  }

  notes(): string[] {
    const { unchecked, isChecked } = this.reader;
    const notes: string[] = [];
    if (this.#hasEnded && !isChecked) {
      notes.push("The RDB has no checksum: only its structure was checked");
    }
    if (unchecked > 0) {
      notes.push(`${formatCount(unchecked)} keys and members were not compared with all others`);
    }
    return notes;
  }
}
