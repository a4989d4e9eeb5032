/**
 * How expiries are put off while a log is replayed, and known again afterwards.
 *
 * WHY. A log is replayed hours or years after it was written. A server that executes `SET session … PXAT` with a
 * time long past deletes the key at once; so a later PERSIST, or another expiry that is still to come, would
 * find nothing, and the data would be other than they were. A log tells itself what expired: it has the DEL. So
 * for the time of the replay an expiry is another one, which no clock reaches:
 *
 *                                         keys                      fields of hashes
 *   before 2^42 ms (the year 2109)        about 2^52 ms later       about 2^46 - 2^43 ms later
 *   from then on                          as it is                  as it is
 *
 * Servers take times of keys up to 2^63 - 1, those of fields up to 2^46 - 1 (Redis). What is that far away need not be put off.
 *
 * INVARIANTS
 *
 *   1. What was put off is told by its time alone from what was not, so it can be moved back again and again. An
 *      expiry that is in the span of those that were put off (139 years, from 3920 and from 144,683 on)
 *      could not be told from them; it is refused.
 *   2. Both distances are whole seconds: some commands count in them.
 *
 * REJECTED. To add the same to all: times near the highest one become higher than it, and are refused or cut.
 */
import type { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";

export type Expiring = "keys" | "fields";

/** What is later does not expire while a log is replayed. */
export const heldBelowMs = 2 ** 42;
export const heldMs = { keys: wholeSeconds(2 ** 52), fields: wholeSeconds(2 ** 46 - 2 ** 43) };
/** The last expiry of a field that Redis takes. */
export const lastFieldMs = 2 ** 46 - 1;
/** Servers before 7.0 tell what is left of a key, which has to be added to a clock. */
const slackMs = 60_000;

function wholeSeconds(ms: number): number {
  return ms - (ms % 1000);
}

/** An expiry while a log is replayed. @throws Failure TARGET_CANNOT_HOLD */
export function hold(atMs: number | bigint, of: Expiring): number | bigint {
  if (atMs < heldBelowMs) return Math.max(Number(atMs), 0) + heldMs[of];
  if (!isHeld(atMs, of)) return atMs;
  const found = `expiries are put off to such times, of which ${atMs} ms is one`;
  throw new Failure("TARGET_CANNOT_HOLD", `Cannot replay the log: ${found}`, {
    hint: "Have a server load it as it is: --to-dir or --run.",
  });
}

/** What an expiry was before it was put off; undefined where it was not. */
export function heldTime(atMs: number | bigint, of: Expiring): number | undefined {
  return isHeld(atMs, of) ? Math.max(Number(atMs) - heldMs[of], 0) : undefined;
}

function isHeld(atMs: number | bigint, of: Expiring): boolean {
  const from = heldMs[of] - slackMs;
  return atMs >= from && atMs < from + heldBelowMs + 2 * slackMs;
}

/** An expiry as a command has it, put off; what is no number is left to the server to refuse. */
export function holdText(text: string, of: Expiring, isSeconds: boolean): string {
  if (!/^-?\d{1,19}$/.test(text)) return text;
  const ms = BigInt(text) * (isSeconds ? 1000n : 1n);
  const held = hold(ms, of);
  if (held === ms) return text;
  return String(isSeconds ? Math.floor(Number(held) / 1000) : held);
}

/** The record of a log, as its scanner shows it. */
export type LogRecord = {
  readonly argc: number;
  readonly start: number;
  argument(index: number, slice: Slice): boolean;
};

export type TimeArgument = {
  readonly index: number;
  readonly of: Expiring;
  readonly isSeconds: boolean;
};

/** Which argument of a record is an absolute time; undefined where none is. The slice is used. */
export function timeArgument(record: LogRecord, slice: Slice): TimeArgument | undefined {
  const { argc } = record;
  if (argc < 3 || !record.argument(0, slice)) return undefined;
  const is = (index: number, word: string) => isWord(record, index, word, slice);
  switch (slice.length) {
    case 3:
      return argc > 3 && is(0, "set") ? behindOption(record, 3, "keys", slice) : undefined;
    case 5:
      return is(0, "getex") ? behindOption(record, 2, "keys", slice) : undefined;
    case 6:
      if (is(0, "hsetex") || is(0, "hgetex")) return behindOption(record, 2, "fields", slice);
      if (!is(0, "msetex")) return undefined;
      return behindOption(record, 2 + 2 * numberAt(record, 1, slice), "keys", slice);
    case 7:
      return is(0, "restore") ? ofRestore(record, slice) : undefined;
    case 8:
      return is(0, "expireat") ? { index: 2, of: "keys", isSeconds: true } : undefined;
    case 9:
      if (is(0, "hexpireat")) return { index: 2, of: "fields", isSeconds: true };
      return is(0, "pexpireat") ? { index: 2, of: "keys", isSeconds: false } : undefined;
    case 10:
      return is(0, "hpexpireat") ? { index: 2, of: "fields", isSeconds: false } : undefined;
    case 14:
      return is(0, "restore-asking") ? ofRestore(record, slice) : undefined;
    default:
      return undefined;
  }
}

function ofRestore(record: LogRecord, slice: Slice): TimeArgument | undefined {
  if (numberAt(record, 2, slice) === 0) return undefined;
  for (let i = 4; i < record.argc; i++) {
    if (isWord(record, i, "absttl", slice)) return { index: 2, of: "keys", isSeconds: false };
  }
  return undefined;
}

/** What stands behind PXAT or EXAT; fields and values may be called so too. */
function behindOption(
  record: LogRecord,
  from: number,
  of: Expiring,
  slice: Slice,
): TimeArgument | undefined {
  for (let i = from; i < record.argc - 1; i++) {
    if (isWord(record, i, "fields", slice)) return undefined;
    const isSeconds = isWord(record, i, "exat", slice);
    if (isSeconds || isWord(record, i, "pxat", slice)) return { index: i + 1, of, isSeconds };
  }
  return undefined;
}

function numberAt(record: LogRecord, index: number, slice: Slice): number {
  const isThere = record.argument(index, slice) && slice.length < 17;
  const value = isThere ? Number(slice.latin1()) : Number.NaN;
  return Number.isSafeInteger(value) && value >= 0 ? value : 2 ** 31;
}

/** Whether an argument is this word, in either case; `word` is in lower case. @throws Failure LIMIT_EXCEEDED */
export function isWord(record: LogRecord, index: number, word: string, slice: Slice): boolean {
  if (!record.argument(index, slice)) {
    if (index < record.argc) throw tooLong(record);
    return false;
  }
  const { bytes, start, end } = slice;
  if (end - start !== word.length) return false;
  for (let i = 0; i < word.length; i++) {
    const byte = bytes[start + i] as number;
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte;
    if (lower !== word.charCodeAt(i)) return false;
  }
  return true;
}

/** For a record that was not kept whole. */
export function tooLong({ start }: LogRecord): Failure {
  const message = `Cannot replay a record that is longer than what is kept of one, at byte ${start}`;
  return new Failure("LIMIT_EXCEEDED", message, { offset: start });
}
