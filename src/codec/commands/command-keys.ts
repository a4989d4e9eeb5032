/**
 * Which keys a command changes, told from its arguments alone.
 *
 * WHY. A log can be searched for a key only if it is known of each command what it may change. The
 * table knows this of every command that servers record; for any other command, and where the
 * arguments do not say, the answer is "unknown", and whoever asks has to take it for all keys.
 *
 * What is found may be too much, never too little: the argument behind each word STORE of a SORT
 * counts as a key, also where that word is a pattern; and so do the ids of XREADGROUP.
 *
 * It runs for every command of a log, so it looks names up by their bytes and allocates nothing.
 */
import { equalBytes, fromLatin1, Slice } from "../../base/bytes.ts";
import { writeCommands } from "./table.ts";

/**
 * Where keys stand among the arguments, 0 being the name: at a number; at each `step` from `from` to
 * `to`, where -1 is the last; as many as the argument `count` says, from `first` on; behind each of the
 * words `option`, or all behind the word `rest`, looked for from `from` on. Or they are no arguments:
 * all keys (of all databases, of the selected one, of some hash slots), or made from a pattern.
 */
export type KeyPlace =
  | number
  | { readonly from: number; readonly to: number; readonly step: number }
  | { readonly count: number; readonly first: number; readonly step: number }
  | { readonly option: readonly string[]; readonly from: number }
  | { readonly rest: string; readonly from: number }
  | "all"
  | "db"
  | "slots"
  | "pattern";

export type WriteCommand = {
  /** In upper case; two words where the first one alone does not say what it does. */
  readonly name: string;
  /** How the keys hang together; "opaque": the arguments do not say what is changed. */
  readonly kind:
    | "self"
    | "self-multi"
    | "guarded-multi"
    | "member-move"
    | "derive"
    | "move"
    | "move-db"
    | "swap"
    | "wipe"
    | "wipe-slots"
    | "opaque"
    | "global"
    | "message"
    | "control";
  /** Keys whose value, existence or time to live may change. */
  readonly write: readonly KeyPlace[];
  /** Keys whose contents decide what is written, beside those that are written. */
  readonly read?: readonly KeyPlace[];
};

/** What is looked at: a record or a request. */
export type Arguments = {
  readonly argc: number;
  /** False: it was not kept. */
  argument(index: number, slice: Slice): boolean;
};

type Entry = {
  /** In lower case. */
  readonly word: Uint8Array;
  command: WriteCommand | undefined;
  readonly second: Entry[];
};

/** A power of two, several times the number of first words, so that most look-ups end at once. */
const slots = 1024;
const longestWord = 32;

const table: (Entry | undefined)[] = Array.from({ length: slots });
for (const command of writeCommands) enter(command);

function enter(command: WriteCommand): void {
  const [first = "", second] = command.name.toLowerCase().split(" ");
  const word = fromLatin1(first);
  let slot = slotOf(word, 0, word.length);
  for (let there = table[slot]; there !== undefined; there = table[slot]) {
    if (equalBytes(there.word, word)) break;
    slot = (slot + 1) & (slots - 1);
  }
  const entry = table[slot] ?? { word, command: undefined, second: [] };
  table[slot] = entry;
  if (second === undefined) entry.command = command;
  else entry.second.push({ word: fromLatin1(second), command, second: [] });
}

/** Three letters and the length tell nearly all names apart. */
function slotOf(bytes: Uint8Array, start: number, end: number): number {
  const first = (bytes[start] as number) | 32;
  const middle = (bytes[(start + end) >>> 1] as number) | 32;
  const last = (bytes[end - 1] as number) | 32;
  return ((first * 31 + middle) * 31 + last + (end - start) * 5) & (slots - 1);
}

export class CommandKeys {
  readonly #slice = new Slice();
  /** Runs of arguments: from, to and step of each. */
  #runs = new Int32Array(3 * 8);
  #end = 0;
  #at = 0;
  #next = 0;

