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
  const faults = new Faults(store, random, options);
  return {
    name: store.name,
    get faults() {
      return faults.count;
    },
    heal: () => faults.heal(),
    put: (name, bytes, putOptions) =>
      faults.around(`write "${name}"`, async () => {
        await faults.remember(name);
        return await store.put(name, bytes, putOptions);
      }),
    upload: (name, chunks, uploadOptions) =>
      faults.around(`write "${name}"`, async () => {
        await faults.remember(name);
        return await store.upload(name, faults.mayTear(chunks, name), uploadOptions);
      }),
    read: (...args) => faults.read(...args),
    list: (...args) => faults.list(...args),
    delete: (names, deleteOptions) =>
      faults.around("delete", async () => {
        for (const name of names) await faults.remember(name);
        await store.delete(names, deleteOptions);
      }),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/** What goes wrong with a store, drawn for each call anew. */
class Faults {
  readonly #store: Store;
  readonly #random: Random;
  readonly #options: FaultOptions;
  readonly #changes: Change[] = [];
  #isHealed = false;
  #count = 0;

  constructor(store: Store, random: Random, options: FaultOptions) {
    this.#store = store;
    this.#random = random;
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  heal(): void {
    this.#isHealed = true;
  }

  async around<T>(doing: string, action: () => Promise<T>): Promise<T> {
    await this.#begin(doing);
    const result = await action();
    await this.#pass();
    if (this.#happens(this.#options.errorAfter)) this.#fail(doing);
    return result;
  }

  /** Before a change, for listings that do not know of it yet. */
  async remember(name: string): Promise<void> {
    if (this.#options.staleList === undefined) return;
    this.#changes.push({ name, before: await infoOf(this.#store, name) });
    if (this.#changes.length > (this.#options.staleChanges ?? 3)) this.#changes.shift();
  }

  mayTear(chunks: AsyncIterable<Uint8Array>, name: string): AsyncIterable<Uint8Array> {
    return this.#happens(this.#options.tornUpload) ? this.#tear(chunks, name) : chunks;
  }

  async *read(...args: Parameters<Store["read"]>) {
    const doing = `read "${args[0]}"`;
    await this.#begin(doing);
    const isTorn = this.#happens(this.#options.tornRead);
    let isWrong = this.#happens(this.#options.wrongByte);
    for await (const chunk of this.#store.read(...args)) {
      if (isTorn) {
        yield chunk.subarray(0, this.#random.below(chunk.length + 1));
        this.#fail(doing);
      }
      if (isWrong && chunk.length > 0) {
        const at = this.#random.below(chunk.length);
        chunk[at] = (chunk[at] as number) ^ (1 << this.#random.below(8));
        isWrong = false;
      }
      yield chunk;
      await this.#pass();
    }
  }

  async *list(prefix: string, listOptions: ListOptions = {}) {
    await this.#begin(`list "${prefix}"`);
    const isStale = this.#happens(this.#options.staleList);
    if (!isStale) {
      yield* this.#store.list(prefix, listOptions);
      return;
    }
    const infos = new Map<string, ObjectInfo>();
    for await (const info of this.#store.list(prefix, listOptions)) infos.set(info.name, info);
    const behind = this.#random.below(this.#changes.length + 1);
    for (const { name, before } of this.#changes.slice(this.#changes.length - behind).reverse()) {
      if (before === undefined) infos.delete(name);
      else if (isListed(name, prefix, listOptions)) infos.set(name, before);
    }
    yield* [...infos.values()].sort((a, b) => compareNames(a.name, b.name));
  }

  async *#tear(chunks: AsyncIterable<Uint8Array>, name: string) {
    const after = this.#random.below(4);
    let count = 0;
    for await (const chunk of chunks) {
      if (count++ === after) this.#fail(`write "${name}"`);
      yield chunk;
    }
    this.#fail(`write "${name}"`);
  }

  async #begin(doing: string): Promise<void> {
    await this.#pass();
    if (this.#happens(this.#options.errorBefore)) this.#fail(doing);
  }

  async #pass(): Promise<void> {
    const turns = this.#isHealed ? 0 : this.#random.below((this.#options.slowTurns ?? 0) + 1);
    for (let i = 0; i < turns; i++) await turn();
  }

  #happens(chance: number | undefined): boolean {
    if (this.#isHealed || chance === undefined || !this.#random.chance(chance)) return false;
    this.#count++;
    return true;
  }

  #fail(doing: string): never {
    throw new Failure("STORE_BUSY", `Cannot ${doing} in ${this.#store.name}: a fault was injected`);
  }
}

async function infoOf(store: Store, name: string): Promise<ObjectInfo | undefined> {
  for await (const info of store.list(name)) return info.name === name ? info : undefined;
  return undefined;
}

function isListed(name: string, prefix: string, { startAfter }: ListOptions): boolean {
  return name.startsWith(prefix) && compareNames(name, startAfter ?? "") > 0;
}
