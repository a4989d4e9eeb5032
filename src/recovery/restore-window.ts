/**
 * How far a log has certainly been replayed, while batches of it are under way.
 *
 * WHY. A server goes on executing what it has been sent behind a command that it refuses; and each batch ends with a
 * marker that says how far it comes (restore-replay.ts). So a marker alone does not say that all before it went well,
 * and if this program is killed right then, nobody has seen the error. Therefore a marker also has
 *
 *   good           up to where every reply had been seen, and was no error, when the batch was made
 *   isRepeatable   whether all between there and the marker may be done again
 *   errors         how many errors the server had answered before any of it: INFO, since Redis 6.2
 *
 * and whoever goes on decides by these:
 *
 *   the server has answered no error since   go on at the marker: all before it went well
 *   it does not say, and all is repeatable   go on at `good`, and do again what is behind it
 *   anything else                            it cannot be gone on with
 *
 * INVARIANTS
 *
 *   1. What may be repeated from the `good` of the marker before it, with a batch that was done in part, is
 *      repeatable as a whole (see restore-replay.ts): where a batch is not so behind those that are under way, it
 *      is made a transaction.
 *   2. The server's count of errors is taken when nothing of ours is under way.
 *
 * REJECTED. A marker that is sent when the replies before it were seen: what is no longer the batch's own can be
 * lost between the two, and what a transaction has done must not be done twice. One batch at a time: the server
 * waits for us, and we for it. A script that stops at an error: not every user may use them.
 */
import type { Info } from "../link/instance.ts";
import type { Mark } from "./restore-marker.ts";
import type { BatchFacts, ReplayPosition } from "./restore-replay.ts";

type UnderWay = BatchFacts & {
  readonly end: ReplayPosition;
  /** The number of its last command, when it was sent. */
  last: number;
};

export type Certain = {
  readonly good: { readonly bytes: number; readonly database: number | null };
  readonly isRepeatable: boolean;
};

export class ReplayWindow {
  readonly #underWay: UnderWay[] = [];
  #good: ReplayPosition;
  /** Whether one who goes on from the last marker may begin at its `good`. */
  #mayGoBack = true;

  constructor(from: ReplayPosition) {
    this.#good = from;
  }

  /** A batch is made: whether it may be a repeatable one, and what its marker says. */
  next(
    end: ReplayPosition,
    facts: BatchFacts,
    answered: number,
  ): Certain & {
    readonly isBatchRepeatable: boolean;
  } {
    const before = this.#mayGoBack ? this.#underWay : [];
    const isBatchRepeatable = areRepeatable([...before, facts]);
    this.#settle(answered);
    this.#underWay.push({
      ...facts,
      isRepeatable: isBatchRepeatable,
      end,
      last: Number.POSITIVE_INFINITY,
    });
    return { ...this.certain, isBatchRepeatable };
  }

  /** What was made last has been sent: `last` is the number of its last command. */
  sent(last: number): void {
    const batch = this.#underWay.at(-1);
    if (batch !== undefined) batch.last = last;
  }

  /** When nothing more comes. */
  settle(answered: number): Certain {
    this.#settle(answered);
    return this.certain;
  }

  get certain(): Certain {
    const { bytes, database = null } = this.#good;
    this.#mayGoBack = areRepeatable(this.#underWay);
    return { good: { bytes, database }, isRepeatable: this.#mayGoBack };
  }

  #settle(answered: number): void {
    while ((this.#underWay[0]?.last ?? Number.POSITIVE_INFINITY) <= answered) {
      this.#good = (this.#underWay.shift() as UnderWay).end;
    }
  }
}

function areRepeatable(batches: readonly BatchFacts[]): boolean {
  if (!batches.every(({ isRepeatable }) => isRepeatable)) return false;
  const hasExpiry = batches.some((batch) => batch.hasExpiry);
  return !(hasExpiry && batches.some((batch) => batch.hasRemoval));
}

/** Errors that a server has answered since it started; null where it does not count them. */
export function errorsOf(info: Info): string | null {
  const total = Number(info.get("total_error_replies") ?? Number.NaN);
  const run = info.get("run_id");
  if (run === undefined || !Number.isSafeInteger(total)) return null;
  // What somebody gets who is not logged in, a monitor without a password, is none of ours.
  const strange = ["NOAUTH", "WRONGPASS"].map((name) => {
    const count = /^count=(\d+)/.exec(info.get(`errorstat_${name}`) ?? "")?.[1];
    return Number(count ?? 0);
  });
  return `${run}:${strange.reduce((left, count) => left - count, total)}`;
}

/** Where a log is gone on with. */
export type Resume = ReplayPosition & {
  /** What stands before it may have been done, and meets what it has made. */
  readonly repeatedUntil: number;
};

/** Undefined where what came of a part of the log cannot be known. */
export function resumeAt(mark: Mark, errors: string | null): Resume | undefined {
  const { bytes, good, isRepeatable = false } = mark;
  const isCounted = typeof mark.errors === "string" && errors?.split(":")[0] === runOf(mark.errors);
  const at = (place: { readonly bytes: number; readonly database: number | null }) => ({
    ...{ bytes: place.bytes, database: place.database ?? undefined },
    repeatedUntil: bytes,
  });
  if (good?.bytes === bytes || (isCounted && mark.errors === errors)) return at(mark);
  return !isCounted && isRepeatable && good !== undefined ? at(good) : undefined;
}

function runOf(errors: string): string | undefined {
  return errors.split(":")[0];
}