  /** The command that a record is, or undefined where the table does not have it. */
  find(args: Arguments): WriteCommand | undefined {
    if (!args.argument(0, this.#slice)) return undefined;
    const { bytes, start, end } = this.#slice;
    if (end === start || end - start > longestWord) return undefined;
    let slot = slotOf(bytes, start, end);
    for (let entry = table[slot]; entry !== undefined; entry = table[slot]) {
      if (this.#is(entry.word)) return entry.command ?? this.#findSecond(entry, args);
      slot = (slot + 1) & (slots - 1);
    }
    return undefined;
  }

  #findSecond(entry: Entry, args: Arguments): WriteCommand | undefined {
    if (args.argc < 2 || !args.argument(1, this.#slice)) return undefined;
    for (const { word, command } of entry.second) if (this.#is(word)) return command;
    return undefined;
  }

  /**
   * Finds the arguments that are keys, for `next()` to tell. False: they are not known, as of a
   * script, or of arguments that were not kept. `places` is what the command writes or reads.
   */
  locate(command: WriteCommand, places: readonly KeyPlace[], args: Arguments): boolean {
    this.#end = 0;
    this.#at = 0;
    this.#next = 0;
    if (command.kind === "opaque") return false;
    for (const place of places) if (!this.#locate(place, args)) return false;
    return true;
  }

  /** The number of the next argument that is a key, or 0 where there is none left. */
  next(): number {
    while (this.#at < this.#end) {
      const runs = this.#runs;
      if (this.#next === 0) this.#next = runs[this.#at] as number;
      const found = this.#next;
      if (found <= (runs[this.#at + 1] as number)) {
        this.#next += runs[this.#at + 2] as number;
        return found;
      }
      this.#at += 3;
      this.#next = 0;
    }
    return 0;
  }

  #locate(place: KeyPlace, args: Arguments): boolean {
    const last = args.argc - 1;
    if (typeof place === "number") return place <= last && this.#add(place, place, 1, args);
    if (typeof place === "string") return place !== "pattern";
    if ("to" in place) {
      const to = place.to < 0 ? args.argc + place.to : place.to;
      return this.#add(place.from, to, place.step, args);
    }
    if ("count" in place) {
      const count = this.#number(place.count, args);
      const to = place.first + (count - 1) * place.step;
      return count >= 0 && to <= last && this.#add(place.first, to, place.step, args);
    }
    if ("rest" in place) return this.#locateRest(place.rest, place.from, args);
    for (let i = place.from; i < last; i++) {
      if (!args.argument(i, this.#slice)) return false;
      if (place.option.some(this.#isOption) && !this.#add(i + 1, i + 1, 1, args)) return false;
    }
    return true;
  }

  readonly #isOption = (option: string): boolean => this.#is(fromLatin1(option.toLowerCase()));

  #locateRest(rest: string, from: number, args: Arguments): boolean {
    const word = fromLatin1(rest.toLowerCase());
    for (let i = from; i < args.argc; i++) {
      if (!args.argument(i, this.#slice)) return false;
      if (this.#is(word)) return this.#add(i + 1, args.argc - 1, 1, args);
    }
    return true;
  }

  /** A small number that an argument is, or -1. */
  #number(index: number, args: Arguments): number {
    if (index >= args.argc || !args.argument(index, this.#slice)) return -1;
    const { bytes, start, end } = this.#slice;
    if (end === start || end - start > 9) return -1;
    let value = 0;
    for (let i = start; i < end; i++) {
      const digit = (bytes[i] as number) - 48;
      if (digit < 0 || digit > 9) return -1;
      value = value * 10 + digit;
    }
    return value;
  }

  /** False: the last of them was not kept. */
  #add(from: number, to: number, step: number, args: Arguments): boolean {
    if (from > to) return true;
    if (!args.argument(to, this.#slice)) return false;
    if (this.#end === this.#runs.length) {
      const grown = new Int32Array(2 * this.#runs.length);
      grown.set(this.#runs);
      this.#runs = grown;
    }
    this.#runs[this.#end] = from;
    this.#runs[this.#end + 1] = to;
    this.#runs[this.#end + 2] = step;
    this.#end += 3;
    return true;
  }

  /** Whether the slice is this word, in either case; `word` is in lower case. */
  #is(word: Uint8Array): boolean {
    const { bytes, start, end } = this.#slice;
    if (end - start !== word.length) return false;
    for (let i = 0; i < word.length; i++) {
      if (lower(bytes[start + i] as number) !== word[i]) return false;
    }
    return true;
  }
}

function lower(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}
