/**
 * Where the commands find what they read: repositories, instances in them, sets of those.
 *
 * WHY TWO WAYS. Beside a configuration, everything has a name. On the day when only the bucket is left, an
 * address must do: `--repo` needs nothing else.
 */
import {
  type Catalogue,
  type ListedSet,
  listInstances,
  readCatalogue,
} from "../../archive/catalogue.ts";
import { isInstanceName } from "../../archive/layout.ts";
import { Failure } from "../../base/errors.ts";
import {
  type Config,
  findConfig,
  type InstanceConfig,
  type RepositoryConfig,
} from "../../daemon/config.ts";
import {
  type OpenRepository,
  openByAddress,
  openConfigured,
} from "../../daemon/open-repository.ts";
import { nearest } from "../../daemon/yaml-file.ts";
import { Secret } from "../../link/secret.ts";
import type { PlaceFlags } from "./place-options.ts";

/** An instance that there is something of, or that is configured. */
export type Place = {
  readonly repository: OpenRepository;
  readonly instance: string;
  /** As it is configured, if it is. */
  readonly config: InstanceConfig | undefined;
};

export class Places implements AsyncDisposable {
  /** In the order of the configuration; then by name. */
  readonly all: readonly Place[];
  readonly #repositories: readonly OpenRepository[];

  private constructor(all: readonly Place[], repositories: readonly OpenRepository[]) {
    this.all = all;
    this.#repositories = repositories;
  }

  /** @throws Failure USAGE where neither --repo nor a configuration says where; as the repository */
  static async open(flags: PlaceFlags): Promise<Places> {
    const { config, sources } = findSources(flags);
    const opened: OpenRepository[] = [];
    const all: Place[] = [];
    try {
      for (const { repositoryConfig, open } of sources) {
        const repository = await open();
        opened.push(repository);
        const configured = [...(config?.instances.values() ?? [])].filter(
          (instance) => instance.repository === repositoryConfig,
        );
        const names = new Set(configured.map(({ name }) => name));
        for (const name of await listInstances(repository.store)) names.add(name);
        for (const instance of names) {
          all.push({ repository, instance, config: config?.instances.get(instance) });
        }
      }
      return new Places(all, opened);
    } catch (error) {
      await closeAll(opened);
      throw error;
    }
  }

  /** Those of a name; without one, all. @throws Failure USAGE where there is none */
  named(name: string | undefined): readonly Place[] {
    if (name === undefined) return this.all;
    const found = this.all.filter(({ instance }) => instance === name);
    if (found.length > 0) return found;
    throw this.#unknown(name);
  }

  /** The one of a name. @throws Failure USAGE where there is none, or several */
  one(name: string): Place {
    const [place, ...more] = this.named(name);
    if (place !== undefined && more.length === 0) return place;
    throw new Failure("USAGE", `Cannot tell which "${name}" is meant: two repositories have it`, {
      hint: "Name the repository with --repo.",
    });
  }

  #unknown(name: string): Failure {
    const names = this.all.map(({ instance }) => instance);
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
  const [only, ...more] = exact.length > 0 ? exact : found;
  if (only === undefined) {
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
    const key = keyFile === undefined ? undefined : Secret.file(keyFile);
    const open = () => openByAddress(repo, key);
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
    return { repositoryConfig, open: () => openConfigured(repositoryConfig) };
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
