/**
 * Payloads of DUMP and RESTORE, and of FUNCTION DUMP.
 *
 *   type u8 | value as in a file | version u16 LE | CRC-64 u64 LE of all before
 *   f5 string … (libraries)      | version u16 LE | CRC-64 u64 LE
 *
 * Servers accept versions up to their own, so a payload gets the lowest one that knows its type: 9,
 * 10, 11 or 12, and 80 for Valkey's hash with field expiries. Unlike in files, a CRC of zero does
 * not mean that none was computed: most servers refuse it, and so does `openDumpPayload()`.
 */
import assert from "node:assert/strict";
import { corrupt } from "../../base/errors.ts";
import { crc64 } from "./crc64.ts";
import type { Family, Target } from "./model.ts";
import { capabilities } from "./target.ts";
import { Output } from "./writer-output.ts";
import { type ValueOptions, ValueWriter } from "./writer-value.ts";

const footerBytes = 10;
const crcBytes = 8;
const firstValkeyVersion = 80;
const functionOpcode = 0xf5;
const functionVersion = 10;

/** A payload out of what stands before the footer. */
export function createDumpPayload(content: Uint8Array, version: number): Uint8Array {
  const payload = new Uint8Array(content.length + footerBytes);
  const view = new DataView(payload.buffer);
  payload.set(content);
  view.setUint16(content.length, version, true);
  view.setBigUint64(payload.length - crcBytes, crc64(payload, 0, payload.length - crcBytes), true);
  return payload;
}

/** What stands before the footer of a sound payload (borrowed), and the RDB version of its writer. */
export function openDumpPayload(payload: Uint8Array): {
  readonly content: Uint8Array;
  readonly version: number;
  readonly family: Family;
} {
  const end = payload.length - footerBytes;
  if (end < 0) throw corrupt(0, `A payload of ${payload.length} bytes, shorter than its footer`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const crcAt = payload.length - crcBytes;
  if (view.getBigUint64(crcAt, true) !== crc64(payload, 0, crcAt)) {
    throw corrupt(crcAt, "A wrong checksum of a payload");
  }
  const version = view.getUint16(end, true);
  const family = version >= firstValkeyVersion ? "valkey" : "redis";
  return { content: payload.subarray(0, end), version, family };
}

/**
 * The payload of the value that `write` gives, or undefined when the whole key is lost (only where
 * losses are allowed; `writer.losses` counts them). The key is for messages.
 */
export function encodeDump(
  target: Target,
  key: Uint8Array,
  write: (writer: ValueWriter) => void,
  options?: ValueOptions,
): Uint8Array | undefined {
  const writer = new ValueWriter(target, options);
  writer.key = () => key;
  writer.output.hold();
  writer.output.type();
  write(writer);
  const content = writer.output.take();
  const [type] = content;
  if (type === undefined) return undefined;
  return createDumpPayload(content, dumpVersion(type, capabilities[target].family));
}

/** The payload that FUNCTION RESTORE takes. */
export function encodeFunctionDump(libraries: readonly Uint8Array[]): Uint8Array {
  const output = new Output(true);
  for (const code of libraries) {
    output.byte(functionOpcode);
    output.string(code);
  }
  return createDumpPayload(output.take(), functionVersion);
}

/** The lowest version that knows a type that the writer uses. */
export function dumpVersion(type: number, family: Family): number {
  assert(type <= 25, "A type that no target has");
  if (type <= 15) return 9;
  if (type <= 19) return 10;
  if (type <= 21) return 11;
  return family === "valkey" ? firstValkeyVersion : 12;
}
