/** How far a restore has come. */
export type RestoreProgress = {
  readonly phase: "checking" | "snapshot" | "log" | "server" | "expiries" | "done";
  /** Raw bytes of snapshot and log. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** So far; of what is copied as it is, keys are not counted. */
  readonly keys: number;
  readonly commands: number;
  readonly bytesPerSecond: number;
  /** Undefined while there is nothing to tell it by. */
  readonly leftMs: number | undefined;
};

export type OnProgress = (progress: RestoreProgress) => void;

const tellEveryMs = 200;

/** Counts, and tells now and then. */
export class ProgressCounter {
  keys = 0;
  commands = 0;
  readonly #totalBytes: number;
  readonly #onProgress: OnProgress | undefined;
  readonly #startMs = performance.now();
  #toldMs = Number.NEGATIVE_INFINITY;
  #phase: RestoreProgress["phase"] = "snapshot";
  #doneBytes = 0;

  constructor(totalBytes: number, onProgress: OnProgress | undefined) {
    this.#totalBytes = totalBytes;
    this.#onProgress = onProgress;
  }

  /** Bytes that were read to check them count by themselves. */
  begin(phase: RestoreProgress["phase"]): void {
    if (this.#phase === "checking" && phase !== "checking") this.#doneBytes = 0;
    this.#phase = phase;
    this.#tell();
  }

  add(bytes: number): void {
    this.#doneBytes += bytes;
    if (performance.now() - this.#toldMs >= tellEveryMs) this.#tell();
  }

  #tell(): void {
    if (this.#onProgress === undefined) return;
    this.#toldMs = performance.now();
    const elapsedMs = Math.max(this.#toldMs - this.#startMs, 1);
    const rate = this.#doneBytes / elapsedMs;
    const left = Math.max(this.#totalBytes - this.#doneBytes, 0);
    this.#onProgress({
      phase: this.#phase,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      keys: this.keys,
      commands: this.commands,
      bytesPerSecond: Math.round(rate * 1000),
      leftMs: rate === 0 ? undefined : Math.round(left / rate),
    });
  }
}
