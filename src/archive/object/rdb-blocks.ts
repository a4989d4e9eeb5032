/**
 * Where the blocks of an archived snapshot end, and what is in them.
 *
 * WHY. To bring back some keys, only the blocks that have them should be read; so a block starts
 * between two keys. But a backup must be possible of every file, also of one that a newer server or
 * a module wrote: from the place on at which an RDB is not understood, blocks are cut anywhere and
 * stand for all keys, and the index says where and why. Whether that is good enough, the one who
 * takes the backup decides.
 *
 * The place behind a value is known only where the value was asked for; so a key that makes its
 * block long enough is not passed over but taken in raw pieces, which ends with an event of its own.
 * So behind a value that is longer than a block, the block ends one key late.
 *
 * INVARIANT. Memory: one key, and the hashes of a block's keys. Values are passed over.
 */
import { strict as assert } from "node:assert";
import { toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { type RdbBlock, type RdbIndex, shorten } from "./index-format.ts";
import { KeyCollector } from "./key-filter.ts";
import {
  type BlockCutter,
  type BlockFacts,
  blockBytes,
  blockTarget,
  type ObjectFacts,
} from "./object-writer.ts";

const magicPattern = /^(REDIS\d{4}|VALKEY\d{3})$/;
/** Databases that are counted of each block; in a block with more, keys are not counted. */
const maxDatabases = 1024;

export type RdbBlocksOptions = {
  /** Raw bytes from which a block ends at the next good place. */
  readonly blockBytes?: number;
};

export class RdbBlocks implements BlockCutter<RdbIndex> {
  readonly kind = "rdb";
  readonly #reader = new RdbReader();
  readonly #keys = new KeyCollector();
  readonly #blockBytes: number;
  /** Behind the end of the RDB, and behind what was not understood, nothing is known. */
  #state: "rdb" | "end" | "opaque" = "rdb";
  #magic = "";
  /** The file so far, and its part before the chunk. */
  #end = 0;
  #chunkStart = 0;
  #rdbBytes: number | null = null;
  #notUnderstood: RdbIndex["notUnderstood"] = null;
  #total = 0;

  // The block.
  #start = 0;
  #cutAt = 0;
  #target: number;
  #database = 0;
  #isAtBoundary = true;
  #isOpaque = false;
  #isLastKey = false;
  #counts = new Map<number, number>();
  /** Keys that are not in the map yet, all in one database. */
  #count = 0;
  #countDatabase = 0;

  constructor(options: RdbBlocksOptions = {}) {
    this.#blockBytes = options.blockBytes ?? blockBytes;
    this.#target = this.#blockBytes;
  }

  push(chunk: Uint8Array): void {
    this.#chunkStart = this.#end;
    this.#end += chunk.length;
    const missing = Math.min(9 - this.#magic.length, chunk.length);
    if (missing > 0) this.#magic += toLatin1(chunk, 0, missing);
    if (this.#state === "rdb") this.#reader.push(chunk);
  }

  next(): number | undefined {
    if (this.#state === "rdb") {
      if (this.#guarded(this.#walk) === true) return this.#cutAt;
    }
    if (this.#state === "end" && this.#end > (this.#rdbBytes ?? 0)) {
      this.#state = "opaque";
      this.#cutAt = this.#rdbBytes ?? 0;
      if (this.#cutAt > this.#start) return this.#cutAt;
      this.#isOpaque = true;
    }
    if (this.#state !== "opaque") return undefined;
    // Longer than wanted already, where a long value turned out not to be one.
    this.#cutAt = Math.max(this.#start + this.#target, this.#chunkStart);
    return this.#cutAt <= this.#end ? this.#cutAt : undefined;
  }

  takeBlock(): BlockFacts<RdbBlock> {
    this.#bank();
    const isCounted = !this.#isOpaque && this.#counts.size <= maxDatabases;
    const facts = {
      database: this.#database,
      keys: isCounted ? [...this.#counts] : null,
      isAtBoundary: this.#isAtBoundary,
    };
    if (this.#isOpaque) this.#keys.addUnknown();
    this.#start = this.#cutAt;
    this.#target = blockTarget(this.#start, this.#blockBytes);
    this.#database = this.#reader.database;
    this.#isOpaque = this.#state === "opaque";
    this.#isAtBoundary = !this.#isOpaque;
    this.#counts.clear();
    return { facts, filter: this.#keys.take() };
  }

  finish(): ObjectFacts<RdbIndex> {
    if (this.#state === "rdb") this.#guarded(() => this.#reader.finish());
    this.#bank();
    return {
      magic: magicPattern.exec(this.#magic)?.[1] ?? null,
      keys: this.#rdbBytes === null ? null : this.#total,
      notUnderstood: this.#notUnderstood,
      rdbBytes: this.#rdbBytes,
    };
  }

  /** Whatever is found to be wrong makes the rest opaque. */
  #guarded<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const at = error.offset ?? this.#reader.position;
      this.#notUnderstood = { at, found: shorten(error.message) };
      this.#state = "opaque";
      this.#isOpaque = true;
      return undefined;
    }
  }

  /** Goes on to the end of the block, of the RDB, or of the chunk. True: the block ends. */
  readonly #walk = (): boolean => {
    const reader = this.#reader;
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      if (event === "key") {
        this.#takeKey();
      } else if (event === "end value" && this.#isLastKey) {
        this.#isLastKey = false;
        this.#cutAt = reader.position;
        assert(
          this.#cutAt >= this.#chunkStart,
          "A value ends in the chunk that its last byte is in",
        );
        return true;
      } else if (event === "end") {
        this.#state = "end";
        this.#rdbBytes = reader.position;
        return false;
      }
    }
    return false;
  };

  #takeKey(): void {
    const { key, database, position } = this.#reader;
    if (database !== this.#countDatabase) {
      this.#bank();
      this.#countDatabase = database;
    }
    this.#count++;
    this.#keys.add(key);
    this.#isLastKey = position - this.#start >= this.#target;
    if (this.#isLastKey) this.#reader.raw();
    else this.#reader.skip();
  }

  #bank(): void {
    if (this.#count === 0) return;
    // One too many tells that there are more.
    if (this.#counts.size <= maxDatabases) {
      const before = this.#counts.get(this.#countDatabase) ?? 0;
      this.#counts.set(this.#countDatabase, before + this.#count);
    }
    this.#total += this.#count;
    this.#count = 0;
  }
}
