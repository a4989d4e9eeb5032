/**
 * One line on a terminal that says how far the reading of files has come.
 *
 * Shown only where standard error is a terminal, and only for work that takes long enough to wonder
 * about: a large input, or one that has taken a second already. Writing to a terminal is
 * synchronous, so the line is drawn even while nothing lets the event loop go.
 */
import { formatBytes, formatDuration } from "./text.ts";

const largeBytes = 100_000_000;
const quietMs = 1000;
const redrawMs = 100;

type Terminal = {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): boolean;
};

export class Progress implements Disposable {
  readonly #terminal: Terminal | undefined;
  readonly #now: () => number;
  readonly #startMs: number;
  readonly #totalBytes: number;
  #doneBytes = 0;
  #drawnMs = 0;
  #isDrawn = false;

  constructor(
    totalBytes: number,
    terminal: Terminal = process.stderr,
    now: () => number = () => performance.now(),
  ) {
    this.#terminal = terminal.isTTY === true ? terminal : undefined;
    this.#now = now;
    this.#startMs = now();
    this.#totalBytes = totalBytes;
  }

  /** Counts bytes that have been read. */
  add(bytes: number): void {
    this.#doneBytes += bytes;
    if (this.#terminal === undefined) return;
    const now = this.#now();
    const isWorthIt = this.#totalBytes >= largeBytes || now - this.#startMs >= quietMs;
    if (!isWorthIt || now - this.#drawnMs < redrawMs) return;
    this.#drawnMs = now;
    this.#draw(this.#terminal, now - this.#startMs);
  }

  #draw(terminal: Terminal, elapsedMs: number): void {
    const done = this.#doneBytes;
    const total = Math.max(this.#totalBytes, done);
    const rate = done / Math.max(elapsedMs, 1);
    const percent = Math.floor((100 * done) / Math.max(total, 1));
    const left = formatDuration((total - done) / Math.max(rate, 1e-9));
    const bytes = `${formatBytes(done)} of ${formatBytes(total)}`;
    const line = `${percent}%  ${bytes}  ${formatBytes(Math.round(rate * 1000))}/s  ${left} left`;
    terminal.write(`\r\x1b[K${line.slice(0, (terminal.columns || 80) - 1)}`);
    this.#isDrawn = true;
  }

  /** Takes the line away. */
  [Symbol.dispose](): void {
    if (this.#isDrawn) this.#terminal?.write("\r\x1b[K");
    this.#isDrawn = false;
  }
}
