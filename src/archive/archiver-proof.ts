/**
 * Whether a piece that is listed is what its name says, as far as its end tells.
 *
 * WHY. A listing gives a name and a size. What was copied and broke off, or was written before a power failure,
 * has the right name and too few bytes; and for the sake of that name others would be deleted.
 *
 * INVARIANTS
 *
 *   1. A piece counts as whole if this process has written it and the storage has said so, or if its footer and
 *      index were read here, with their checksums: they tell where each frame is, and that these fill it.
 *   2. Each is read once, as long as it has the same size.
 *   3. Memory: a name a piece of the lines that the spool has.
 */
import { Failure } from "../base/errors.ts";
import type { Piece } from "./catalogue.ts";
import { logPrefix } from "./layout.ts";
import { openObject, type Repository } from "./repository.ts";

/** What was wrong once may have been wrong on the way. */
const attempts = 2;

export class PieceProofs {
  readonly #repository: Repository;
  /** Their sizes then. */
  readonly #whole = new Map<string, number>();
  readonly #damaged = new Map<string, number>();

  constructor(repository: Repository) {
    this.#repository = repository;
  }

  /** Takes one that this process has written. */
  add({ object, sizeBytes }: Piece): void {
    this.#whole.set(object, sizeBytes);
    this.#damaged.delete(object);
  }

  /** Whether it was read and found damaged. */
  isDamaged({ object, sizeBytes }: Piece): boolean {
    return this.#damaged.get(object) === sizeBytes;
  }

  /** @throws Failure of the store; KEY_NEEDED; OBJECT_MISSING */
  async isWhole(piece: Piece, signal: AbortSignal): Promise<boolean> {
    const { object, sizeBytes } = piece;
    if (this.#whole.get(object) === sizeBytes) return true;
    if (this.isDamaged(piece)) return false;
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (!(await this.#isRight(piece, signal))) continue;
      this.#whole.set(object, sizeBytes);
      return true;
    }
    this.#damaged.set(object, sizeBytes);
    return false;
  }

  async #isRight(piece: Piece, signal: AbortSignal): Promise<boolean> {
    try {
      const { object, sizeBytes } = piece;
      const { index } = await openObject(this.#repository, object, sizeBytes, { signal });
      return (
        index.kind === "aof" &&
        index.rawBytes === piece.rawBytes &&
        index.last?.sequence === piece.lastSequence &&
        index.last.offset === piece.toOffset &&
        index.last.ms === piece.toMs
      );
    } catch (error) {
      if (error instanceof Failure && /^(DATA_|LIMIT_)/.test(error.code)) return false;
      throw error;
    }
  }

  /** Forgets all that is of other lines of an instance. */
  keepOnly(instance: string, lines: ReadonlySet<string>): void {
    const prefix = logPrefix(instance);
    const isOther = (object: string) =>
      !lines.has(object.slice(prefix.length, object.indexOf("/", prefix.length)));
    for (const each of [this.#whole, this.#damaged]) {
      for (const object of each.keys()) if (isOther(object)) each.delete(object);
    }
  }
}
