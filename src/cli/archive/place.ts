/**
 * Where the commands find what they read: repositories, instances in them, sets of those.
 *
 * WHY TWO WAYS. Beside a configuration, everything has a name. On the day when only the bucket is left, an
 * address must do: `--repo` needs nothing else.
 *
 * CLUSTERS. The shards of a cluster are instances of their own, `NAME.KEY`. The name of the cluster stands for
 * all of them, and they are configured as it is; this is the one place that knows it.
 *
 * MOVED. What is configured is in the repository that the configuration says. What another one of the same
 * configuration has under that name is an older copy: it is shown, as one, and restored from with --repo.
 */

import {
  type Catalogue,
  type ListedSet,
  listInstances,
  readCatalogue,
} from "../../archive/catalogue.ts";
import { listClusters, parseShardInstance } from "../../archive/cluster-slots.ts";
import { isInstanceName } from "../../archive/layout.ts";
import { Failure } from "../../base/errors.ts";
import {
  type Config,
  findConfig,
  type InstanceConfig,
  isCluster,
  type RepositoryConfig,
  shardConfig,
} from "../../daemon/config.ts";
import {
  type OpenRepository,
  openByAddress,
  openConfigured,
} from "../../daemon/open-repository.ts";
import { nearest } from "../../daemon/yaml-file.ts";
import { Secret } from "../../link/secret.ts";
import { plural } from "../render/text.ts";
import type { PlaceFlags } from "./place-options.ts";

/** An instance that there is something of, or that is configured. */
export type Place = {
  readonly repository: OpenRepository;
  readonly instance: string;
  /** As it is configured, if it is; a shard as its cluster is. */
  readonly config: InstanceConfig | undefined;
  /** Where it is a shard of a cluster. */
  readonly shard: { readonly cluster: string; readonly key: string } | undefined;
  /** The address of the repository where it is configured, if that is another one. */
  readonly movedTo?: string;
};

/** A cluster that there is something of, or that is configured. */
export type ClusterPlace = {
  readonly repository: OpenRepository;
  readonly cluster: string;
  readonly config: InstanceConfig | undefined;
  /** Those that there is something of, by their keys. */
  readonly shards: readonly Place[];
  readonly movedTo?: string;
};

/** An instance or a cluster that is configured, of which the repository cannot be read. */
export type UnreadPlace = { readonly config: InstanceConfig; readonly failure: Failure };

export class Places implements AsyncDisposable {
  /** In the order of the configuration; then by name; older copies last. Shards stand where their cluster does. */
  readonly all: readonly Place[];
  readonly clusters: readonly ClusterPlace[];
  /** Configured, but their repositories could not be read; none unless that was asked for. */
  readonly unread: readonly UnreadPlace[];
  readonly #repositories: readonly OpenRepository[];

  private constructor(found: Found, repositories: readonly OpenRepository[]) {
    this.all = currentFirst(found.all);
    this.clusters = currentFirst(found.clusters);
    this.unread = found.unread;
    this.#repositories = repositories;
  }

