/**
 * Has a spool begin its log at a backup set, so that it does not grow for ever.
 *
 * WHY. A spool keeps its base and everything since. Once the repository has all of that, and a set that was
 * read back, what is before the set is needed in the spool by nobody: a server starts on the set and what
 * follows it just as well.
 *
 * WHEN. When the newest set that is good, and in a segment that is closed, frees at least `minFreedBytes`,
 * and at least `worth` times what has to be written for it. So the spool has at most about twice the data
 * set and what was written since the last set (and the set once more, while it is being rebased), and no
 * more is written again than is freed.
 *
 * INVARIANTS
 *
 *   1. Nothing leaves the spool but what is in the repository for good: a listing made for that has shown
 *      each of its segments as one piece, which is whole, its base was read back, and the set is read back once more, now.
 *   2. The archive is not touched, and says the same as before.
 *   3. A set is used once. One whose position is not in the log is not looked at again.
 */
import { Failure } from "../base/errors.ts";
import type { RebasePlan } from "../log/rebase.ts";
import type { Generation } from "../log/segment.ts";
import { ArchivedLine } from "./archiver-line.ts";
import { keeperOf, originOf } from "./archiver-origin.ts";
import type { Ship } from "./archiver-piece.ts";
import type { Rounds, ShippingEvent, SpoolView } from "./archiver-round.ts";
import type { SetManifest } from "./backup-set.ts";
import { lineName, setObjects, setPrefix } from "./layout.ts";
import type { WaitingClock } from "./lease.ts";
import { openSet, readSetManifest } from "./verify.ts";

export type RebaseOptions = {
  /** It is not done for less. */
  readonly minFreedBytes?: number;
  /** How often sets are looked for, if there is enough to be freed. */
  readonly everyMs?: number;
};

export type RebasesOptions = RebaseOptions & {
  readonly ship: Ship;
  readonly spool: SpoolView;
  readonly rounds: Rounds;
  readonly clock: WaitingClock;
  readonly onEvent: (event: ShippingEvent) => void;
};

const defaultMinFreedBytes = 64 * 1024 * 1024;
const defaultEveryMs = 5 * 60 * 1000;
/** A byte is written if it frees one. */
const worth = 1;

export class Rebases {
  readonly #options: RebasesOptions;
  readonly #minFreedBytes: number;
  #lookedMs: number | undefined;
  /** Sets that are of no use to the log. */
  #unfit: ReadonlySet<string> = new Set();
  #lastFailure: string | undefined;

  constructor(options: RebasesOptions) {
    this.#options = options;
    this.#minFreedBytes = options.minFreedBytes ?? defaultMinFreedBytes;
  }

