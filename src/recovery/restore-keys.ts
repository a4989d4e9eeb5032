/**
 * Makes the commands that bring the keys of a snapshot back to running servers.
 *
 *   a string without expiry      SET key value
 *   anything else                RESTORE key ttl payload ABSTTL [REPLACE] [IDLETIME n] [FREQ n]
 *   a function library           FUNCTION LOAD [REPLACE] code, to every server
 *
 * WHY payloads are made anew and not copied: they are for the version of the server that they are
 * sent to, whatever the snapshot is of, and what it cannot hold is refused by name, or counted.
 *
 * An entry of a file and a payload differ by what stands around the value: `type key value` there,
 * `type value version checksum` here. So the writer for files makes both.
 *
 * INVARIANT. Memory: the value of one key, and what has been made and not taken.
 */
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { createDumpPayload, dumpVersion } from "../codec/rdb/dump.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import type { Target } from "../codec/rdb/model.ts";
import type { Parts, RdbEvent } from "../codec/rdb/parts.ts";
import { capabilities, quote } from "../codec/rdb/target.ts";
import { RdbTranscoder } from "../codec/rdb/transcode.ts";
import { RdbWriter } from "../codec/rdb/writer.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import { isMark, markerName, markerTaken } from "./restore-marker.ts";
import { SetRow } from "./restore-set-row.ts";
import { slotOf } from "./restore-slots.ts";

/** So much is taken from an encoder at once that its buffer is not grown for it. */
const partBytes = 48 * 1024;

/** What goes to one server. */
export class Lane {
  readonly #encoder = new RespEncoder();
  readonly #row = new SetRow();
  #parts: Uint8Array[] = [];
  #commands = 0;
  #database = 0;

  /** For a command, of which `count()` is told. */
  get encoder(): RespEncoder {
    this.#flushRow();
    return this.#encoder;
  }

