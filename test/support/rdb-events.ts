/** Runs an RDB reader over bytes that are cut anywhere, for tests that look at its events. */
import { toLatin1 } from "../../src/base/bytes.ts";
import type { StreamId } from "../../src/codec/rdb/model.ts";
import type { RdbEvent } from "../../src/codec/rdb/parts.ts";
import { RdbReader, type RdbReaderOptions } from "../../src/codec/rdb/reader.ts";
import { formatId } from "../../src/codec/rdb/stream.ts";

/** What is done with every value. */
export type Mode = "decode" | "skip" | "raw";

type OnEvent = (event: RdbEvent, reader: RdbReader) => void;

/**
 * Reads a file to its end; `sizes` are those of the chunks in turn, over and over. A chunk is
 * overwritten as soon as it has been let go, so that nothing can read it later unnoticed.
 */
export function readInChunks(
  reader: RdbReader,
  bytes: Uint8Array,
  sizes: readonly number[],
  onEvent: OnEvent,
): void {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn++) {
    const end = Math.min(bytes.length, at + (sizes[turn % sizes.length] as number));
    const chunk = Uint8Array.prototype.slice.call(bytes, at, end);
    at = end;
    reader.push(chunk);
    for (let event = reader.next(); event; event = reader.next()) {
      onEvent(event, reader);
      if (event === "end") return;
    }
    chunk.fill(0xaa);
  }
  reader.finish();
}

export type EventOptions = RdbReaderOptions & {
  readonly mode?: Mode;
  readonly sizes?: readonly number[];
};

/** The events of a file, each with all that it is about. */
export function eventsOf(bytes: Uint8Array, options: EventOptions = {}): string[] {
  const { mode = "decode", sizes = [Math.max(1, bytes.length)], ...rest } = options;
  const events: string[] = [];
  readInChunks(new RdbReader(rest), bytes, sizes, (event, reader) => {
    events.push(describeEvent(event, reader));
    if (event === "key" && mode !== "decode") reader[mode]();
  });
  return events;
}

/** The pieces of each value in one, wherever the file was cut. */
export function joinRaw(events: readonly string[]): string[] {
  const joined: string[] = [];
  let name = "";
  let pieces: string[] = [];
  for (const event of events) {
    const isPiece = event.startsWith("raw ") || event.startsWith("module aux ");
    if (isPiece) {
      name = event.slice(0, event.lastIndexOf(" ") + 1);
      pieces.push(event.slice(name.length));
      continue;
    }
    if (pieces.length > 0) joined.push(name + pieces.join(""));
    pieces = [];
    joined.push(event);
  }
  if (pieces.length > 0) joined.push(name + pieces.join(""));
  return joined;
}

export function describeEvent(event: RdbEvent, reader: RdbReader): string {
  const { parts } = reader;
  const first = () => parts.first.latin1();
  switch (event) {
    case "aux":
      return `aux ${first()}=${parts.second.latin1()}`;
    case "function":
    case "slot import":
    case "string":
    case "element":
      return `${event} ${first()}`;
    case "raw":
    case "module aux":
      return `${event} ${Buffer.from(parts.first.view()).toString("hex")}`;
    case "database":
      return `database ${reader.database}`;
    case "size":
      return `size ${reader.statedKeys} ${reader.statedExpires}`;
    case "key":
      return describeKey(reader);
    case "begin":
      return `begin ${parts.count === -1 ? `${parts.nodes} nodes` : parts.count}`;
    case "node":
    case "slot info":
    case "end value":
    case "end":
      return event;
    case "member":
      return `member ${first()} ${Object.is(parts.score, -0) ? "-0" : parts.score}`;
    case "field": {
      const time = parts.fieldExpireAtMs === -1 ? "" : ` until ${parts.fieldExpireAtMs}`;
      return `field ${first()}=${parts.second.latin1()}${time}`;
    }
    case "item":
      return `item ${parts.index}=${first()}`;
    case "consumers":
      return `consumers ${parts.count}`;
    default:
      return describeStream(event, reader);
  }
}

function describeKey(reader: RdbReader): string {
  const { key, type, expireAtMs, idleSeconds, frequency, metadata } = reader;
  const expiry = expireAtMs === null ? "" : ` until ${expireAtMs}`;
  const idle = idleSeconds === null ? "" : ` idle ${idleSeconds}`;
  const used = frequency === null ? "" : ` frequency ${frequency}`;
  const more = metadata === null ? "" : ` metadata ${Buffer.from(metadata).toString("hex")}`;
  return `key ${key.latin1()} of type ${type}${expiry}${idle}${used}${more}`;
}

function describeStream(event: RdbEvent, { parts }: RdbReader): string {
  switch (event) {
    case "entry": {
      const fields = parts.fields.map((field) => toLatin1(field));
      return `entry ${formatId(parts.id)} ${fields.join(" ")}`;
    }
    case "stream":
      return `stream ${describe(parts.stream)}`;
    case "group":
      return `group ${describe(parts.group)}`;
    case "pending":
      return `pending ${describe(parts.pending)}`;
    case "consumer":
      return `consumer ${describe(parts.consumer)}`;
    case "consumer pending":
    case "released":
      return `${event} ${formatId(parts.id)}`;
    case "idempotency":
      return `idempotency ${describe(parts.idempotency)}`;
    default:
      throw new Error(`Event "${event}" has no description`);
  }
}

/** JSON of a model object: ids as text, bytes as latin1, big integers as digits. */
function describe(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => {
    if (typeof each === "bigint") return String(each);
    if (each instanceof Uint8Array) return toLatin1(each);
    return isId(each) ? formatId(each) : each;
  });
}

function isId(value: unknown): value is StreamId {
  return typeof value === "object" && value !== null && "ms" in value && "seq" in value;
}
