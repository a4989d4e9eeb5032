/**
 * RDB files out of their pieces, for tests that need exact bytes. Written from the format's
 * description and sharing nothing with the codec: what is built here proves the reader.
 */

/** Bytes, or text of characters below 256. */
export type Bytes = Uint8Array | readonly number[] | string;

export function bytes(...pieces: readonly Bytes[]): Uint8Array {
  return Buffer.concat(
    pieces.map((piece) =>
      typeof piece === "string" ? Buffer.from(piece, "latin1") : Uint8Array.from(piece),
    ),
  );
}

export function hex(text: string): Uint8Array {
  return Buffer.from(text.replaceAll(/[\s|]/g, ""), "hex");
}

/** The shortest form of a length, or that of so many bits. */
export function length(value: number | bigint, bits?: 6 | 14 | 32 | 64): Uint8Array {
  const wide = BigInt(value);
  const width = bits ?? (wide < 64n ? 6 : wide < 16384n ? 14 : wide < 2n ** 32n ? 32 : 64);
  if (width === 6) return Uint8Array.of(Number(wide));
  if (width === 14) return Uint8Array.of(0x40 | Number(wide >> 8n), Number(wide & 0xffn));
  const out = Buffer.alloc(width === 32 ? 5 : 9);
  out[0] = width === 32 ? 0x80 : 0x81;
  if (width === 32) out.writeUInt32BE(Number(wide), 1);
  else out.writeBigUInt64BE(wide, 1);
  return out;
}

/** A plain string: its length and its bytes. */
export function string(content: Bytes): Uint8Array {
  const plain = bytes(content);
  return bytes(length(plain.length), plain);
}

/** A string that is compressed, as runs of literals only. */
export function literalLzf(content: Bytes): Uint8Array {
  return lzf(content);
}

/** `size` times one byte, compressed some 80-fold. */
export function repeatedLzf(byte: number, size: number): Uint8Array {
  return lzf({ byte, times: size });
}

type Repeated = { readonly byte: number; readonly times: number };

/** A compressed string of pieces that stand as they are and of bytes that are repeated. */
export function lzf(...pieces: readonly (Bytes | Repeated)[]): Uint8Array {
  const packed = pieces.map((piece) =>
    typeof piece === "object" && "byte" in piece ? repeated(piece) : literals(bytes(piece)),
  );
  const plainSize = pieces.reduce(
    (sum, piece) =>
      sum + (typeof piece === "object" && "byte" in piece ? piece.times : bytes(piece).length),
    0,
  );
  const compressed = Buffer.concat(packed);
  return bytes([0xc3], length(compressed.length), length(plainSize), compressed);
}

function literals(plain: Uint8Array): Uint8Array {
  const runs: Uint8Array[] = [];
  for (let at = 0; at < plain.length; at += 32) {
    const run = plain.subarray(at, at + 32);
    runs.push(bytes([run.length - 1], run));
  }
  return Buffer.concat(runs);
}

/** The byte, and then references to the one before: 264 bytes each, the last two shorter. */
function repeated({ byte, times }: Repeated): Uint8Array {
  const runs: Uint8Array[] = [Uint8Array.of(0, byte)];
  for (let left = times - 1; left > 0; ) {
    const size = left >= 267 || left <= 264 ? Math.min(264, left) : left - 3;
    if (size < 3) runs.push(bytes([size - 1], new Uint8Array(size).fill(byte)));
    else if (size < 9) runs.push(Uint8Array.of((size - 2) << 5, 0));
    else runs.push(Uint8Array.of(0xe0, size - 9, 0));
    left -= size;
  }
  return Buffer.concat(runs);
}

export function int64(value: number | bigint): Uint8Array {
  const out = Buffer.alloc(8);
  out.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)));
  return out;
}

export function double(value: number): Uint8Array {
  const out = Buffer.alloc(8);
  out.writeDoubleLE(value);
  return out;
}

/** A stream id as 16 raw bytes. */
export function rawId(ms: number | bigint, seq: number | bigint): Uint8Array {
  const out = Buffer.alloc(16);
  out.writeBigUInt64BE(BigInt.asUintN(64, BigInt(ms)), 0);
  out.writeBigUInt64BE(BigInt.asUintN(64, BigInt(seq)), 8);
  return out;
}

/** A stream id as two lengths. */
export function id(ms: number | bigint, seq: number | bigint): Uint8Array {
  return bytes(length(ms), length(seq));
}

