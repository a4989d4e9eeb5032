/**
 * What time it is on the source, as well as it can be known from here.
 *
 * A write is stamped with the source's clock, since that is what its users mean by "at 10:41". The
 * source is asked for its TIME now and then, over a connection of its own: half the round trip is
 * how far the answer may be off. Between the answers the local clock is taken, moved by the skew
 * of the best of the last answers.
 *
 * INVARIANTS
 *
 *   1. `now()` never goes back: a clock that does, on either side, is held until it is overtaken.
 *   2. A clock that jumps against the other is noted and not followed, until it has stayed there
 *      for `confirmations` answers: then it has been set, and the stamps go with it.
 */
import type { Clock } from "../base/clock.ts";

/** An answer to TIME: when it was asked for and came, here, and what it said. */
export type ClockSample = {
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  readonly sourceMs: number;
};

export type Skew = {
  /** What the source's clock says more than ours. */
  readonly skewMs: number;
  /** How far that may be off, either way. */
  readonly uncertaintyMs: number;
};

export type ClockJump = { readonly atMs: number; readonly byMs: number };

/** Of so many answers the one with the shortest round trip is believed. */
const keptSamples = 8;
/** A skew that changes by more than this beyond its uncertainty is no drift. */
const jumpMs = 1000;
/** Answers in a row after which a jump is taken for a clock that has been set. */
const confirmations = 30;

export class SourceClock {
  readonly #local: Clock;
  #samples: Skew[] = [];
  /** Answers since a jump, which are not believed yet. */
  #doubtful: Skew[] = [];
  #best: Skew = { skewMs: 0, uncertaintyMs: Number.POSITIVE_INFINITY };
  #last = 0;
  #jump: ClockJump | undefined;

  constructor(local: Clock) {
    this.#local = local;
  }

  /** Where nothing has been measured, the uncertainty is infinite, and our clock is taken. */
  get skew(): Skew {
    return this.#best;
  }

  /** The last jump that was seen, of either clock. */
  get jump(): ClockJump | undefined {
    return this.#jump;
  }

  /** Unix milliseconds on the source; never less than the last time. */
  now(): number {
    this.#last = Math.max(this.#last, Math.round(this.#local.now() + this.#best.skewMs));
    return this.#last;
  }

  add({ askedAtMs, answeredAtMs, sourceMs }: ClockSample): void {
    const roundTrip = Math.max(answeredAtMs - askedAtMs, 0);
    const sample: Skew = {
      skewMs: sourceMs - (askedAtMs + roundTrip / 2),
      uncertaintyMs: roundTrip / 2,
    };
    if (isJump(sample, this.#best)) {
      this.#doubt(sample);
      return;
    }
    this.#doubtful = [];
    this.#samples.push(sample);
    if (this.#samples.length > keptSamples) this.#samples.shift();
    this.#best = this.#samples.reduce(better);
  }

  #doubt(sample: Skew): void {
    const [first] = this.#doubtful;
    if (!first || isJump(sample, first)) {
      this.#doubtful = [];
      const byMs = Math.round(sample.skewMs - this.#best.skewMs);
      this.#jump = { atMs: this.#local.now(), byMs };
    }
    this.#doubtful.push(sample);
    if (this.#doubtful.length < confirmations) return;
    this.#samples = this.#doubtful.slice(-keptSamples);
    this.#doubtful = [];
    this.#best = this.#samples.reduce(better);
  }
}

function isJump(a: Skew, b: Skew): boolean {
  return Math.abs(a.skewMs - b.skewMs) > jumpMs + a.uncertaintyMs + b.uncertaintyMs;
}

/** The one with the shorter round trip; of two alike, the later. */
function better(a: Skew, b: Skew): Skew {
  return b.uncertaintyMs <= a.uncertaintyMs ? b : a;
}
