/**
 * Splits a line into words as redis-cli and servers do it, and quotes a word so that it comes back.
 *
 *   word       bytes up to white space; a quoted part may stand anywhere in it, but ends it (in
 *              Valkey 9 a word goes on behind it)
 *   "…"        \xHH is a byte; \n \r \t \b \a as in C; \ before another byte is that byte
 *   '…'        \' is a quote; nothing else is special
 */

const SPACE = 32;
const DOUBLE = 34;
const SINGLE = 39;
const BACKSLASH = 92;
const LOWER_X = 120;

/** What a letter behind a backslash stands for. */
const escapes: ReadonlyMap<number, number> = new Map(
  Object.entries({ n: 10, r: 13, t: 9, b: 8, a: 7 }).map(([letter, byte]) => [
    letter.charCodeAt(0),
    byte,
  ]),
);

/** The words of a line, or undefined where a quote has no end or is not followed by white space. */
export function splitWords(line: Uint8Array): Uint8Array[] | undefined {
  const words: Uint8Array[] = [];
  const word = new Uint8Array(line.length);
  let at = 0;
  for (;;) {
    while (at < line.length && isSpace(line[at] as number)) at++;
    if (at === line.length) return words;
    let size = 0;
    while (at < line.length && !isSpace(line[at] as number)) {
      const byte = line[at++] as number;
      if (byte !== DOUBLE && byte !== SINGLE) {
        word[size++] = byte;
        continue;
      }
      const part = byte === DOUBLE ? readDouble(line, at) : readSingle(line, at);
      if (part === undefined) return undefined;
      at = part.end;
      if (at < line.length && !isSpace(line[at] as number)) return undefined;
      word.set(part.bytes, size);
      size += part.bytes.length;
    }
    words.push(word.slice(0, size));
  }
}

/** The word itself, or in quotes where it holds a byte that needs them. */
export function quoteWord(word: Uint8Array): string {
  if (word.length > 0 && word.every((byte) => isPlain(byte))) {
    return String.fromCharCode(...word);
  }
  let text = '"';
  for (const byte of word) text += quoteByte(byte);
  return `${text}"`;
}

type Part = { readonly bytes: readonly number[]; readonly end: number };

function readDouble(line: Uint8Array, start: number): Part | undefined {
  const bytes: number[] = [];
  for (let at = start; at < line.length; at++) {
    const byte = line[at] as number;
    if (byte === DOUBLE) return { bytes, end: at + 1 };
    if (byte !== BACKSLASH || at + 1 === line.length) {
      bytes.push(byte);
      continue;
    }
    const next = line[++at] as number;
    const code = next === LOWER_X ? hexByte(line, at + 1) : undefined;
    bytes.push(code ?? escapes.get(next) ?? next);
    if (code !== undefined) at += 2;
  }
  return undefined;
}

function readSingle(line: Uint8Array, start: number): Part | undefined {
  const bytes: number[] = [];
  for (let at = start; at < line.length; at++) {
    const byte = line[at] as number;
    if (byte === SINGLE) return { bytes, end: at + 1 };
    if (byte === BACKSLASH && line[at + 1] === SINGLE) at++;
    bytes.push(line[at] as number);
  }
  return undefined;
}

function hexByte(line: Uint8Array, at: number): number | undefined {
  const text = String.fromCharCode(line[at] ?? 0, line[at + 1] ?? 0);
  return /^[\da-f]{2}$/i.test(text) ? Number.parseInt(text, 16) : undefined;
}

function quoteByte(byte: number): string {
  if (byte === DOUBLE || byte === BACKSLASH) return `\\${String.fromCharCode(byte)}`;
  for (const [letter, code] of escapes) {
    if (code === byte) return `\\${String.fromCharCode(letter)}`;
  }
  if (byte >= SPACE && byte < 127) return String.fromCharCode(byte);
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

function isPlain(byte: number): boolean {
  // Servers forget the single quote here, and then cannot read their own manifest.
  const isSpecial = byte === DOUBLE || byte === SINGLE || byte === BACKSLASH;
  return byte > SPACE && byte < 127 && !isSpecial;
}

/** As C's `isspace()`. */
function isSpace(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13);
}