  /** SET; `inRow`: perhaps with others, which may be of any slot. */
  set(key: Slice, value: Slice, inRow: boolean): void {
    if (inRow && this.#row.add(key, value)) {
      if (this.#row.isFull) this.#flushRow();
      return;
    }
    const { encoder } = this;
    encoder.array(3);
    encoder.bulkText("SET");
    encoder.bulk(key.bytes, key.start, key.end);
    encoder.bulk(value.bytes, value.start, value.end);
    this.count();
  }

  #flushRow(): void {
    if (this.#row.flush(this.#encoder) > 0) this.count();
  }

  /** A command has been encoded. */
  count(): void {
    this.#commands++;
    if (this.#encoder.length >= partBytes) this.#parts.push(this.#encoder.take());
  }

  select(database: number): void {
    if (database === this.#database) return;
    this.#database = database;
    this.encoder.command("SELECT", database);
    this.count();
  }

  /** For a connection that is new. */
  reset(): void {
    this.#database = 0;
  }

  /** What there is to be sent, and how many commands that is. */
  take(): { readonly parts: readonly Uint8Array[]; readonly commands: number } {
    this.#flushRow();
    const taken = { parts: [...this.#parts, this.#encoder.take()], commands: this.#commands };
    this.#parts = [];
    this.#commands = 0;
    return taken;
  }
}

export type KeyCommandOptions = {
  readonly target: Target;
  readonly lossy?: boolean;
  /** Of a cluster: which lane has a slot. One server has all. */
  readonly laneOf?: (slot: number) => Lane;
  readonly lanes: readonly Lane[];
  /** Keys of database 0 that mark what is not whole, and that cannot be among the data. */
  readonly markers?: readonly string[];
  /** Whether what is there is replaced; else RESTORE says BUSYKEY, and SET is not used. */
  readonly replaces: boolean;
  /** Databases that become others. */
  readonly databases?: ReadonlyMap<number, number>;
  /** So many keys have been restored already, and are passed over. */
  readonly skipKeys?: number;
  /** What becomes of the keys of a slot, asked for each key, and goes before `replaces`. */
  readonly choose?: (slot: number) => KeyChoice;
  /** What was put in front of each key, and does not count for `choose`. */
  readonly prefixBytes?: number;
};

/** It replaces what is there, is kept back by it, or is not restored. */
export type KeyChoice = "replace" | "keep" | "none";

/** Servers take no larger argument, unless they are told to. */
const maxPayloadBytes = 512 * 2 ** 20;

export class KeyCommands implements KeySink {
  /** Keys so far, with those that `skipKeys` passes over, and without those that were not chosen. */
  keys = 0;
  /** Of the servers. */
  highestDatabase = 0;
  readonly #options: KeyCommandOptions;
  readonly #writer: RdbWriter;
  readonly #transcoder: RdbTranscoder;
  readonly #bare = new BareHead();
  #head: KeyHead | undefined;
  #hasBegun = false;
  #isPassed = false;
  #replaces: boolean;
  #moduleAux = 0;
  #marks = 0;
  /** Whether the key is called as markers are. */
  #isMarker = false;

  constructor(options: KeyCommandOptions) {
    const { target, lossy = false } = options;
    this.#options = options;
    this.#replaces = options.replaces;
    const writing = { lossy, version: null, checksum: false, compress: false } as const;
    this.#writer = new RdbWriter(target, { ...writing, modules: "any" });
    // The header of a file that there will not be.
    this.#writer.take();
    this.#transcoder = new RdbTranscoder(this.#writer);
  }

  /** What the target could not hold, and how many times. */
  get dropped(): ReadonlyMap<string, number> {
    const dropped = new Map<string, number>(this.#writer.dropped);
    if (this.#moduleAux > 0) dropped.set("module aux", this.#moduleAux);
    if (this.#marks > 0) dropped.set("marker of a restore", this.#marks);
    return dropped;
  }

  /** Marks of restores that were among the data. */
  get marks(): number {
    return this.#marks;
  }

  library(code: Slice): void {
    if (!capabilities[this.#options.target].hasFunctions) {
      // Refused or counted as in a file: nothing is written.
      this.#writer.functionLibrary(code.view());
      return;
    }
    for (const lane of this.#options.lanes) {
      const replace = this.#options.replaces ? ["REPLACE"] : [];
      lane.encoder.command("FUNCTION", "LOAD", ...replace, code.view());
      lane.count();
    }
  }

  /** No command makes it; servers make their own when the module is loaded. */
  moduleAux(): void {
    this.#moduleAux++;
  }

  begin(head: KeyHead): void {
    const { choose, prefixBytes = 0, skipKeys = 0 } = this.#options;
    if (choose !== undefined) {
      const { bytes, start, end } = head.key;
      const choice = choose(slotOf(bytes, start + prefixBytes, end));
      this.#isPassed = choice === "none";
      if (this.#isPassed) return;
      this.#replaces = choice === "replace";
    }
    this.#isPassed = ++this.keys <= skipKeys;
    const { key } = head;
    this.#isMarker = isCalledAsMarker(key, prefixBytes) || isCalledAsMarker(key, 0);
    if (this.#isPassed && !this.#isMarker) return;
    this.#head = head;
    this.#hasBegun = false;
  }

  accept(event: RdbEvent, parts: Parts): void {
    if (this.#isMarker && this.#takeMarker(event, parts)) return;
    if (this.#isPassed) return;
    const head = this.#head as KeyHead;
    if (event === "string" && this.#replaces && isPlain(head)) {
      this.#lane(head).set(head.key, parts.first, this.#options.laneOf === undefined);
      return;
    }
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      this.#bare.take(head);
      this.#transcoder.begin(this.#bare);
    }
    this.#transcoder.accept(event, parts);
    if (event !== "string" && event !== "end value") return;
    const entry = this.#writer.take();
    // A key that is lost as a whole leaves nothing.
    if (entry.length > 0) this.#restore(this.#lane(head), head, entry);
  }

  /** A set that was taken while a restore was under way has its mark: that is no data. */
  #takeMarker(event: RdbEvent, parts: Parts): boolean {
    this.#isMarker = false;
    const { database } = this.#head as KeyHead;
    if (database === 0 && event === "string" && isMark(parts.first.latin1())) {
      this.#marks++;
      return true;
    }
    this.#mustNotBeTaken(this.#head as KeyHead);
    return false;
  }

  #restore(lane: Lane, head: KeyHead, entry: Uint8Array): void {
    const { key, expireAtMs, idleSeconds, frequency } = head;
    const at = keyEnd(entry);
    const content = new Uint8Array(1 + entry.length - at);
    content[0] = entry[0] as number;
    content.set(entry.subarray(at), 1);
    const { target } = this.#options;
    const version = dumpVersion(content[0] as number, capabilities[target].family);
    const payload = createDumpPayload(content, version);
    if (payload.length > maxPayloadBytes) {
      const found = `it takes ${payload.length} bytes, and servers take ${maxPayloadBytes} at once`;
      const message = `Cannot restore key ${quote(key.view())}: ${found}`;
      throw new Failure("LIMIT_EXCEEDED", message, { hint: "Restore to a folder: --to-dir DIR." });
    }
    const options = [
      ...(this.#replaces ? ["REPLACE"] : []),
      ...(expireAtMs === null ? [] : ["ABSTTL"]),
      ...(idleSeconds === null || frequency !== null ? [] : ["IDLETIME", String(idleSeconds)]),
      ...(frequency === null ? [] : ["FREQ", String(frequency)]),
    ];
    const { encoder } = lane;
    encoder.array(4 + options.length);
    encoder.bulkText("RESTORE");
    encoder.bulk(key.bytes, key.start, key.end);
    // One of 0 would be none; what expired in 1970 may as well have expired a millisecond later.
    encoder.bulkText(expireAtMs === null ? "0" : String(expireAtMs > 1 ? expireAtMs : 1));
    encoder.bulk(payload);
    for (const option of options) encoder.bulkText(option);
    lane.count();
  }

  #mustNotBeTaken({ key, database }: KeyHead): void {
    const { databases, markers = [] } = this.#options;
    if ((databases?.get(database) ?? database) !== 0) return;
    const name = key.latin1();
    if (markers.includes(name)) throw markerTaken(name);
  }

  #lane({ key, database }: KeyHead): Lane {
    const { databases, laneOf, lanes } = this.#options;
    const to = databases?.get(database) ?? database;
    if (to > this.highestDatabase) this.highestDatabase = to;
    if (laneOf === undefined) {
      const lane = lanes[0] as Lane;
      lane.select(to);
      return lane;
    }
    if (to === 0) return laneOf(slotOf(key.bytes, key.start, key.end));
    const found = `it is in database ${to}, and a cluster has none but 0`;
    throw new Failure("TARGET_CANNOT_HOLD", `Cannot restore key ${quote(key.view())}: ${found}`);
  }

  finish(): void {}
}

function isCalledAsMarker({ bytes, start, end }: Slice, prefixBytes: number): boolean {
  const from = start + prefixBytes;
  if (end - from < markerName.length) return false;
  for (let i = 0; i < markerName.length; i++) {
    if (bytes[from + i] !== markerName.charCodeAt(i)) return false;
  }
  return true;
}

function isPlain({ expireAtMs, idleSeconds, frequency, metadata }: KeyHead): boolean {
  return expireAtMs === null && idleSeconds === null && frequency === null && metadata === null;
}

/** A key without what stands in front of it in a file. */
class BareHead implements KeyHead {
  readonly database = -1;
  readonly expireAtMs = null;
  readonly idleSeconds = null;
  readonly frequency = null;
  key = new Slice();
  type = 0;
  version = 0;
  layout: KeyHead["layout"] = { type: "string", encoding: "plain", pieces: [] };
  metadata: Uint8Array | null = null;

  take(head: KeyHead): void {
    this.key = head.key;
    this.type = head.type;
    this.version = head.version;
    this.layout = head.layout;
    this.metadata = head.metadata;
  }
}

/** Where the key ends in an entry, whose first byte is the type; strings are not compressed in it. */
function keyEnd(entry: Uint8Array): number {
  const first = entry[1] as number;
  switch (first >> 6) {
    case 0:
      return 2 + first;
    case 1:
      return 3 + (((first & 0x3f) << 8) | (entry[2] as number));
    case 2:
      return 6 + new DataView(entry.buffer, entry.byteOffset).getUint32(2);
    default:
      return 2 + (1 << (first & 0x3f));
  }
}
