/**
 * CRC-64 (Jones), the checksum of RDB files and DUMP payloads.
 *
 * WHY WASM. Over a whole file this is the largest single cost of reading one: 64-bit arithmetic in
 * JavaScript means two 32-bit halves (some 700 MB/s) or BigInt (far less). The same loop in
 * WebAssembly, which has 64-bit integers, does 1.8 GB/s on the same core. The module is one loop,
 * assembled below, so there is no binary in the repository and nothing to build.
 *
 * ALGORITHM. Reflected polynomial 95ac9329ac4bc9b5, initial value 0, no final xor; the check value
 * of "123456789" is e9c6d914c4b8d9ca. Sixteen tables slice by 16: T[k][n] is what byte n contributes
 * when k zero bytes follow it, so sixteen bytes cost sixteen look-ups that don't wait for each other.
 *
 * MEMORY of the module: T[0..15], 256 little-endian u64 each | input
 *
 * REJECTED. A worker thread: as fast only where there is an idle core, and every caller becomes
 * asynchronous. Summing two halves of a block side by side: no faster, the loads are the limit.
 * `node:zlib` has CRC-32 only.
 */
const polynomial = 0x95ac9329ac4bc9b5n;
const slices = 16;
const tableBytes = 256 * 8;
const inputAt = slices * tableBytes;
const pageBytes = 65536;
const inputBytes = 2 * pageBytes;

/** A running CRC-64. Chunks may be cut anywhere. */
export class Crc64 {
  #state = 0n;

  update(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const { memory, sum } = module();
    if (bytes.buffer === memory.buffer) {
      const at = bytes.byteOffset;
      this.#state = sum(this.#state, at + start, at + end);
      return;
    }
    for (let from = start; from < end; from += inputBytes) {
      const size = Math.min(inputBytes, end - from);
      memory.set(
        from === 0 && size === bytes.length ? bytes : bytes.subarray(from, from + size),
        inputAt,
      );
      this.#state = sum(this.#state, inputAt, inputAt + size);
    }
  }

  /** The sum so far, 0 to 2^64-1. */
  value(): bigint {
    return BigInt.asUintN(64, this.#state);
  }

  reset(): void {
    this.#state = 0n;
  }
}

/**
 * Bytes within the module's own memory: what is read into them is summed without being copied. They
 * are used by every other sum too, so they are to be filled and summed in one go.
 */
export function crc64Input(): Uint8Array {
  return module().memory.subarray(inputAt, inputAt + inputBytes);
}

/** The CRC-64 of some bytes, 0 to 2^64-1. */
export function crc64(bytes: Uint8Array, start = 0, end = bytes.length): bigint {
  const crc = new Crc64();
  crc.update(bytes, start, end);
  return crc.value();
}

/** What is used of the global, which TypeScript's `lib` declares for browsers only. */
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (
    module: object,
  ) => {
    readonly exports: { readonly memory: { readonly buffer: ArrayBuffer }; readonly sum: Sum };
  };
};

/**
 * The CRC-64 of two runs of bytes, one behind the other, from the CRC of each and the length of the
 * second: the first one, moved past so many zero bytes, that is, times x^(8n) modulo the polynomial.
 */
export function joinCrc64(first: bigint, second: bigint, secondBytes: number): bigint {
  let power = unit >> 8n;
  let moved = first;
  for (let left = BigInt(secondBytes); left > 0n; left >>= 1n) {
    if (left & 1n) moved = multiply(moved, power);
    power = multiply(power, power);
  }
  return moved ^ second;
}

/** The polynomial 1: in the reflected form the highest bit is x^0. */
const unit = 1n << 63n;

/** The product of two polynomials, modulo the one that all is about. */
function multiply(a: bigint, b: bigint): bigint {
  let product = 0n;
  let shifted = b;
  for (let bit = unit; bit > 0n; bit >>= 1n) {
    if (a & bit) product ^= shifted;
    shifted = (shifted >> 1n) ^ (shifted & 1n ? polynomial : 0n);
  }
  return product;
}

type Module = {
  readonly memory: Uint8Array;
  readonly sum: Sum;
};

/** The state after the bytes of memory from `start` to `end` have followed `state`. */
type Sum = (state: bigint, start: number, end: number) => bigint;

let loaded: Module | undefined;

function module(): Module {
  loaded ??= load();
  return loaded;
}

function load(): Module {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(assemble()));
  const { memory, sum } = exports;
  const words = new DataView(memory.buffer);

  for (let byte = 0; byte < 256; byte++) {
    let value = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (value & 1n ? polynomial : 0n);
    words.setBigUint64(byte * 8, value, true);
  }
  for (let at = tableBytes; at < inputAt; at += 8) {
    const previous = words.getBigUint64(at - tableBytes, true);
    const first = words.getBigUint64(Number(previous & 0xffn) * 8, true);
    words.setBigUint64(at, (previous >> 8n) ^ first, true);
  }
  return { memory: new Uint8Array(memory.buffer), sum };
}

