/**
 * The spans that no log has: from where one log ended to where the next base begins.
 *
 * FORMAT. `gaps.jsonl`: one JSON object a line, oldest first.
 *
 *   {"base":4,"from":{"replicationId":…,"offset":…,"ms":…},"to":{…},"reason":"…"}
 *
 * `base` is the sequence number of the base that ends the gap; `from` is left out where the end of
 * the log before is not known.
 *
 * INVARIANTS
 *
 *   1. A gap is durable before its base is in force. Were it the other way round, a crash in between
 *      would lose it.
 *   2. So a gap whose base never came into force is none: `dropFrom()` takes it away.
 *   3. The file is replaced as a whole: there is no torn line.
 */
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { isReplicationId } from "../codec/aof/annotation.ts";
import { type Disk, readSmall, writeSmall } from "./disk.ts";

export type Moment = Position & {
  /** Unix time by the clock of the log. */
  readonly ms: number;
};

export type Gap = {
  readonly base: number;
  /** Where the log ended; undefined where that could not be said any more. */
  readonly from: Moment | undefined;
  readonly to: Moment;
  /** For people: why the stream could not be gone on with. */
  readonly reason: string;
};

/** Some 300 bytes each. The oldest ones go first. */
const maxGaps = 10_000;
const maxReasonChars = 500;
const maxFileBytes = 16 * 1024 * 1024;

export class GapList {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #folder: string;
  #gaps: readonly Gap[];
  /** A write has failed: the file may have what it was to have all the same. */
  #isUnsure = false;

  private constructor(disk: Disk, place: Place, gaps: readonly Gap[]) {
    this.#disk = disk;
    this.#path = place.path;
    this.#folder = place.folder;
    this.#gaps = gaps;
  }

  /** @throws Failure DATA_CORRUPT, naming the line */
  static async open(disk: Disk, place: Place): Promise<GapList> {
    const bytes = await readSmall(disk, place.path, maxFileBytes);
    const text = bytes === undefined ? "" : Buffer.from(bytes).toString("utf8");
    const lines = text.split("\n").slice(0, -1);
    const gaps = lines.map((line, i) => parseGap(line, `${place.path}" on line ${i + 1}`));
    return new GapList(disk, place, gaps);
  }

  get gaps(): readonly Gap[] {
    return this.#gaps;
  }

  async add(gap: Gap): Promise<void> {
    const reason = gap.reason.slice(0, maxReasonChars);
    await this.#write([...this.#gaps, { ...gap, reason }].slice(-maxGaps));
  }

  /** Takes away the gaps that a base of this number or a higher one was to end. */
  async dropFrom(base: number): Promise<void> {
    const left = this.#gaps.filter((gap) => gap.base < base);
    if (left.length < this.#gaps.length || this.#isUnsure) await this.#write(left);
  }

  async #write(gaps: readonly Gap[]): Promise<void> {
    const text = gaps.map((gap) => `${JSON.stringify(gap)}\n`).join("");
    this.#isUnsure = true;
    const temporary = `${this.#path}.part`;
    await writeSmall(this.#disk, temporary, Buffer.from(text));
    await this.#disk.rename(temporary, this.#path);
    await this.#disk.syncFolder(this.#folder);
    this.#gaps = gaps;
    this.#isUnsure = false;
  }
}

type Place = { readonly path: string; readonly folder: string };

function parseGap(line: string, where: string): Gap {
  try {
    const gap = JSON.parse(line) as Gap;
    const { base, from, to, reason } = gap;
    const isGap = Number.isSafeInteger(base) && typeof reason === "string";
    if (isGap && (from === undefined || isMoment(from)) && isMoment(to))
      return { base, from, to, reason };
  } catch (cause) {
    if (!(cause instanceof SyntaxError || cause instanceof TypeError)) throw cause;
  }
  throw new Failure("DATA_CORRUPT", `Cannot read "${where}: it is no gap`);
}

function isMoment({ replicationId, offset, ms }: Moment): boolean {
  const isNumber = Number.isSafeInteger(offset) && Number.isSafeInteger(ms);
  return isNumber && typeof replicationId === "string" && isReplicationId(replicationId);
}
