import { Failure } from "../base/errors.ts";
import { RdbReader } from "../codec/rdb/reader.ts";

export type WalkResult = {
  /** What is wrong with it, and no newer server or module explains. */
  readonly damage: Failure | undefined;
  /** From where on it is not known what it says. */
  readonly notUnderstood: Failure | undefined;
  /** That were met. */
  readonly keys: number;
};

/** Walks over an RDB, values not decoded, to its end and its checksum. */
export class RdbWalk {
  readonly #reader = new RdbReader();
  #failure: Failure | undefined;
  #hasEnded = false;
  #behind = 0;
  #keys = 0;

  /** Takes the next chunk, which is not needed afterwards. */
  push(chunk: Uint8Array): void {
    if (this.#failure !== undefined) return;
    if (this.#hasEnded) {
      this.#behind += chunk.length;
      return;
    }
    const reader = this.#reader;
    try {
      reader.push(chunk);
      for (let event = reader.next(); event !== undefined; event = reader.next()) {
        if (event === "key") {
          this.#keys++;
          reader.skip();
        }
        if (event !== "end") continue;
        this.#hasEnded = true;
        this.#behind = reader.rest().length;
        return;
      }
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#failure = error;
    }
  }

  finish(): WalkResult {
    const failure = this.#failure ?? this.#failureAtEnd();
    const isDamage = failure?.code === "DATA_CORRUPT";
    return {
      damage: isDamage ? failure : undefined,
      notUnderstood: isDamage ? undefined : failure,
      keys: this.#keys,
    };
  }

  #failureAtEnd(): Failure | undefined {
    const { position } = this.#reader;
    if (this.#behind > 0) {
      const found = `${this.#behind} bytes behind the end of the RDB, at byte ${position}`;
      return new Failure("DATA_CORRUPT", found, { offset: position });
    }
    try {
      this.#reader.finish();
      return undefined;
    } catch (error) {
      return error as Failure;
    }
  }
}
