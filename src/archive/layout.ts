/**
 * What lies where in a repository. All that a listing has to tell is in the names.
 *
 *   tidemark.json                              what it is: `repository.ts`
 *   keys/ID.json                               what a further key of it is told by: `repository.ts`
 *   instances/NAME/
 *     lease/…                                  who writes: `lease.ts`
 *     sets/SET/snapshot.rdb.zst                a snapshot
 *     sets/SET/manifest.json                   written last: with it, the set is there
 *     sets/SET/verified.json                   written when all of it was read and found good
 *     sets/SET/keep.json                       as long as it is there, the set is not expired
 *     log/LINE/PIECE.aof.zst                   a piece of the log
 *   clusters/NAME/slots/…                      which shard had which slots: `cluster-slots.ts`
 *
 *   SET     2026-11-22T10-41-05.123Z-3fa9      when the snapshot was, by the source's clock; four
 *                                              random digits
 *   LINE    MS-ID-OFFSET                       one log without a gap: the position and the time of the
 *                                              base that it begins with; of the id, its first 8 digits
 *   PIECE   FIRST-LAST.FROM-TO.FROMMS-TOMS.BYTES.SHA256
 *                                              the sequence numbers of its first and last position
 *                                              lines; the offsets and times before its first byte and
 *                                              behind its last; its raw size; the sum of the object
 *
 * Numbers are decimal, padded with zeros, so that byte order is their order.
 *
 * WHY the sum in the name: a name says what the object must be, and no second object has to be
 * written for it. Two writers that ship the same piece write the same bytes under the same name.
 *
 * INVARIANT. `parse…()` of what `…Name()` gives is the same again; a name that is none of ours is
 * undefined, and left alone by everything.
 */
import type { Position } from "../codec/aof/annotation.ts";

export const repositoryObject = "tidemark.json";
const instances = "instances/";

/** What tells a further key of a repository; an id may have any printable character. */
export function keyObject(id: string): string {
  return `keys/${Buffer.from(id).toString("hex")}.json`;
}

/** A position with the time at which the log stood there, in Unix ms by the source's clock. */
export type Moment = Position & { readonly ms: number };

/** A part of a log, as its name tells it. */
export type PieceFacts = {
  /** Of its first and last position line. */
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly fromOffset: number;
  readonly toOffset: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly rawBytes: number;
  /** Of the object, in hexadecimal digits. */
  readonly sha256: string;
};

/** A log without a gap, as its name tells it. */
export type LineFacts = {
  readonly ms: number;
  readonly idPrefix: string;
  readonly offset: number;
};

const digits = { sequence: 12, offset: 16, ms: 13, bytes: 12 } as const;

function pad(value: number, width: number): string {
  return String(value).padStart(width, "0");
}

/** Names of instances: what is safe as a folder and in a shell. */
export function isInstanceName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/.test(name);
}

export function instancePrefix(instance: string): string {
  return `${instances}${instance}/`;
}

export function setPrefix(instance: string, set = ""): string {
  return `${instancePrefix(instance)}sets/${set === "" ? "" : `${set}/`}`;
}

export const setObjects = {
  snapshot: "snapshot.rdb.zst",
  manifest: "manifest.json",
  verified: "verified.json",
  keep: "keep.json",
} as const;

export function setObject(instance: string, set: string, object: keyof typeof setObjects): string {
  return `${setPrefix(instance, set)}${setObjects[object]}`;
}

export function leasePrefix(instance: string): string {
  return `${instancePrefix(instance)}lease/`;
}

export function logPrefix(instance: string, line = ""): string {
  return `${instancePrefix(instance)}log/${line === "" ? "" : `${line}/`}`;
}

export function lineName({ replicationId, offset, ms }: Moment): string {
  return `${pad(ms, digits.ms)}-${replicationId.slice(0, 8)}-${pad(offset, digits.offset)}`;
}

export function parseLineName(name: string): LineFacts | undefined {
  const [, ms, idPrefix = "", offset] = /^(\d{13})-([0-9a-f]{8})-(\d{16})$/.exec(name) ?? [];
  return ms === undefined ? undefined : { ms: Number(ms), idPrefix, offset: Number(offset) };
}

/** The object of a piece. */
export function pieceObject(instance: string, line: string, piece: PieceFacts): string {
  const { firstSequence, lastSequence, fromOffset, toOffset, fromMs, toMs } = piece;
  const parts = [
    `${pad(firstSequence, digits.sequence)}-${pad(lastSequence, digits.sequence)}`,
    `${pad(fromOffset, digits.offset)}-${pad(toOffset, digits.offset)}`,
    `${pad(fromMs, digits.ms)}-${pad(toMs, digits.ms)}`,
    pad(piece.rawBytes, digits.bytes),
    piece.sha256,
  ];
  return `${logPrefix(instance, line)}${parts.join(".")}.aof.zst`;
}

const piecePattern =
  /^(\d{12})-(\d{12})\.(\d{16})-(\d{16})\.(\d{13})-(\d{13})\.(\d{12})\.([0-9a-f]{64})\.aof\.zst$/;

/** What the last part of a piece's object name says. */
export function parsePieceName(name: string): PieceFacts | undefined {
  const fields = piecePattern.exec(name);
  if (fields === null) return undefined;
  const [firstSequence, lastSequence, fromOffset, toOffset, fromMs, toMs, rawBytes] = fields
    .slice(1, 8)
    .map(Number) as [number, number, number, number, number, number, number];
  const sha256 = fields[8] as string;
  return { firstSequence, lastSequence, fromOffset, toOffset, fromMs, toMs, rawBytes, sha256 };
}

/** A name for a set whose snapshot is of this time. `random` is four hexadecimal digits. */
export function setName(ms: number, random: string): string {
  return `${new Date(ms).toISOString().replaceAll(":", "-")}-${random}`;
}

/** When the snapshot of a set was, by its name. */
export function parseSetName(name: string): number | undefined {
  const found = /^(\d{4}-\d{2}-\d{2}T)(\d{2})-(\d{2})-(\d{2}\.\d{3}Z)-[0-9a-f]{4}$/.exec(name);
  if (found === null) return undefined;
  const [, day, hours, minutes, seconds] = found;
  const ms = Date.parse(`${day}${hours}:${minutes}:${seconds}`);
  return Number.isNaN(ms) ? undefined : ms;
}

/** The parts of an object's name; undefined where it is none of an instance's. */
export function splitObject(
  object: string,
): { readonly instance: string; readonly path: readonly string[] } | undefined {
  const [root, instance = "", ...path] = object.split("/");
  return root === "instances" && isInstanceName(instance) ? { instance, path } : undefined;
}
