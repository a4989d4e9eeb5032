/**
 * Bytes that lie in somebody else's buffer.
 *
 * A slice is mutable and reused: the fast paths of the codecs fill the same few slices again and
 * again instead of allocating a view for each of millions of strings (a `subarray` costs about as
 * much as parsing a whole key). What a slice points at is borrowed: it is valid until the next call
 * on the object that filled it. `copy()` gives owned bytes.
 */
export class Slice {
  bytes: Uint8Array = empty;
  start = 0;
  end = 0;
  #own: Uint8Array = empty;

  set(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  /** Points at the first `size` bytes of a buffer of this slice's own, for the caller to fill. */
  reserve(size: number): Uint8Array {
    if (this.#own.length < size) this.#own = new Uint8Array(Math.max(size, 32));
    this.set(this.#own, 0, size);
    return this.#own;
  }

  /** Points at the decimal text of a safe integer, as Redis shows integer-encoded strings. */
  setInteger(value: number): void {
    let rest = Math.abs(value);
    let size = value < 0 ? 2 : 1;
    for (let bound = 10; rest >= bound; bound *= 10) size++;
    const own = this.reserve(size);
    for (let at = size - 1; at >= (value < 0 ? 1 : 0); at--) {
      const tenth = Math.floor(rest / 10);
      own[at] = 48 + (rest - tenth * 10);
      rest = tenth;
    }
    if (value < 0) own[0] = 45;
  }

  /** Points at a text of characters below 256. */
  setLatin1(text: string): void {
    const own = this.reserve(text.length);
    for (let i = 0; i < text.length; i++) own[i] = text.charCodeAt(i);
  }

  get length(): number {
    return this.end - this.start;
  }

  /** A borrowed view. */
  view(): Uint8Array {
    return this.bytes.subarray(this.start, this.end);
  }

  /** Owned bytes. */
  copy(): Uint8Array {
    return copyBytesOf(this.bytes, this.start, this.end);
  }

  /** One character a byte: keys a `Map` or `Set` without losing anything. */
  latin1(): string {
    return toLatin1(this.bytes, this.start, this.end);
  }
}

export const empty = new Uint8Array(0);

/** Owned bytes. Not `slice()`: that of a Buffer, which is what files and sockets give, is a view. */
export function copyBytesOf(bytes: Uint8Array, start = 0, end = bytes.length): Uint8Array {
  return new Uint8Array(bytes.subarray(start, end));
}

/** One character a byte. */
export function toLatin1(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");
}

export function fromLatin1(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** Memory order, as `memcmp` and Redis's sorted sets have it. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
