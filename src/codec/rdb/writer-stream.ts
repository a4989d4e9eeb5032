/**
 * Streams (types 15, 19, 21), part after part as they stand in the file:
 *
 *   nodes: string of 16 bytes, the first id | listpack | … | length | last id
 *   [19: first id | highest deleted id | entries added]
 *   groups: name | last id | [19: entries read] | pending: id 16 bytes, i64 ms, deliveries
 *           consumers: name | i64 seen | [21: i64 active] | pending: id 16 bytes
 *
 * Nodes pass through as the source has them: every version reads them alike, but for the
 * back-lengths of entries at certain lengths. Nothing waits; what the source counts must be right.
 */
import assert from "node:assert/strict";
import type { Slice } from "../../base/bytes.ts";
import { shortestQuirk, withBackLengths } from "./encode-listpack.ts";
import type {
  StreamConsumer,
  StreamGroup,
  StreamId,
  StreamIdempotency,
  StreamInfo,
  StreamPending,
} from "./model.ts";
import type { Capabilities, Losses } from "./target.ts";
import type { Output } from "./writer-output.ts";

const idBytes = 16;
const unknownEntriesRead = 2n ** 64n - 1n;

/** Parts that are still to come, by kind: a count stands in the file before each kind. */
type Due = { nodes: number; groups: number; pending: number; consumers: number; owned: number };

export class StreamWriter {
  readonly #output: Output;
  readonly #can: Capabilities;
  readonly #losses: Losses;
  #due: Due = { nodes: 0, groups: 0, pending: 0, consumers: 0, owned: 0 };
  #hasInfo = false;
  /** Pending entries of the group that no consumer has had yet. */
  #unowned = 0;
  #defect: string | undefined;

  constructor(output: Output, can: Capabilities, losses: Losses) {
    this.#output = output;
    this.#can = can;
    this.#losses = losses;
  }

  begin(nodes: number): void {
    this.#due = { nodes, groups: 0, pending: 0, consumers: 0, owned: 0 };
    this.#hasInfo = false;
    this.#unowned = 0;
    this.#defect = undefined;
    this.#output.decide(this.#can.streamType);
    this.#output.rdbLength(nodes);
  }

  node(firstId: Slice, listpack: Slice): void {
    assert.equal(firstId.length, idBytes);
    this.#take("nodes");
    this.#output.rdbLength(idBytes);
    this.#output.raw(firstId.bytes, firstId.start, firstId.end);
    const { bytes, start, end } = listpack;
    if (end - start < shortestQuirk) {
      this.#output.blob(bytes, start, end);
      return;
    }
    const entries = withBackLengths(listpack.view(), this.#can.backLengths);
    this.#output.blob(entries, 0, entries.length);
  }

  info(info: StreamInfo): void {
    this.#expectNone("nodes");
    this.#hasInfo = true;
    this.#due.groups = info.groups;
    this.#output.rdbLength(info.length);
    this.#id(info.lastId);
    if (this.#can.streamType >= 19) {
      this.#id(info.firstId);
      this.#id(info.maxDeletedId);
      this.#output.rdbLength64(info.entriesAdded);
    } else if (hasHistory(info)) {
      this.#losses.note("stream history");
    }
    this.#output.rdbLength(info.groups);
  }

  group(group: StreamGroup): void {
    this.#endGroup();
    this.#take("groups");
    this.#due.pending = group.pending;
    this.#unowned = group.pending;
    this.#output.string(group.name);
    this.#id(group.lastId);
    if (this.#can.streamType >= 19) {
      this.#output.rdbLength64(group.entriesRead ?? unknownEntriesRead);
    }
    this.#output.rdbLength(group.pending);
  }

  pending(entry: StreamPending): void {
    this.#take("pending");
    this.#rawId(entry.id);
    this.#output.int64(entry.deliveredAtMs);
    this.#output.rdbLength(entry.deliveries);
  }

  /** After a group's pending entries: how many consumers follow. */
  consumers(count: number): void {
    this.#expectNone("pending");
    this.#due.consumers = count;
    this.#output.rdbLength(count);
  }

  consumer(consumer: StreamConsumer): void {
    this.#expectNone("owned");
    this.#take("consumers");
    this.#due.owned = consumer.pending;
    this.#unowned -= consumer.pending;
    this.#output.string(consumer.name);
    this.#output.int64(consumer.seenMs);
    const { activeMs = consumer.seenMs } = consumer;
    if (this.#can.streamType >= 21) this.#output.int64(activeMs);
    else if (activeMs !== consumer.seenMs) this.#losses.note("consumer activity");
    this.#output.rdbLength(consumer.pending);
  }

  consumerPending(id: StreamId): void {
    this.#take("owned");
    this.#rawId(id);
  }

  /** No target has a place for it. */
  idempotency(idempotency: StreamIdempotency, key: () => string): void {
    if (isUsed(idempotency)) this.#losses.take("stream producers", key());
  }

  /** What is wrong with the stream, if anything is. */
  end(): string | undefined {
    assert(this.#hasInfo, "A stream without its end");
    this.#endGroup();
    this.#expectNone("groups");
    return this.#defect;
  }

  #endGroup(): void {
    this.#expectNone("pending");
    this.#expectNone("consumers");
    this.#expectNone("owned");
    // Servers load a pending entry that is nobody's, and crash when they look at it.
    if (this.#unowned !== 0) this.#defect = "a stream with pending entries that are nobody's";
  }

  #take(kind: keyof Due): void {
    assert(this.#due[kind]-- > 0, `More ${kind} of a stream than promised`);
  }

  #expectNone(kind: keyof Due): void {
    assert.equal(this.#due[kind], 0, `Fewer ${kind} of a stream than promised`);
  }

  #id(id: StreamId): void {
    this.#output.rdbLength64(id.ms);
    this.#output.rdbLength64(id.seq);
  }

  #rawId(id: StreamId): void {
    this.#output.uint64BigEndian(id.ms);
    this.#output.uint64BigEndian(id.seq);
  }
}

/** Whether a stream has a past that files of type 15 do not tell of. */
export function hasHistory(info: StreamInfo): boolean {
  const { isComplete, maxDeletedId, entriesAdded, length } = info;
  const hasDeleted = maxDeletedId.ms !== 0n || maxDeletedId.seq !== 0n;
  return isComplete && (hasDeleted || entriesAdded !== BigInt(length));
}

/** Redis 8.6 writes its defaults for streams that never used it. */
function isUsed({ windowSeconds, maxIds, producers, added, duplicates }: StreamIdempotency) {
  const isDefault = windowSeconds === 100 && maxIds === 100 && added === 0n && duplicates === 0n;
  return !isDefault || producers.length > 0;
}
