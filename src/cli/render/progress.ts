/**
 * One line on a terminal that says how far the reading of files has come.
 *
 * Shown only where standard error is a terminal, and only for work that takes long enough to wonder
 * about: a large input, or one that has taken a second already. Writing to a terminal is
 * synchronous, so the line is drawn even while nothing lets the event loop go.
 */
import { LiveLine, type Terminal } from "./live-line.ts";
import { formatBytes, formatDuration } from "./text.ts";

const largeBytes = 100_000_000;
const quietMs = 1000;

export class Progress implements Disposable {
  readonly #line: LiveLine;
  readonly #now: () => number;
  readonly #startMs: number;
  readonly #totalBytes: number;
  #doneBytes = 0;

  constructor(
    totalBytes: number,
    terminal: Terminal = process.stderr,
    now: () => number = () => performance.now(),
  ) {
    this.#line = new LiveLine(terminal, now);
    this.#now = now;
    this.#startMs = now();
    this.#totalBytes = totalBytes;
  }

  /** Counts bytes that have been read. */
  add(bytes: number): void {
    this.#doneBytes += bytes;
    if (!this.#line.isDue) return;
    const elapsedMs = this.#now() - this.#startMs;
    if (this.#totalBytes < largeBytes && elapsedMs < quietMs) return;
    this.#line.show(this.#describe(elapsedMs));
  }

  #describe(elapsedMs: number): string {
    const done = this.#doneBytes;
    const total = Math.max(this.#totalBytes, done);
    const rate = done / Math.max(elapsedMs, 1);
    const percent = Math.floor((100 * done) / Math.max(total, 1));
    const left = formatDuration((total - done) / Math.max(rate, 1e-9));
    const bytes = `${formatBytes(done)} of ${formatBytes(total)}`;
    return `${percent}%  ${bytes}  ${formatBytes(Math.round(rate * 1000))}/s  ${left} left`;
  }

  /** Takes the line away. */
  [Symbol.dispose](): void {
    this.#line[Symbol.dispose]();
  }
}
