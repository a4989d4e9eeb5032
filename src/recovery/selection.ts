import type { Slice } from "../base/bytes.ts";
import { Glob } from "../base/glob.ts";
import type { KeyHead } from "../codec/rdb/key-sink.ts";

/** Which keys are wanted; what is not given does not restrict. */
export type Selection = {
  /** Any of these globs, as KEYS has them. */
  readonly keys?: readonly string[];
  /** Matched anywhere in the key, read as UTF-8. */
  readonly regex?: RegExp;
  /** Names as TYPE gives them; `vectorset` and other modules are "module". */
  readonly types?: readonly string[];
  readonly databases?: readonly number[];
  /** None of these globs. */
  readonly exclude?: readonly string[];
};

/** Whether a selection leaves anything out. */
export function isEverything(selection: Selection): boolean {
  return Object.values(selection).every((part) => part === undefined);
}

export class KeyMatcher {
  readonly #selection: Selection;
  readonly #keys: readonly Glob[] | undefined;
  readonly #exclude: readonly Glob[];

  constructor(selection: Selection) {
    this.#selection = selection;
    this.#keys = selection.keys?.map((glob) => new Glob(glob));
    this.#exclude = selection.exclude?.map((glob) => new Glob(glob)) ?? [];
  }

  matches({ database, key, layout }: Pick<KeyHead, "database" | "key" | "layout">): boolean {
    const { databases, types, regex } = this.#selection;
    if (databases && !databases.includes(database)) return false;
    if (types && !types.includes(layout.type)) return false;
    if (this.#keys && !this.#keys.some((glob) => glob.matches(key))) return false;
    if (this.#exclude.some((glob) => glob.matches(key))) return false;
    return regex === undefined || regex.test(utf8(key));
  }
}

function utf8({ bytes, start, end }: Slice): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}
