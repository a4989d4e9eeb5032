/**
 * Makes commands for a running server of a log: batches that say how far they come, with all expiries
 * put off.
 *
 * Expiries are put off, and moved back in the end: restore-held.ts, restore-expiries.ts.
 *
 * WHY batches. A client that is lost does not know what the server still executed of what it had sent.
 * So each batch ends by setting the key that says up to where the log has been replayed; and what
 * may have been executed beyond that, a part of one batch, must not be done twice. Either it may be:
 *
 *   SELECT n | records … | SELECT 0 | SET marker | SELECT m          of `repeatable` commands only
 *
 * or it is a transaction, which is done as a whole with its marker, or not at all:
 *
 *   MULTI | [SELECT 0 | DEL marker] | SELECT n | records … | SELECT 0 | SET marker | SELECT m | EXEC
 *
 * Several batches are under way at a time: which of them went well, restore-window.ts keeps.
 *
 * A transaction costs a server a third more than its commands alone; so it is used where it has to be.
 * Rows of SET are sent as MSET (restore-set-row.ts).
 *
 * WHAT IS REPEATABLE. A command that sets or removes something (a value, a field, a member, an expiry)
 * whatever was there before. To repeat a row of such commands from its start, after any part of it
 * has been done, gives what doing it once gives: what the part has left over is set or removed again
 * on the way. It may meet a key of the type that this gets later in the row, and fail: that command
 * does not matter, since the key gets another type behind it. Commands for expiries do nothing where
 * their key or field is missing; but then servers do not pass them on, so a log has none.
 *
 * There is one thing that such a row does without saying so: with its last element a collection goes,
 * and its expiry with it. When that is repeated, there may be an element of later, and the expiry
 * stays. So a batch with PEXPIREAT and with a command that removes elements is a transaction.
 *
 * INVARIANTS
 *
 *   1. A batch ends at the end of a unit. The log's own MULTI and EXEC are left out: nobody reads
 *      from the server meanwhile.
 *   2. What may take the marker away (FLUSHALL, SWAPDB …) is never outside of a transaction. SWAPDB
 *      takes it along: there it is deleted first.
 *   3. Batches are cut at the same places when they are made again from where one has ended.
 *   4. Memory: a batch, and one record.
 *   5. The marks of an earlier restore that are in the log are left out: between two markers of this one
 *      they would say of the server what is not so.
 */
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import {
  type Expiring,
  holdText,
  isWord,
  type TimeArgument,
  timeArgument,
  tooLong,
} from "./restore-held.ts";
import { isMarkRecord } from "./restore-marker.ts";
import { SetRow } from "./restore-set-row.ts";

const keptBytes = 600 * 2 ** 20;
const batchBytes = 256 * 1024;
const batchRecords = 1000;
/** So much is taken from an encoder at once that its buffer is not grown for it. */
const partBytes = 48 * 1024;

/** Commands that set or remove, by the length of their names. Of ZADD only that without options. */
const repeatable: readonly (readonly string[] | undefined)[] = byLength([
  ...["set", "del", "unlink", "mset", "setrange", "setbit", "pexpireat", "persist", "select"],
  ...["hset", "hmset", "hdel", "hpexpireat", "hpersist", "sadd", "srem", "zadd", "zrem"],
]);
/** Of them, those that may remove a collection with its last element. */
const removing: ReadonlySet<string> = new Set(["hdel", "srem", "zrem"]);

function byLength(names: readonly string[]): string[][] {
  const lists: string[][] = [];
  for (const name of names) (lists[name.length] ??= []).push(name);
  return lists;
}

export type ReplayPosition = {
  /** Of the log, from the start of its range. */
  readonly bytes: number;
  readonly database: number | undefined;
};

export type Batch = {
  readonly parts: readonly Uint8Array[];
  /** How many replies it gets. */
  readonly commands: number;
  /** Records of the log in it. */
  readonly records: number;
  /** Whether it may be done in part, and then again from its start. */
  readonly isRepeatable: boolean;
};

/** What a batch is made of. */
export type BatchFacts = {
  readonly isRepeatable: boolean;
  readonly hasExpiry: boolean;
  readonly hasRemoval: boolean;
};

