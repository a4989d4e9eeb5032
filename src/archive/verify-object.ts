/**
 * Whether an archived object is what was written, all of it, in one read.
 *
 * WHY one read. A year of log is verified over a network that somebody pays for. The bytes that the
 * frames are checked from are the bytes that the object's sum is made of, and what they decompress to
 * goes on to whoever knows what has to be in it.
 *
 * Where a byte is wrong, the object is read once more, block by block, to name all that is damaged: what
 * was wrong on the way the first time, and is right now, is no damage, and the whole is tried again.
 *
 * INVARIANT. Memory: that of `ObjectReader`, and what `visit` keeps.
 */
import { createHash } from "node:crypto";
import { type ErrorCode, Failure } from "../base/errors.ts";
import type { Abortable } from "../store/store.ts";
import type { ObjectIndex } from "./object/index-format.ts";
import { ObjectReader, type ObjectSource } from "./object/object-reader.ts";
import type { Repository } from "./repository.ts";

/** What is needed of a repository to read it. */
export type Readable = Pick<Repository, "store" | "keys">;

/** Something that is not as it must be. */
export type Finding = {
  readonly object: string;
  /** DATA_CORRUPT, OBJECT_MISSING; DATA_UNSUPPORTED where it may be of a newer version. */
  readonly code: ErrorCode;
  readonly block?: number | undefined;
  /** In the object; where what is wrong is of the raw file, the words say so. */
  readonly offset?: number | undefined;
  readonly found: string;
};

export type ObjectVerdict = {
  /** Undefined where it cannot be read. */
  readonly index: ObjectIndex | undefined;
  /** Of the object; undefined where not all of it could be read. */
  readonly sha256: string | undefined;
  readonly findings: readonly Finding[];
};

export type VerifyObjectOptions = Abortable & {
  /** Takes the raw bytes from the start of the file; called anew where the object is read again. */
  readonly visit: (index: ObjectIndex) => (raw: Uint8Array) => void;
  readonly onBytes?: ((bytes: number) => void) | undefined;
};

const attempts = 2;

/** @throws Failure that says nothing of the object: STORE_BUSY, ABORTED; KEY_NEEDED */
export async function verifyObject(
  repository: Readable,
  object: { readonly name: string; readonly sizeBytes: number },
  options: VerifyObjectOptions,
): Promise<ObjectVerdict> {
  let last: ObjectVerdict | undefined;
  for (let attempt = 0; attempt < attempts; attempt++) {
    last = await readThrough(repository, object, options);
    if (last.findings.length === 0) return last;
    if (last.index === undefined) continue;
    const findings = await listDamage(repository, object, options);
    if (findings.length > 0) return { ...last, findings };
  }
  return last as ObjectVerdict;
}

/** Everything, in the order in which it is stored; up to the first damage. */
async function readThrough(
  repository: Readable,
  { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
  options: VerifyObjectOptions,
): Promise<ObjectVerdict> {
  const source = new SummedSource(repository, name, sizeBytes, options);
  let index: ObjectIndex | undefined;
  try {
    const reader = await ObjectReader.open(source, repository.keys);
    index = reader.index;
    const visit = options.visit(index);
    source.begin();
    for await (const raw of reader.rawBytes()) visit(raw);
    for (let block = 0; block < index.blocks.length; block++) await reader.filter(block);
    return { index, sha256: await source.finish(), findings: [] };
  } catch (error) {
    return { index, sha256: undefined, findings: [findingOf(error, name)] };
  }
}

/** All blocks, each by itself. */
async function listDamage(
  repository: Readable,
  { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
  { signal }: Abortable,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const read = (start: number, end: number) =>
    repository.store.read(name, { start, end }, { signal });
  try {
    const reader = await ObjectReader.open({ name, sizeBytes, read }, repository.keys);
    for (let block = 0; block < reader.index.blocks.length; block++) {
      try {
        for await (const _ of reader.rawBytes({ from: block, to: block + 1 }));
        await reader.filter(block);
      } catch (error) {
        findings.push({ ...findingOf(error, name), block });
      }
    }
  } catch (error) {
    findings.push(findingOf(error, name));
  }
  return findings;
}

/** What a failure says of the object. @throws it, where it says nothing of that */
export function findingOf(error: unknown, object: string): Finding {
  const saysIt = /^(DATA_|OBJECT_MISSING|LIMIT_EXCEEDED)/;
  if (!(error instanceof Failure) || !saysIt.test(error.code)) throw error;
  return { object, code: error.code, offset: error.offset, found: error.message };
}

/** An object that is summed up while it is read. What is skipped in the reading is read for the sum. */
class SummedSource implements ObjectSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #repository: Readable;
  readonly #options: VerifyObjectOptions;
  readonly #sum = createHash("sha256");
  #at = 0;
  #isSumming = false;

  constructor(repository: Readable, name: string, sizeBytes: number, options: VerifyObjectOptions) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.#repository = repository;
    this.#options = options;
  }

  /** From here on, reads come in the order of the bytes. */
  begin(): void {
    this.#isSumming = true;
  }

  async finish(): Promise<string> {
    await this.#sumUpTo(this.sizeBytes);
    return this.#sum.digest("hex");
  }

  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    if (this.#isSumming) await this.#sumUpTo(start);
    const isNext = this.#isSumming && this.#at === start;
    for await (const chunk of this.#get(start, end)) {
      if (isNext) this.#add(chunk);
      yield chunk;
    }
  }

  async #sumUpTo(end: number): Promise<void> {
    if (this.#at >= end) return;
    for await (const chunk of this.#get(this.#at, end)) this.#add(chunk);
  }

  #add(chunk: Uint8Array): void {
    this.#sum.update(chunk);
    this.#at += chunk.length;
    this.#options.onBytes?.(chunk.length);
  }

  #get(start: number, end: number): AsyncIterable<Uint8Array> {
    const { signal } = this.#options;
    return this.#repository.store.read(this.name, { start, end }, { signal });
  }
}
