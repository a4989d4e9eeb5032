/**
 * Comment lines in a log: when something was written, and up to where the log is known to be whole.
 *
 * WHY. A stock log says nothing of its own state: no position, no time finer than a second, no
 * checksum. Servers skip lines that start with "#", so that is where these things can stand without
 * costing the log its readers.
 *
 * FORMAT
 *
 *   timestamp   "#TS:" seconds CR LF           what follows was written in this second or later
 *   position    "#TM1:" id ":" offset ":" ms ":" sequence ":" data crc ":" line crc CR LF
 *
 *     id        40 hexadecimal digits: the replication id
 *     offset    the replication offset after all that stands before the line
 *     ms        when that had arrived, Unix time
 *     sequence  one more than in the line before
 *     data crc  CRC-32 of the bytes between the line before (or the start of the log) and this one
 *     line crc  CRC-32 of the line up to and including its last colon
 *
 * Decimal numbers have no leading zeros and are at most 2^53 - 1; hexadecimal digits are lower case.
 * `docs/formats/position-line.md` is the specification for others, with what a reader has to check.
 *
 * INVARIANT. `formatPositionLine()` of what `parseAnnotation()` gives is the line again.
 *
 * REJECTED: see `docs/decisions/0002-position-line.md`.
 */
import { crc32 } from "node:zlib";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { corrupt, unsupported } from "../../base/errors.ts";

/** A place in the history of an instance. */
export type Position = {
  /** The replication id: 40 lower-case hexadecimal digits. */
  readonly replicationId: string;
  readonly offset: number;
};

export type PositionLine = Position & {
  readonly ms: number;
  readonly sequence: number;
  readonly dataCrc: number;
};

export type Annotation =
  | { readonly kind: "timestamp"; readonly seconds: number }
  | { readonly kind: "position"; readonly line: PositionLine }
  | { readonly kind: "comment" };

const comment: Annotation = { kind: "comment" };
const number = "(0|[1-9]\\d{0,15})";
const positionPattern = new RegExp(
  `^#TM1:([0-9a-f]{40}):${number}:${number}:${number}:([0-9a-f]{8}):([0-9a-f]{8})\r\n$`,
);

export function isReplicationId(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/**
 * Tells what an annotation says, given all its bytes with the line end; `offset` is where it stands.
 * A line that starts as one of ours does and goes on in another way is damage, not a comment.
 */
export function parseAnnotation(bytes: Uint8Array, offset: number): Annotation {
  const text = toLatin1(bytes);
  if (text.startsWith("#TS:")) {
    const seconds = /^#TS:(\d{1,15})\r\n$/.exec(text)?.[1];
    if (seconds === undefined) throw corrupt(offset, `Timestamp ${quote(text)}`);
    return { kind: "timestamp", seconds: Number(seconds) };
  }
  if (!text.startsWith("#TM")) return comment;
  const version = /^#TM(\d+):/.exec(text)?.[1];
  if (version !== undefined && version !== "1") {
    throw unsupported(offset, `Position line of version ${version.slice(0, 20)}`);
  }
  const line = parsePositionLine(text);
  if (line === undefined) throw corrupt(offset, `Damaged position line ${quote(text)}`);
  return { kind: "position", line };
}

/** A position line with its line end, one character a byte; undefined where anything is wrong. */
export function parsePositionLine(text: string): PositionLine | undefined {
  const fields = positionPattern.exec(text);
  if (fields === null) return undefined;
  const [, replicationId = "", offset, ms, sequence, dataCrc = "", lineCrc = ""] = fields;
  if (crc32(text.slice(0, -10)) !== Number.parseInt(lineCrc, 16)) return undefined;
  const line = {
    replicationId,
    offset: Number(offset),
    ms: Number(ms),
    sequence: Number(sequence),
    dataCrc: Number.parseInt(dataCrc, 16),
  };
  const isSafe = [line.offset, line.ms, line.sequence].every(Number.isSafeInteger);
  return isSafe ? line : undefined;
}

export function formatPositionLine(line: PositionLine): Uint8Array {
  const { replicationId, offset, ms, sequence, dataCrc } = line;
  const covered = `#TM1:${replicationId}:${offset}:${ms}:${sequence}:${hex8(dataCrc)}:`;
  return fromLatin1(`${covered}${hex8(crc32(covered))}\r\n`);
}

export function formatTimestamp(seconds: number): Uint8Array {
  return fromLatin1(`#TS:${seconds}\r\n`);
}

function hex8(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function quote(text: string): string {
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}…` : text);
}