  /** Rebases the spool, if that is due. @throws Failure of the storage, of the disk */
  async run(signal: AbortSignal): Promise<void> {
    const { spool, clock, everyMs = defaultEveryMs } = this.#options;
    const { generation } = spool;
    if (generation === undefined || spool.rebase === undefined) return;
    if (sizeBefore(generation) < this.#minFreedBytes) return;
    const nowMs = clock.monotonicMs();
    if (this.#lookedMs !== undefined && nowMs - this.#lookedMs < everyMs) return;
    this.#lookedMs = nowMs;
    const sets = await this.#verifiedSets(signal);
    this.#unfit = new Set(sets.filter((set) => this.#unfit.has(set)));
    for (const set of sets) {
      if (this.#unfit.has(set)) continue;
      try {
        if (await this.#rebaseOn(set, generation, signal)) return;
      } catch (error) {
        if (error instanceof Failure) this.#tellFailure(set, error);
        throw error;
      }
    }
  }

  /** That the storage is away, the rounds tell. */
  #tellFailure(set: string, failure: Failure): void {
    if (/^(STORE_|ABORTED)/.test(failure.code) || this.#lastFailure === failure.message) return;
    this.#lastFailure = failure.message;
    this.#options.onEvent({ kind: "not rebased", set, failure });
  }

  /** Newest first. */
  async #verifiedSets(signal: AbortSignal): Promise<string[]> {
    const { repository, instance } = this.#options.ship;
    const prefix = setPrefix(instance);
    const sets: string[] = [];
    for await (const { name } of repository.store.list(prefix, { signal })) {
      const [set = "", object] = name.slice(prefix.length).split("/");
      if (object === setObjects.verified) sets.push(set);
    }
    return sets.reverse();
  }

  /** True: older sets need not be looked at. */
  async #rebaseOn(set: string, generation: Generation, signal: AbortSignal): Promise<boolean> {
    const { ship, spool } = this.#options;
    const manifest = await readSetManifest(ship.repository, ship.instance, set, { signal });
    // As if all before were to go. That costs no look at the log.
    const most = { removedBytes: sizeBefore(generation), keptBytes: 0 };
    if (!this.#isWorth(most, manifest)) return true;
    const plan = await spool.planRebase?.(manifest.position);
    if (plan === undefined) {
      const open = generation.segments.at(-1)?.first.offset ?? 0;
      // What is in the segment that is written to will be in a closed one.
      if (manifest.position.offset <= open) this.#unfit = new Set([...this.#unfit, set]);
      return false;
    }
    if (!this.#isWorth(plan, manifest)) return true;
    if (!(await this.#isArchived(plan, generation, signal))) return true;
    await this.#rebase(manifest, plan, generation, signal);
    return true;
  }

  #isWorth(
    { removedBytes, keptBytes }: Pick<RebasePlan, "removedBytes" | "keptBytes">,
    { snapshot }: SetManifest,
  ): boolean {
    const cost = snapshot.rawBytes + keptBytes;
    const freed = removedBytes - cost;
    return freed >= this.#minFreedBytes && freed >= worth * cost;
  }

  /** Whether all that would go is there, as a listing that is made now shows it. */
  async #isArchived(
    plan: RebasePlan,
    generation: Generation,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { ship, rounds } = this.#options;
    const origin = originOf(generation, keeperOf(ship));
    if (origin === undefined) return false;
    const end = generation.segments.findIndex(({ name }) => name === plan.segment.name);
    const line = await ArchivedLine.open(ship, lineName(origin), rounds.proofs, signal);
    if (end < 0 || line.isEmpty) return false;
    return await rounds.isArchived(line, generation, end + 1, signal);
  }

  async #rebase(
    { set, snapshot }: SetManifest,
    plan: RebasePlan,
    generation: Generation,
    signal: AbortSignal,
  ): Promise<void> {
    const { ship, spool, clock, onEvent } = this.#options;
    const keeper = keeperOf(ship);
    const origin = originOf(generation, keeper);
    if (origin === undefined) return;
    await ship.lease.check(signal);
    const startedMs = clock.monotonicMs();
    const parts = {
      ...{ origin, keeper, sizeBytes: snapshot.rawBytes },
      content: (until: AbortSignal) => readSnapshot(ship, set, until),
    };
    const freedBytes = await spool.rebase?.(plan, parts, signal);
    if (freedBytes === undefined) return;
    this.#lastFailure = undefined;
    const tookMs = Math.round(clock.monotonicMs() - startedMs);
    onEvent({ kind: "rebased", set, freedBytes, tookMs });
  }
}

/** What would go at most: the segment that has the position is not the one that is written to. */
function sizeBefore({ base, segments }: Generation): number {
  const closed = segments.slice(0, -1).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return closed + (base?.sizeBytes ?? 0);
}

/** The RDB of a set. All of it is held against its sums on the way: what is wrong throws at the end. */
async function* readSnapshot(
  { repository, instance }: Ship,
  set: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { manifest, reader } = await openSet(repository, instance, set, { signal });
  const { index } = reader;
  if (index.kind !== "rdb" || index.rawSha256 !== manifest.snapshot.rawSha256) {
    throw new Failure("DATA_CORRUPT", `Cannot read ${reader.name}: it is not what its set has`);
  }
  yield* reader.rawBytes();
}
