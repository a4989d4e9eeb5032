/**
 * The words that the RDB reader and the RDB writer share: what a value is made of, in which order
 * its parts come, and which servers a file can be written for.
 */
/** Redis's data types; `module` stands for values that only a module can read. */
export type DataType = "string" | "list" | "set" | "zset" | "hash" | "stream" | "module" | "array";

/** Who defined the file's opcodes and types: numbers above 21 mean different things. */
export type Family = "redis" | "valkey";

/** Servers that the writer writes for: the oldest version that must load the file. */
export const targets = [
  "redis:6.0",
  "redis:7.0",
  "redis:7.2",
  "redis:7.4",
  "redis:8",
  "valkey:8",
  "valkey:9",
] as const;
export type Target = (typeof targets)[number];

/** A stream entry's id. Both halves use all 64 bits, unsigned. */
export type StreamId = { readonly ms: bigint; readonly seq: bigint };

/** What stands behind a stream's entries. Fields that the source's version lacks are computed. */
export type StreamInfo = {
  /** Entries that there are, and entries that the file says there are. */
  readonly length: number;
  readonly statedLength: number;
  readonly lastId: StreamId;
  readonly firstId: StreamId;
  readonly maxDeletedId: StreamId;
  readonly entriesAdded: bigint;
  /** Whether the file said the three above (types 19 and later) or they were computed. */
  readonly isComplete: boolean;
  readonly groups: number;
};

export type StreamGroup = {
  readonly name: Uint8Array;
  readonly lastId: StreamId;
  /** Null where it is unknown. */
  readonly entriesRead: bigint | null;
  /** Entries in the group's pending list (PEL), which follow. */
  readonly pending: number;
};

export type StreamPending = {
  readonly id: StreamId;
  readonly deliveredAtMs: bigint;
  readonly deliveries: number;
};

export type StreamConsumer = {
  readonly name: Uint8Array;
  readonly seenMs: bigint;
  /** -1 where the consumer was never active; undefined in files older than type 21. */
  readonly activeMs: bigint | undefined;
  /** Ids of its own pending entries, which follow; each one is in the group's list too. */
  readonly pending: number;
};

/** Redis 8.6's idempotent producers, once per stream. */
export type StreamIdempotency = {
  readonly windowSeconds: number;
  readonly maxIds: number;
  readonly producers: readonly {
    readonly name: Uint8Array;
    readonly ids: readonly { readonly iid: Uint8Array; readonly id: StreamId }[];
  }[];
  readonly added: bigint;
  readonly duplicates: bigint;
};
