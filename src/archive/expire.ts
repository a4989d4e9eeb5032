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
 */
import type { Abortable } from "../store/store.ts";
import { readCatalogue } from "./catalogue.ts";
import { setObject } from "./layout.ts";
import type { Repository } from "./repository.ts";
import { type ExpiryPlan, planExpiry } from "./retention.ts";
import type { WriterGuard } from "./take-set.ts";

export type ExpiryProgress = { readonly objects: number; readonly totalObjects: number };

export type ExpireOptions = Abortable & {
  readonly onProgress?: ((progress: ExpiryProgress) => void) | undefined;
};

/** What has gone. */
export type Expired = { readonly sets: number; readonly pieces: number; readonly bytes: number };

/** Of one call: a lease may be lost meanwhile. */
const batchObjects = 500;

/** @throws Failure STORE_DENIED where deleting is not allowed; of the store, the lease */
export async function applyExpiry(
  repository: Pick<Repository, "store">,
  plan: ExpiryPlan,
  lease: WriterGuard,
  { signal, onProgress }: ExpireOptions = {},
): Promise<Expired> {
  const { store } = repository;
  const { instance } = plan;
  const options = signal === undefined ? {} : { signal };
  const catalogue = await readCatalogue(store, instance, options);
  const agreed = agree(plan, planExpiry(catalogue, plan.policy, plan.nowMs));
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