/** What stands behind a batch. */
export type BatchMark = {
  readonly key: string;
  readonly value: string;
  /** Whether a batch that is repeatable by itself is so behind those that are under way. */
  readonly isRepeatable: boolean;
};

export type MarkMaker = (at: ReplayPosition, facts: BatchFacts) => BatchMark;

export class LogCommands {
  /** Whether the log has come to where an earlier restore had begun and not ended. */
  isInside: boolean;
  readonly #scanner: RecordScanner;
  readonly #marker: MarkMaker;
  readonly #isOld: boolean;
  readonly #mark: string | undefined;
  readonly #body = new RespEncoder();
  readonly #row = new SetRow();
  #records = 0;
  /** Records of the batch that something is sent for. */
  #sent = 0;
  /** Replies to the batch so far. */
  #replies = 0;
  #size = 0;
  #parts: Uint8Array[] = [];
  #isRepeatable = true;
  #hasExpiry = false;
  #hasRemoval = false;
  #hasSwap = false;
  /** The database that is selected. */
  #now: number | undefined;
  readonly #slice = new Slice();
  readonly #pair = [new Slice(), new Slice()] as const;

  /**
   * `marker` gives the key that tells of a position, and its value; `isOld` says that the server is
   * older than 6.2; `mark` is the marker's key where the log may have it.
   */
  constructor(
    from: ReplayPosition,
    marker: MarkMaker,
    {
      isOld = false,
      mark,
      isInside = false,
    }: { isOld?: boolean; mark?: string | undefined; isInside?: boolean } = {},
  ) {
    this.isInside = isInside;
    this.#isOld = isOld;
    this.#mark = mark;
    this.#scanner = new RecordScanner({ offset: from.bytes, keepBytes: keptBytes });
    this.#marker = marker;
    this.#now = from.database;
  }

  /** Takes a chunk of the log; gives the batches that are full. */
  *push(chunk: Uint8Array): Generator<Batch> {
    const scanner = this.#scanner;
    scanner.push(chunk);
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      this.#take();
      if (scanner.unitStart !== undefined) continue;
      if (this.#size >= batchBytes || this.#sent >= batchRecords) yield this.#batch();
    }
  }

  /** The last batch. @throws Failure DATA_TORN */
  finish(): Batch | undefined {
    const tail = this.#scanner.tail();
    if (tail.kind !== "whole") {
      const found = `it ends inside the ${tail.kind} that starts at byte ${tail.offset}`;
      throw new Failure("DATA_TORN", `Cannot replay a log: ${found}`, { offset: tail.offset });
    }
    return this.#sent === 0 ? undefined : this.#batch();
  }

