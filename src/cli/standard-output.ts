/**
 * Standard output, of which no byte is lost unseen.
 *
 * WHY NOT NODE'S STREAM. Where standard output is a file, the stream of it takes a write that was cut short, as
 * on a disk that fills up, for a whole one. What else goes wrong it tells some time later, when a restore may
 * be half-way. So all that is written to it goes through here, also what others give to the stream.
 *
 * INVARIANT. When a call returns, all of the bytes are with the system; else it throws a `Failure`, whose cause
 * has the code EPIPE where whoever read them has seen enough.
 *
 * REJECTED. To have every command call a function of its own: a forgotten one would be found on a full disk.
 */
import { writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../base/errors.ts";

const standardOutput = 1;
/** After so long, a pipe that was full is tried again. */
const pauseMs = 2;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Writes all of it before it returns. @throws Failure FILE_FAILED */
export function writeOutput(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const size = writeSome(bytes, at);
    if (size === 0) Atomics.wait(pause, 0, 0, pauseMs);
    at += size;
  }
}

/** The same, but the event loop goes on while a slow reader is waited for. @throws Failure FILE_FAILED */
export async function writeOutputSlowly(bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    signal?.throwIfAborted();
    const size = writeSome(bytes, at);
    if (size === 0) await sleep(pauseMs);
    at += size;
  }
}

/** Node makes a pipe non-blocking, so that one whose reader is slow takes nothing at times. */
function writeSome(bytes: Uint8Array, at: number): number {
  try {
    return writeSync(standardOutput, bytes, at);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "EAGAIN") return 0;
    const said = /^\w+: ([^,]+)/.exec(message)?.[1] ?? message;
    throw new Failure("FILE_FAILED", `Cannot write to standard output: ${said}`, {
      cause,
      hint: "Check where it is redirected to, and that there is room.",
    });
  }
}

/** From now on the stream writes as `writeOutput()` does. */
export function takeOverStandardOutput(): void {
  process.stdout.write = (text: Uint8Array | string): boolean => {
    writeOutput(typeof text === "string" ? Buffer.from(text) : text);
    return true;
  };
}

/** Bytes on a terminal are of no use, and may steer it. @throws Failure USAGE */
export function mustNotBeTerminal(what: string): void {
  if (process.stdout.isTTY !== true) return;
  throw new Failure("USAGE", `Cannot write ${what} to a terminal`, {
    hint: "Redirect it into a file (… > FILE), or into another program.",
  });
}
