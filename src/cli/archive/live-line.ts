import { printable } from "../render/text.ts";

const redrawMs = 100;

/** A line on a terminal that is written over: what is being done now. Elsewhere nothing is shown. */
export class LiveLine implements Disposable {
  readonly #isTerminal = process.stderr.isTTY === true;
  #shownMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  show(text: string): void {
    const nowMs = performance.now();
    if (!this.#isTerminal || nowMs - this.#shownMs < redrawMs) return;
    this.#shownMs = nowMs;
    const width = (process.stderr.columns || 80) - 1;
    process.stderr.write(`\r\x1b[K${printable(text).slice(0, width)}`);
    this.#isShown = true;
  }

  clear(): void {
    if (this.#isShown) process.stderr.write("\r\x1b[K");
    this.#isShown = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
