/**
 * What lies under an instance's `lease/`, read and written: see lease.ts for what it means.
 *
 *   EPOCH.json                     a claim, where the storage creates conditionally
 *   EPOCH.TOKEN.json               a claim, where it does not
 *   EPOCH.TOKEN.beat-NUMBER.json   a sign of life; one at a time, mostly
 *   EPOCH.TOKEN.released.json      the writer with this token has let go
 *
 * EPOCH and NUMBER are ten digits, TOKEN is sixteen random hexadecimal ones. They are
 * documents (document.ts): a claim is `claimSchema`, and what the others say is for people.
 */
import { z } from "zod";
import { Failure } from "../base/errors.ts";
import type { Store } from "../store/store.ts";
import { formatDocument } from "./document.ts";
import { leasePrefix } from "./layout.ts";
import { type Repository, readDocument } from "./repository.ts";

const text = z.string().max(1000);

const claimSchema = z.object({
  format: z.literal(1),
  token: z.string().regex(/^[0-9a-f]{16}$/),
  /** The program, the machine and the process, for people. */
  owner: text,
  host: text,
  process: z.int().min(0),
  /** The boot of the machine, within which `process` means something; null where it is not known. */
  machine: z.optional(z.nullable(text)),
  /** Whoever has this too may be the same writer, started again: see `LeaseOptions.holder`. */
  holder: z.nullable(text),
  /** By the clock of the writer, for people. */
  sinceMs: z.int().min(0),
  /** How long it may be silent. */
  ttlMs: z.int().min(1).max(3_600_000),
});

export type Claim = z.infer<typeof claimSchema>;

/** A claim as the listing tells it. */
type ListedClaim = {
  readonly object: string;
  /** Undefined where the name has none. */
  readonly token: string | undefined;
  /** By the clock of the storage. */
  readonly modifiedMs: number;
};

/** What there is of the newest epoch. */
export type LeaseState = {
  readonly epoch: number;
  /** Of those that have claimed it and not let go, the first one; undefined where there is none. */
  readonly holder: ListedClaim | undefined;
  /** All objects of this epoch, and of earlier ones. */
  readonly objects: readonly string[];
  readonly old: readonly string[];
  /** The last sign of life, by the clock of the storage. */
  readonly lastBeatMs: number;
};

type Entry = {
  readonly object: string;
  readonly epoch: number;
  readonly token: string | undefined;
  readonly kind: "claim" | "beat" | "released";
  readonly modifiedMs: number;
};

const pattern = /^(\d{10})(?:\.([0-9a-f]{16})(?:\.(?:beat-\d{10}|(released)))?)?\.json$/;

const maxEpoch = 9_999_999_999;

export class LeaseBook {
  readonly instance: string;
  readonly #store: Store;
  readonly #prefix: string;
  readonly #isConditional: boolean;
  readonly #canDelete: boolean;

  constructor({ store, abilities }: Repository, instance: string) {
    this.instance = instance;
    this.#store = store;
    this.#prefix = leasePrefix(instance);
    this.#isConditional = abilities.conditionalCreate;
    this.#canDelete = abilities.deletes;
  }

  get storeName(): string {
    return this.#store.name;
  }

  /** Whether the storage decides which of several claims is the first. */
  get isConditional(): boolean {
    return this.#isConditional;
  }

