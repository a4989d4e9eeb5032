/**
 * Vector sets, the module value that Redis 8 has built in, as far as they can be shown.
 *
 *   len module id | uint dimensions | uint elements | uint quantization + connections << 8
 *   uint flags (1: projected, 2: attributes)
 *   flag 1: uint original dimensions, string matrix
 *   elements × ( string name | flag 2: string attributes | string vector
 *                uint n | n × uint: its place in the graph )
 *   0
 *
 * Each uint and string has its module opcode in front (see `pass.ts`). Seen in files of Redis 8.0.
 */
import { Slice } from "../../base/bytes.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import { hungry, Input } from "./input.ts";
import { maxLzfGrowth } from "./lzf-decode.ts";
import { readModulePart } from "./pass.ts";

/** The high 54 bits of the module id: "vectorset" in six-bit characters. */
const nameBits = 0xbde72da2bb1eb400n >> 10n;
const quantizations = ["f32", "int8", "bin"] as const;
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

export type VectorSet = {
  readonly quantization: (typeof quantizations)[number];
  readonly dimensions: number;
  readonly elements: readonly {
    readonly name: Uint8Array;
    readonly attributes: Uint8Array | null;
  }[];
};

/** The name and encoding version that a module's value starts with. */
export function moduleOf(raw: Uint8Array): { name: string; version: number } {
  const id = openInput(raw).length64();
  let name = "";
  for (let shift = 58n; shift >= 10n; shift -= 6n) name += alphabet[Number((id >> shift) & 63n)];
  return { name, version: Number(id & 1023n) };
}

/** Whether these bytes are the value of a module, all of it and nothing else. */
export function isModuleValue(raw: Uint8Array): boolean {
  const input = openInput(raw);
  const scratch = new Slice();
  try {
    input.length64();
    while (readModulePart(input, scratch));
    return input.held === 0;
  } catch (cause) {
    if (cause === hungry || cause instanceof Failure) return false;
    throw cause;
  }
}

/**
 * Reads the raw value of a module; undefined where it is no vector set, or none of the layout above:
 * it is the value of a module all the same, and whether it is sound only that module knows.
 */
export function readVectorSet(raw: Uint8Array): VectorSet | undefined {
  const input = openInput(raw);
  try {
    if (input.length64() >> 10n !== nameBits) return undefined;
    const set = readBody(input);
    return input.length() === 0 && input.held === 0 ? set : undefined;
  } catch (cause) {
    if (cause === hungry || cause instanceof Failure) return undefined;
    throw cause;
  }
}

function openInput(raw: Uint8Array): Input {
  const input = new Input(raw.length * maxLzfGrowth);
  input.push(raw);
  return input;
}

function readBody(input: Input): VectorSet {
  const dimensions = readUint(input);
  const count = readUint(input);
  const config = readUint(input);
  const flags = readUint(input);
  const quantization = quantizations[config & 0xff];
  if (flags > 3) throw corrupt(input.position, `Flags ${flags} of a vector set`);
  if (!quantization) throw corrupt(input.position, `Quantization ${config & 0xff} of a vector set`);
  const slice = new Slice();
  if (flags & 1) {
    readUint(input);
    readString(input, slice);
  }
  const elements: { name: Uint8Array; attributes: Uint8Array | null }[] = [];
  for (let i = 0; i < count; i++) {
    readString(input, slice);
    const name = slice.copy();
    let attributes: Uint8Array | null = null;
    if (flags & 2) {
      readString(input, slice);
      if (slice.length > 0) attributes = slice.copy();
    }
    readString(input, slice);
    for (let left = readUint(input); left > 0; left--) readUint(input);
    elements.push({ name, attributes });
  }
  return { quantization, dimensions, elements };
}

function readUint(input: Input): number {
  expectOpcode(input, 2);
  return Number(input.length64());
}

function readString(input: Input, into: Slice): void {
  expectOpcode(input, 5);
  input.string(into);
}

function expectOpcode(input: Input, wanted: number): void {
  const found = input.length();
  if (found !== wanted) throw corrupt(input.position - 1, `Opcode ${found} in a vector set`);
}
