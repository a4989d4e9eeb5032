import { Failure } from "../base/errors.ts";
import { RdbReader } from "../codec/rdb/reader.ts";

/**
 * Looks at a snapshot while it is received: what the stream behind it needs to know, and whether it
 * is whole and its checksum right, before it is relied on.
 *
 * A snapshot of a version that is not known here is not looked into; it is recorded all the same.
 */
export class SnapshotWatch {
  readonly #reader = new RdbReader();
  #isOver = false;
  #unknown: Failure | undefined;
  /** The database that is selected in the stream behind it. */
  database = 0;
  /** Whether what it says about itself has come, and keys or the end follow. */
  hasHead = false;

  /** Why it could not be looked into. */
  get unknown(): Failure | undefined {
    return this.#unknown;
  }

  /** @throws Failure DATA_CORRUPT, with the offset in the snapshot */
  push(chunk: Uint8Array): void {
    if (this.#isOver || this.#unknown) return;
    const reader = this.#reader;
    const { first, second } = reader.parts;
    try {
      reader.push(chunk);
      for (let event = reader.next(); event; event = reader.next()) {
        if (event === "aux" && first.latin1() === "repl-stream-db") {
          this.database = Math.max(0, Number(second.latin1()));
        }
        if (event !== "aux") this.hasHead = true;
        if (event === "key") reader.skip();
        if (event === "end") this.#isOver = true;
        if (event === "end") return;
      }
    } catch (error) {
      if (!(error instanceof Failure) || error.code === "DATA_CORRUPT") throw error;
      this.#unknown = error;
      this.hasHead = true;
    }
  }

  /** Says that all has come. @throws Failure DATA_CORRUPT where that is not all */
  finish(): void {
    if (!this.#unknown) this.#reader.finish();
  }
}
