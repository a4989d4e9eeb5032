/** How far a verification is, and how many objects it reads at a time. */
import type { Abortable } from "../store/store.ts";

export type VerifyProgress = {
  readonly objects: number;
  readonly totalObjects: number;
  readonly bytes: number;
  readonly totalBytes: number;
  readonly findings: number;
};

const inFlight = 2;

export class Progress {
  readonly signal: AbortSignal | undefined;
  readonly #tell: ((progress: VerifyProgress) => void) | undefined;
  readonly #total: { readonly objects: number; readonly bytes: number };
  #objects = 0;
  #bytes = 0;
  #findings = 0;

  constructor(
    total: { readonly objects: number; readonly bytes: number },
    {
      signal,
      onProgress,
    }: Abortable & { readonly onProgress?: ((progress: VerifyProgress) => void) | undefined },
  ) {
    this.#total = total;
    this.#tell = onProgress;
    this.signal = signal;
  }

  readonly onBytes = (bytes: number): void => {
    this.#bytes += bytes;
    this.#changed();
  };

  objectDone(findings: number): void {
    this.#objects++;
    this.#findings += findings;
    this.#changed();
  }

  #changed(): void {
    this.#tell?.({
      objects: this.#objects,
      totalObjects: this.#total.objects,
      bytes: Math.min(this.#bytes, this.#total.bytes),
      totalBytes: this.#total.bytes,
      findings: this.#findings,
    });
  }
}

/** Some at a time; results in the order of the items. */
export async function* inOrder<T, R>(
  items: Iterable<T>,
  action: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const jobs: Promise<R>[] = [];
  for (const item of items) {
    const job = action(item);
    // Told to whoever waits for it; nobody does where an earlier one has failed.
    job.catch(() => {});
    jobs.push(job);
    if (jobs.length >= inFlight) yield await (jobs.shift() as Promise<R>);
  }
  for (const job of jobs) yield await job;
}
