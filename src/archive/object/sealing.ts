/**
 * Objects that nobody can read or alter without a key.
 *
 * WHY. A bucket is somebody else's machine. What leaves this one can be encrypted before, each part
 * by itself, so that ranges can still be read.
 *
 * FORMAT (little-endian)
 *
 *   header   "TMSEALED" | version u8 = 1 | kind u8: 1 rdb, 2 aof | length of key id u8 | 0 u8
 *            | salt, 32 bytes | check, 16 bytes | key id | CRC-32 of all before, u32
 *   part     ciphertext, as long as the plain bytes | tag, 16 bytes
 *
 *   HKDF-SHA-256 of the key, with the salt and the info "tidemark object 1", gives 48 bytes: the
 *   object's own key, 32, and the check, which tells a wrong key from damage.
 *   A part is sealed with AES-256-GCM under the object's key;
 *   nonce: what u32 (1 frame, 2 filter, 3 index) | its number u64
 *   additional data: the header without its CRC | the nonce
 *
 * INVARIANTS
 *
 *   1. A nonce is used once under a key: the salt is random for each object, and each part of an
 *      object has its own number.
 *   2. A part is taken only where it was written: frame 3 of this object is no frame 4, no frame of
 *      another object, and no frame at all of an object said to be of another kind.
 *   3. None can be left out: the index, which is sealed itself, counts them.
 *
 * REJECTED. One key for all objects with random nonces: after 2^32 parts a nonce comes twice. A stream
 * cipher over the whole: a range could not be verified.
 */
