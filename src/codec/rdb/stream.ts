/**
 * Decodes streams: nodes full of entries, then what is known about the whole, then groups.
 *
 *   nodes      len, each: str of 16 raw bytes (master id, BE), str listpack
 *   about      len length | id last | v2: id first, id max deleted, len entries added
 *   groups     len, each: str name, id last delivered | v2: len entries read (2^64-1: unknown)
 *              pending: len, each: 16 raw bytes id, i64 delivered at ms, len deliveries
 *              consumers: len, each: str name, i64 seen ms | v3: i64 active ms (-1: never)
 *                         pending: len, each: 16 raw bytes id
 *              v5: released: len, each: 16 raw bytes id
 *   v4         len window s, len max ids, len producers, each: str name, len, each: str iid, id
 *              len added, len duplicates
 *
 * An id outside a node is two lengths; versions 1 to 5 are the types 15, 19, 21, 26, 27.
 *
 *   node listpack   count, deleted, fields n, n × field, 0, then for each entry:
 *                   flags (1: deleted, 2: the master's fields), ms - master, seq - master (mod 2^64),
 *                   flag 2: n × value, else: fields, each: field, value; number of elements before
 *
 * INVARIANTS that are checked: ids ascend, within a node and from node to node; every count and
 * back-count of a node is right; a group's pending entries are owned by exactly one consumer each
 * (compared as sums of fingerprints, which need no memory). The length that is stated for the whole
 * is wrong in files of real servers, most of which don't look at it: what counts is the entries.
 */
import { Slice } from "../../base/bytes.ts";
import { Distinct } from "../../base/distinct.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import type { Input } from "./input.ts";
import { ListpackCursor } from "./listpack.ts";
import type { StreamId, StreamInfo } from "./model.ts";
import type { Parts, RdbEvent } from "./parts.ts";
import { quote } from "./target.ts";

const versions: Readonly<Record<number, number>> = { 15: 1, 19: 2, 21: 3, 26: 4, 27: 5 };
const unknownCounter = 2n ** 64n - 1n;

/** Names of groups, of consumers in a group and of producers that are told apart. */
const maxNames = 2 ** 20;
/** An entry with more fields than this is refused; a command of Redis 6 can give twice as many. */
const maxEntryFields = 2 ** 18;
/** What the ids of a stream's idempotent producers may take in memory, and what one takes. */
const maxIdempotencyBytes = 2 ** 26;
const idempotencyBytes = 256;
const zeroId: StreamId = { ms: 0n, seq: 0n };

type Phase =
  | "nodes"
  | "entries"
  | "about"
  | "groups"
  | "pending"
  | "consumers"
  | "consumer pending"
  | "released"
  | "idempotency"
  | "end";

/** Idempotent producers and their ids, as far as they have been read. */
type KeptIds = {
  readonly windowSeconds: number;
  readonly maxIds: number;
  readonly producers: {
    readonly name: Uint8Array;
    readonly ids: { readonly iid: Uint8Array; readonly id: StreamId }[];
  }[];
  producersLeft: number;
  idsLeft: number;
  sizeBytes: number;
};

export class StreamReader {
  readonly #input: Input;
  readonly #parts: Parts;
  readonly #scratch = new Slice();
  readonly #node = new NodeReader();
  #version = 1;
  #phase: Phase = "nodes";
  /** Nodes or groups that are still to come; -1 before the count has been read. */
  #left = -1;
  #live = 0;
  #firstId: StreamId = zeroId;
  #lastSeen: StreamId | undefined;
  #pendingLeft = 0;
  #consumersLeft = 0;
  readonly #groupNames = new Distinct(maxNames);
  readonly #consumerNames = new Distinct(maxNames);
  readonly #producerNames = new Distinct(maxNames);
  #kept: KeptIds | undefined;
  #balance = new Balance();

  constructor(input: Input, parts: Parts) {
    this.#input = input;
    this.#parts = parts;
  }

  begin(type: number): void {
    this.#version = versions[type] ?? 1;
    this.#phase = "nodes";
    this.#left = -1;
    this.#live = 0;
    this.#firstId = zeroId;
    this.#lastSeen = undefined;
    this.#groupNames.clear();
  }

  next(): RdbEvent {
    switch (this.#phase) {
      case "nodes":
        return this.#nextNode();
      case "entries":
        return this.#entry();
      case "about":
        return this.#about();
      case "groups":
        return this.#left === 0 ? this.#afterGroups() : this.#group();
      case "pending":
        return this.#pending();
      case "consumers":
        return this.#consumer();
      case "consumer pending":
        return this.#consumerPending();
      case "released":
        return this.#released();
      case "idempotency":
        return this.#idempotency();
      case "end":
        return "end value";
    }
  }

