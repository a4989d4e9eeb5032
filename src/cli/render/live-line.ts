import { printable } from "./text.ts";

const redrawMs = 100;
/** Where a terminal says nothing of its width, or says 0. */
const usualColumns = 80;

export type Terminal = {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): boolean;
};

/** A line on a terminal that is written over: what is being done now. Elsewhere nothing is shown. */
export class LiveLine implements Disposable {
  readonly #terminal: Terminal | undefined;
  readonly #now: () => number;
  #shownMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  constructor(terminal: Terminal = process.stderr, now: () => number = () => performance.now()) {
    this.#terminal = terminal.isTTY === true ? terminal : undefined;
    this.#now = now;
  }

  get isOnTerminal(): boolean {
    return this.#terminal !== undefined;
  }

  /** Whether a text would be shown: not where there is no terminal, and not too often. */
  get isDue(): boolean {
    return this.#terminal !== undefined && this.#now() - this.#shownMs >= redrawMs;
  }

  show(text: string): void {
    if (this.#terminal === undefined || !this.isDue) return;
    this.#shownMs = this.#now();
    const width = (this.#terminal.columns || usualColumns) - 1;
    this.#terminal.write(`\r\x1b[K${printable(text).slice(0, width)}`);
    this.#isShown = true;
  }

  clear(): void {
    if (this.#isShown) this.#terminal?.write("\r\x1b[K");
    this.#isShown = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
