/**
 * Finding out what a storage can do, by doing it.
 *
 * WHY. Storages that speak S3 differ in what they get wrong, and not all of them say so: Ceph's gateway
 * over SQLite takes `If-None-Match` and overwrites, and gives the first bytes of an object for any
 * range. A repository is probed when it is made, and what was found is kept with it.
 *
 * HOW. Objects under `probe/`, with a random name each time, which are removed again: some small ones
 * and one of 9 MiB, which takes two parts. What is indispensable (that what is put comes back, whole and
 * in order, and that a listing has all of it) throws STORE_UNFIT with what was seen. All else is an ability.
 *
 * What fails because the storage is busy, or the credentials are wrong, says nothing about it, and is thrown.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { equalBytes } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { aborted } from "./retry.ts";
import {
  type Abortable,
  type ByteRange,
  readAll,
  type Store,
  type StoreAbilities,
  type TransferOptions,
} from "./store.ts";

/** More than a first part, see s3-upload.ts; no multiple of anything. */
const largeBytes = 9 * 1024 * 1024 + 17;
/** A storage that gives parts back this slowly gives them wrong. */
const largeTimeoutMs = 120_000;
const rivals = 6;
/** What is not listed by then, three times over, never is. */
const lateListingMs = 2000;
/** In the order of their bytes: a slash is behind a dash, and UTF-16 has the last two otherwise. */
const listed = ["list/a b+%25", "list/a-b", "list/a/b", "list/ab", "list/ａ", "list/😀"];

export type ProbeOptions = Abortable & { readonly lateListingMs?: number };

export async function probeStore(
  store: Store,
  options: ProbeOptions = {},
): Promise<StoreAbilities> {
  const probe = new Probe(store, options);
  let abilities: Omit<StoreAbilities, "deletes">;
  try {
    abilities = await probe.run();
  } catch (error) {
    await probe.removeQuietly();
    throw error;
  }
  const removed = await probe.remove();
  return {
    ...abilities,
    listing: abilities.listing && removed !== "late",
    deletes: removed !== "denied",
  };
}

class Probe {
  readonly #store: Store;
  readonly #signal: AbortSignal | undefined;
  readonly #lateMs: number;
  readonly #folder = `probe/${randomUUID()}`;
  readonly #names = new Set<string>();

  constructor(store: Store, options: ProbeOptions) {
    this.#store = store;
    this.#signal = options.signal;
    this.#lateMs = options.lateListingMs ?? lateListingMs;
  }

