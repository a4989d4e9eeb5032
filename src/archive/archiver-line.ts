/**
 * What the repository has of one line of the log, as its one writer keeps it in memory.
 *
 * WHY. The writer has to know what is there already, after a start by a listing, and from then on
 * without one. Of all lines of an instance it needs those only that its spool still has.
 *
 * INVARIANTS
 *
 *   1. Of pieces that begin at the same position line, the one counts that reaches farthest.
 *   2. After a write of which it is not known whether it was done, all is listed again (`isUnsure`).
 *   3. What is deleted lies within a piece that a listing has shown and that is whole (archiver-proof.ts), by
 *      offsets and times too; and it was written here, or found to be of the spool's log (archiver-fork.ts).
 *   4. Memory: a value a piece of this line.
 */

import { Failure } from "../base/errors.ts";
import type { Ship } from "./archiver-piece.ts";
import type { PieceProofs } from "./archiver-proof.ts";
import type { Piece } from "./catalogue.ts";
import { logPrefix, parsePieceName } from "./layout.ts";

export class ArchivedLine {
  readonly name: string;
  readonly #ship: Ship;
  readonly #proofs: PieceProofs;
  /** All that the listing has shown. */
  readonly listed: readonly Piece[];
  /** Objects that were listed then, or written since. */
  readonly #known: Set<string>;
  /** By the sequence number that they begin with. */
  readonly #pieces: ReadonlyMap<number, Piece> & Map<number, Piece>;
  /** Merged pieces, the ones of which they are made being there still, perhaps. */
  readonly #untidied: Piece[];
  /** What is before was there, and has expired. */
  readonly #firstSequence: number;
  isUnsure = false;

  private constructor(ship: Ship, name: string, listed: readonly Piece[], proofs: PieceProofs) {
    this.#ship = ship;
    this.#proofs = proofs;
    this.name = name;
    this.listed = listed;
    this.#known = new Set(listed.map(({ object }) => object));
    this.#firstSequence = listed[0]?.firstSequence ?? 0;
    this.#pieces = new Map();
    this.#untidied = [];
    let last: Piece | undefined;
    for (const piece of listed.toSorted(byReach)) {
      // It is shipped again, and deleted then if that has another name.
      if (proofs.isDamaged(piece)) continue;
      if (last !== undefined && piece.lastSequence <= last.lastSequence) {
        if (this.#untidied.at(-1) !== last) this.#untidied.push(last);
        continue;
      }
      this.#pieces.set(piece.firstSequence, piece);
      last = piece;
    }
  }

  static async open(
    ship: Ship,
    name: string,
    proofs: PieceProofs,
    signal: AbortSignal,
  ): Promise<ArchivedLine> {
    const listed = await Array.fromAsync(list(ship, name, { from: 0, signal }));
    return new ArchivedLine(ship, name, listed, proofs);
  }

  get isEmpty(): boolean {
    return this.#pieces.size === 0;
  }

  get pieces(): number {
    return this.#pieces.size;
  }

  /** Whether all up to this position line was shipped once, and has expired. */
  hasExpired(lastSequence: number): boolean {
    return lastSequence < this.#firstSequence;
  }

  /** The piece that begins with this position line. */
  at(firstSequence: number): Piece | undefined {
    return this.#pieces.get(firstSequence);
  }

  /** The last of the pieces that follow each other from one position line on, up to another. */
  reach(sequence: number, upTo: number): Piece | undefined {
    let last = this.#pieces.get(sequence);
    while (last !== undefined && last.lastSequence < upTo) {
      const next = this.#pieces.get(last.lastSequence + 1);
      if (next === undefined) break;
      last = next;
    }
    return last;
  }

  /** Takes a piece that is in the repository now. */
  add(piece: Piece): void {
    let hasMerged = false;
    this.#known.add(piece.object);
    this.#proofs.add(piece);
    const { firstSequence, lastSequence } = piece;
    for (let at = firstSequence; at <= lastSequence; ) {
      const covered = this.#pieces.get(at);
      if (covered === undefined) break;
      this.#pieces.delete(at);
      hasMerged = true;
      at = covered.lastSequence + 1;
    }
    this.#pieces.set(firstSequence, piece);
    if (hasMerged) this.#untidied.push(piece);
  }

  /** Deletes the pieces that merged ones stand for, where these are listed. Says how many. */
  async tidy(signal: AbortSignal): Promise<number> {
    const { store, abilities } = this.#ship.repository;
    let count = 0;
    for (const merged of [...this.#untidied]) {
      const found: Piece[] = [];
      const { firstSequence: from, lastSequence: to } = merged;
      for await (const piece of list(this.#ship, this.name, { from, to, signal }))
        found.push(piece);
      const isListed = ({ object, sizeBytes }: Piece) =>
        object === merged.object && sizeBytes === merged.sizeBytes;
      if (found.length > 0 && !found.some(isListed)) continue;
      // What another writer has put there is looked at first.
      if (found.some(({ object }) => !this.#known.has(object))) this.isUnsure = true;
      const covered = found.filter(
        (piece) =>
          piece.object !== merged.object && this.#known.has(piece.object) && covers(merged, piece),
      );
      if (covered.length > 0 && abilities.deletes) {
        if (!(await this.#mayStandFor(merged, signal))) continue;
        await this.#ship.lease.check(signal);
        await store.delete(
          covered.map(({ object }) => object),
          { signal },
        );
        count += covered.length;
      }
      this.#untidied.splice(this.#untidied.indexOf(merged), 1);
    }
    return count;
  }

  /** Whether others may be deleted for a merged piece. One that is damaged is not there any more. */
  async #mayStandFor(merged: Piece, signal: AbortSignal): Promise<boolean> {
    try {
      if (await this.#proofs.isWhole(merged, signal)) return true;
    } catch (error) {
      // Without its key nobody can tell; what it covers stays.
      if (error instanceof Failure && error.code === "KEY_NEEDED") return false;
      throw error;
    }
    this.isUnsure = true;
    return false;
  }
}

/** Whether a piece lies within another one: not by its numbers alone, which other logs have too. */
function covers(merged: Piece, piece: Piece): boolean {
  const beginsWithin =
    piece.firstSequence === merged.firstSequence
      ? piece.fromOffset === merged.fromOffset && piece.fromMs === merged.fromMs
      : piece.firstSequence > merged.firstSequence && piece.fromMs >= merged.fromMs;
  const endsWithin =
    piece.lastSequence === merged.lastSequence
      ? piece.toOffset === merged.toOffset && piece.toMs === merged.toMs
      : piece.lastSequence < merged.lastSequence && piece.toMs <= merged.toMs;
  return beginsWithin && endsWithin;
}

/** Those that begin first, first; of those, the one that reaches farthest. */
function byReach(a: Piece, b: Piece): number {
  return a.firstSequence - b.firstSequence || b.lastSequence - a.lastSequence;
}

type Range = { readonly from: number; readonly to?: number; readonly signal: AbortSignal };

/** The pieces that begin with position lines of a range. */
async function* list(ship: Ship, line: string, { from, to, signal }: Range): AsyncGenerator<Piece> {
  const { repository, instance } = ship;
  const prefix = logPrefix(instance, line);
  // No piece has this name, and all that begin there or later are behind it.
  const startAfter = `${prefix}${String(from).padStart(12, "0")}`;
  for await (const { name, sizeBytes } of repository.store.list(prefix, { startAfter, signal })) {
    const facts = parsePieceName(name.slice(prefix.length));
    if (facts === undefined) continue;
    if (to !== undefined && facts.firstSequence > to) return;
    yield { ...facts, object: name, sizeBytes };
  }
}