  /** The newest epoch; undefined where there is none. */
  async read(signal: AbortSignal | undefined): Promise<LeaseState | undefined> {
    const entries: Entry[] = [];
    for await (const { name, modifiedMs } of this.#store.list(this.#prefix, { signal })) {
      const fields = pattern.exec(name.slice(this.#prefix.length));
      if (fields === null) continue;
      const [, epoch, token, released] = fields;
      const isClaim = /^\d{10}(\.[0-9a-f]{16})?\.json$/.test(name.slice(this.#prefix.length));
      const kind = released !== undefined ? "released" : isClaim ? "claim" : "beat";
      entries.push({ object: name, epoch: Number(epoch), token, kind, modifiedMs });
    }
    const epoch = Math.max(...entries.map((entry) => entry.epoch));
    return entries.length === 0 ? undefined : stateOf(entries, epoch);
  }

  /**
   * @throws Failure DATA_CORRUPT where there is no epoch behind the newest one: no writer gets that far, so
   *   somebody else has put that object there
   */
  mustHaveNext(state: LeaseState | undefined): void {
    if (state === undefined || state.epoch < maxEpoch) return;
    const [object = ""] = state.objects;
    const found = `"${object}" has the last number that a lease can have`;
    const message = `Cannot write "${this.instance}" in ${this.storeName}: ${found}`;
    throw new Failure("DATA_CORRUPT", message, {
      hint: "No writer has made that object. Delete it; a writer that runs goes on then by itself.",
    });
  }

  /** The claim's object; undefined where another one came first. */
  async claim(
    epoch: number,
    claim: Claim,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const number = this.#prefix + digits(epoch);
    const object = this.#isConditional ? `${number}.json` : `${number}.${claim.token}.json`;
    const bytes = formatDocument(claimSchema.parse(claim));
    const outcome = await this.#store.put(object, bytes, { ifAbsent: true, signal });
    return outcome === "created" ? object : undefined;
  }

  /** What a claim says; undefined where it is gone or says nothing that is understood. */
  async readClaim(object: string, signal: AbortSignal | undefined): Promise<Claim | undefined> {
    try {
      return await readDocument(this.#store, object, claimSchema, { signal });
    } catch (error) {
      if (error instanceof Failure && /^(OBJECT_MISSING|DATA_|LIMIT_)/.test(error.code)) {
        return undefined;
      }
      throw error;
    }
  }

  /** Gives a sign of life, and takes the one before away. */
  async beat(mark: Mark, number: number, ms: number, signal: AbortSignal): Promise<void> {
    const name = (each: number) => `${this.#nameOf(mark)}.beat-${digits(each)}.json`;
    await this.#store.put(name(number), formatDocument({ format: 1, ms }), { signal });
    if (number > 1) await this.delete([name(number - 1)], signal);
  }

  /** Takes back a claim that was not the first. */
  async withdraw(mark: Mark, object: string, ms: number): Promise<void> {
    if (this.#canDelete) await this.#store.delete([object]);
    else await this.release(mark, ms, undefined);
  }

  async release(mark: Mark, ms: number, signal: AbortSignal | undefined): Promise<void> {
    const object = `${this.#nameOf(mark)}.released.json`;
    await this.#store.put(object, formatDocument({ format: 1, ms }), { signal });
  }

  /** Where objects may not be deleted, they stay: nothing depends on it. */
  async delete(objects: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    if (this.#canDelete && objects.length > 0) await this.#store.delete(objects, { signal });
  }

  #nameOf({ epoch, token }: Mark): string {
    return `${this.#prefix}${digits(epoch)}.${token}`;
  }
}

/** Who writes, in the names of objects. */
export type Mark = { readonly epoch: number; readonly token: string };

function digits(value: number): string {
  return String(value).padStart(10, "0");
}

function stateOf(entries: readonly Entry[], epoch: number): LeaseState {
  const newest = entries.filter((entry) => entry.epoch === epoch);
  const released = newest.filter(({ kind }) => kind === "released").map(({ token }) => token);
  // Without a token in its name, a claim is the only one of its epoch.
  const hasLetGo = ({ token }: Entry) =>
    token === undefined ? released.length > 0 : released.includes(token);
  const [holder] = newest
    .filter((entry) => entry.kind === "claim" && !hasLetGo(entry))
    .sort((a, b) => a.modifiedMs - b.modifiedMs || (a.object < b.object ? -1 : 1));
  return {
    epoch,
    holder,
    objects: newest.map(({ object }) => object),
    lastBeatMs: Math.max(...newest.map(({ modifiedMs }) => modifiedMs)),
    old: entries.filter((entry) => entry.epoch < epoch).map(({ object }) => object),
  };
}
