import { Slice } from "../../base/bytes.ts";
import type {
  StreamConsumer,
  StreamGroup,
  StreamId,
  StreamIdempotency,
  StreamInfo,
  StreamPending,
} from "./model.ts";

/** What the latest event of a reader is about; which fields are set, `RdbEvent` says. */
export class Parts {
  readonly first = new Slice();
  readonly second = new Slice();
  score = 0;
  /** Unix milliseconds at which a hash field expires, or -1; a number where that is exact. */
  fieldExpireAtMs: number | bigint = -1;
  /** How many elements follow, or -1 where only the number of nodes is known. */
  count = 0;
  nodes = 0;
  index = 0n;
  id: StreamId = { ms: 0n, seq: 0n };
  /** Names and values in turn, borrowed. */
  fields: readonly Uint8Array[] = [];
  stream: StreamInfo | undefined;
  group: StreamGroup | undefined;
  pending: StreamPending | undefined;
  consumer: StreamConsumer | undefined;
  idempotency: StreamIdempotency | undefined;
}

/**
 * What a reader comes upon, in the order of the file. `first`, `second` and the others are fields of
 * `Parts`, borrowed until the next call.
 *
 *   aux                first: name, second: value
 *   function           first: the library's code
 *   module aux         first: a piece of a module's own record as it stands in the file, without
 *                      its opcode; ends with "end value"
 *   slot info          sizes of a cluster slot: a hint
 *   slot import        first: name of a slot import that was going on (Valkey 9)
 *   database, size     `database`; its stated sizes
 *   key                `key` and its attributes; now `skip()` or `raw()` may be called
 *   raw                first: a piece of the value as it stands in the file
 *   string             first: the whole value
 *   begin              a list, set, sorted set, hash or array: `count`, or -1 and `nodes`
 *   node               the next element starts a node of a list (quicklists only);
 *                      in a stream: first: 16 bytes of master id, second: listpack
 *   element            first: of a list or set
 *   member             first, score
 *   field              first: name, second: value, fieldExpireAtMs
 *   item               index, first: of an array
 *   entry              id, fields: of a stream
 *   stream             stream: behind all entries
 *   group, pending     group; pending: once for each entry
 *   consumers          count: how many follow
 *   consumer           consumer
 *   consumer pending   id
 *   released           id: of an entry that no consumer holds (NACK)
 *   idempotency
 *   end value          behind everything of a value but a string
 *   end                the file is complete and its checksum right, or not computed
 */
export type RdbEvent =
  | "aux"
  | "function"
  | "module aux"
  | "slot info"
  | "slot import"
  | "database"
  | "size"
  | "key"
  | "raw"
  | "string"
  | "begin"
  | "node"
  | "element"
  | "member"
  | "field"
  | "item"
  | "entry"
  | "stream"
  | "group"
  | "pending"
  | "consumers"
  | "consumer"
  | "consumer pending"
  | "released"
  | "idempotency"
  | "end value"
  | "end";
