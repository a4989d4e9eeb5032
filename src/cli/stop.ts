/**
 * The signals that ask a program to end, SIGINT, SIGTERM and SIGHUP, answered in one way.
 *
 *   what runs                    at the first signal
 *   a server: `up`, `record`     it ends in order, with 0: see `untilStopped()`
 *   what has to clear up         it is stopped, and ends with ABORTED and what is left: see `stoppable()`
 *   all else                     it ends with ABORTED where it is: what it had written is whole
 *
 * A second signal ends the program at once, as if none were caught. A signal is seen when the event loop is:
 * whoever computes for long lets that run now and then.
 *
 * REJECTED. To end by the signal itself, as programs without a handler do: a script could not tell the command
 * that was stopped in order from one that was torn, and `--help` could list no status for it.
 */
import assert from "node:assert/strict";
import { Failure } from "../base/errors.ts";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What is running now, where that is to be asked. */
let running: Running | undefined;

/** While it is there, a signal aborts. */
class Running implements Disposable {
  readonly #stop = new AbortController();
  readonly signal = this.#stop.signal;

  static begin(): Running {
    assert(running === undefined, "One thing at a time can be stopped");
    running = new Running();
    return running;
  }

  stop(reason: Failure): void {
    this.#stop.abort(reason);
  }

  [Symbol.dispose](): void {
    running = undefined;
  }
}

/** From now on signals are answered. What ends at once is thrown as an uncaught `Failure`. */
export function catchSignals(): void {
  for (const each of signals) process.on(each, answer);
}

function answer(signal: NodeJS.Signals): void {
  for (const each of signals) process.off(each, answer);
  const failure = new Failure("ABORTED", `Stopped by ${signal}`, {
    hint: "What it had done already is whole: the same command may be given again.",
  });
  if (running === undefined) throw failure;
  running.stop(failure);
}

/** What is told of a command that was stopped. */
export type Stoppable = {
  /** As in "Cannot finish the restore". */
  readonly doing: string;
  /** What is left of it, and how to go on. */
  readonly left: string;
};

/** @throws Failure ABORTED where a signal has stopped the action, whatever it was thrown out of by that */
export async function stoppable<T>(
  { doing, left }: Stoppable,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using own = Running.begin();
  try {
    return await action(own.signal);
  } catch (cause) {
    // What went wrong while things were put in order belongs to what is left.
    if (!own.signal.aborted || cause instanceof SuppressedError) throw cause;
    const { message } = own.signal.reason as Failure;
    const found = message.replace(/^S/, "it was s");
    throw new Failure("ABORTED", `Cannot ${doing}: ${found}`, { cause, hint: left });
  }
}

/** For a server, to which the end is no failure; what went wrong on the way to it still is. */
export async function untilStopped(action: (signal: AbortSignal) => Promise<void>): Promise<void> {
  using own = Running.begin();
  try {
    await action(own.signal);
  } catch (error) {
    const isStop = error instanceof Failure && error.code === "ABORTED";
    if (!(isStop && own.signal.aborted)) throw error;
  }
}
