/** The end of what is shown of a long name. */
const ellipsis = "…";

/**
 * Bytes as text that is safe on any terminal and can be read back: the escapes of `redis-cli`,
 * without its quotes.
 */
export function escapeBytes(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let text = "";
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    text += escapes[byte] ?? (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : hex(byte));
  }
  return text;
}

const escapes: Readonly<Record<number, string>> = {
  7: "\\a",
  8: "\\b",
  9: "\\t",
  10: "\\n",
  13: "\\r",
  34: '\\"',
  92: "\\\\",
};

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

/** A name that is shown between quotes, and not in full where that would fill the screen. */
export function quoteName(escaped: string, maxLength = 80): string {
  if (escaped.length <= maxLength) return `"${escaped}"`;
  // An escape is not cut in half.
  const shown = escaped.slice(0, maxLength).replace(/\\(x[0-9a-f]?)?$/, "");
  return `"${shown}"${ellipsis}`;
}

/** A message or a path in one line: its control characters could otherwise steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    escapeCodePoint(character.codePointAt(0) as number),
  );
}

function escapeCodePoint(code: number): string {
  return code < 256 ? hex(code) : `\\u{${code.toString(16)}}`;
}

/** `1234567` as "1,234,567". */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

const byteUnits = ["kB", "MB", "GB", "TB", "PB"] as const;

/** Three digits or a little more: "332 B", "12.3 kB", "227 MB". */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  let unit: string = "B";
  for (const next of byteUnits) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return `${value.toFixed(value < 99.95 ? 1 : 0)} ${unit}`;
}

const spans = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
] as const;

/** The two greatest units: "3d 4h", "2m 5s", "12s", "350ms". */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = Math.round(ms / 1000);
  const first = spans.findIndex(([, size]) => seconds >= size);
  let rest = seconds;
  const parts: string[] = [];
  for (const [unit, size] of spans.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.join(" ");
}

/** In UTC, to the second or the millisecond as it was given; the number where no date has it. */
export function formatTime(ms: number): string {
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return `${ms} ms`;
  return date.toISOString().replace(".000Z", "Z");
}

/** "1 key", "2 keys". */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
