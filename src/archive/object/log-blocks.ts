/**
 * Where the blocks of an archived log end, and what is in them.
 *
 * WHY. A block should be readable alone: so it ends between two units, never inside a transaction, and
 * where the log has position lines it ends with one, so that the checksums of the next block can be
 * verified from its start. Only a unit or batch of megabytes makes a block end elsewhere or late.
 *
 * What a block says of its keys is what its commands may *change*. Keys that they only read are not in the
 * filter: whoever follows a command to its sources looks for the commands that changed those.
 *
 * INVARIANTS
 *
 *   1. Only a whole log is taken: damage, and an end inside of a record or transaction, are refused.
 *   2. A filter leaves no changed key out: a command that is not in the table, is a script, or has
 *      arguments beyond what is kept, makes it stand for all keys. A command that changes all keys
 *      of a database is not in it but in the list of wide commands.
 *   3. Memory: `keptBytes` of a record, `maxWide` wide commands a block, the hashes of a block's keys.
 */
import { Slice } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import type { PositionLine } from "../../codec/aof/annotation.ts";
import { type LogOptions, LogScanner } from "../../codec/aof/log-scanner.ts";
import { CommandKeys, type WriteCommand } from "../../codec/commands/command-keys.ts";
import { type LogBlock, type LogIndex, plainLine, type WideCommand } from "./index-format.ts";
import { KeyCollector } from "./key-filter.ts";
import {
  type BlockCutter,
  type BlockFacts,
  blockBytes,
  blockTarget,
  type ObjectFacts,
} from "./object-writer.ts";

/** Of a record, for its keys to be found. */
const keptBytes = 2 ** 20;
/** Wide commands that are listed of each block. */
export const maxWide = 64;
/** How much longer than wanted a block gets while a position line may come. */
const patience = 1.5;