import {
  createCipheriv,
  createDecipheriv,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import { crc32 } from "node:zlib";
import { toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import type { ObjectKind } from "./index-format.ts";

export type ObjectKey = {
  /** 1 to 64 printable ASCII characters without spaces; it stands in the object in clear. */
  readonly id: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
};

/** Finds the key of an id; undefined where there is none. Of several, the header says which it is. */
export type KeyRing = (id: string) => Uint8Array | readonly Uint8Array[] | undefined;

export const tagBytes = 16;
const magic = "TMSEALED";
const fixedBytes = 60;
export const maxHeaderBytes = fixedBytes + 64 + 4;
const checkAt = 44;
const kinds = ["rdb", "aof"] as const satisfies readonly ObjectKind[];
const parts = { frame: 1, filter: 2, index: 3 };
export type Part = keyof typeof parts;

export class Sealing {
  readonly header: Uint8Array;
  readonly #given: ObjectKey;
  readonly #bound: Uint8Array;
  readonly #key: Uint8Array;

  private constructor(header: Uint8Array, key: Uint8Array, given: ObjectKey) {
    this.header = header;
    this.#given = given;
    this.#bound = header.subarray(0, -4);
    this.#key = key;
  }

  /** For a new object. @throws Failure USAGE where it is no proper key */
  static create(kind: ObjectKind, { id, key }: ObjectKey): Sealing {
    checkKey(id, key);
    if (!/^[!-~]{1,64}$/.test(id)) {
      throw new Failure("USAGE", `Cannot encrypt with key ${JSON.stringify(id)}: a bad id`, {
        hint: "An id is 1 to 64 printable ASCII characters without spaces.",
      });
    }
    const header = Buffer.alloc(fixedBytes + id.length + 4);
    header.write(magic, "latin1");
    header.set([1, kinds.indexOf(kind) + 1, id.length], 8);
    header.set(randomBytes(32), 12);
    header.write(id, fixedBytes, "latin1");
    const { own, check } = derive(key, header);
    header.set(check, checkAt);
    header.writeUInt32LE(crc32(header.subarray(0, -4)), header.length - 4);
    return new Sealing(header, own, { id, key });
  }

  /**
   * For an object that starts with `bytes`: its header and perhaps more.
   *
   * @param name for messages
   * @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED; KEY_NEEDED
   */
  static open(bytes: Uint8Array, name: string, keys: KeyRing | undefined): Sealing {
    const header = readHeader(bytes, name);
    const { id, key } = keyOfHeader(header, name, keys);
    return new Sealing(header, derive(key, header).own, { id, key });
  }

  /** The key that its own one is made from. */
  get given(): ObjectKey {
    return this.#given;
  }

  get keyId(): string {
    return toLatin1(this.#bound, fixedBytes);
  }

  get kind(): ObjectKind {
    return kinds[(this.header[9] as number) - 1] as ObjectKind;
  }

  seal(part: Part, number: number, plain: Uint8Array): Uint8Array {
    const nonce = nonceOf(part, number);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce);
    cipher.setAAD(Buffer.concat([this.#bound, nonce]));
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** The plain bytes, or undefined where these are not what was sealed as that part. */
  unseal(part: Part, number: number, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < tagBytes) return undefined;
    const nonce = nonceOf(part, number);
    const decipher = createDecipheriv("aes-256-gcm", this.#key, nonce, { authTagLength: tagBytes });
    decipher.setAAD(Buffer.concat([this.#bound, nonce]));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    const plain = decipher.update(sealed.subarray(0, -tagBytes));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return plain;
  }
}

function nonceOf(part: Part, number: number): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(parts[part], 0);
  nonce.writeBigUInt64LE(BigInt(number), 4);
  return nonce;
}

function derive(key: Uint8Array, header: Uint8Array): { own: Uint8Array; check: Uint8Array } {
  const salt = header.subarray(12, checkAt);
  const bytes = new Uint8Array(hkdfSync("sha256", key, salt, "tidemark object 1", 48));
  return { own: bytes.subarray(0, 32), check: bytes.subarray(32) };
}

/** @throws Failure KEY_NEEDED where there is none, or none of them is the right one */
function keyOfHeader(header: Uint8Array, name: string, keys: KeyRing | undefined): ObjectKey {
  const id = toLatin1(header, fixedBytes, header.length - 4);
  const known = keys?.(id);
  const given = known === undefined ? [] : known instanceof Uint8Array ? [known] : known;
  for (const key of given) {
    checkKey(id, key);
    const { check } = derive(key, header);
    if (timingSafeEqual(check, header.subarray(checkAt, fixedBytes))) return { id, key };
  }
  const found =
    given.length === 0
      ? `it is encrypted with key "${id}"`
      : given.length === 1
        ? `the key given as "${id}" is another one`
        : `none of the ${given.length} keys given is its key "${id}"`;
  throw new Failure("KEY_NEEDED", `Cannot read ${name}: ${found}`, {
    hint: `Give the key that had the id "${id}" when it was written: with --key-file, several times for several keys, or as encryption.older in tidemark.yaml.`,
  });
}

function checkKey(id: string, key: Uint8Array): void {
  if (key.length === 32) return;
  const found = `it has ${key.length} bytes`;
  throw new Failure("USAGE", `Cannot use key ${JSON.stringify(id)}: ${found}`, {
    hint: "A key has 32 bytes.",
  });
}

/** Owned. */
function readHeader(bytes: Uint8Array, name: string): Uint8Array {
  const size = fixedBytes + (bytes[10] ?? 0) + 4;
  const fail = (found: string) =>
    new Failure("DATA_CORRUPT", `Cannot read ${name}: ${found} at byte 0`, { offset: 0 });
  if (toLatin1(bytes, 0, Math.min(8, bytes.length)) !== magic) {
    throw fail("no header of an encrypted object");
  }
  if (bytes.length < size) throw fail("a header that is cut off");
  const header = Buffer.from(bytes.subarray(0, size));
  if (header.readUInt32LE(size - 4) !== crc32(header.subarray(0, -4))) {
    throw fail("a damaged header");
  }
  if (header[8] !== 1 || kinds[(header[9] as number) - 1] === undefined || header[11] !== 0) {
    const found = `a header of version ${header[8]} and kind ${header[9]}`;
    throw new Failure("DATA_UNSUPPORTED", `Cannot read ${name}: ${found}`, { offset: 8 });
  }
  const id = toLatin1(header, fixedBytes, size - 4);
  if (!/^[!-~]{1,64}$/.test(id)) throw fail("a bad key id");
  return header;
}
