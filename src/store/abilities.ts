import { Failure } from "../base/errors.ts";
import type { Store, StoreAbilities } from "./store.ts";

/**
 * A store with what its storage gets wrong worked round.
 *
 * Without ranges, a part of an object is read by reading the object from its start. Without parts, an
 * object is gathered in a temporary file and sent at once. Without conditional creation, `ifAbsent` looks
 * before it writes: that finds what is there, but of two writers at the same time both may say
 * "created". Whoever needs more has to ask `conditionalCreate`.
 */
export function withAbilities(store: Store, abilities: StoreAbilities): Store {
  return {
    name: store.name,
    put: async (name, bytes, options = {}) => {
      if (abilities.conditionalCreate || !options.ifAbsent) {
        return await store.put(name, bytes, options);
      }
      for await (const found of store.list(name, { signal: options.signal })) {
        if (found.name === name) return "exists";
        break;
      }
      return await store.put(name, bytes, { signal: options.signal });
    },
    upload: (name, chunks, options = {}) =>
      store.upload(name, chunks, abilities.parts ? options : { ...options, inOnePiece: true }),
    read: (name, range, options = {}) =>
      store.read(name, range, abilities.ranges ? options : { ...options, inOnePiece: true }),
    list: (prefix, options) => store.list(prefix, options),
    delete: async (names, options) => {
      if (!abilities.deletes) {
        throw new Failure("STORE_DENIED", `Cannot delete from ${store.name}: it is not allowed`);
      }
      await store.delete(names, options);
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