// The WebAssembly module, as the specification's binary format has it.

const i32 = 0x7f;
const i64 = 0x7e;
const op = {
  block: [0x02, 0x40],
  loop: [0x03, 0x40],
  end: [0x0b],
  i32Add: [0x6a],
  i32And: [0x71],
  i32GtU: [0x4b],
  i32GeU: [0x4f],
  i64Xor: [0x85],
  i64Shl: [0x86],
  i64ShrU: [0x88],
  i32WrapI64: [0xa7],
} as const;
const br = (depth: number) => [0x0c, depth];
const brIf = (depth: number) => [0x0d, depth];
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const i32Const = (value: number) => [0x41, ...signedLeb(value)];
const i64Const = (value: number) => [0x42, ...signedLeb(value)];
const i64Load = (offset: number) => [0x29, 3, ...leb(offset)];
const i64Load8 = (offset: number) => [0x31, 0, ...leb(offset)];

/** Locals of the one function: three parameters, then two of its own. */
const [state, at, end, low, high] = [0, 1, 2, 3, 4] as const;

function assemble(): Uint8Array<ArrayBuffer> {
  const body = [
    ...whilst(
      [...get(at), ...i32Const(16), ...op.i32Add, ...get(end), ...op.i32GtU],
      [...sixteen(), ...advance(16)],
    ),
    ...whilst(
      [...get(at), ...get(end), ...op.i32GeU],
      [
        ...[...get(state), ...get(at), ...i64Load8(0), ...op.i64Xor, ...set(low)],
        ...[...lookUp(low, 0, 0), ...get(state), ...i64Const(8), ...op.i64ShrU, ...op.i64Xor],
        ...set(state),
        ...advance(1),
      ],
    ),
    ...get(state),
    ...op.end,
  ];
  const locals = vector([[2, i64]]);
  const code = [...locals, ...body];
  const pages = Math.ceil((inputAt + inputBytes) / pageBytes);
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector([[0x60, ...vector([[i64], [i32], [i32]]), ...vector([[i64]])]])),
    ...section(3, vector([[0]])),
    ...section(5, vector([[0, ...leb(pages)]])),
    ...section(
      7,
      vector([
        [...name("sum"), 0, 0],
        [...name("memory"), 2, 0],
      ]),
    ),
    ...section(10, vector([[...leb(code.length), ...code]])),
  ]);
}

/** The sixteen bytes at `at`. */
function sixteen(): number[] {
  return [
    ...[...get(state), ...get(at), ...i64Load(0), ...op.i64Xor, ...set(low)],
    ...[...get(at), ...i64Load(8), ...set(high)],
    ...xorOf([
      ...Array.from({ length: 8 }, (_, k) => lookUp(low, k, 15 - k)),
      ...Array.from({ length: 8 }, (_, k) => lookUp(high, k, 7 - k)),
    ]),
    ...set(state),
  ];
}

/** Byte `k` of a local, looked up in table `table`: entries are 8 bytes, hence the 3 bits. */
function lookUp(local: number, k: number, table: number): number[] {
  const scaled =
    k === 0
      ? [...get(local), ...i64Const(3), ...op.i64Shl]
      : [...get(local), ...i64Const(8 * k - 3), ...op.i64ShrU];
  const index = [...op.i32WrapI64, ...i32Const(0xff << 3), ...op.i32And];
  return [...scaled, ...index, ...i64Load(table * tableBytes)];
}

function xorOf(terms: number[][]): number[] {
  return terms.flatMap((term, i) => (i === 0 ? term : [...term, ...op.i64Xor]));
}

function whilst(isOver: number[], body: number[]): number[] {
  return [...op.block, ...op.loop, ...isOver, ...brIf(1), ...body, ...br(0), ...op.end, ...op.end];
}

function advance(size: number): number[] {
  return [...get(at), ...i32Const(size), ...op.i32Add, ...set(at)];
}

function section(id: number, body: number[]): number[] {
  return [id, ...leb(body.length), ...body];
}

function vector(items: number[][]): number[] {
  return [...leb(items.length), ...items.flat()];
}

function name(text: string): number[] {
  return [text.length, ...Buffer.from(text)];
}

function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

function signedLeb(value: number): number[] {
  const low = value & 0x7f;
  const rest = value >> 7;
  const isLast = (rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40);
  return isLast ? [low] : [low | 0x80, ...signedLeb(rest)];
}
