/**
 * Cuts the raw bytes of blocks into frames, and compresses two at a time.
 *
 * WHY two efforts. Of short records with keys and numbers, the fast one makes less than level 3 does, in
 * half the time; of long texts, it makes a half more. Which of both it is, only a trial tells.
 *
 * INVARIANT. Memory is three buffers of `frameBytes`, whatever comes; they are used again. They
 * grow to that size only where a block has a frame so large.
 */
import { crc32 } from "node:zlib";
import { compressFrame, type Effort } from "./frame.ts";
import type { ObjectIndex } from "./index-format.ts";
import type { Sealing } from "./sealing.ts";

export type Frame = ObjectIndex["blocks"][number]["frames"][number];

/** The most raw bytes that are put into one: less than a reader takes, for the sake of memory. */
const frameBytes = 4 * 2 ** 20;
/** A thread of the pool compresses while this one looks at what comes next. */
const maxInFlight = 2;

/**
 * Without a level that is asked for, one of these. The first one takes half the time; its small table
 * stays in the processor's cache, and holds what came last: of short records, that is what matches.
 */
const fast: Effort = { level: 1, hashLog: 12 };
const thorough: Effort = { level: 3 };
/** The second one has to make a frame so much smaller to be worth its time. */
const worthwhile = 0.97;
/** Every so many frames, both are tried, on the beginning of one: most objects are of a frame or two. */
const trialEvery = 32;
const trialBytes = 256 * 1024;

type Compressed = {
  readonly bytes: Uint8Array;
  readonly effort: Effort;
  readonly isTrial: boolean;
};

type Job = {
  readonly compressed: Promise<Compressed>;
  /** The buffer that its first `size` bytes are compressed from. */
  readonly raw: Uint8Array;
  readonly size: number;
  /** The frames of its block. */
  readonly frames: Frame[];
};

export class BlockFrames {
  /** What is asked for; undefined: the better one of two. */
  readonly #asked: Effort | undefined;
  #better = fast;
  readonly #sealing: Sealing | undefined;
  readonly #free: Uint8Array[] = [];
  readonly #jobs: Job[] = [];
  #buffer: Uint8Array;
  #used = 0;
  #begun = 0;
  /** Whether the frame begun last is a trial. */
  #isTrying = false;
  #written = 0;
  #frames: Frame[] = [];

  constructor(level: number | undefined, firstBytes: number, sealing: Sealing | undefined) {
    this.#asked = level === undefined ? undefined : { level };
    this.#sealing = sealing;
    this.#buffer = new Uint8Array(firstBytes);
  }

  /** Takes bytes of the block; gives frames of the object. */
  async *add(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === this.#buffer.length && !this.#grow()) yield* this.#compress();
      const size = Math.min(bytes.length - at, this.#buffer.length - this.#used);
      this.#buffer.set(bytes.subarray(at, at + size), this.#used);
      this.#used += size;
      at += size;
    }
  }

  async *endBlock(): AsyncGenerator<Uint8Array> {
    if (this.#used > 0) yield* this.#compress();
  }

  /** The frames of the block that was ended: a list that is complete when all have been given. */
  takeList(): Frame[] {
    const frames = this.#frames;
    this.#frames = [];
    return frames;
  }

  async *finish(): AsyncGenerator<Uint8Array> {
    for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
      yield await this.#complete(job);
    }
  }

  #grow(): boolean {
    const size = this.#buffer.length;
    if (size >= frameBytes) return false;
    const grown = new Uint8Array(Math.min(frameBytes, 2 * size));
    grown.set(this.#buffer);
    this.#buffer = grown;
    return true;
  }

  async *#compress(): AsyncGenerator<Uint8Array> {
    // What comes behind a trial takes its outcome.
    const atMost = this.#isTrying ? 0 : maxInFlight - 1;
    while (this.#jobs.length > atMost) {
      const oldest = this.#jobs.shift();
      if (oldest !== undefined) yield await this.#complete(oldest);
    }
    const raw = this.#buffer;
    const size = this.#used;
    this.#isTrying = this.#asked === undefined && this.#begun++ % trialEvery === 0;
    const bytes = raw.subarray(0, size);
    const compressed = this.#isTrying
      ? tryBoth(bytes)
      : compressAt(bytes, this.#asked ?? this.#better);
    // Told to whoever waits for the frame; nobody does where the writer is given up.
    compressed.catch(() => {});
    this.#jobs.push({ compressed, raw, size, frames: this.#frames });
    this.#buffer = this.#free.pop() ?? new Uint8Array(raw.length);
    this.#used = 0;
  }

  async #complete({ compressed, raw, size, frames }: Job): Promise<Uint8Array> {
    const { bytes: plain, effort, isTrial } = await compressed;
    if (isTrial) this.#better = effort;
    this.#free.push(raw);
    const stored = this.#sealing?.seal("frame", this.#written, plain) ?? plain;
    this.#written++;
    frames.push([size, stored.length, crc32(stored)]);
    return stored;
  }
}

async function compressAt(raw: Uint8Array, effort: Effort): Promise<Compressed> {
  return { bytes: await compressFrame(raw, effort), effort, isTrial: false };
}

async function tryBoth(raw: Uint8Array): Promise<Compressed> {
  const sample = raw.subarray(0, trialBytes);
  const low = await compressAt(sample, fast);
  const high = await compressAt(sample, thorough);
  const better = high.bytes.length < low.bytes.length * worthwhile ? high : low;
  const isAll = sample.length === raw.length;
  return { ...(isAll ? better : await compressAt(raw, better.effort)), isTrial: true };
}
