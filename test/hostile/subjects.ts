import { Input } from "../../src/codec/rdb/input.ts";
import { aofFixtures, hostileFixtures, rdbFixtures } from "../support/fixtures.ts";
import { eventsOf } from "../support/rdb-events.ts";
import { rareFiles } from "../support/rdb-rare.ts";
import type { Subject } from "./mutate.ts";
import type { Random } from "./random.ts";

/** Files of each kind are read when they are first wanted. */
export class Subjects {
  readonly #known = new Map<string, Subject>();
  readonly #rare = rareFiles.map(({ name, bytes }) => ({ id: name, read: () => bytes }));
  readonly #odd = hostileFixtures().filter(({ bytes }) => bytes < 1000);
  readonly #rdb = rdbFixtures().toSorted((a, b) => a.bytes - b.bytes);
  readonly #aof = aofFixtures().flatMap(({ id, files }) =>
    files
      .filter(({ file }) => file.endsWith(".aof"))
      .map(({ file, read }) => ({ id: `${id}/${file}`, read })),
  );

  /** Small files more often than large ones: they are read faster, and most of one is structure. */
  rdb(random: Random): Subject {
    const chance = random.below(100);
    if (chance < 55) return this.#open(random.pick(this.#rare), true);
    if (chance < 65) return this.#open(random.pick(this.#odd), true);
    const share = chance < 95 ? 0.4 : chance < 99 ? 0.85 : 1;
    const files = this.#rdb.slice(0, Math.ceil(this.#rdb.length * share));
    return this.#open(random.pick(files), true);
  }

  aof(random: Random): Subject {
    return this.#open(random.pick(this.#aof), false);
  }

  #open({ id, read }: { readonly id: string; readonly read: () => Uint8Array }, isRdb: boolean) {
    const known = this.#known.get(id);
    if (known) return known;
    const bytes = read();
    const lengths = isRdb ? lengthsIn(bytes) : countsIn(bytes);
    const subject: Subject = { name: id, bytes, lengths, hasChecksum: isRdb };
    this.#known.set(id, subject);
    return subject;
  }
}

/** No more places than this are remembered of a file. */
const maxPlaces = 5000;

/** Where the reader reads a length: it is watched while it reads the file. */
function lengthsIn(bytes: Uint8Array): number[] {
  const places = new Set<number>();
  const watched = ["length", "length64", "string"].map((name) => {
    const method = Reflect.get(Input.prototype, name) as Method;
    Reflect.set(Input.prototype, name, function (this: Input, ...args: unknown[]) {
      if (places.size < maxPlaces) places.add(this.position);
      return Reflect.apply(method, this, args);
    });
    return { name, method };
  });
  try {
    eventsOf(bytes);
  } catch {
    // Some files are wrong from the start: what was seen before will do.
  } finally {
    for (const { name, method } of watched) Reflect.set(Input.prototype, name, method);
  }
  return [...places];
}

type Method = (this: Input, ...args: unknown[]) => unknown;

/** Where the digits of a count or length start in a log of commands. */
function countsIn(bytes: Uint8Array): number[] {
  const places: number[] = [];
  for (let at = 0; at < bytes.length && places.length < maxPlaces; at++) {
    if (bytes[at] === 42 || bytes[at] === 36) places.push(at + 1);
  }
  return places;
}