  #nextNode(): RdbEvent {
    const input = this.#input;
    const parts = this.#parts;
    if (this.#left === -1) {
      this.#left = input.length();
      parts.nodes = this.#left;
      parts.count = -1;
      return "begin";
    }
    if (this.#left === 0) {
      this.#phase = "about";
      return this.next();
    }
    const offset = input.position;
    input.string(parts.first);
    const origin = input.position;
    input.string(parts.second);
    if (parts.first.length !== 16) {
      throw corrupt(offset, `A stream node with a key of ${parts.first.length} bytes`);
    }
    const master = readId(parts.first);
    this.#node.open(parts.second, master, origin);
    if (this.#lastSeen && compareIds(master, this.#lastSeen) <= 0) {
      throw corrupt(offset, `Stream node ${formatId(master)} after ${formatId(this.#lastSeen)}`);
    }
    this.#left--;
    this.#phase = "entries";
    return "node";
  }

  #entry(): RdbEvent {
    for (;;) {
      const entry = this.#node.next();
      if (!entry) break;
      const { id, isDeleted, fields } = entry;
      if (this.#lastSeen && compareIds(id, this.#lastSeen) <= 0) {
        throw corrupt(
          this.#input.position,
          `Stream entry ${formatId(id)} after ${formatId(this.#lastSeen)}`,
        );
      }
      this.#lastSeen = id;
      if (isDeleted) continue;
      if (this.#live++ === 0) this.#firstId = id;
      this.#parts.id = id;
      this.#parts.fields = fields;
      return "entry";
    }
    this.#phase = "nodes";
    return this.next();
  }

  #about(): RdbEvent {
    const input = this.#input;
    const statedLength = input.length();
    const length = this.#live;
    const lastId = this.#id();
    const isComplete = this.#version >= 2;
    const firstId = isComplete ? this.#id() : this.#firstId;
    const maxDeletedId = isComplete ? this.#id() : zeroId;
    const entriesAdded = isComplete ? input.length64() : BigInt(length);
    const groups = input.length();
    const stream: StreamInfo = {
      ...{ length, statedLength, lastId, firstId, maxDeletedId, entriesAdded, isComplete, groups },
    };
    this.#parts.stream = stream;
    this.#left = groups;
    this.#phase = "groups";
    return "stream";
  }

  #group(): RdbEvent {
    const input = this.#input;
    const offset = input.position;
    input.string(this.#scratch);
    const name = this.#scratch.copy();
    const lastId = this.#id();
    const read = this.#version >= 2 ? input.length64() : this.#guessEntriesRead(lastId);
    const pending = input.length();
    if (!this.#groupNames.add(this.#scratch)) {
      throw corrupt(offset, `A second group ${quote(name)}`);
    }
    const entriesRead = read === unknownCounter ? null : read;
    this.#parts.group = { name, lastId, entriesRead, pending };
    this.#pendingLeft = pending;
    this.#left--;
    this.#consumersLeft = -1;
    this.#consumerNames.clear();
    this.#balance = new Balance();
    this.#phase = "pending";
    return "group";
  }

  /** What a server assumes when it reads the first version of the format. */
  #guessEntriesRead(lastId: StreamId): bigint {
    const stream = this.#parts.stream as StreamInfo;
    if (compareIds(lastId, zeroId) === 0) return 0n;
    if (compareIds(lastId, stream.lastId) >= 0) return stream.entriesAdded;
    return compareIds(lastId, stream.firstId) === 0 ? 1n : unknownCounter;
  }

  #pending(): RdbEvent {
    if (this.#pendingLeft === 0) {
      this.#phase = "consumers";
      return this.next();
    }
    const id = this.#rawId();
    const deliveredAtMs = this.#input.int64();
    const deliveries = this.#input.length();
    this.#balance.add(id, 1);
    this.#pendingLeft--;
    this.#parts.pending = { id, deliveredAtMs, deliveries };
    return "pending";
  }

  #consumer(): RdbEvent {
    const input = this.#input;
    if (this.#consumersLeft === -1) {
      this.#consumersLeft = input.length();
      this.#parts.count = this.#consumersLeft;
      return "consumers";
    }
    if (this.#consumersLeft === 0) return this.#afterConsumers();
    const offset = input.position;
    input.string(this.#scratch);
    const name = this.#scratch.copy();
    const seenMs = input.int64();
    const activeMs = this.#version >= 3 ? input.int64() : undefined;
    const pending = input.length();
    if (!this.#consumerNames.add(this.#scratch)) {
      throw corrupt(offset, `A second consumer ${quote(name)}`);
    }
    this.#parts.consumer = { name, seenMs, activeMs, pending };
    this.#pendingLeft = pending;
    this.#consumersLeft--;
    this.#phase = "consumer pending";
    return "consumer";
  }

  #consumerPending(): RdbEvent {
    if (this.#pendingLeft === 0) {
      this.#phase = "consumers";
      return this.next();
    }
    this.#parts.id = this.#rawId();
    this.#balance.add(this.#parts.id, -1);
    this.#pendingLeft--;
    return "consumer pending";
  }

  #afterConsumers(): RdbEvent {
    if (this.#version < 5) return this.#endGroup();
    this.#pendingLeft = -1;
    this.#phase = "released";
    return this.next();
  }

  #released(): RdbEvent {
    if (this.#pendingLeft === -1) {
      this.#pendingLeft = this.#input.length();
      this.#input.commitUnit();
    }
    if (this.#pendingLeft === 0) return this.#endGroup();
    this.#parts.id = this.#rawId();
    this.#balance.add(this.#parts.id, -1);
    this.#pendingLeft--;
    return "released";
  }

  #endGroup(): RdbEvent {
    if (!this.#balance.isEven) {
      throw corrupt(
        this.#input.position,
        `A group whose pending entries are not owned by one consumer each`,
      );
    }
    this.#phase = "groups";
    return this.next();
  }

  #afterGroups(): RdbEvent {
    if (this.#version < 4) {
      this.#phase = "end";
      return "end value";
    }
    this.#phase = "idempotency";
    return this.next();
  }

  /** One event, but a unit for each id: there may be many. */
  #idempotency(): RdbEvent {
    const input = this.#input;
    this.#kept ??= this.#beginIdempotency();
    const kept = this.#kept;
    while (kept.idsLeft > 0 || kept.producersLeft > 0) {
      if (kept.idsLeft > 0) this.#idempotentId(kept);
      else this.#producer(kept);
      input.commitUnit();
    }
    const { windowSeconds, maxIds, producers } = kept;
    const added = input.length64();
    const duplicates = input.length64();
    this.#parts.idempotency = { windowSeconds, maxIds, producers, added, duplicates };
    this.#kept = undefined;
    this.#phase = "end";
    return "idempotency";
  }

  #beginIdempotency(): KeptIds {
    const input = this.#input;
    const offset = input.position;
    const windowSeconds = input.length();
    const maxIds = input.length();
    const producersLeft = input.length();
    if (windowSeconds < 1 || windowSeconds > 86400 || maxIds < 1 || maxIds > 10000) {
      throw corrupt(offset, `An idempotency window of ${windowSeconds} s and ${maxIds} ids`);
    }
    this.#producerNames.clear();
    input.commitUnit();
    return { windowSeconds, maxIds, producers: [], producersLeft, idsLeft: 0, sizeBytes: 0 };
  }

  #producer(kept: KeptIds): void {
    const offset = this.#input.position;
    this.#input.string(this.#scratch);
    const idsLeft = this.#input.length();
    const name = this.#scratch.copy();
    if (!this.#producerNames.add(this.#scratch)) {
      throw corrupt(offset, `A second producer ${quote(name)}`);
    }
    this.#keep(kept, offset, name);
    kept.producers.push({ name, ids: [] });
    kept.producersLeft--;
    kept.idsLeft = idsLeft;
  }

  #idempotentId(kept: KeptIds): void {
    const offset = this.#input.position;
    this.#input.string(this.#scratch);
    const id = this.#id();
    const iid = this.#scratch.copy();
    this.#keep(kept, offset, iid);
    kept.producers.at(-1)?.ids.push({ iid, id });
    kept.idsLeft--;
  }

  #keep(kept: KeptIds, offset: number, bytes: Uint8Array): void {
    kept.sizeBytes += idempotencyBytes + bytes.length;
    if (kept.sizeBytes <= maxIdempotencyBytes) return;
    throw new Failure(
      "LIMIT_EXCEEDED",
      `Cannot keep the idempotent ids up to byte ${offset}: they take more than ${maxIdempotencyBytes} bytes`,
      { offset },
    );
  }

  #id(): StreamId {
    const ms = this.#input.length64();
    return { ms, seq: this.#input.length64() };
  }

  #rawId(): StreamId {
    this.#input.bytes(16, this.#scratch);
    return readId(this.#scratch);
  }
}

