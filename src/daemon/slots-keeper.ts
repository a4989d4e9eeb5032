/**
 * Puts what a cluster's recorder notes of its slots into the repository.
 *
 *   ClusterRecorder ──► slots.jsonl ──► SlotsKeeper ──► clusters/NAME/slots/…
 *
 * WHY FROM THE FILE. It has every change since the recorder was first started, also of the time in which the
 * storage was away or nothing ran; and the name of an object follows from the change. So what is missing is
 * found by a listing and a walk through the file, and nobody has to remember what was sent.
 *
 * INVARIANTS
 *
 *   1. It takes no lease: two that put the same change write the same bytes under the same name.
 *   2. What fails is told and tried again, and never holds up the recording.
 *   3. A line that is damaged is told of, and those behind it are put all the same.
 *   4. Memory: a line, and the name of a change that is there; names are let go of as the file is walked.
 */
import { listSlots, putSlots, slotsObject } from "../archive/cluster-slots.ts";
import { Failure } from "../base/errors.ts";
import type { Disk } from "../log/disk.ts";
import { readHistory } from "../record/cluster-file.ts";
import type { RepositoryConfig } from "./config.ts";
import { type OpenRepository, openConfigured } from "./open-repository.ts";
import { pause, supervise } from "./supervise.ts";

export type SlotsEvent =
  | { readonly kind: "slots stored"; readonly changes: number }
  | { readonly kind: "slots damaged"; readonly failure: Failure }
  | { readonly kind: "slots failed"; readonly failure: Failure; readonly retryInMs: number };

/** As `tidemark status --json` prints it. */
export type SlotsStatus = {
  /** Changes that are known to be in the repository. */
  readonly stored: number;
  readonly trouble: string | null;
};

export type SlotsKeeperOptions = {
  readonly cluster: string;
  /** In which `slots.jsonl` is. */
  readonly folder: string;
  readonly repository: RepositoryConfig;
  readonly disk: Disk;
  readonly onEvent: (event: SlotsEvent) => void;
};

/** A look at a file that has not grown costs next to nothing. */
const lookEveryMs = 1000;
/** Logs that are shipped say little without it: it is tried again sooner than those. */
const delays = { firstMs: 500, longestMs: 5000, goodMs: 10_000 } as const;

type Session = {
  readonly repository: OpenRepository;
  /** Those that are there, and that the walk has not come to. */
  readonly names: Set<string>;
  /** Up to where the file has been walked through. */
  end: number;
  stored: number;
};

export class SlotsKeeper {
  readonly #options: SlotsKeeperOptions;
  #session: Session | undefined;
  #looking: Promise<void> | undefined;
  #trouble: Failure | undefined;
  /** Damage is told of once. */
  #toldEnd = 0;

  constructor(options: SlotsKeeperOptions) {
    this.#options = options;
  }

  get status(): SlotsStatus {
    return { stored: this.#session?.stored ?? 0, trouble: this.#trouble?.message ?? null };
  }

  /** Until the signal is given. Never throws: what fails is told and tried again. */
  async run(signal: AbortSignal): Promise<void> {
    await supervise(
      (until) => this.#runSession(until),
      signal,
      ({ failure, retryInMs }) => {
        this.#trouble = failure;
        this.#options.onEvent({ kind: "slots failed", failure, retryInMs });
      },
      delays,
    );
  }

  /** Puts what is there now, as far as that can be done in the time. */
  async putLast(withinMs: number): Promise<void> {
    try {
      await this.#lookNow(AbortSignal.timeout(withinMs));
    } catch (error) {
      // The file keeps it, and the next start puts it.
      if (!(error instanceof Failure)) throw error;
    }
  }

  async #runSession(signal: AbortSignal): Promise<void> {
    const { repository: config, cluster } = this.#options;
    await using repository = await openConfigured(config, { signal });
    const names = new Set(await listSlots(repository.store, cluster, { signal }));
    this.#session = { repository, names, end: 0, stored: 0 };
    try {
      while (!signal.aborted) {
        await this.#lookNow(signal);
        this.#trouble = undefined;
        await pause(lookEveryMs, signal);
      }
    } finally {
      this.#session = undefined;
      await Promise.allSettled([this.#looking]);
    }
  }

  /** One at a time. @throws Failure */
  async #lookNow(signal: AbortSignal): Promise<void> {
    while (this.#looking !== undefined) await Promise.allSettled([this.#looking]);
    if (this.#session === undefined) return;
    this.#looking = this.#look(this.#session, signal);
    try {
      await this.#looking;
    } finally {
      this.#looking = undefined;
    }
  }

  async #look(session: Session, signal: AbortSignal): Promise<void> {
    const { disk, folder, cluster, onEvent } = this.#options;
    const { names, repository } = session;
    let changes = 0;
    try {
      for await (const { change, end } of readHistory(disk, folder, session.end)) {
        if (change instanceof Failure) {
          if (end > this.#toldEnd) onEvent({ kind: "slots damaged", failure: change });
          this.#toldEnd = Math.max(end, this.#toldEnd);
        } else {
          const isThere = names.delete(slotsObject(cluster, change));
          if (!isThere) {
            await putSlots(repository.store, cluster, change, { signal });
            changes++;
          }
          session.stored++;
        }
        session.end = end;
      }
    } finally {
      if (changes > 0) onEvent({ kind: "slots stored", changes });
    }
  }
}
