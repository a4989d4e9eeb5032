/**
 * The manifest of a multi-part append-only file: which files it consists of, and in which order.
 *
 * FORMAT. Text; a line has at most 1,024 bytes with its LF.
 *
 *   line     "#" anything LF                            a comment, dropped by servers as by us
 *            pair *( white space pair ) LF              at least three pairs, in any order
 *   pair     "file" name, "seq" number, "type" letter   all required, upper or lower case
 *            "startoffset" number, "endoffset" number   written by Redis 8.0 and later
 *            key value                                  kept, since others may know it
 *   letter   "b" base, at most one; "i" increment, `seq` ascending; "h" history, no longer needed
 *
 * Words are split and quoted as in `resp/words.ts`. Base and increments count their `seq`
 * independently of each other. File names are taken from here only, never made up from `seq`.
 *
 * The two offsets are replication offsets only while the server has a backlog, and numbers of
 * commands otherwise: they are not places in a file.
 *
 * What servers refuse is refused, with the line: no line at all, a blank one, one without LF (the
 * last one included), a `seq` of 0, a name with a slash or a backslash, two bases, increments out of
 * order. Beyond that, "." and ".." are refused as names, and numbers that are not digits (servers
 * take what stands before the first other byte). Names must be UTF-8: anything else could not be
 * shown, nor joined to a path, without changing it.
 */
import { toLatin1 } from "../../base/bytes.ts";
import { corrupt, unsupported } from "../../base/errors.ts";
import { quoteWord, splitWords } from "../resp/words.ts";

export type ManifestEntry = {
  /** A plain name, in the manifest's own folder. */
  readonly file: string;
  readonly sequence: number;
  readonly startOffset?: number;
  readonly endOffset?: number;
  /** Keys that are not known here, with their values, in order. */
  readonly others?: readonly (readonly [key: string, value: string])[];
};

export type Manifest = {
  /** A snapshot, as RDB or as records; absent in a log that starts from nothing. */
  readonly base: ManifestEntry | undefined;
  /** In the order in which they are to be loaded, behind the base. */
  readonly increments: readonly ManifestEntry[];
  /** Files that wait to be deleted; they may be gone. */
  readonly history: readonly ManifestEntry[];
};

const maxLineBytes = 1024;
const LF = 10;
const HASH = 35;

type Line = { readonly bytes: Uint8Array; readonly offset: number; readonly number: number };
type Type = "b" | "i" | "h";

export function parseManifest(bytes: Uint8Array): Manifest {
  let base: ManifestEntry | undefined;
  const increments: ManifestEntry[] = [];
  const history: ManifestEntry[] = [];
  let last = 0;
  for (const line of splitLines(bytes)) {
    const { entry, type } = parseEntry(line);
    if (type === "h") {
      history.push(entry);
    } else if (type === "b") {
      if (base !== undefined) throw wrong(line, "Second base");
      base = entry;
    } else {
      if (entry.sequence <= last) throw wrong(line, `Increment ${entry.sequence} after ${last}`);
      last = entry.sequence;
      increments.push(entry);
    }
  }
  return { base, increments, history };
}

/** The manifest as servers write it: base, history, increments. Refuses what it could not read. */
export function formatManifest({ base, increments, history }: Manifest): Uint8Array {
  const lines = [
    ...(base === undefined ? [] : [formatEntry(base, "b")]),
    ...history.map((entry) => formatEntry(entry, "h")),
    ...increments.map((entry) => formatEntry(entry, "i")),
  ];
  const bytes = Buffer.from(lines.join(""), "latin1");
  parseManifest(bytes);
  return bytes;
}

/** The names that servers give, `name` being their `appendfilename`. */
export const fileNames = {
  manifest: (name: string): string => `${name}.manifest`,
  base: (name: string, sequence: number, form: "rdb" | "aof"): string =>
    `${name}.${sequence}.base.${form}`,
  increment: (name: string, sequence: number): string => `${name}.${sequence}.incr.aof`,
};

