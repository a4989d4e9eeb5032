/**
 * The command `status` for what is archived: instances, and clusters with their shards.
 *
 * In JSON a shard is an instance as any other, and a cluster says what is true of all its shards.
 */
import type { InstanceStatus } from "../../daemon/instance.ts";
import { type ArchivedCluster, askProcess, readCluster, renderCluster } from "./cluster-status.ts";
import { type ArchivedStatus, readStatus, renderStatus } from "./instance-status.ts";
import { type Place, Places } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

export async function showArchived(
  name: string | undefined,
  flags: PlaceFlags & { readonly json?: true },
): Promise<void> {
  await using places = await Places.open(flags);
  const shown = places.clusters.filter(({ cluster }) => name === undefined || cluster === name);
  const ofClusters = new Set(shown.flatMap(({ shards }) => shards));
  const instances: ArchivedStatus[] = [];
  for (const place of places.named(name)) {
    if (!ofClusters.has(place))
      instances.push(await readStatus(place, await askLive(places, place)));
  }
  const clusters: ArchivedCluster[] = [];
  for (const each of shown) clusters.push(await readCluster(each));
  if (flags.json) print(JSON.stringify(toJson(instances, clusters), null, 2));
  else if (instances.length + clusters.length === 0) print("There are no instances yet.");
  else
    print([...instances.map(renderStatus), ...clusters.map(renderCluster)].map(join).join("\n\n"));
}

/** Of a shard, the process that runs its cluster says it. */
async function askLive(
  places: Places,
  { repository, instance, shard, config }: Place,
): Promise<InstanceStatus | null> {
  const cluster = places.clusters.find((each) => {
    return each.repository === repository && each.cluster === shard?.cluster;
  });
  const spool = shard === undefined ? config?.spool : cluster?.config?.spool;
  return spool === undefined ? null : ((await askProcess(spool)).instances.get(instance) ?? null);
}

function toJson(instances: readonly ArchivedStatus[], clusters: readonly ArchivedCluster[]) {
  const shards = clusters.flatMap((cluster) => cluster.shards.map(({ status }) => status));
  return {
    format: 1,
    instances: [...instances, ...shards],
    clusters: clusters.map((cluster) => ({
      ...cluster,
      shards: cluster.shards.map(({ status, ...shard }) => ({
        instance: status.instance,
        ...shard,
      })),
    })),
  };
}

function join(lines: readonly string[]): string {
  return lines.join("\n");
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