  /**
   * @param goesOn where there is a configuration: also when a repository cannot be read, see `unread`
   * @throws Failure USAGE where neither --repo nor a configuration says where; as the repository
   */
  static async open(flags: PlaceFlags, goesOn = false): Promise<Places> {
    const { config, sources } = findSources(flags);
    const opened: OpenRepository[] = [];
    const found: Found = { all: [], clusters: [], unread: [] };
    try {
      for (const { repositoryConfig, open } of sources) {
        try {
          const repository = await open();
          opened.push(repository);
          await findPlaces(found, repository, repositoryConfig, config);
        } catch (failure) {
          if (!goesOn || config === undefined || !(failure instanceof Failure)) throw failure;
          for (const instance of configuredIn(config, repositoryConfig)) {
            found.unread.push({ config: instance, failure });
          }
        }
      }
      return new Places(found, opened);
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  }

  /**
   * Those of a name, which may be a cluster's: then its shards, if there are any yet. Without a name, all.
   *
   * @throws Failure USAGE where there is none of the name
   */
  named(name: string | undefined): readonly Place[] {
    if (name === undefined) return this.all;
    const found = this.all.filter(({ instance, shard }) => {
      return instance === name || shard?.cluster === name;
    });
    if (found.length > 0 || this.#clustersOf(name).length > 0) return found;
    throw this.#unknown(name);
  }

  /** Whether there is an instance or a cluster of the name. */
  has(name: string): boolean {
    return this.all.some(({ instance }) => instance === name) || this.#clustersOf(name).length > 0;
  }

  /** The one of a name. @throws Failure USAGE where there is none, or several, or it is a cluster */
  one(name: string): Place {
    const places = this.named(name).filter(({ instance }) => instance === name);
    const [place, ...more] = currentOf(places);
    if (place !== undefined && more.length === 0) return place;
    const [cluster] = this.#clustersOf(name);
    if (place === undefined && cluster !== undefined) throw manyShards(cluster);
    throw new Failure("USAGE", `Cannot tell which "${name}" is meant: two repositories have it`, {
      hint: "Name the repository with --repo.",
    });
  }

  /** The cluster of a name; undefined where there is none. @throws Failure USAGE where there are several */
  cluster(name: string): ClusterPlace | undefined {
    const [cluster, ...more] = currentOf(this.#clustersOf(name));
    if (more.length === 0) return cluster;
    throw new Failure("USAGE", `Cannot tell which "${name}" is meant: two repositories have it`, {
      hint: "Name the repository with --repo.",
    });
  }

  #clustersOf(name: string): readonly ClusterPlace[] {
    return this.clusters.filter(({ cluster }) => cluster === name);
  }

  #unknown(name: string): Failure {
    const single = this.all.filter(({ shard }) => shard === undefined);
    const names = [
      ...this.clusters.map(({ cluster }) => cluster),
      ...single.map(({ instance }) => instance),
    ];
    const meant = nearest(name, names);
    const hint =
      meant !== undefined
        ? `Did you mean ${meant}?`
        : names.length > 0
          ? `There are ${names.join(", ")}.`
          : "There are none yet: `tidemark up` begins with those of the configuration.";
    const found = isInstanceName(name) ? "there is none of that name" : "that is no name of one";
    return new Failure("USAGE", `Cannot find instance "${name}": ${found}`, { hint });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeAll(this.#repositories);
  }
}

/** The configuration decides; where it does not, all. */
function currentOf<Each extends { readonly movedTo?: string }>(
  found: readonly Each[],
): readonly Each[] {
  const current = found.filter(({ movedTo }) => movedTo === undefined);
  return current.length > 0 ? current : found;
}

function currentFirst<Each extends { readonly movedTo?: string }>(found: readonly Each[]): Each[] {
  const isCopy = ({ movedTo }: Each) => Number(movedTo !== undefined);
  return found.toSorted((a, b) => isCopy(a) - isCopy(b));
}

/** What it is called, and where it lies if that is not where it belongs. */
export function placeTitle({ instance, repository, movedTo }: Place): string {
  return movedTo === undefined ? instance : `${instance}, older copy in ${repository.store.name}`;
}

type Found = {
  readonly all: Place[];
  readonly clusters: ClusterPlace[];
  readonly unread: UnreadPlace[];
};

function configuredIn(
  config: Config | undefined,
  repository: RepositoryConfig | undefined,
): InstanceConfig[] {
  return [...(config?.instances.values() ?? [])].filter((each) => each.repository === repository);
}

/** Adds what a repository has, and what is configured to be in it. */
async function findPlaces(
  found: Found,
  repository: OpenRepository,
  repositoryConfig: RepositoryConfig | undefined,
  config: Config | undefined,
): Promise<void> {
  const configured = configuredIn(config, repositoryConfig);
  const present = await listInstances(repository.store);
  const known = new Set(await listClusters(repository.store));
  for (const instance of configured) if (isCluster(instance)) known.add(instance.name);
  const isShard = (instance: string) => known.has(parseShardInstance(instance)?.cluster ?? "");
  const names = [
    ...configured.map(({ name }) => name),
    ...known,
    ...present.filter((instance) => !isShard(instance)),
  ];
  for (const name of new Set(names)) {
    const own = configured.find((instance) => instance.name === name);
    const moved = movedOf(config, own, name);
    if (known.has(name)) {
      const cluster = own !== undefined && isCluster(own) ? own : undefined;
      const shards = present.flatMap((instance): Place[] => {
        const shard = parseShardInstance(instance);
        if (shard?.cluster !== name) return [];
        const shardOwn = cluster && shardConfig(cluster, shard.key);
        return [{ repository, instance, shard, config: shardOwn, ...moved }];
      });
      found.clusters.push({ repository, cluster: name, config: cluster, shards, ...moved });
      found.all.push(...shards);
    }
    if (!known.has(name) || present.includes(name)) {
      found.all.push({ repository, instance: name, config: own, shard: undefined, ...moved });
    }
  }
}

function movedOf(
  config: Config | undefined,
  own: InstanceConfig | undefined,
  name: string,
): { readonly movedTo?: string } {
  const elsewhere = own === undefined ? config?.instances.get(name) : undefined;
  return elsewhere === undefined ? {} : { movedTo: elsewhere.repository.address };
}

function manyShards({ cluster, shards }: ClusterPlace): Failure {
  const [first] = shards;
  const found = `it is a cluster of ${plural(shards.length, "shard")}`;
  return new Failure("USAGE", `Cannot choose one instance of "${cluster}": ${found}`, {
    hint: first === undefined ? "`tidemark up` begins with them." : `Name one: ${first.instance}.`,
  });
}

export type FoundSet = {
  readonly place: Place;
  readonly catalogue: Catalogue;
  readonly set: ListedSet;
};

/** The set of a name, or of the beginning of one. @throws Failure USAGE, OBJECT_MISSING */
export async function findSet(
  places: Places,
  name: string,
  instance: string | undefined,
): Promise<FoundSet> {
  const found: FoundSet[] = [];
  for (const place of places.named(instance)) {
    const catalogue = await readCatalogue(place.repository.store, place.instance);
    for (const set of catalogue.sets) {
      if (set.name.startsWith(name)) found.push({ place, catalogue, set });
    }
  }
  const exact = found.filter(({ set }) => set.name === name);
  const [only, ...more] = currentFound(exact.length > 0 ? exact : found);
  if (only === undefined) {
    if (places.has(name)) {
      throw new Failure(
        "USAGE",
        `Cannot find set "${name}": that is what is backed up, and no set`,
        {
          hint: `\`tidemark backups ${name}\` lists its sets; \`download ${name} --at TARGET\` takes a moment, \`verify --instance ${name}\` its newest set.`,
        },
      );
    }
    throw new Failure("OBJECT_MISSING", `Cannot find set "${name}": there is none`, {
      hint: "`tidemark backups` lists them.",
    });
  }
  if (more.length === 0) return only;
  const shown = [only, ...more].map(({ place, set }) => `${place.instance} ${set.name}`);
  throw new Failure("USAGE", `Cannot tell which set "${name}" is: there are ${shown.length}`, {
    hint: `Write more of its name, or --instance: ${shown.slice(0, 5).join(", ")}.`,
  });
}

function currentFound(found: readonly FoundSet[]): readonly FoundSet[] {
  const current = found.filter(({ place }) => place.movedTo === undefined);
  return current.length > 0 ? current : found;
}

type Source = {
  readonly repositoryConfig: RepositoryConfig | undefined;
  readonly open: () => Promise<OpenRepository>;
};

function findSources(flags: PlaceFlags): { config: Config | undefined; sources: Source[] } {
  const { repo, keyFile } = flags;
  if (repo !== undefined) {
    if (flags.config !== undefined) {
      throw new Failure("USAGE", "Cannot use both --repo and --config: give one of them");
    }
    const keys = (keyFile ?? []).map((path) => Secret.file(path, "key"));
    const open = () => openByAddress(repo, keys, { isAwaited: true });
    return { config: undefined, sources: [{ repositoryConfig: undefined, open }] };
  }
  if (keyFile !== undefined) {
    throw new Failure(
      "USAGE",
      "Cannot use --key-file without --repo: the configuration has the keys",
    );
  }
  const config = findConfig(flags.config);
  if (config === undefined) throw nowhere();
  const sources = [...config.repositories.values()].map((repositoryConfig) => {
    return { repositoryConfig, open: () => openConfigured(repositoryConfig, { isAwaited: true }) };
  });
  return { config, sources };
}

export function nowhere(): Failure {
  return new Failure("USAGE", "Cannot find a repository: there is no tidemark.yaml here", {
    hint: "Name one with --repo ADDRESS, or a configuration with --config FILE.",
  });
}

async function closeAll(repositories: readonly OpenRepository[]): Promise<void> {
  for (const repository of repositories) await repository[Symbol.asyncDispose]();
}