export type LogBlocksOptions = Pick<LogOptions, "after" | "maxArgumentBytes"> & {
  /** Raw bytes from which a block ends at the next good place. */
  readonly blockBytes?: number;
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A wide command whose batch is not over: how many bytes of records there are up to its end. */
type Unplaced = { readonly command: Mutable<WideCommand>; readonly bytes: number };

export class LogBlocks implements BlockCutter<LogIndex> {
  readonly kind = "aof";
  readonly #log: LogScanner;
  readonly #after: PositionLine | undefined;
  readonly #commandKeys = new CommandKeys();
  readonly #keys = new KeyCollector();
  readonly #key = new Slice();

  // The block.
  #start = 0;
  readonly #blockBytes: number;
  #target: number;
  #records = 0;
  #database: number | undefined;
  #first: PositionLine | undefined;
  #last: PositionLine | undefined;
  #wide: WideCommand[] = [];
  #hasMoreWide = false;

  // The batch: what stands behind the last position line.
  #position: PositionLine | undefined;
  #batchBytes = 0;
  #unplaced: Unplaced[] = [];

  constructor(options: LogBlocksOptions = {}) {
    this.#log = new LogScanner({ ...options, keepBytes: keptBytes });
    this.#after = options.after;
    this.#blockBytes = options.blockBytes ?? blockBytes;
    this.#target = this.#blockBytes;
    this.#position = options.after;
  }

  push(chunk: Uint8Array): void {
    this.#log.push(chunk);
  }

  next(): number | undefined {
    const { scanner } = this.#log;
    for (let item = this.#log.next(); item !== "more"; item = this.#log.next()) {
      if (item === "record") {
        this.#takeRecord();
        if (scanner.unitStart !== undefined) continue;
        const limit = this.#position === undefined ? this.#target : this.#target * patience;
        if (scanner.end - this.#start >= limit) return scanner.end;
      } else if (item === "position") {
        this.#takePosition();
        if (scanner.end - this.#start >= this.#target) return scanner.end;
      }
    }
    return undefined;
  }

  takeBlock(): BlockFacts<LogBlock> {
    const { scanner } = this.#log;
    const end = scanner.goodEnd;
    const block: BlockFacts<LogBlock> = {
      facts: {
        database: this.#database ?? null,
        commands: scanner.records - this.#records,
        first: plainLine(this.#first),
        last: plainLine(this.#last),
        isSealed: this.#last !== undefined && this.#log.sealedEnd === end,
        wide: this.#wide,
        hasMoreWide: this.#hasMoreWide,
      },
      filter: this.#keys.take(),
    };
    this.#start = end;
    this.#target = blockTarget(end, this.#blockBytes);
    this.#records = scanner.records;
    this.#database = scanner.database;
    this.#first = undefined;
    this.#last = undefined;
    this.#wide = [];
    this.#hasMoreWide = false;
    return block;
  }

  /** @throws Failure DATA_TORN */
  finish(): ObjectFacts<LogIndex> {
    const tail = this.#log.scanner.tail();
    if (tail.kind !== "whole") {
      const { kind, offset } = tail;
      const found = `it ends inside the ${kind} that starts at byte ${offset}`;
      throw new Failure("DATA_TORN", `Cannot archive a log: ${found}`, { offset });
    }
    return {
      after: plainLine(this.#after),
      last: plainLine(this.#position),
      commands: this.#log.scanner.records,
    };
  }

  #takeRecord(): void {
    const { scanner } = this.#log;
    this.#batchBytes += scanner.end - scanner.start;
    const command = this.#commandKeys.find(scanner);
    if (command === undefined) {
      this.#keys.addUnknown();
    } else {
      this.#addKeys(command);
      if (isWide(command)) this.#addWide(command);
    }
  }

  #addKeys(command: WriteCommand): void {
    const { scanner } = this.#log;
    const keys = this.#commandKeys;
    const only = onlyKey(command);
    if (only > 0) {
      const isThere = only < scanner.argc && scanner.argument(only, this.#key);
      if (isThere) this.#keys.add(this.#key);
      else this.#keys.addUnknown();
      return;
    }
    if (!keys.locate(command, command.write, scanner)) {
      this.#keys.addUnknown();
      return;
    }
    for (let at = keys.next(); at > 0; at = keys.next()) {
      scanner.argument(at, this.#key);
      this.#keys.add(this.#key);
    }
  }

  #addWide({ name, write }: WriteCommand): void {
    if (this.#wide.length === maxWide) {
      this.#hasMoreWide = true;
      return;
    }
    const { start, database } = this.#log.scanner;
    const keys = write.find((place) => place === "all" || place === "db" || place === "slots");
    const command = {
      name,
      at: start,
      keys: keys ?? ("none" as const),
      database: database ?? null,
      offset: null,
      ms: null,
    };
    this.#wide.push(command);
    this.#unplaced.push({ command, bytes: this.#batchBytes });
  }

  /** Tells the wide commands of the batch when they came, and where, if it is the stream itself. */
  #takePosition(): void {
    const before = this.#position;
    const line = this.#log.position as PositionLine;
    const isStream =
      before?.replicationId === line.replicationId &&
      line.offset - before.offset === this.#batchBytes;
    for (const { command, bytes } of this.#unplaced) {
      command.ms = line.ms;
      if (isStream) command.offset = before.offset + bytes;
    }
    this.#unplaced = [];
    this.#batchBytes = 0;
    this.#position = line;
    this.#first ??= line;
    this.#last = line;
  }
}

/** The one argument that is a key, as of most commands; 0: there may be others. */
function onlyKey({ kind, write }: WriteCommand): number {
  const place = write[0];
  return write.length === 1 && typeof place === "number" && kind !== "opaque" ? place : 0;
}

/** Whether a command concerns more than the keys among its arguments. */
function isWide({ kind }: WriteCommand): boolean {
  return kind === "wipe" || kind === "wipe-slots" || kind === "swap" || kind === "global";
}
