/**
 * Standard error, which may be lost without harm.
 *
 * WHY. Whoever reads the log of a recorder may end (`up 2>&1 | tee`), the disk that it goes to may be full, its
 * terminal may be closed: none of that is a reason to record no more. Node's stream throws where nobody listens
 * for errors, is silent for ever after the first one, and keeps in memory what a reader does not take.
 *
 * INVARIANTS
 *
 *   1. Nothing that goes wrong here is thrown.
 *   2. A reader that takes nothing is waited for once, and for a second at most; then lines are left out, and
 *      counted, until it takes something again.
 */
import { writeSync } from "node:fs";

const standardError = 2;
const pauseMs = 2;
const patienceMs = 1000;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** From now on the stream loses what cannot be written. */
export function takeOverStandardError(): void {
  const output = new LossyOutput((bytes, at) => writeSync(standardError, bytes, at));
  process.stderr.write = (text: Uint8Array | string): boolean => {
    output.write(typeof text === "string" ? Buffer.from(text) : text);
    return true;
  };
}

/** @param writeSome takes bytes from a place on, and returns how many; EAGAIN: none for now */
export class LossyOutput {
  readonly #writeSome: (bytes: Uint8Array, at: number) => number;
  readonly #patienceMs: number;
  #lostLines = 0;

  constructor(writeSome: (bytes: Uint8Array, at: number) => number, patience = patienceMs) {
    this.#writeSome = writeSome;
    this.#patienceMs = patience;
  }

  write(bytes: Uint8Array): void {
    if (this.#lostLines > 0) {
      // What was cut off in the middle is ended by it, too.
      const found = `\ntidemark: ${this.#lostLines} lines could not be written here\n`;
      if (!this.#tryAll(Buffer.from(found))) {
        this.#lostLines++;
        return;
      }
      this.#lostLines = 0;
    }
    if (!this.#tryAll(bytes)) this.#lostLines++;
  }

  #tryAll(bytes: Uint8Array): boolean {
    let leftMs = this.#lostLines > 0 ? 0 : this.#patienceMs;
    for (let at = 0; at < bytes.length; ) {
      try {
        at += this.#writeSome(bytes, at);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || leftMs <= 0) return false;
        Atomics.wait(pause, 0, 0, pauseMs);
        leftMs -= pauseMs;
      }
    }
    return true;
  }
}
