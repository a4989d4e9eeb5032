/**
 * A safety set: what a server has before a restore empties it.
 *
 * WHY AN INSTANCE OF ITS OWN, `NAME.before-restore`. The server may be any: what it has need not belong to
 * the history of the instance that is restored, and a running `tidemark up` has that one's lease.
 */
import { hostname } from "node:os";
import type { SetManifest } from "../../archive/backup-set.ts";
import { Lease } from "../../archive/lease.ts";
import { admitKey } from "../../archive/repository.ts";
import { takeSet } from "../../archive/take-set.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { type Address, formatAddress } from "../../link/address.ts";
import type { ConnectOptions } from "../../link/connection.ts";
import { Topology } from "../../link/topology.ts";
import { takeSnapshot } from "../../record/snapshot.ts";
import { SourceFinder } from "../../record/source-finder.ts";
import type { Place } from "./place.ts";

function safetyInstance(instance: string): string {
  return `${instance}.before-restore`;
}

/** The commands that bring back what was there: the first one empties the server, the others add to it. */
export function describeUndo(instance: string, sets: readonly string[], where: string): string[] {
  return sets.map((set, i) => {
    const rest = i === 0 ? "--overwrite" : "--conflict overwrite";
    const command = `tidemark restore ${safetyInstance(instance)} --at set:${set} --to ${where} ${rest}`;
    return `  to undo it: ${command}`;
  });
}

/** One of each master. @throws Failure; then nothing must be removed */
export async function takeSafetySets(
  { repository, instance }: Pick<Place, "repository" | "instance">,
  address: Address,
  connect: Pick<ConnectOptions, "credentials" | "tls">,
  stop?: AbortSignal,
): Promise<SetManifest[]> {
  const name = safetyInstance(instance);
  const manifests: SetManifest[] = [];
  try {
    await using lease = await Lease.acquire(repository, name, {
      owner: `tidemark restore on ${hostname()}`,
    });
    await admitKey(repository);
    await using topology = new Topology(address, connect);
    for (const { key } of await topology.read()) {
      const finder = new SourceFinder({ topology, key, prefer: "master", connect });
      const { endpoint } = await finder.find(stop);
      const manifest = await takeSet(
        repository,
        name,
        (signal) => takeSnapshot(endpoint, { connect, clock: systemClock, signal, watchMs: 0 }),
        {
          ...{ kind: "safety", keep: true, clock: systemClock, lease },
          ...(stop && { signal: stop }),
          note: `before a restore of ${instance} to ${formatAddress(address)}`,
        },
      );
      manifests.push(manifest);
    }
    return manifests;
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    const message = `Cannot take a safety set of ${formatAddress(address)}: ${cause.message}`;
    throw new Failure(cause.code, message, {
      cause,
      hint: `Nothing was removed. ${cause.hint} Or do without one: --no-safety.`,
    });
  }
}