type NodeEntry = {
  readonly id: StreamId;
  readonly isDeleted: boolean;
  readonly fields: readonly Uint8Array[];
};

/** Reads the entries of one node. */
class NodeReader {
  readonly #cursor = new ListpackCursor();
  readonly #slice = new Slice();
  #master: StreamId = zeroId;
  #masterFields: Uint8Array[] = [];
  #live = 0;
  #deleted = 0;
  #origin = 0;

  open(blob: Slice, master: StreamId, origin: number): void {
    this.#cursor.open(blob, origin);
    this.#master = master;
    this.#origin = origin;
    this.#live = this.#count();
    this.#deleted = this.#count();
    if (this.#live + this.#deleted === 0) throw this.#corrupt("A stream node without entries");
    const fields = this.#fieldCount();
    this.#masterFields = [];
    for (let i = 0; i < fields; i++) this.#masterFields.push(this.#element());
    if (this.#count() !== 0) throw this.#corrupt("A master entry without its end");
  }

  next(): NodeEntry | undefined {
    if (this.#live + this.#deleted === 0) {
      if (this.#cursor.next(this.#slice)) throw this.#corrupt("More entries than stated");
      return undefined;
    }
    const flags = this.#count();
    if (flags > 3) throw this.#corrupt(`Flags ${flags} of a stream entry`);
    const ms = BigInt.asUintN(64, this.#master.ms + this.#cursor.nextInteger(this.#slice));
    const seq = BigInt.asUintN(64, this.#master.seq + this.#cursor.nextInteger(this.#slice));
    const isSame = (flags & 2) !== 0;
    const count = isSame ? this.#masterFields.length : this.#fieldCount();
    const fields: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      fields.push(isSame ? (this.#masterFields[i] as Uint8Array) : this.#element());
      fields.push(this.#element());
    }
    const elements = isSame ? count + 3 : 2 * count + 4;
    if (this.#count() !== elements) throw this.#corrupt("A wrong size of a stream entry");
    const isDeleted = (flags & 1) !== 0;
    if (isDeleted) this.#deleted--;
    else this.#live--;
    if (this.#live < 0 || this.#deleted < 0) throw this.#corrupt("Wrong counts of a stream node");
    return { id: { ms, seq }, isDeleted, fields };
  }

  #count(): number {
    const value = Number(this.#cursor.nextInteger(this.#slice));
    if (value < 0 || value > 2 ** 32) throw this.#corrupt(`A count of ${value} in a stream node`);
    return value;
  }

  #fieldCount(): number {
    const count = this.#count();
    if (count <= maxEntryFields) return count;
    const offset = this.#origin;
    throw new Failure(
      "LIMIT_EXCEEDED",
      `Cannot read a stream entry of ${count} fields at byte ${offset}: the limit is ${maxEntryFields}`,
      { offset },
    );
  }

  #element(): Uint8Array {
    if (!this.#cursor.next(this.#slice)) throw this.#corrupt("A stream entry cut off");
    // Text of integers stands in the slice's own buffer, which the next one overwrites.
    return this.#cursor.isInteger ? this.#slice.copy() : this.#slice.view();
  }

  #corrupt(found: string) {
    return corrupt(this.#origin, `${found} at its byte ${this.#cursor.position}, in the node`);
  }
}

/** Whether two collections of ids are the same, in whatever order: sums of their fingerprints. */
class Balance {
  #a = 0;
  #b = 0;

  add(id: StreamId, sign: 1 | -1): void {
    const low = BigInt.asUintN(64, id.ms * 0x9e3779b97f4a7c15n + id.seq * 0xc2b2ae3d27d4eb4fn);
    const mixed = BigInt.asUintN(64, (low ^ (low >> 29n)) * 0xbf58476d1ce4e5b9n);
    this.#a = (this.#a + sign * Number(mixed & 0xffffffffn)) | 0;
    this.#b = (this.#b + sign * Number(mixed >> 32n)) | 0;
  }

  get isEven(): boolean {
    return this.#a === 0 && this.#b === 0;
  }
}

function readId(raw: Slice): StreamId {
  return { ms: readUint64(raw.bytes, raw.start), seq: readUint64(raw.bytes, raw.start + 8) };
}

/** Big-endian. */
function readUint64(bytes: Uint8Array, at: number): bigint {
  let high = 0;
  let low = 0;
  for (let i = 0; i < 4; i++) {
    high = high * 256 + (bytes[at + i] as number);
    low = low * 256 + (bytes[at + 4 + i] as number);
  }
  return (BigInt(high) << 32n) | BigInt(low);
}

export function compareIds(a: StreamId, b: StreamId): number {
  if (a.ms !== b.ms) return a.ms < b.ms ? -1 : 1;
  if (a.seq !== b.seq) return a.seq < b.seq ? -1 : 1;
  return 0;
}

export function formatId(id: StreamId): string {
  return `${id.ms}-${id.seq}`;
}
