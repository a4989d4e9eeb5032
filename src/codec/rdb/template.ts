import { empty, Slice } from "../../base/bytes.ts";
import { corrupt, Failure } from "../../base/errors.ts";
import type { Input } from "./input.ts";
import { ListpackCursor } from "./listpack.ts";

/** What the names of all templates of a file may take in memory. */
const maxTemplateBytes = 2 ** 26;

/** The field names of a hash template, in one piece: a `Uint8Array` each would take 20 times that. */
export class FieldNames {
  #bytes: Uint8Array = empty;
  #ends = new Uint32Array(0);
  length = 0;

  /** The memory that they take. */
  get sizeBytes(): number {
    return this.#bytes.length + this.#ends.byteLength;
  }

  add(name: Slice): void {
    const start = this.#end(this.length - 1);
    const end = start + name.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(2 * end);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    if (this.length === this.#ends.length) {
      const grown = new Uint32Array(2 * this.length + 4);
      grown.set(this.#ends);
      this.#ends = grown;
    }
    for (let i = 0; i < name.length; i++) {
      this.#bytes[start + i] = name.bytes[name.start + i] as number;
    }
    this.#ends[this.length++] = end;
  }

  /** Points at a name. */
  select(index: number, into: Slice): void {
    into.set(this.#bytes, this.#end(index - 1), this.#end(index));
  }

  #end(index: number): number {
    return index < 0 ? 0 : (this.#ends[index] as number);
  }
}

/**
 * Hash templates (Redis 8.10): field names that many hashes share, stored once.
 *
 * A record of opcode 242 (id, count, names) defines one for the rest of the file; hashes of types
 * 30 and 32 name it by id, those of types 29 and 31 carry the names themselves, in DUMP payloads.
 */
export class Templates {
  readonly #byId = new Map<number, FieldNames>();
  #sizeBytes = 0;

  /** Reads a definition: the payload of opcode 242. */
  define(input: Input): void {
    const offset = input.position;
    const id = input.length();
    const names = readNames(input);
    if (names.length === 0) throw corrupt(offset, `Hash template ${id} without fields`);
    if (this.#byId.has(id)) throw corrupt(offset, `A second hash template ${id}`);
    this.#sizeBytes += names.sizeBytes;
    if (this.#sizeBytes > maxTemplateBytes) {
      throw new Failure(
        "LIMIT_EXCEEDED",
        `Cannot keep the hash templates up to byte ${offset}: they take more than ${maxTemplateBytes} bytes`,
        { offset },
      );
    }
    this.#byId.set(id, names);
  }

  get(id: number, offset: number): FieldNames {
    const names = this.#byId.get(id);
    if (!names) throw corrupt(offset, `A hash by template ${id}, which the file does not define`);
    return names;
  }
}

/** The names section of types 29 and 31: form 0, a listpack of names; form 1, a list of strings. */
export function readFieldNames(input: Input): FieldNames {
  const offset = input.position;
  const form = input.length();
  if (form === 1) return readNames(input);
  if (form !== 0) throw corrupt(offset, `Form ${form} of the names of a hash template`);
  const blob = new Slice();
  input.string(blob);
  const cursor = new ListpackCursor();
  cursor.open(blob, offset);
  const names = new FieldNames();
  const name = new Slice();
  while (cursor.next(name)) names.add(name);
  return names;
}

/** In one unit: there are few. */
function readNames(input: Input): FieldNames {
  const names = new FieldNames();
  const name = new Slice();
  for (let left = input.length(); left > 0; left--) {
    input.string(name);
    input.limitUnit();
    names.add(name);
  }
  return names;
}