/** A listpack of raw entries, each without its back-length. */
export function listpackOf(entries: readonly Bytes[], count = entries.length): Uint8Array {
  const body = entries.map((entry) => {
    const plain = bytes(entry);
    return bytes(plain, backLength(plain.length));
  });
  const content = Buffer.concat([...body, Uint8Array.of(0xff)]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(6 + content.length, 0);
  head.writeUInt16LE(Math.min(count, 65535), 4);
  return bytes(head, content);
}

/** A listpack of texts and integers, each in its shortest form. */
export function listpack(...elements: readonly (Bytes | number | bigint)[]): Uint8Array {
  return listpackOf(
    elements.map((element) =>
      typeof element === "number" || typeof element === "bigint"
        ? listpackInteger(BigInt(element))
        : listpackString(bytes(element)),
    ),
  );
}

/** Base 128, most significant digit first, all but the first marked. */
export function backLength(size: number): Uint8Array {
  const digits = [size & 0x7f];
  for (let rest = size >> 7; rest > 0; rest >>= 7) digits.unshift(rest & 0x7f);
  return Uint8Array.from(digits, (digit, i) => (i === 0 ? digit : digit | 0x80));
}

function listpackString(content: Uint8Array): Uint8Array {
  const size = content.length;
  if (size < 64) return bytes([0x80 | size], content);
  if (size < 4096) return bytes([0xe0 | (size >> 8), size & 0xff], content);
  const head = Buffer.from([0xf0, 0, 0, 0, 0]);
  head.writeUInt32LE(size, 1);
  return bytes(head, content);
}

function listpackInteger(value: bigint): Uint8Array {
  const fits = (bits: number) => BigInt.asIntN(bits, value) === value;
  const low = (size: number) => int64(value).subarray(0, size);
  if (value >= 0n && value < 128n) return Uint8Array.of(Number(value));
  if (fits(13)) {
    const raw = Number(BigInt.asUintN(13, value));
    return Uint8Array.of(0xc0 | (raw >> 8), raw & 0xff);
  }
  for (const [lead, size] of [
    [0xf1, 2],
    [0xf2, 3],
    [0xf3, 4],
  ] as const) {
    if (fits(8 * size)) return bytes([lead], low(size));
  }
  return bytes([0xf4], low(8));
}

/** A ziplist of raw entries, each without the size of the one before. */
export function ziplistOf(entries: readonly Bytes[], count = entries.length): Uint8Array {
  let before = 0;
  let last = 10;
  let size = 10;
  const body = entries.map((entry) => {
    const head = Buffer.from([254, 0, 0, 0, 0]);
    head.writeUInt32LE(before, 1);
    const whole = bytes(before < 254 ? [before] : head, entry);
    before = whole.length;
    last = size;
    size += whole.length;
    return whole;
  });
  const head = Buffer.alloc(10);
  head.writeUInt32LE(size + 1, 0);
  head.writeUInt32LE(last, 4);
  head.writeUInt16LE(count, 8);
  return bytes(head, ...body, [0xff]);
}

/** A ziplist of short texts. */
export function ziplist(...texts: readonly string[]): Uint8Array {
  return ziplistOf(texts.map((text) => bytes([text.length], text)));
}

/** A zipmap of short texts. */
export function zipmap(...pairs: readonly (readonly [string, string])[]): Uint8Array {
  const body = pairs.map(([name, value]) => bytes([name.length], name, [value.length, 0], value));
  return bytes([pairs.length], ...body, [0xff]);
}

export function intset(width: 2 | 4 | 8, ...members: readonly (number | bigint)[]): Uint8Array {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(width, 0);
  head.writeUInt32LE(members.length, 4);
  return bytes(head, ...members.map((member) => int64(member).subarray(0, width)));
}

/** A whole file with its checksum, by the definition a bit at a time. */
export function file(magic: string, ...records: readonly Bytes[]): Uint8Array {
  const content = bytes(magic, ...records, [0xff]);
  return bytes(content, checksum(content));
}

/** The same without a checksum: eight zeros. */
export function uncheckedFile(magic: string, ...records: readonly Bytes[]): Uint8Array {
  return bytes(magic, ...records, [0xff], new Uint8Array(8));
}

/** A value's record under the key "k". */
export function record(type: number, ...value: readonly Bytes[]): Uint8Array {
  return bytes([type], string("k"), ...value);
}

function checksum(content: Uint8Array): Uint8Array {
  let state = 0n;
  for (const byte of content) {
    state ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) {
      state = (state >> 1n) ^ (state & 1n ? 0x95ac9329ac4bc9b5n : 0n);
    }
  }
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(state);
  return out;
}
