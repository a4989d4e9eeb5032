/**
 * A store that goes wrong from a seed, for tests of what rests on one.
 *
 * WHAT it does wrong, each with its own chance: a call fails before it has an effect, or after it; an
 * upload is torn in the middle, of which nothing is there; a read stops in the middle or has a wrong byte;
 * anything takes a while; a listing does not know of the last changes yet.
 *
 * It fails with STORE_BUSY, as a driver does that has tried in vain: the caller knows neither that it
 * was done nor that it was not. `heal()` ends all of it.
 */
import { setImmediate as turn } from "node:timers/promises";
import { Failure } from "../base/errors.ts";
import { compareNames } from "./name.ts";
import type { Random } from "./retry.ts";
import type { ListOptions, ObjectInfo, Store } from "./store.ts";

/** Chances from 0 to 1; what is not given does not happen. */
export type FaultOptions = {
  readonly errorBefore?: number;
  readonly errorAfter?: number;
  readonly tornUpload?: number;
  readonly tornRead?: number;
  readonly wrongByte?: number;
  /** Turns of the event loop that pass, at most. */
  readonly slowTurns?: number;
  /** That a listing is one of before the last changes. */
  readonly staleList?: number;
  /** How many changes it may be behind. */
  readonly staleChanges?: number;
};

export type FaultyStore = Store & {
  /** Faults so far. */
  readonly faults: number;
  heal(): void;
};

type Change = { readonly name: string; readonly before: ObjectInfo | undefined };

export function faultyStore(store: Store, random: Random, options: FaultOptions): FaultyStore {
  let isHealed = false;
  let faults = 0;
  const changes: Change[] = [];

  const happens = (chance: number | undefined) => {
    if (isHealed || chance === undefined || !random.chance(chance)) return false;
    faults++;
    return true;
  };
  const fail = (doing: string): never => {
    throw new Failure("STORE_BUSY", `Cannot ${doing} in ${store.name}: a fault was injected`);
  };
  const pass = async () => {
    const turns = isHealed ? 0 : random.below((options.slowTurns ?? 0) + 1);
    for (let i = 0; i < turns; i++) await turn();
  };
  const remember = async (name: string) => {
    if (options.staleList === undefined) return;
    changes.push({ name, before: await infoOf(store, name) });
    if (changes.length > (options.staleChanges ?? 3)) changes.shift();
  };
  const around = async <T>(doing: string, action: () => Promise<T>): Promise<T> => {
    await pass();
    if (happens(options.errorBefore)) fail(doing);
    const result = await action();
    await pass();
    if (happens(options.errorAfter)) fail(doing);
    return result;
  };

  async function* tear(chunks: AsyncIterable<Uint8Array>, doing: string) {
    const after = random.below(4);
    let count = 0;
    for await (const chunk of chunks) {
      if (count++ === after) fail(doing);
      yield chunk;
    }
    fail(doing);
  }

  async function* read(...args: Parameters<Store["read"]>) {
    await pass();
    const doing = `read "${args[0]}"`;
    if (happens(options.errorBefore)) fail(doing);
    const isTorn = happens(options.tornRead);
    let isWrong = happens(options.wrongByte);
    for await (const chunk of store.read(...args)) {
      if (isTorn) {
        yield chunk.subarray(0, random.below(chunk.length + 1));
        fail(doing);
      }
      if (isWrong && chunk.length > 0) {
        const at = random.below(chunk.length);
        chunk[at] = (chunk[at] as number) ^ (1 << random.below(8));
        isWrong = false;
      }
      yield chunk;
      await pass();
    }
  }

  async function* list(prefix: string, listOptions: ListOptions = {}) {
    await pass();
    if (happens(options.errorBefore)) fail(`list "${prefix}"`);
    if (!happens(options.staleList)) {
      yield* store.list(prefix, listOptions);
      return;
    }
    const infos = new Map<string, ObjectInfo>();
    for await (const info of store.list(prefix, listOptions)) infos.set(info.name, info);
    const behind = changes.slice(changes.length - random.below(changes.length + 1));
    for (const { name, before } of behind.reverse()) {
      if (before === undefined) infos.delete(name);
      else if (isListed(name, prefix, listOptions)) infos.set(name, before);
    }
    yield* [...infos.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  return {
    name: store.name,
    get faults() {
      return faults;
    },
    heal: () => {
      isHealed = true;
    },
    put: (name, bytes, putOptions) =>
      around(`write "${name}"`, async () => {
        await remember(name);
        return await store.put(name, bytes, putOptions);
      }),
    upload: (name, chunks, uploadOptions) =>
      around(`write "${name}"`, async () => {
        await remember(name);
        const isTorn = happens(options.tornUpload);
        const given = isTorn ? tear(chunks, `write "${name}"`) : chunks;
        return await store.upload(name, given, uploadOptions);
      }),
    read,
    list,
    delete: (names, deleteOptions) =>
      around(`delete from`, async () => {
        for (const name of names) await remember(name);
        await store.delete(names, deleteOptions);
      }),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

async function infoOf(store: Store, name: string): Promise<ObjectInfo | undefined> {
  for await (const info of store.list(name)) return info.name === name ? info : undefined;
  return undefined;
}

function isListed(name: string, prefix: string, { startAfter }: ListOptions): boolean {
  return name.startsWith(prefix) && compareNames(name, startAfter ?? "") > 0;
}