  #take(): void {
    const scanner = this.#scanner;
    this.#records++;
    if (scanner.argc === 1 && (this.#is(0, "multi") || this.#is(0, "exec"))) return;
    if (this.#mark !== undefined && isMarkRecord(scanner, this.#mark)) {
      this.isInside = this.#is(0, "set");
      return;
    }
    if (this.#sent === 0) this.#begin();
    this.#sent++;
    this.#size += scanner.end - scanner.start;
    if (scanner.argc === 3 && this.#is(0, "set") && this.#addToRow()) return;
    this.#flushRow();
    this.#replies++;
    if (this.#is(0, "swapdb")) this.#hasSwap = true;
    else if (this.#is(0, "flushall")) this.isInside = false;
    this.#isRepeatable &&= this.#mayRepeat();
    this.#now = scanner.database ?? this.#now;
    this.#copyRecord();
    if (this.#body.length >= partBytes) this.#parts.push(this.#body.take());
  }

  #addToRow(): boolean {
    const [key, value] = this.#pair;
    const isThere = this.#scanner.argument(1, key) && this.#scanner.argument(2, value);
    if (!isThere || !this.#row.add(key, value)) return false;
    if (this.#row.isFull) this.#flushRow();
    return true;
  }

  #flushRow(): void {
    this.#replies += this.#row.flush(this.#body);
    if (this.#body.length >= partBytes) this.#parts.push(this.#body.take());
  }

  #mayRepeat(): boolean {
    const scanner = this.#scanner;
    if (!scanner.argument(0, this.#slice)) return false;
    const name = repeatable[this.#slice.length]?.find(this.#isName);
    if (name === undefined) return false;
    if (name === "pexpireat") this.#hasExpiry = true;
    else if (removing.has(name)) this.#hasRemoval = true;
    if (this.#hasExpiry && this.#hasRemoval) return false;
    if (name !== "zadd") return true;
    const score = scanner.argument(2, this.#slice) ? this.#slice.bytes[this.#slice.start] : 0;
    // A sign, a point or a digit: no option.
    return score !== undefined && score >= 43 && score <= 57;
  }

  readonly #isName = (name: string): boolean => this.#is(0, name);

  #copyRecord(): void {
    const scanner = this.#scanner;
    const time = timeArgument(scanner, this.#slice);
    if (time !== undefined) {
      if (this.#isOld && scanner.argc > 4 && this.#is(0, "set")) this.#split(time);
      else this.#copyMoved(time);
      return;
    }
    if (!scanner.raw(this.#slice)) throw tooLong(scanner);
    const { bytes, start, end } = this.#slice;
    this.#body.raw(bytes, start, end);
  }

  #begin(): void {
    this.#size = 0;
    this.#replies = 0;
    this.#isRepeatable = true;
    this.#hasExpiry = false;
    this.#hasRemoval = false;
    this.#hasSwap = false;
    if (this.#now === undefined) return;
    this.#body.command("SELECT", this.#now);
    this.#replies++;
  }

  #batch(): Batch {
    this.#flushRow();
    const { key, value, isRepeatable } = this.#marker(
      { bytes: this.#scanner.goodEnd, database: this.#now },
      {
        isRepeatable: this.#isRepeatable,
        hasExpiry: this.#hasExpiry,
        hasRemoval: this.#hasRemoval,
      },
    );
    const body = this.#body;
    let commands = this.#replies + 2;
    body.command("SELECT", 0);
    body.command("SET", key, value);
    if (this.#now !== undefined) {
      body.command("SELECT", this.#now);
      commands++;
    }
    const head: Uint8Array[] = [];
    if (!isRepeatable) {
      body.command("EXEC");
      const before = new RespEncoder();
      before.command("MULTI");
      commands += 2;
      if (this.#hasSwap) {
        before.command("SELECT", 0);
        before.command("DEL", key);
        commands += 2;
      }
      head.push(before.take());
    }
    const parts = [...head, ...this.#parts, body.take()];
    const batch = { parts, commands, records: this.#records, isRepeatable };
    this.#parts = [];
    this.#sent = 0;
    this.#records = 0;
    return batch;
  }

  #copyMoved({ index, of, isSeconds }: TimeArgument): void {
    const { argc } = this.#scanner;
    this.#body.array(argc);
    for (let i = 0; i < argc; i++) {
      if (i === index) this.#copyTime(i, of, isSeconds);
      else this.#copyArgument(i);
    }
  }

  /** `SET key value … PXAT time` for servers before 6.2: the time by a command of its own. */
  #split({ index, of, isSeconds }: TimeArgument): void {
    const { argc } = this.#scanner;
    this.#body.array(argc - 2);
    for (let i = 0; i < argc; i++) if (i !== index && i !== index - 1) this.#copyArgument(i);
    this.#body.array(3);
    this.#body.bulkText(isSeconds ? "EXPIREAT" : "PEXPIREAT");
    this.#copyArgument(1);
    this.#copyTime(index, of, isSeconds);
    this.#replies++;
  }

  #copyTime(index: number, of: Expiring, isSeconds: boolean): void {
    if (!this.#scanner.argument(index, this.#slice)) throw tooLong(this.#scanner);
    const text = holdText(this.#slice.latin1(), of, isSeconds);
    this.#body.bulk(Buffer.from(text, "latin1"));
  }

  #copyArgument(index: number): void {
    if (!this.#scanner.argument(index, this.#slice)) throw tooLong(this.#scanner);
    const { bytes, start, end } = this.#slice;
    this.#body.bulk(bytes, start, end);
  }

  #is(index: number, word: string): boolean {
    return isWord(this.#scanner, index, word, this.#slice);
  }
}