  async run(): Promise<Omit<StoreAbilities, "deletes">> {
    const small = Buffer.from("0123456789");
    await this.#put("small", small);
    if (!(await this.#gives("small", small)))
      throw this.#unfit("it does not give back what is put");
    return {
      listing: await this.#tryListing(),
      conditionalCreate: await this.#tryConditional(small),
      overwrite: await this.#tryOverwrite(),
      ...(await this.#tryLarge(small)),
    };
  }

  /** Whether a listing is right at once. Throws where it is not even right later. */
  async #tryListing(): Promise<boolean> {
    for (const name of listed) await this.#put(name, Buffer.from(name));
    for (const isLate of [false, true, true, true]) {
      if (isLate) await this.#wait();
      const all = await this.#list("list/");
      const rest = await this.#list("list/", listed[1]);
      const some = await this.#list("list/a/");
      if (isSame(all, listed) && isSame(rest, listed.slice(2)) && isSame(some, ["list/a/b"])) {
        return !isLate;
      }
    }
    const found = JSON.stringify(await this.#list("list/"));
    throw this.#unfit(`it lists ${found} where ${JSON.stringify(listed)} is`);
  }

  /** One after the other, then at the same time: some storages look, and then write. */
  async #tryConditional(small: Uint8Array): Promise<boolean> {
    const ifAbsent = true;
    try {
      await this.#put("first", small);
      if ((await this.#put("first", Buffer.from("second"), { ifAbsent })) !== "exists")
        return false;
      if (!(await this.#gives("first", small))) return false;
      for (const round of ["race/1", "race/2"]) {
        const bytes = Array.from({ length: rivals }, (_, i) => Buffer.from(`rival ${i}`));
        const said = await Promise.all(bytes.map((own) => this.#put(round, own, { ifAbsent })));
        const first = bytes[said.indexOf("created")];
        if (said.filter((word) => word === "created").length !== 1) return false;
        if (first === undefined || !(await this.#gives(round, first))) return false;
      }
      return true;
    } catch (error) {
      if (isFinal(error)) throw error;
      return false;
    }
  }

  async #tryOverwrite(): Promise<boolean> {
    await this.#put("again", Buffer.from("first"));
    const second = Buffer.from("second");
    await this.#put("again", second);
    return await this.#gives("again", second);
  }

  async #tryLarge(small: Uint8Array): Promise<{ ranges: boolean; parts: boolean }> {
    const large = Buffer.allocUnsafeSlow(largeBytes);
    for (let at = 0; at + 4 <= large.length; at += 4) large.writeUInt32LE(at * 7, at);
    const isRight = async (inOnePiece: boolean) => {
      try {
        await this.#upload("large", large, { inOnePiece });
        return await this.#gives("large", large, { inOnePiece });
      } catch (error) {
        if (isFinal(error)) throw error;
        return false;
      }
    };
    const parts = await isRight(false);
    if (!parts && !(await isRight(true))) {
      throw this.#unfit("it does not give back what is uploaded");
    }
    const ranges =
      (await this.#givesRanges("small", small, [
        [0, 4],
        [3, 6],
        [9, 10],
        [7, 10],
        [0, 10],
      ])) &&
      (await this.#givesRanges("large", large, [
        [0, 5],
        [1_000_000, 1_300_001],
        [8 * 1024 * 1024 - 3, 8 * 1024 * 1024 + 3],
        [largeBytes - 100, largeBytes],
      ]));
    return { ranges, parts };
  }

  async #givesRanges(
    name: string,
    bytes: Uint8Array,
    ranges: readonly (readonly [number, number])[],
  ): Promise<boolean> {
    for (const [start, end] of ranges) {
      try {
        if (!(await this.#gives(name, bytes.subarray(start, end), {}, { start, end })))
          return false;
      } catch (error) {
        if (isFinal(error)) throw error;
        return false;
      }
    }
    return true;
  }

  /** Removes all and says whether that shows at once. */
  async remove(): Promise<"gone" | "late" | "denied"> {
    try {
      await this.#store.delete([...this.#names], { signal: this.#signal });
    } catch (error) {
      if (error instanceof Failure && error.code === "STORE_DENIED") return "denied";
      throw error;
    }
    if ((await this.#list("")).length > 0) return "late";
    try {
      await readAll(this.#store, `${this.#folder}/small`, 100, { signal: this.#signal });
      return "late";
    } catch (error) {
      if (error instanceof Failure && error.code === "OBJECT_MISSING") return "gone";
      throw error;
    }
  }

  /** There is a failure to be reported already. */
  async removeQuietly(): Promise<void> {
    try {
      await this.#store.delete([...this.#names]);
    } catch {
      return;
    }
  }

  async #put(name: string, bytes: Uint8Array, options: { ifAbsent?: boolean } = {}) {
    const full = `${this.#folder}/${name}`;
    this.#names.add(full);
    return await this.#store.put(full, bytes, { ...options, signal: this.#signal });
  }

  async #upload(name: string, bytes: Uint8Array, options: TransferOptions): Promise<void> {
    const full = `${this.#folder}/${name}`;
    this.#names.add(full);
    await this.#store.upload(full, chunksOf(bytes), { ...options, signal: this.#signal });
  }

  /** Whether it gives exactly these bytes. Wrong ones end it: there may be many. */
  async #gives(name: string, bytes: Uint8Array, options: TransferOptions = {}, range?: ByteRange) {
    const late = AbortSignal.timeout(largeTimeoutMs);
    const signal = this.#signal === undefined ? late : AbortSignal.any([this.#signal, late]);
    let at = 0;
    try {
      const read = this.#store.read(`${this.#folder}/${name}`, range, { ...options, signal });
      for await (const chunk of read) {
        if (!equalBytes(chunk, bytes.subarray(at, at + chunk.length))) return false;
        at += chunk.length;
      }
    } catch (error) {
      if (late.aborted && !this.#signal?.aborted) return false;
      throw error;
    }
    return at === bytes.length;
  }

  async #list(prefix: string, startAfter?: string): Promise<string[]> {
    const names: string[] = [];
    const start = `${this.#folder}/`;
    const options = startAfter === undefined ? {} : { startAfter: start + startAfter };
    for await (const info of this.#store.list(start + prefix, {
      ...options,
      signal: this.#signal,
    })) {
      names.push(info.name.slice(start.length));
    }
    return names;
  }

  async #wait(): Promise<void> {
    try {
      await sleep(this.#lateMs, undefined, { signal: this.#signal });
    } catch {
      throw aborted(`probe ${this.#store.name}`);
    }
  }

  #unfit(found: string): Failure {
    return new Failure("STORE_UNFIT", `Cannot use ${this.#store.name}: ${found}`);
  }
}

/** Whether it says nothing about what the storage can do. */
function isFinal(error: unknown): boolean {
  if (!(error instanceof Failure)) return true;
  // A full or broken disk of this machine says nothing about the kind of storage.
  const { syscall, code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  if (error.code === "STORE_FAILED" && syscall !== undefined && diskTroubles.has(code)) return true;
  return /^(STORE_BUSY|STORE_DENIED|ABORTED|TLS_FAILED)$/.test(error.code);
}

const diskTroubles: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EIO", "EFBIG"]);

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}

async function* chunksOf(bytes: Uint8Array) {
  const size = 1024 * 1024;
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
