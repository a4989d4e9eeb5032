import type { Repository } from "../../src/archive/repository.ts";
import { copyBytesOf } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import type { ObjectInfo, Store, StoreAbilities } from "../../src/store/store.ts";

const allAbilities: StoreAbilities = {
  conditionalCreate: true,
  ranges: true,
  parts: true,
  overwrite: true,
  listing: true,
  deletes: true,
};

/** Objects in memory, for tests that make thousands of repositories. */
export class MemoryStore implements Store {
  readonly name = "memory:";
  readonly objects = new Map<string, { bytes: Uint8Array; modifiedMs: number }>();
  /** Of what is put. */
  nowMs = 0;
  /** Called before each object that is written or deleted. */
  beforeChange: (name: string) => void = () => {};

  async put(name: string, bytes: Uint8Array, { ifAbsent = false } = {}) {
    this.beforeChange(name);
    if (ifAbsent && this.objects.has(name)) return "exists" as const;
    this.objects.set(name, { bytes: copyBytesOf(bytes), modifiedMs: this.nowMs });
    return "created" as const;
  }

  async upload(name: string, chunks: AsyncIterable<Uint8Array>) {
    const bytes = Buffer.concat(await Array.fromAsync(chunks, (chunk) => copyBytesOf(chunk)));
    await this.put(name, bytes);
    return { sizeBytes: bytes.length };
  }

  async *read(name: string, range?: { readonly start: number; readonly end: number }) {
    const found = this.objects.get(name);
    if (found === undefined) {
      throw new Failure("OBJECT_MISSING", `Cannot read "${name}": it is not there`);
    }
    const { start, end } = range ?? { start: 0, end: found.bytes.length };
    if (end > found.bytes.length) {
      throw new Failure("DATA_CORRUPT", `Cannot read "${name}": it ends before byte ${end}`);
    }
    const chunkBytes = 100_000;
    for (let at = start; at < end; at += chunkBytes) {
      yield copyBytesOf(found.bytes, at, Math.min(end, at + chunkBytes));
    }
  }

  async *list(prefix: string): AsyncGenerator<ObjectInfo> {
    const names = [...this.objects.keys()].filter((name) => name.startsWith(prefix)).sort();
    for (const name of names) {
      const { bytes, modifiedMs } = this.objects.get(name) ?? { bytes: "", modifiedMs: 0 };
      yield { name, sizeBytes: bytes.length, modifiedMs };
    }
  }

  async delete(names: readonly string[]) {
    for (const name of names) {
      this.beforeChange(name);
      this.objects.delete(name);
    }
  }

  async [Symbol.asyncDispose]() {}
}

export function memoryRepository(store: Store = new MemoryStore()): Repository {
  return {
    ...{ store, id: "00000000-0000-4000-8000-000000000000", madeMs: 0, abilities: allAbilities },
    ...{ key: undefined, keys: () => undefined, level: undefined },
  };
}