/** The lines that are not comments. */
function splitLines(bytes: Uint8Array): Line[] {
  const lines: Line[] = [];
  let number = 0;
  for (let offset = 0; offset < bytes.length; ) {
    number++;
    const lf = bytes.indexOf(LF, offset);
    const end = lf < 0 ? bytes.length : lf;
    const line = { bytes: bytes.subarray(offset, end), offset, number };
    const size = end + 1 - offset;
    if (size > maxLineBytes) throw wrong(line, `Line of more than ${maxLineBytes} bytes`);
    // A comment may be the last line and not end; servers look for the end of other lines only.
    if (bytes[offset] !== HASH) {
      if (lf < 0) throw wrong(line, "Line without a line end");
      lines.push(line);
    }
    offset = end + 1;
  }
  if (number === 0) throw corrupt(0, "Empty manifest");
  return lines;
}

function parseEntry(line: Line): { readonly entry: ManifestEntry; readonly type: Type } {
  if (line.bytes.includes(0)) throw wrong(line, "Zero byte");
  const words = splitWords(line.bytes);
  if (words === undefined) throw wrong(line, "Quotes that do not fit");
  if (words.length === 0) throw wrong(line, "Blank line");
  if (words.length < 6 || words.length % 2 === 1) throw wrong(line, `${words.length} words`);
  const known = new Map<string, Uint8Array>();
  const others: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) {
    const [key, value] = [words[i] as Uint8Array, words[i + 1] as Uint8Array];
    const name = toLatin1(key).toLowerCase();
    if (keys.has(name)) known.set(name, value);
    else others.push([decode(key, line), decode(value, line)]);
  }
  const startOffset = readNumber(known.get("startoffset"), "startoffset", line);
  const endOffset = readNumber(known.get("endoffset"), "endoffset", line);
  const entry = {
    file: readFile(known.get("file"), line),
    sequence: readNumber(known.get("seq"), "seq", line) ?? 0,
    ...(startOffset === undefined ? {} : { startOffset }),
    ...(endOffset === undefined ? {} : { endOffset }),
    ...(others.length === 0 ? {} : { others }),
  };
  if (entry.sequence === 0) throw wrong(line, "No sequence number above 0");
  return { entry, type: readType(known.get("type"), line) };
}

const keys: ReadonlySet<string> = new Set(["file", "seq", "type", "startoffset", "endoffset"]);

function readFile(value: Uint8Array | undefined, line: Line): string {
  if (value === undefined || value.length === 0) throw wrong(line, "No file name");
  const file = decode(value, line);
  if (/[/\\]/.test(file) || file === "." || file === "..") {
    throw wrong(line, `File name ${JSON.stringify(file)}, which is a path,`);
  }
  return file;
}

function readType(value: Uint8Array | undefined, line: Line): Type {
  // Servers look at the first byte only.
  const letter = value === undefined ? "" : toLatin1(value, 0, Math.min(1, value.length));
  if (letter === "b" || letter === "i" || letter === "h") return letter;
  throw wrong(line, `File type ${JSON.stringify(letter)}`);
}

function readNumber(value: Uint8Array | undefined, key: string, line: Line): number | undefined {
  if (value === undefined) return undefined;
  const text = toLatin1(value);
  const number = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw wrong(line, `${key} ${JSON.stringify(text)}`);
  return number;
}

function decode(word: Uint8Array, line: Line): string {
  const text = Buffer.from(word).toString("utf8");
  if (Buffer.from(text, "utf8").equals(word)) return text;
  throw unsupported(line.offset, `Name that is not UTF-8 on line ${line.number} of the manifest`);
}

function formatEntry(entry: ManifestEntry, type: Type): string {
  const { file, sequence, startOffset, endOffset, others = [] } = entry;
  const pairs: (readonly [string, string])[] = [
    ["file", file],
    ["seq", String(sequence)],
    ["type", type],
    ...(startOffset === undefined ? [] : [["startoffset", String(startOffset)] as const]),
    ...(endOffset === undefined ? [] : [["endoffset", String(endOffset)] as const]),
    ...others,
  ];
  const quote = (word: string) => quoteWord(Buffer.from(word, "utf8"));
  return `${pairs.map(([key, value]) => `${quote(key)} ${quote(value)}`).join(" ")}\n`;
}

function wrong(line: Line, found: string) {
  return corrupt(line.offset, `${found} on line ${line.number} of the manifest`);
}
