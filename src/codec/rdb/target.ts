/**
 * What each target can hold, and what is done with the rest.
 *
 * WHY. A file written for an older server must load there and hold the same data. What that server
 * has no form for would be lost without a word, so the writer refuses it and names the key, unless
 * its caller said that losses are fine. Then they are counted by feature:
 *
 *   feature          lost               held by
 *   field expiry     the expiry only    redis:7.4, redis:8; valkey:9
 *   function         the library        all but redis:6.0
 *   module value     the whole key      targets whose modules the caller names; vector sets: redis:8
 *   module aux       the record         as above
 *   array            the whole key      none (Redis 8.8)
 *   key metadata     the metadata       none (Redis 8.6)
 *   stream producers the producers      none (Redis 8.6)
 *   stream nacks     refused even so    none (Redis 8.8)
 *
 * Entries that a consumer gave back (NACK) are pending, but nobody's. Older servers load such
 * entries and crash at the first XPENDING, so there is no way to leave out just the marks.
 *
 * What a stream counts about its own past is no data of the user's, and no server before 7.0
 * (7.2 for the last) has a place for it. That is never refused, only counted:
 *
 *   stream history   highest deleted id, entries ever added: not in redis:6.0
 *   consumer activity when a consumer last got an entry: not in redis:6.0, redis:7.0
 *
 * As commands (commands.ts) a data set loses more of that kind: `idle consumer`, `access counter`,
 * `deleted pending`.
 *
 * INVARIANTS
 *
 *   1. A target loads every type byte that the writer uses for it, with default settings.
 *   2. Data are compact where a server of that target would have them compact; that server and all
 *      later ones convert what their own settings want otherwise.
 *
 * REJECTED. The lowest header that the content needs: a writer that streams does not know it in
 * time. Types 24 and 25 for Valkey or 22 for Redis: the numbers mean other things there.
 */
import { Failure } from "../../base/errors.ts";
import type { BackLengths } from "./encode-listpack.ts";
import type { Family, Target } from "./model.ts";

export type Capabilities = {
  readonly header: string;
  readonly family: Family;
  /** What the version record says unless the caller knows better: a real version of that target. */
  readonly version: string;
  /** Ziplists and quicklists of them, or listpacks and quicklists 2. */
  readonly packed: "ziplist" | "listpack";
  /** Elements above this are list nodes of their own, not packed. Redis 7.0 packs almost all. */
  readonly plainNodeBytes: number;
  readonly hasSetListpack: boolean;
  /** The stream type; 15, 19 and 21 have ever more fields. */
  readonly streamType: 15 | 19 | 21;
  readonly fieldExpiry: Family | "none";
  readonly hasFunctions: boolean;
  /** Module types that are part of the server. */
  readonly modules: readonly string[];
  readonly backLengths: BackLengths;
};

const redis60: Capabilities = {
  header: "REDIS0009",
  family: "redis",
  version: "6.0.16",
  packed: "ziplist",
  plainNodeBytes: Number.POSITIVE_INFINITY,
  hasSetListpack: false,
  streamType: 15,
  fieldExpiry: "none",
  hasFunctions: false,
  modules: [],
  backLengths: "old",
};
const redis70: Capabilities = {
  ...redis60,
  header: "REDIS0010",
  version: "7.0.15",
  packed: "listpack",
  plainNodeBytes: 2 ** 30 - 8192,
  streamType: 19,
  hasFunctions: true,
};
const redis72: Capabilities = {
  ...redis70,
  header: "REDIS0011",
  version: "7.2.0",
  plainNodeBytes: 8192,
  hasSetListpack: true,
  streamType: 21,
};
const redis74: Capabilities = {
  ...redis72,
  header: "REDIS0012",
  version: "7.4.0",
  fieldExpiry: "redis",
};

export const capabilities: Readonly<Record<Target, Capabilities>> = {
  "redis:6.0": redis60,
  "redis:7.0": redis70,
  "redis:7.2": redis72,
  "redis:7.4": redis74,
  "redis:8": { ...redis74, version: "8.0.0", modules: ["vectorset"] },
  "valkey:8": { ...redis72, family: "valkey", version: "8.0.0" },
  "valkey:9": {
    ...redis72,
    header: "VALKEY080",
    family: "valkey",
    version: "9.0.0",
    fieldExpiry: "valkey",
    backLengths: "minimal",
  },
};

/** Default limits of servers, up to which a collection is compact. */
export const compactLimits = {
  elementBytes: 64,
  hashFields: 512,
  zsetMembers: 128,
  setMembers: 128,
  intsetMembers: 512,
  listNodeBytes: 8192,
} as const;

/** Field expiries are below this; servers refuse larger ones. */
export const endOfFieldExpiry = 2 ** 48;

/** How each feature is lost: a part of its key, the whole key, a record outside of keys; or never. */
const features = {
  "field expiry": { scope: "part", found: "it has a field that expires" },
  function: { scope: "record", found: "it has no functions" },
  "module value": { scope: "key", found: "it is a module's value" },
  "module aux": { scope: "record", found: "it has no such module" },
  array: { scope: "key", found: "it is an array" },
  "key metadata": { scope: "part", found: "it has metadata of a module" },
  "stream producers": { scope: "part", found: "it keeps the ids of idempotent producers" },
  "stream nacks": { scope: "never", found: "it has entries that a consumer gave back" },
  "stream history": { scope: "part", found: "it counts deleted entries" },
  "idle consumer": { scope: "part", found: "it has consumers without pending entries" },
  "deleted pending": { scope: "part", found: "it has pending entries that were deleted" },
  "access counter": { scope: "part", found: "it has LRU or LFU counters" },
  "consumer activity": { scope: "part", found: "it has the times consumers were active" },
} as const satisfies Record<string, { scope: "part" | "key" | "record" | "never"; found: string }>;

export type Feature = keyof typeof features;

/** Whether the whole key is lost with it. */
export function losesKey(feature: Feature): boolean {
  return features[feature].scope === "key";
}

/** Refuses what a target cannot hold, or counts it. */
export class Losses {
  readonly #target: Target;
  readonly #isAllowed: boolean;
  readonly #counts = new Map<Feature, number>();

  constructor(target: Target, isAllowed: boolean) {
    this.#target = target;
    this.#isAllowed = isAllowed;
  }

  /** Feature to how many times it was lost. */
  get counts(): ReadonlyMap<Feature, number> {
    return this.#counts;
  }

  /** Counts a loss that is never refused. */
  note(feature: Feature): void {
    this.#counts.set(feature, (this.#counts.get(feature) ?? 0) + 1);
  }

  /** Counts a loss where losses are allowed; else throws, naming what has the feature. */
  take(feature: Feature, object: string, detail: string = features[feature].found): void {
    if (!this.#isAllowed || features[feature].scope === "never") {
      throw new Failure(
        "TARGET_CANNOT_HOLD",
        `Cannot write ${object} for ${this.#target}: ${detail}`,
      );
    }
    this.note(feature);
  }
}

/** Long names are cut in messages. */
const quotedBytes = 128;

/** A key for a message: in quotes, with all but printable ASCII escaped as servers do. */
export function quote(key: Uint8Array): string {
  let text = "";
  for (const byte of key.subarray(0, quotedBytes)) {
    if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return `"${text}"${key.length > quotedBytes ? "…" : ""}`;
}
