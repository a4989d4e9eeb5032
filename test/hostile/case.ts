/**
 * One damaged file, read in every way.
 *
 * It must end in a `Failure` with a code and an offset within the file, or be read without
 * complaint; as the whole file in one chunk ends, so it must end in chunks of any size; what can be
 * decoded can be passed over; and no more memory is asked for than the file justifies.
 */
import assert from "node:assert/strict";
import { Failure } from "../../src/base/errors.ts";
import { LogChecker } from "../../src/codec/aof/check.ts";
import type { RdbEvent } from "../../src/codec/rdb/parts.ts";
import { RdbReader } from "../../src/codec/rdb/reader.ts";
import { LineCollector } from "../support/json-lines.ts";
import { describeEvent, joinRaw, type Mode, readInChunks } from "../support/rdb-events.ts";
import { countAllocations } from "./allocations.ts";
import { mutate } from "./mutate.ts";
import { Random } from "./random.ts";
import type { Subjects } from "./subjects.ts";

/** LZF makes 88 bytes of one; a table that grows is there twice, twice as large as needed. */
const maxGrowth = 88;
const spareBytes = 64 * 1024;
/** Elements that are owned, views and tables, over and over for each way of reading. */
const maxTotalGrowth = 150;
/** Of larger files the events are counted only: to keep them takes more than to read them. */
const largeBytes = 64 * 1024;

export type Outcome = {
  readonly subject: string;
  /** "read", or the code of the failure. */
  readonly end: string;
  /** How many keys were come upon. */
  readonly keys: number;
  readonly size: number;
  readonly largest: number;
  readonly total: number;
};

export function runCase(seed: number, subjects: Subjects): Outcome {
  const random = new Random(seed);
  const isLog = random.once(8);
  const choose = () => (isLog ? subjects.aof(random) : subjects.rdb(random));
  const subject = choose();
  const file = mutate(random, subject, choose());
  let result: Reading | undefined;
  const { largest, total } = countAllocations(() => {
    result = isLog ? readLog(file, random) : readRdb(file, random);
  });
  assert(result);
  const { end, keys } = result;
  const size = file.length;
  assert(largest <= maxGrowth * size + spareBytes, `One array of ${largest} bytes for ${size}`);
  assert(total <= maxTotalGrowth * size + 16 * spareBytes, `${total} bytes of arrays for ${size}`);
  return { subject: subject.name, end, keys, size, largest, total };
}

type Reading = {
  readonly end: string;
  readonly keys: number;
  /** Everything that must not depend on how the file was cut. */
  readonly text: string;
};

function readRdb(file: Uint8Array, random: Random): Reading {
  const whole = readAs(file, "decode", [Math.max(1, file.length)], random.once(4));
  const again = readAs(file, "decode", sizesFor(file, random), false);
  assert.equal(again.text, whole.text);
  for (const mode of ["skip", "raw"] as const) {
    const passed = readAs(file, mode, sizesFor(file, random), false);
    if (whole.end === "read")
      assert.deepEqual([passed.end, passed.keys], ["read", whole.keys], mode);
    else assert(passed.keys >= whole.keys, `${passed.keys} keys passed, ${whole.keys} decoded`);
  }
  return whole;
}

function readAs(file: Uint8Array, mode: Mode, sizes: readonly number[], asLines: boolean): Reading {
  const transcript = new Transcript(file.length > largeBytes);
  const lines = asLines ? new LineCollector() : undefined;
  let keys = 0;
  const end = endOf(file, () => {
    readInChunks(new RdbReader({ maxDistinct: 10_000 }), file, sizes, (event, reader) => {
      if (event === "key") keys++;
      transcript.add(event, reader);
      lines?.take(event, reader);
      if (event === "key" && mode !== "decode") reader[mode]();
    });
    lines?.text();
  });
  return { end: end.code, keys, text: `${transcript.text(end.code === "read")}\n${end.message}` };
}

/** What was come upon, in a form that does not depend on how the file was cut. */
class Transcript {
  readonly #isLarge: boolean;
  readonly #events: string[] = [];
  #count = 0;

  constructor(isLarge: boolean) {
    this.#isLarge = isLarge;
  }

  add(event: RdbEvent, reader: RdbReader): void {
    if (event !== "raw" && event !== "module aux") this.#count++;
    if (!this.#isLarge) this.#events.push(describeEvent(event, reader));
  }

  text(isWhole: boolean): string {
    // How much of a value was given before it turned out wrong depends on the chunks.
    const isCutOff = !isWhole && /^(?:raw|module aux) /.test(this.#events.at(-1) ?? "");
    const events = joinRaw(this.#events);
    return [`${this.#count} events`, ...(isCutOff ? events.slice(0, -1) : events)].join("\n");
  }
}

function readLog(file: Uint8Array, random: Random): Reading {
  const read = (sizes: readonly number[]) => {
    const checker = new LogChecker();
    forEachChunk(file, sizes, (chunk) => checker.push(chunk));
    return checker.finish();
  };
  const whole = read([Math.max(1, file.length)]);
  assert.deepEqual(read(sizesFor(file, random)), whole);
  if (whole.verdict === "corrupt") assert(whole.offset >= 0 && whole.offset <= file.length);
  return { end: `log ${whole.verdict}`, keys: whole.records, text: "" };
}

/** How reading ends: anything but a proper failure is thrown on. */
function endOf(file: Uint8Array, read: () => void): { code: string; message: string } {
  try {
    read();
    return { code: "read", message: "" };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { code, offset, message } = error;
    assert.match(code, /^(?:DATA_CORRUPT|DATA_UNSUPPORTED|LIMIT_EXCEEDED)$/);
    assert(Number.isSafeInteger(offset) && Number(offset) >= 0, `${message}: no offset`);
    assert(Number(offset) <= file.length, `${message}: beyond the file's ${file.length} bytes`);
    assert(message.length < 1000, "A message that says too much");
    return { code, message: `${code} ${offset} ${message}` };
  }
}

/** The chunks of a file; each is overwritten once it has been read. */
function forEachChunk(
  file: Uint8Array,
  sizes: readonly number[],
  read: (chunk: Uint8Array) => void,
): void {
  for (let at = 0, turn = 0; at < file.length; turn++) {
    const size = sizes[turn % sizes.length] as number;
    const chunk = Uint8Array.prototype.slice.call(file, at, at + size);
    read(chunk);
    chunk.fill(0xaa);
    at += size;
  }
}

function sizesFor(file: Uint8Array, random: Random): number[] {
  const smallest = Math.ceil(file.length / 2000);
  const largest = random.pick([1, 16, 300, 4096, 65536]);
  return Array.from({ length: 1 + random.below(7) }, () => smallest + random.below(largest));
}
