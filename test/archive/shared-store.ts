/** A store in memory that several use at the same time: each call takes a while. */
import { Failure } from "../../src/base/errors.ts";
import { compareNames } from "../../src/store/name.ts";
import type { ListOptions, ObjectInfo, Store } from "../../src/store/store.ts";

export type SharedStore = Store & {
  readonly objects: Map<string, { readonly bytes: Uint8Array; readonly modifiedMs: number }>;
};

/** Without `isConditional` it takes `ifAbsent` and overwrites, as Ceph's gateway does. */
export function sharedStore(now: () => number = () => 0, isConditional = true): SharedStore {
  const objects: SharedStore["objects"] = new Map();
  const turn = () => new Promise<void>(setImmediate);
  return {
    name: "memory",
    objects,
    put: async (name, bytes, options = {}) => {
      await turn();
      if (isConditional && options.ifAbsent === true && objects.has(name)) return "exists";
      objects.set(name, { bytes: Uint8Array.from(bytes), modifiedMs: now() });
      await turn();
      return "created";
    },
    upload: async (name, chunks) => {
      const bytes = Buffer.concat(await Array.fromAsync(chunks));
      objects.set(name, { bytes, modifiedMs: now() });
      return { sizeBytes: bytes.length };
    },
    async *read(name, { start, end } = { start: 0, end: Number.POSITIVE_INFINITY }) {
      await turn();
      const found = objects.get(name);
      if (found === undefined) throw new Failure("OBJECT_MISSING", `There is no "${name}"`);
      yield found.bytes.slice(start, end);
    },
    async *list(prefix: string, { startAfter = "" }: ListOptions = {}) {
      await turn();
      const infos: ObjectInfo[] = [];
      for (const [name, { bytes, modifiedMs }] of objects) {
        if (!name.startsWith(prefix) || compareNames(name, startAfter) <= 0) continue;
        infos.push({ name, sizeBytes: bytes.length, modifiedMs });
      }
      yield* infos.sort((a, b) => compareNames(a.name, b.name));
    },
    delete: async (names) => {
      await turn();
      for (const name of names) objects.delete(name);
    },
    [Symbol.asyncDispose]: async () => {},
  };
}
