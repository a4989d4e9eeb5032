/**
 * Removes what a plan says may go.
 *
 * WHY it looks again. Between the plan and the deed somebody may have kept a set, a set may have been
 * found damaged, so that another one is the newest good one, or a day may have passed. So the instance is
 * listed once more and planned for as it is now, and only what both plans name is removed.
 *
 * INVARIANTS
 *
 *   1. Killed anywhere, the catalogue is right: a set goes with its manifest, and what is left of it is
 *      no set; of a line's log the oldest goes first, what is covered before what covers it. What
 *      remains to be removed the next plan names again, leftovers of sets a day later.
 *   2. Before each call that deletes, the lease is asked for.
 *   3. Nothing is removed that the plan shown did not name.
 *   4. Of each set that others may go for, the manifest was read right before, and it is of that set, of this
 *      instance, and of a snapshot of the size that is listed. A name alone may be a copy's, or a ruin's.
 *   5. Of each log that stays, the set that it is said to be replayed from has its position in what stays of it.
 *      Its time alone may be that of another log's set.
 *   6. Nothing is removed by a clock that the archive speaks against, unless somebody says that it is right.
 */
import { Failure } from "../base/errors.ts";
import type { Abortable } from "../store/store.ts";
import {
  type Catalogue,
  type ListedSet,
  type Run,
  readCatalogue,
  withFaults,
} from "./catalogue.ts";
import { setObject } from "./layout.ts";
import { type ExpiryPlan, type Foothold, planExpiry, type Reason } from "./retention.ts";
import { hasPosition } from "./set-log.ts";
import type { WriterGuard } from "./take-set.ts";
import { findFault, readSetManifest } from "./verify.ts";
import { findingOf, type Readable } from "./verify-object.ts";

export type ExpiryProgress = { readonly objects: number; readonly totalObjects: number };

export type ExpireOptions = Abortable & {
  /** Somebody has looked at this machine's clock, and it is right. */
  readonly trustsClock?: boolean | undefined;
  readonly onProgress?: ((progress: ExpiryProgress) => void) | undefined;
};

/** What has gone. */
export type Expired = { readonly sets: number; readonly pieces: number; readonly bytes: number };

/** Of one call: a lease may be lost meanwhile. */
const batchObjects = 500;

/** @throws Failure CLOCK_DOUBTED; STORE_DENIED where deleting is not allowed; of the store, the lease */
export async function applyExpiry(
  repository: Readable,
  plan: ExpiryPlan,
  lease: WriterGuard,
  { signal, onProgress, trustsClock = false }: ExpireOptions = {},
): Promise<Expired> {
  const { store } = repository;
  const { instance } = plan;
  const options = signal === undefined ? {} : { signal };
  const fresh = await planSureExpiry(
    repository,
    await readCatalogue(store, instance, options),
    plan,
    options,
  );
  const agreed = agree(plan, fresh);
  const { sets } = agreed;
  const steps = [
    sets.map((set) => setObject(instance, set, "manifest")),
    sets.flatMap((set) => [
      setObject(instance, set, "verified"),
      setObject(instance, set, "snapshot"),
    ]),
    agreed.pieces.map(({ object }) => object),
    agreed.leftovers,
  ];
  const totalObjects = steps.reduce((sum, { length }) => sum + length, 0);
  if (totalObjects > 0 && !trustsClock) mustTrustClock(fresh);
  let objects = 0;
  for (const names of steps) {
    for (let at = 0; at < names.length; at += batchObjects) {
      const batch = names.slice(at, at + batchObjects);
      await lease.check();
      await store.delete(batch, options);
      objects += batch.length;
      onProgress?.({ objects, totalObjects });
    }
  }
  return { sets: sets.length, pieces: agreed.pieces.length, bytes: agreed.bytes };
}

/** @throws Failure CLOCK_DOUBTED */
function mustTrustClock({ instance, clockDoubt }: ExpiryPlan): void {
  if (clockDoubt === undefined) return;
  throw new Failure("CLOCK_DOUBTED", `Cannot expire what ${instance} has: ${clockDoubt}`, {
    hint: `Look at \`date -u\`. Where that is right: tidemark expire ${instance} --apply --trust-clock.`,
  });
}

