/**
 * Rebases the log of a spool, once at a time, beside all else that the spool does.
 *
 * Writing takes long, and changes nothing that is in force: so it may be stopped, and the log may come to
 * be another one meanwhile. Only then, and in one step, the log begins anew (`SpoolLog.rebase()`).
 */
import { strict as assert } from "node:assert";
import {
  type RebaseParts,
  type RebasePlan,
  removeStart,
  type StartPlace,
  writeStart,
} from "./rebase.ts";
import { isKeeper } from "./rebase-notes.ts";
import type { SpoolLog } from "./spool-log.ts";

export type RebaseJob = {
  readonly plan: RebasePlan;
  readonly parts: RebaseParts;
  readonly log: SpoolLog;
  /** Whether the log is still in force, and can be written. */
  readonly isReady: () => boolean;
};

export class Rebasing {
  readonly #place: StartPlace;
  #stop: AbortController | undefined;
  #ended: Promise<void> | undefined;

  constructor(place: StartPlace) {
    this.#place = place;
  }

  /** Has one that goes on end soon: with ABORTED, if the log does not begin anew by then. */
  stop(): void {
    this.#stop?.abort();
  }

  async ended(): Promise<void> {
    await this.#ended;
  }

  /** Says how many bytes there are fewer; undefined: the log is not in force any more. */
  async run(job: RebaseJob, signal: AbortSignal): Promise<number | undefined> {
    assert(this.#stop === undefined, "A log is rebased once at a time");
    assert(isKeeper(job.parts.keeper), "Who keeps the beginning of a log has a proper name");
    const stop = new AbortController();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stop = stop;
    this.#ended = promise;
    try {
      return await this.#rebase(job, AbortSignal.any([signal, stop.signal]));
    } finally {
      this.#stop = undefined;
      resolve();
    }
  }

  async #rebase(
    { plan, parts, log, isReady }: RebaseJob,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { disk, paths } = this.#place;
    const { segment, removedBytes } = plan;
    const { origin, keeper } = parts;
    try {
      const start = await writeStart(this.#place, plan, parts, signal);
      if (!isReady() || !log.hasClosed(segment)) {
        await removeStart(disk, paths);
        return undefined;
      }
      const isSame = log.generation.rebased?.keeper === keeper;
      const was = (isSame ? segment.was : undefined) ?? segment;
      await log.rebase({ ...start, plan, was, note: { origin, keeper } });
      return removedBytes - start.baseBytes - start.restBytes;
    } catch (error) {
      // If this fails too, they are removed when the spool is opened.
      await removeStart(disk, paths).catch(() => {});
      throw error;
    }
  }
}
