/**
 * Counts what is in an RDB while it is read.
 *
 * Values are walked, not passed over: the number of elements has to be known, and it stands in front
 * of plain values only. What is counted for each key costs a small part of reading it, because
 * nothing is allocated: names are copied when they are among the biggest, or a new prefix.
 *
 * INVARIANT. Memory is bounded by the limits below, whatever the file holds.
 */
import { toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { layoutOf } from "../../codec/rdb/layout.ts";
import type { StreamGroup } from "../../codec/rdb/model.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { checksumOf } from "../checksum.ts";
import { HeldName, maxNameBytes } from "../render/held-name.ts";
import { escapeBytes } from "../render/text.ts";
import { Leaders } from "./leaders.ts";
import { Modules } from "./modules.ts";
import { Prefixes, type PrefixOptions } from "./prefixes.ts";
import type {
  BigKey,
  DatabaseReport,
  FunctionReport,
  SnapshotReport,
  StreamsReport,
  TypeReport,
} from "./report.ts";

const maxDatabases = 65_536;
const maxFunctions = 1000;
const maxAuxNames = 64;

export type SnapshotOptions = PrefixOptions & {
  /** How many of the biggest keys are listed; also of prefixes and groups. */
  readonly top: number;
  readonly nowMs: number;
};

type Database = {
  readonly database: number;
  keys: number;
  expiring: number;
  expired: number;
  /** Sum over its expiring keys. */
  expireAtMs: number;
  bytes: number;
};

type Group = { readonly group: StreamGroup; consumers: number };

export class SnapshotInspector {
  readonly reader = new RdbReader();
  readonly #options: SnapshotOptions;
  readonly #prefixes: Prefixes;
  readonly #modules = new Modules();
  readonly #biggest: Leaders<BigKey>;
  readonly #groups: Leaders<StreamsReport["topGroups"][number]>;
  readonly #databases = new Map<number, Database>();
  readonly #functions: FunctionReport[] = [];
  readonly #aux = new Map<string, { readonly value: string; times: number }>();
  #auxOthers = 0;
  #database: Database | undefined;
  /** By number of the RDB type. */
  readonly #typeKeys = new Float64Array(256);
  readonly #typeExpiring = new Float64Array(256);
  readonly #typeElements = new Float64Array(256);
  readonly #typeBytes = new Float64Array(256);
  readonly #streams = { groups: 0, consumers: 0, pending: 0 };
  #expiringFields = 0;
  #slots = 0;
  #hasEnded = false;

  // The key that is being read.
  /** Where the last record ended. */
  #mark = 0;
  #isInKey = false;
  readonly #key = new HeldName();
  #elements = 0;
  #group: Group | undefined;
  #isFirstPiece = true;

  constructor(options: SnapshotOptions) {
    this.#options = options;
    this.#prefixes = new Prefixes(options);
    this.#biggest = new Leaders(options.top);
    this.#groups = new Leaders(options.top);
  }

  drain(): boolean {
    const { reader } = this;
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      switch (event) {
        case "key":
          this.#beginKey();
          break;
        case "string":
          this.#endKey();
          break;
        case "element":
        case "member":
        case "item":
        case "entry":
          this.#elements++;
          break;
        case "field":
          this.#elements++;
          if (reader.parts.fieldExpireAtMs >= 0) this.#expiringFields++;
          break;
        case "end value":
          this.#endValue();
          break;
        case "end":
          this.#hasEnded = true;
          return true;
        default:
          this.#takeOther(event);
      }
    }
    return false;
  }

  #beginKey(): void {
    const { key, type, expireAtMs } = this.reader;
    this.#isInKey = true;
    this.#elements = 0;
    this.#key.hold(key);
    this.#prefixes.begin(key);
    if (expireAtMs !== null) this.#countExpiry(Number(expireAtMs));
    this.#typeKeys[type] = (this.#typeKeys[type] as number) + 1;
    this.#here().keys++;
  }

  #countExpiry(expireAtMs: number): void {
    const { type } = this.reader;
    const database = this.#here();
    this.#typeExpiring[type] = (this.#typeExpiring[type] as number) + 1;
    database.expiring++;
    database.expireAtMs += expireAtMs;
    if (expireAtMs <= this.#options.nowMs) database.expired++;
  }

  /** The database that keys are in now. */
  #here(): Database {
    const { database } = this.reader;
    if (this.#database?.database === database) return this.#database;
    let found = this.#databases.get(database);
    if (found === undefined) {
      if (this.#databases.size === maxDatabases) {
        throw new Failure("LIMIT_EXCEEDED", `Cannot count more than ${maxDatabases} databases`);
      }
      found = { database, keys: 0, expiring: 0, expired: 0, expireAtMs: 0, bytes: 0 };
      this.#databases.set(database, found);
    }
    this.#database = found;
    return found;
  }

  #endKey(): void {
    const { type, position } = this.reader;
    const bytes = position - this.#mark;
    this.#mark = position;
    this.#isInKey = false;
    this.#typeBytes[type] = (this.#typeBytes[type] as number) + bytes;
    this.#typeElements[type] = (this.#typeElements[type] as number) + this.#elements;
    this.#here().bytes += bytes;
    this.#prefixes.end(bytes);
    if (bytes > this.#biggest.threshold) this.#biggest.add(bytes, this.#describeKey(bytes));
  }

  #describeKey(bytes: number): BigKey {
    const { database, layout } = this.reader;
    const { type, encoding } = layout;
    const elements = hasElements(type) ? this.#elements : null;
    const [key, keyBytes] = [this.#key.text(), this.#key.sizeBytes];
    return { database, key, keyBytes, type, encoding, elements, bytes };
  }

  #endValue(): void {
    this.#endGroup();
    this.#isFirstPiece = true;
    if (this.#isInKey) this.#endKey();
    else this.#mark = this.reader.position;
  }

  #takeOther(event: ReturnType<RdbReader["next"]>): void {
    const { parts } = this.reader;
    switch (event) {
      case "group":
        this.#endGroup();
        if (parts.group !== undefined) this.#group = { group: parts.group, consumers: 0 };
        return;
      case "consumer":
        if (this.#group !== undefined) this.#group.consumers++;
        return;
      case "raw":
      case "module aux":
        if (this.#isFirstPiece) this.#modules.count(parts.first.view(), event === "raw");
        this.#isFirstPiece = false;
        return;
      case "aux":
        this.#takeAux();
        break;
      case "function":
        this.#takeFunction();
        break;
      case "slot info":
        this.#slots++;
        break;
      default:
        if (this.#isInKey) return;
    }
    this.#mark = this.reader.position;
  }

  #endGroup(): void {
    if (this.#group === undefined) return;
    const { group, consumers } = this.#group;
    const { ms, seq } = group.lastId;
    this.#group = undefined;
    this.#streams.groups++;
    this.#streams.consumers += consumers;
    this.#streams.pending += group.pending;
    if (group.pending <= this.#groups.threshold) return;
    this.#groups.add(group.pending, {
      database: this.reader.database,
      key: this.#key.text(),
      group: escapeBytes(group.name.subarray(0, maxNameBytes)),
      consumers,
      pending: group.pending,
      lastId: `${ms}-${seq}`,
    });
  }

  #takeAux(): void {
    const { first, second } = this.reader.parts;
    const name = escapeBytes(first.view().subarray(0, maxNameBytes));
    // Cluster nodes of Valkey write one for each slot.
    if (name === "slot-info") this.#slots++;
    const known = this.#aux.get(name);
    if (known !== undefined) known.times++;
    else if (this.#aux.size === maxAuxNames) this.#auxOthers++;
    else {
      const value = escapeBytes(second.view().subarray(0, maxNameBytes));
      this.#aux.set(name, { value, times: 1 });
    }
  }

  /** "#!lua name=mylib" is the first line of a library's code. */
  #takeFunction(): void {
    if (this.#functions.length === maxFunctions) return;
    const code = this.reader.parts.first;
    const line = toLatin1(code.bytes, code.start, Math.min(code.end, code.start + maxNameBytes));
    const [, engine = "", library = ""] = /^#!(\S+)\s[^\n]*?\bname=(\S+)/.exec(line) ?? [];
    this.#functions.push({
      library: escapeBytes(Buffer.from(library, "latin1")),
      engine: escapeBytes(Buffer.from(engine, "latin1")),
      bytes: code.length,
    });
  }

  report(file: string, failure?: Failure): SnapshotReport {
    const { reader } = this;
    const createdAtMs = this.#createdAtMs();
    const databases = this.#reportDatabases(createdAtMs);
    const sum = (pick: (database: DatabaseReport) => number) =>
      databases.reduce((total, database) => total + pick(database), 0);
    return {
      file,
      sizeBytes: reader.position,
      family: reader.family,
      version: reader.version,
      checksum: checksumOf(reader, this.#hasEnded, failure),
      producer: this.#producer(),
      createdAtMs,
      aux: Array.from(this.#aux, ([name, aux]) => ({ name, ...aux })),
      auxOthers: this.#auxOthers,
      keys: sum(({ keys }) => keys),
      expiring: sum(({ expiring }) => expiring),
      expired: sum(({ expired }) => expired),
      expiringFields: this.#expiringFields,
      databases,
      types: this.#reportTypes(),
      biggest: this.#biggest.list(),
      prefixes: this.#prefixes.report(this.#options.top),
      streams: this.#reportStreams(),
      functions: this.#functions,
      modules: this.#modules.report(),
      slots: this.#slots,
    };
  }

  #producer(): string | null {
    for (const name of ["redis", "valkey", "df"]) {
      const version = this.#aux.get(`${name}-ver`)?.value;
      if (version !== undefined) return `${name === "df" ? "dragonfly" : name} ${version}`;
    }
    return null;
  }

  #createdAtMs(): number | null {
    const seconds = Number(this.#aux.get("ctime")?.value ?? Number.NaN);
    return Number.isSafeInteger(seconds * 1000) ? seconds * 1000 : null;
  }

  #reportDatabases(createdAtMs: number | null): DatabaseReport[] {
    const fromMs = createdAtMs ?? this.#options.nowMs;
    return Array.from(this.#databases.values(), ({ expireAtMs, ...database }) => ({
      ...database,
      averageTtlMs:
        database.expiring === 0 ? null : Math.round(expireAtMs / database.expiring - fromMs),
    })).sort((a, b) => a.database - b.database);
  }

  /** Numbers of the same type and encoding differ by version only. */
  #reportTypes(): TypeReport[] {
    const types = new Map<string, TypeReport>();
    for (let number = 0; number < 256; number++) {
      const layout = layoutOf(this.reader.family, number);
      if (layout === undefined || this.#typeKeys[number] === 0) continue;
      const { type, encoding } = layout;
      const before = types.get(`${type} ${encoding}`);
      const elements = (before?.elements ?? 0) + (this.#typeElements[number] as number);
      types.set(`${type} ${encoding}`, {
        type,
        encoding,
        keys: (before?.keys ?? 0) + (this.#typeKeys[number] as number),
        expiring: (before?.expiring ?? 0) + (this.#typeExpiring[number] as number),
        elements: hasElements(type) ? elements : null,
        bytes: (before?.bytes ?? 0) + (this.#typeBytes[number] as number),
      });
    }
    return [...types.values()].sort((a, b) => b.bytes - a.bytes);
  }

  #reportStreams(): StreamsReport | null {
    const of = this.#reportTypes().find(({ type }) => type === "stream");
    if (of === undefined) return null;
    const { keys, elements } = of;
    return { keys, entries: elements ?? 0, ...this.#streams, topGroups: this.#groups.list() };
  }
}

function hasElements(type: string): boolean {
  return type !== "string" && type !== "module";
}
