/**
 * The shards of a cluster, where no daemon runs that knows them.
 *
 * WHY NOT JUST ASK. A shard's key is what its history has been called since the first day; the nodes know only what
 * they are called now. Whoever recorded the cluster here has left the keys in `cluster.json`. Where that is
 * not to be had, names are taken from the nodes, if the repository does not know the cluster under others.
 */
import { listSlots, putSlots, readSlots, type SlotsChange } from "../../archive/cluster-slots.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import type { InstanceConfig } from "../../daemon/config.ts";
import type { OpenRepository } from "../../daemon/open-repository.ts";
import type { Instance } from "../../link/instance.ts";
import { Topology } from "../../link/topology.ts";
import { systemDisk } from "../../log/disk.ts";
import { ClusterFile, checkInstances } from "../../record/cluster-file.ts";

/** Notes in the repository who has which slots, too, if that is not known there. @throws Failure */
export async function findShards(
  { store }: OpenRepository,
  { name, address, connect, spool }: InstanceConfig,
  signal: AbortSignal,
): Promise<{ readonly topology: Topology; readonly shards: readonly Instance[] }> {
  const file = await ClusterFile.open(systemDisk, spool);
  const known = file.known.flatMap(({ instance, isGone }) => (isGone ? [] : [instance]));
  const topology = new Topology(address, { ...connect, signal, known });
  try {
    const shards = await topology.read();
    checkInstances(shards);
    const newest = (await listSlots(store, name, { signal })).at(-1);
    const last = newest === undefined ? undefined : await readSlots(store, newest, { signal });
    if (known.length === 0 && last !== undefined) checkKeys(name, shards, last);
    const change = toChange(shards);
    if (last === undefined || describe(last) !== describe(change)) {
      await putSlots(store, name, change, { signal });
    }
    return { topology, shards };
  } catch (error) {
    await topology[Symbol.asyncDispose]();
    throw error;
  }
}

function checkKeys(name: string, shards: readonly Instance[], last: SlotsChange): void {
  const keys = new Set(last.shards.map(({ key }) => key));
  const unknown = shards.find(({ key }) => !keys.has(key));
  if (unknown === undefined) return;
  const found = `${unknown.key} may be one that the repository knows under another name`;
  throw new Failure("USAGE", `Cannot tell the shards of ${name}: ${found}`, {
    hint: "Run it where `tidemark up` has recorded the cluster.",
  });
}

function toChange(shards: readonly Instance[]): SlotsChange {
  const ms = systemClock.now();
  const all = shards.map(({ key, slots = [] }) => ({ key, slots, ms, position: null }));
  return { windowMs: null, shards: all };
}

/** The same text for the same slots in the same hands. */
function describe({ shards }: SlotsChange): string {
  const all = shards.map(({ key, slots }) => `${key} ${JSON.stringify(slots.toSorted(byFirst))}`);
  return all.toSorted().join("\n");
}

function byFirst([a]: readonly [number, number], [b]: readonly [number, number]): number {
  return a - b;
}
