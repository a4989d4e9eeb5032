/**
 * The command `status` for what is archived: instances, and clusters with their shards.
 *
 * In JSON a shard is an instance as any other, and a cluster says what is true of all its shards. Where a
 * repository cannot be read, what runs here is shown all the same, in `unread`, and the command fails then.
 */
import type { InstanceStatus } from "../../daemon/instance.ts";
import { renderPairs, style, title } from "../render/table.ts";
import { printable } from "../render/text.ts";
import { type ArchivedCluster, askProcess, readCluster, renderCluster } from "./cluster-status.ts";
import {
  type ArchivedStatus,
  notRunning,
  readStatus,
  renderLive,
  renderStatus,
} from "./instance-status.ts";
import { type Place, Places, type UnreadPlace } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

/** @throws Failure as the first repository that cannot be read, when all else has been shown */
export async function showArchived(
  name: string | undefined,
  flags: PlaceFlags & { readonly json?: true },
): Promise<void> {
  await using places = await Places.open(flags, true);
  const shown = places.clusters.filter(({ cluster }) => name === undefined || cluster === name);
  const ofClusters = new Set(shown.flatMap(({ shards }) => shards));
  const instances: ArchivedStatus[] = [];
  const unread = places.unread.filter(({ config }) => {
    return name === undefined || name === config.name || name.startsWith(`${config.name}.`);
  });
  const found = unread.length > 0 && name !== undefined ? [] : places.named(name);
  for (const place of found) {
    if (!ofClusters.has(place))
      instances.push(await readStatus(place, await askLive(places, place)));
  }
  const clusters: ArchivedCluster[] = [];
  for (const each of shown) clusters.push(await readCluster(each));
  const local: LocalStatus[] = [];
  for (const each of unread) local.push(await readLocal(each));
  if (flags.json) print(JSON.stringify(toJson(instances, clusters, local), null, 2));
  else if (instances.length + clusters.length + local.length === 0)
    print("There are no instances yet.");
  else {
    const all = [
      ...local.map(renderLocal),
      ...instances.map(renderStatus),
      ...clusters.map(renderCluster),
    ];
    print(all.map(join).join("\n\n"));
  }
  const [first] = unread;
  if (first !== undefined) throw first.failure;
}

/** What the process that runs here knows, where the repository cannot be read. */
type LocalStatus = {
  readonly name: string;
  readonly repository: string;
  readonly trouble: string;
  /** Of the instance, or of the shards of a cluster; none where no `tidemark up` runs here. */
  readonly live: readonly InstanceStatus[];
};

async function readLocal({ config, failure }: UnreadPlace): Promise<LocalStatus> {
  const { instances } = await askProcess(config.spool);
  return {
    name: config.name,
    repository: config.repository.address,
    trouble: failure.message,
    live: [...instances.values()],
  };
}

function renderLocal({ name, repository, trouble, live }: LocalStatus): string[] {
  const pairs: [string, string][] = [
    ["repository", repository],
    ["trouble", style("red", printable(trouble))],
    ["restores", "not known: the repository cannot be read"],
  ];
  if (live.length === 0) pairs.push(["recorder", notRunning]);
  return [
    title(name),
    ...renderPairs(pairs),
    ...live.flatMap((each) => [
      ...(each.instance === name ? [] : [`  ${title(each.instance)}`]),
      ...renderPairs(renderLive(each)),
    ]),
  ];
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

function toJson(
  instances: readonly ArchivedStatus[],
  clusters: readonly ArchivedCluster[],
  unread: readonly LocalStatus[],
) {
  const shards = clusters.flatMap((cluster) => cluster.shards.map(({ status }) => status));
  return {
    format: 1,
    instances: [...instances, ...shards],
    unread,
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