/**
 * A plan that relies on no set whose manifest does not say that it is there, and for a log only on sets of
 * which it has the positions: where it would, that set is not counted, and it is planned again. Nothing is
 * read where nothing goes.
 *
 * @throws Failure of the store; USAGE where the policy makes no sense
 */
export async function planSureExpiry(
  repository: Readable,
  catalogue: Catalogue,
  { policy, nowMs }: Pick<ExpiryPlan, "policy" | "nowMs">,
  options: Abortable = {},
): Promise<ExpiryPlan> {
  const { instance } = catalogue;
  const faults = new Map<string, string>();
  const sure = new Set<string>();
  const footing = new Footing(repository, instance, options);
  for (;;) {
    const known = withFaults(catalogue, faults);
    const plan = planExpiry(known, policy, nowMs, (set, run) => footing.mayBe(set, run));
    if (setsToRemove(plan).length + plan.pieces.length === 0) return plan;
    const doubtful = footholdsOf(plan).filter(({ name }) => !sure.has(name));
    let isChanged = false;
    for (const set of doubtful) {
      const fault = await findFault(repository, instance, set, options);
      if (fault === undefined) sure.add(set.name);
      else faults.set(set.name, fault);
      isChanged ||= fault !== undefined;
    }
    if (isChanged) continue;
    for (const foothold of plan.footing) {
      if (!(await footing.isSure(foothold))) isChanged = true;
    }
    if (!isChanged) return plan;
  }
}

/** Which sets are of which runs, as far as it was looked at. */
class Footing {
  readonly #repository: Readable;
  readonly #instance: string;
  readonly #options: Abortable;
  /** By run: the names of sets that are not of it, or not of what would have stayed of it. */
  readonly #strangers = new Map<Run, Set<string>>();
  /** By set and first piece. */
  readonly #sure = new Set<string>();

  constructor(repository: Readable, instance: string, options: Abortable) {
    this.#repository = repository;
    this.#instance = instance;
    this.#options = options;
  }

  mayBe({ name }: ListedSet, run: Run): boolean {
    return this.#strangers.get(run)?.has(name) !== true;
  }

  async isSure({ set, run, pieces }: Foothold): Promise<boolean> {
    const key = `${set.name} ${pieces[0]?.object}`;
    if (this.#sure.has(key)) return true;
    const isOf = await this.#hasPosition(set, pieces);
    if (isOf) this.#sure.add(key);
    else this.#strangers.set(run, new Set([...(this.#strangers.get(run) ?? []), set.name]));
    return isOf;
  }

  async #hasPosition({ name }: ListedSet, pieces: Foothold["pieces"]): Promise<boolean> {
    try {
      const manifest = await readSetManifest(this.#repository, this.#instance, name, this.#options);
      return await hasPosition(this.#repository, pieces, manifest.position, this.#options);
    } catch (error) {
      // Of what a newer version has written, nothing is known here: its time counts.
      return findingOf(error, name).code === "DATA_UNSUPPORTED";
    }
  }
}

/** What stays so that other sets, or log, may go. */
function footholdsOf({ sets }: ExpiryPlan): ListedSet[] {
  const own = new Set<Reason>(["kept", "young"]);
  return sets.flatMap(({ set, reasons }) => {
    const isRelied = set.fault === undefined && reasons.some((reason) => !own.has(reason));
    return isRelied ? [set] : [];
  });
}

/** What both plans say. */
function agree(shown: ExpiryPlan, fresh: ExpiryPlan) {
  const shownSets = new Set(setsToRemove(shown).map(({ name }) => name));
  const sets = setsToRemove(fresh).filter(({ name }) => shownSets.has(name));
  const shownPieces = new Set(shown.pieces.map(({ object }) => object));
  const pieces = fresh.pieces.filter(({ object }) => shownPieces.has(object));
  const shownLeftovers = new Set(shown.leftovers);
  const leftovers = fresh.leftovers.filter((name) => shownLeftovers.has(name));
  const bytes = [...sets, ...pieces].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { sets: sets.map(({ name }) => name), pieces, leftovers, bytes };
}

/** The sets that a plan lets go, oldest first. */
export function setsToRemove({ sets }: ExpiryPlan): readonly ExpiryPlan["sets"][number]["set"][] {
  return sets.filter(({ reasons }) => reasons.length === 0).map(({ set }) => set);
}
