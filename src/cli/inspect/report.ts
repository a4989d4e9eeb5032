/**
 * What `tidemark inspect --json` prints: one object of this shape.
 *
 * WHY a document of its own. Scripts are written against it, so it changes by adding fields only;
 * anything else raises `format`. The table for people is made from it and holds nothing more.
 *
 * Names and values that are bytes (keys, prefixes, groups, AUX fields) are text with the escapes of
 * `redis-cli`, from which the bytes can be had back: `\\`, `\"`, `\n`, `\r`, `\t`, `\a`, `\b`, `\xHH`.
 * Of a name of more than 1,024 bytes the first 1,024 are given. Times are Unix milliseconds. Bytes
 * are those in the file, not those in a server's memory.
 */
import type { ErrorCode } from "../../base/errors.ts";
import type { Checksum } from "../checksum.ts";

export type InspectReport = {
  readonly format: 1;
  readonly path: string;
  readonly kind: "rdb" | "aof" | "appendonlydir";
  /** Of all files together. */
  readonly sizeBytes: number;
  /** The RDB, or the one in front of the log; null in a log that is records from the start. */
  readonly snapshot: SnapshotReport | null;
  /** The files of a log, in the order in which they are loaded; empty for an RDB. */
  readonly files: readonly LogFileReport[];
  /** Records of all files; null for an RDB. */
  readonly log: LogReport | null;
  /** What ended the reading of a file early. All that is told above is what was read before it. */
  readonly damage: readonly Damage[];
};

export type Damage = {
  readonly file: string;
  readonly code: ErrorCode;
  readonly offset: number | null;
  readonly reason: string;
};

export type SnapshotReport = {
  /** The file that it stands in. */
  readonly file: string;
  readonly sizeBytes: number;
  /** Which servers' numbers it uses, and the version of the format. */
  readonly family: "redis" | "valkey";
  readonly version: number;
  readonly checksum: Checksum;
  /** What wrote it, as it says: "redis 8.0.2", "valkey 9.1.2". */
  readonly producer: string | null;
  readonly createdAtMs: number | null;
  readonly aux: readonly {
    readonly name: string;
    readonly value: string;
    readonly times: number;
  }[];
  /** AUX fields of further names. */
  readonly auxOthers: number;
  readonly keys: number;
  /** Keys that expire at all, and those of them whose time has come by now. */
  readonly expiring: number;
  readonly expired: number;
  /** Hash fields that expire by themselves. */
  readonly expiringFields: number;
  readonly databases: readonly DatabaseReport[];
  readonly types: readonly TypeReport[];
  readonly biggest: readonly BigKey[];
  readonly prefixes: PrefixReport;
  readonly streams: StreamsReport | null;
  readonly functions: readonly FunctionReport[];
  readonly modules: readonly ModuleReport[];
  /** Cluster slots that sizes are given for. */
  readonly slots: number;
};

export type DatabaseReport = {
  readonly database: number;
  readonly keys: number;
  readonly expiring: number;
  readonly expired: number;
  /** The mean of what expiring keys had left to live when the file was made; null without any. */
  readonly averageTtlMs: number | null;
  readonly bytes: number;
};

export type TypeReport = {
  readonly type: string;
  readonly encoding: string;
  readonly keys: number;
  readonly expiring: number;
  /** Members, fields, entries; null for strings and module values, which have none. */
  readonly elements: number | null;
  readonly bytes: number;
};

export type BigKey = {
  readonly database: number;
  readonly key: string;
  readonly keyBytes: number;
  readonly type: string;
  readonly encoding: string;
  readonly elements: number | null;
  /** The key's whole record: key, value, expiry. */
  readonly bytes: number;
};

export type Share = { readonly keys: number; readonly bytes: number };

export type PrefixReport = {
  readonly separator: string;
  /** How many separators a prefix goes up to. */
  readonly depth: number;
  /** Most bytes first; prefixes include their separator. */
  readonly top: readonly (Share & { readonly prefix: string })[];
  /** How many different ones were told apart. */
  readonly distinct: number;
  /** Keys whose prefixes were not told apart, since there were too many or they were too long. */
  readonly others: Share;
  /** Keys without a separator. */
  readonly without: Share;
};

export type StreamsReport = {
  readonly keys: number;
  readonly entries: number;
  readonly groups: number;
  readonly consumers: number;
  readonly pending: number;
  /** Most pending entries first. */
  readonly topGroups: readonly {
    readonly database: number;
    readonly key: string;
    readonly group: string;
    readonly consumers: number;
    readonly pending: number;
    readonly lastId: string;
  }[];
};

export type FunctionReport = {
  readonly library: string;
  readonly engine: string;
  readonly bytes: number;
};

export type ModuleReport = {
  readonly name: string;
  readonly keys: number;
  /** Records of its own, outside of keys. */
  readonly auxRecords: number;
};

export type LogFileReport = {
  readonly file: string;
  readonly role: "single" | "base" | "increment";
  /** Null where there is no manifest to say it. */
  readonly sequence: number | null;
  /** Null where the manifest names a file that is not there. */
  readonly sizeBytes: number | null;
  readonly hasSnapshot: boolean;
} & LogReport;

export type LogReport = {
  readonly records: number;
  /** Complete ones. */
  readonly transactions: number;
  /** Most frequent first, in upper case. */
  readonly commands: readonly {
    readonly name: string;
    readonly count: number;
    readonly bytes: number;
  }[];
  /** Records of further names. */
  readonly commandOthers: number;
  readonly timestamps: number;
  readonly positionLines: number;
  /** The least and the greatest time of any annotation. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly firstPosition: string | null;
  readonly lastPosition: string | null;
  /** How it ends: in order, or within what starts at `offset`. */
  readonly tail: {
    readonly kind: "whole" | "record" | "annotation" | "transaction" | "unknown";
    readonly offset: number | null;
  };
};
