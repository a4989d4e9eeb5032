/**
 * What a recorder of a cluster remembers: its shards, and who had which slots when.
 *
 * WHY. A shard's log lies in a folder that is named by the shard's key, and a key lives longer than any
 * node. So what a key means has to be there after a restart. And a key of the data set belongs to the
 * shard that had its slot at that time: while slots move, the logs of both shards have it, and a server
 * that had the slot once may still have it in its snapshot. Whoever restores the cluster as it was
 * has to know whom to believe.
 *
 * FORMAT of `cluster.json`, version 1: what was seen last.
 *
 *   {"format":1,"shards":[{"key":…,"isGone":false,"nodes":[ids, the master's first],
 *     "slots":[[first,last]…],"members":[{"host":…,"port":…,"role":"master"}…]}…]}
 *
 * FORMAT of `slots.jsonl`, version 1: one line for each change, oldest first, and each with all shards.
 *
 *   {"format":1,"windowMs":5012,"shards":[{"key":…,"slots":[[0,5460]],"ms":…,
 *     "position":{"replicationId":…,"offset":…,"ms":…}}…]}
 *
 *   ms         when it was seen that the slots are so, by the clock of the shard's source
 *   windowMs   it has become so within that many milliseconds before; null where that is not known,
 *              since nobody looked: at the first line, and the first one after a restart
 *   position   up to where the shard's log went then, and when that was written; null where there was none
 *
 * INVARIANTS
 *
 *   1. `cluster.json` is replaced as a whole; a line of `slots.jsonl` is there as a whole, or is cut off
 *      when the file is opened. Both are synced before the call returns.
 *   2. Whatever is wrong in them is refused by name. A key is a name of a folder: it has no other signs
 *      than letters, digits, "-" and "_".
 *
 * REJECTED. Both in one file: the history would be written again at each change of a replica.
 */
import { join } from "node:path";
import { Failure } from "../base/errors.ts";
import { isReplicationId } from "../codec/aof/annotation.ts";
import type { Instance, Member, SlotRange } from "../link/instance.ts";
import { type Disk, openIfThere, readAt, readSmall, writeAll, writeSmall } from "../log/disk.ts";
import type { Moment } from "../log/gap-list.ts";

const stateName = "cluster.json";
const historyName = "slots.jsonl";
/** As clusters have them; more is no cluster. */
export const maxShards = 1000;
const maxStateBytes = 16 * 1024 * 1024;
const lastSlot = 16_383;

/** A shard that was seen; one that is gone has a spool all the same. */
export type KnownShard = { readonly instance: Instance; readonly isGone: boolean };

/** What one shard owns at a moment. */
export type Ownership = {
  readonly key: string;
  readonly slots: readonly SlotRange[];
  readonly ms: number;
  readonly position: Moment | null;
};

export type OwnershipChange = {
  readonly windowMs: number | null;
  readonly shards: readonly Ownership[];
};

/** The spool of a shard. */
export function shardFolder(folder: string, key: string): string {
  return join(folder, "shards", key);
}

/** Whether a folder has been written by a recorder of a cluster. */
export async function isClusterFolder(disk: Disk, folder: string): Promise<boolean> {
  return (await disk.list(folder)).includes(stateName);
}

/** @throws Failure where a key cannot be the name of a folder, or there are too many */
export function checkInstances(instances: readonly Instance[]): void {
  if (instances.length > maxShards) {
    throw new Failure("LIMIT_EXCEEDED", `Cannot record ${instances.length} shards: too many`);
  }
  const bad = instances.find(({ key }) => !isKey(key));
  if (bad === undefined) return;
  const name = JSON.stringify(bad.key.slice(0, 100));
  throw new Failure("PROTOCOL_ERROR", `Cannot record the shard ${name}: that is no id of a node`);
}

export class ClusterFile {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly known: readonly KnownShard[];
  #historyBytes: number | undefined;
  #saved = "";

  private constructor(disk: Disk, folder: string, known: readonly KnownShard[]) {
    this.#disk = disk;
    this.#folder = folder;
    this.known = known;
  }

  /** @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, FILE_FAILED */
  static async open(disk: Disk, folder: string): Promise<ClusterFile> {
    const path = join(folder, stateName);
    const bytes = await readSmall(disk, path, maxStateBytes);
    const known = bytes === undefined ? [] : parseState(bytes, path);
    return new ClusterFile(disk, folder, known);
  }

  /** Replaces what is remembered, if it is something else. */
  async save(shards: readonly KnownShard[]): Promise<void> {
    const text = `${JSON.stringify({ format: 1, shards: shards.map(toJson) })}\n`;
    if (text === this.#saved) return;
    const path = join(this.#folder, stateName);
    await writeSmall(this.#disk, `${path}.part`, Buffer.from(text));
    await this.#disk.rename(`${path}.part`, path);
    await this.#disk.syncFolder(this.#folder);
    this.#saved = text;
  }

  /** Adds a line to the history. */
  async append(change: OwnershipChange): Promise<void> {
    const path = join(this.#folder, historyName);
    const isNew = !(await this.#disk.list(this.#folder)).includes(historyName);
    const file = await this.#disk.open(path, isNew ? "create" : "write");
    try {
      const at = this.#historyBytes ?? (await endOfLines(file));
      // What a line that failed, or a crash, has left behind it.
      if ((await file.size()) > at) await file.truncate(at);
      this.#historyBytes = at;
      const line = Buffer.from(`${JSON.stringify({ format: 1, ...change })}\n`);
      await writeAll(file, line, at);
      await file.sync();
      this.#historyBytes = at + line.length;
    } finally {
      await file.close();
    }
    if (isNew) await this.#disk.syncFolder(this.#folder);
  }
}

/** A line of the history that is there as a whole, and where the next one begins. */
export type HistoryLine = {
  readonly change: OwnershipChange | Failure;
  readonly end: number;
};

/** More than any cluster gives: a thousand shards with all slots scattered over them. */
const maxLineBytes = 8 * 1024 * 1024;

/**
 * The history behind the first `from` bytes, oldest first. A line that is damaged is a Failure, and read over.
 *
 * @throws Failure of the disk; DATA_CORRUPT where a line does not end
 */
export async function* readHistory(
  disk: Disk,
  folder: string,
  from = 0,
): AsyncGenerator<HistoryLine, void, void> {
  const path = join(folder, historyName);
  const file = await openIfThere(disk, path);
  if (file === undefined) return;
  try {
    for (let at = from, size = endPieceBytes; ; ) {
      const piece = await readAt(file, at, size);
      let start = 0;
      for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, start)) {
        const line = Buffer.from(piece.subarray(start, end)).toString("utf8");
        start = end + 1;
        yield { change: tryParse(line, path), end: at + start };
      }
      // What is behind the last line end is being written, or was torn off.
      if (piece.length < size) return;
      at += start;
      if (start === 0) size *= 2;
      if (size > maxLineBytes) {
        throw new Failure(
          "DATA_CORRUPT",
          `Cannot read "${path}": a line at byte ${at} is too long`,
        );
      }
    }
  } finally {
    await file.close();
  }
}

function tryParse(line: string, path: string): OwnershipChange | Failure {
  try {
    return parseOwnershipChange(line, path);
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    return cause;
  }
}

type OpenFile = Awaited<ReturnType<Disk["open"]>>;

const endPieceBytes = 64 * 1024;

/** Behind the last line end. */
async function endOfLines(file: OpenFile): Promise<number> {
  for (let end = await file.size(); end > 0; ) {
    const start = Math.max(0, end - endPieceBytes);
    const piece = await readAt(file, start, end - start);
    const at = piece.lastIndexOf(10);
    if (at >= 0) return start + at + 1;
    end = start;
  }
  return 0;
}

function toJson({ instance, isGone }: KnownShard): object {
  const { key, nodes = [], slots = [] } = instance;
  const members = instance.members.flatMap(({ endpoint, role }) =>
    "host" in endpoint ? [{ host: endpoint.host, port: endpoint.port, role }] : [],
  );
  return { key, isGone, nodes, slots, members };
}

function parseState(bytes: Uint8Array, path: string): KnownShard[] {
  const state = parseJson(bytes, path);
  const format = isRecord(state) ? state["format"] : undefined;
  if (format !== 1) {
    const code = typeof format === "number" ? "DATA_UNSUPPORTED" : "DATA_CORRUPT";
    throw new Failure(code, `Cannot read "${path}": its format is ${JSON.stringify(format)}`);
  }
  const shards = (state as { shards?: unknown }).shards;
  if (!Array.isArray(shards) || shards.length > maxShards * 10) throw notOurs(path, "shards");
  const known = shards.map((shard: unknown, index) => toShard(shard, `${path}`, index));
  const keys = new Set(known.map(({ instance }) => instance.key));
  if (keys.size < known.length) throw notOurs(path, "keys, of which two are the same");
  return known;
}

function parseJson(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new Failure("DATA_CORRUPT", `Cannot read "${path}": it is no JSON`, { cause });
  }
}

function toShard(value: unknown, path: string, index: number): KnownShard {
  const { key, isGone, nodes, slots, members } = isRecord(value) ? value : {};
  const isShard =
    isKey(key) &&
    typeof isGone === "boolean" &&
    Array.isArray(nodes) &&
    nodes.every((node) => typeof node === "string") &&
    Array.isArray(slots) &&
    slots.every(isSlotRange) &&
    Array.isArray(members);
  if (!isShard) throw notOurs(path, `shard ${index + 1}`);
  const all = members.map((member: unknown) => toMember(member, path));
  return { instance: { key, nodes, slots, members: all }, isGone };
}

function toMember(value: unknown, path: string): Member {
  const { host, port, role } = isRecord(value) ? value : {};
  const isPort = typeof port === "number" && Number.isInteger(port) && port > 0 && port < 65_536;
  const isRole = role === "master" || role === "replica";
  if (typeof host !== "string" || !isPort || !isRole) throw notOurs(path, "a server");
  return { endpoint: { host, port }, role, isUp: true };
}

function notOurs(path: string, what: string): Failure {
  return new Failure("DATA_CORRUPT", `Cannot read "${path}": it has wrong ${what}`, {
    hint: "Move it away: the shards are found again, but under new names if their masters changed.",
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isKey(value: unknown): value is string {
  return typeof value === "string" && /^[\w-]{1,100}$/.test(value);
}

function isSlotRange(value: unknown): value is SlotRange {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [first, last] = value as unknown[];
  return isSlot(first) && isSlot(last) && first <= last;
}

function isSlot(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= lastSlot;
}

/** A line of the history. @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED */
export function parseOwnershipChange(line: string, where: string): OwnershipChange {
  const value = parseJson(Buffer.from(line), where);
  const { format, windowMs, shards } = isRecord(value) ? value : {};
  if (typeof format === "number" && format !== 1) {
    throw new Failure("DATA_UNSUPPORTED", `Cannot read "${where}": its format is ${format}`);
  }
  const isWindow = windowMs === null || isCount(windowMs);
  if (format === 1 && isWindow && Array.isArray(shards) && shards.every(isOwnership)) {
    return { windowMs, shards };
  }
  throw new Failure("DATA_CORRUPT", `Cannot read "${where}": it is no change of slots`);
}

function isOwnership(value: unknown): value is Ownership {
  const { key, slots, ms, position } = isRecord(value) ? value : {};
  const isSlots = Array.isArray(slots) && slots.every(isSlotRange);
  return isKey(key) && isSlots && isCount(ms) && (position === null || isMoment(position));
}

function isMoment(value: unknown): boolean {
  const { replicationId, offset, ms } = isRecord(value) ? value : {};
  const isId = typeof replicationId === "string" && isReplicationId(replicationId);
  return isId && isCount(offset) && isCount(ms);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
