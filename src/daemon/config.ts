/**
 * `tidemark.yaml`: repositories, and the instances that are recorded into them.
 *
 * WHY A FILE. `tidemark up` runs for months on what somebody decided once: where instances are, where
 * their history goes, how long it is kept. That belongs under version control, with the reasons beside
 * it; so every setting has a default, and every fault is told with its line.
 *
 * FORMAT. YAML 1.2; `tidemark init --example` prints all of it with its defaults (example.ts). Paths
 * are relative to the file. Durations are `10s`, `7d`; sizes `128MB`.
 *
 * INVARIANTS
 *
 *   1. A key that is not known is refused: a policy that is misspelt would else be none.
 *   2. No secret stands in the file. Passwords and keys come from a file, a command, or a variable of
 *      the environment, each named for what it is; `${…}` is not interpolated anywhere.
 *   3. What the schema lets through can be run: names, addresses, zones and bounds are checked here.
 *
 * REJECTED. Interpolating the environment into any value: a file that means something else in
 * each shell, with errors that name no line.
 */
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { maxShardKeyChars, shardInstance } from "../archive/cluster-slots.ts";
import { isInstanceName } from "../archive/layout.ts";
import { checkPolicy, type RetentionPolicy } from "../archive/retention.ts";
import { Failure } from "../base/errors.ts";
import { type Address, credentialsOf, formatAddress, parseAddress } from "../link/address.ts";
import { type Credentials, Secret, type SecretNoun } from "../link/secret.ts";
import type { TlsOptions } from "../link/tls.ts";
import type { FsyncPolicy } from "../log/spool.ts";
import { shardFolder } from "../record/cluster-file.ts";
import { parseAddress as parseStoreAddress } from "../store/address.ts";
import {
  configSchema,
  type InstanceFields,
  type RepositoryFields,
  type SecretFields,
} from "./config-schema.ts";
import { type BackupPolicy, type Weekday, weekdays } from "./schedule.ts";
import { maxConfigBytes, nearest, parseYaml } from "./yaml-file.ts";

export const configName = "tidemark.yaml";

export type Config = {
  readonly path: string;
  readonly repositories: ReadonlyMap<string, RepositoryConfig>;
  readonly instances: ReadonlyMap<string, InstanceConfig>;
};

export type KeyConfig = { readonly id: string; readonly key: Secret };

export type RepositoryConfig = {
  /** A folder, absolute, or `s3://…`. */
  readonly address: string;
  /** New objects are encrypted with this key. */
  readonly key: KeyConfig | undefined;
  /** Older objects are read with these as well. */
  readonly olderKeys: readonly KeyConfig[];
  /** Of zstd; undefined: the default. */
  readonly level: number | undefined;
};

/** Of an instance; or of a cluster, whose shards are instances with all of this but name and spool. */
export type InstanceConfig = {
  readonly name: string;
  readonly address: Address;
  readonly connect: {
    readonly credentials: Credentials | undefined;
    readonly tls: TlsOptions | undefined;
  };
  readonly follow: "replica" | "master";
  readonly fsync: FsyncPolicy;
  /** Absolute. */
  readonly spool: string;
  readonly segmentBytes: number;
  readonly segmentMs: number;
  readonly repository: RepositoryConfig;
  readonly archiveIntervalMs: number;
  /** When automatic sets are taken; undefined: never. */
  readonly backup: BackupPolicy | undefined;
  readonly retention: RetentionPolicy;
};

const dayMs = 86_400_000;
const maxInstanceChars = 100;
const longestKey = "f".repeat(maxShardKeyChars);

/**
 * Reads the configuration: of the path given, else `tidemark.yaml` of the working folder. Undefined
 * where none is given and none is there.
 *
 * @throws Failure USAGE, FILE_MISSING, FILE_FAILED
 */
export function findConfig(given: string | undefined): Config | undefined {
  if (given === undefined && !existsSync(configName)) return undefined;
  return readConfig(given ?? configName);
}

/** @throws Failure USAGE, FILE_MISSING, FILE_FAILED */
function readConfig(path: string): Config {
  let text: string;
  try {
    const stats = statSync(path);
    // To open a pipe would wait for somebody who writes to it.
    if (!stats.isFile()) {
      const found = "it is not a regular file";
      throw new Failure("USAGE", `Cannot read the configuration "${path}": ${found}`, {
        hint: "Name a file: `tidemark init --example > tidemark.yaml` writes one to begin with.",
      });
    }
    const { size } = stats;
    if (size > maxConfigBytes) {
      const found = `it has ${size} bytes, and ${maxConfigBytes} are the most`;
      throw new Failure("USAGE", `Cannot read the configuration "${path}": ${found}`);
    }
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const found = isMissing ? "there is no such file" : (cause as Error).message;
    const message = `Cannot read the configuration "${path}": ${found}`;
    throw new Failure(isMissing ? "FILE_MISSING" : "FILE_FAILED", message, {
      cause,
      hint: "`tidemark init --example > tidemark.yaml` writes one to begin with.",
    });
  }
  return parseConfig(text, path);
}

/** @throws Failure USAGE */
export function parseConfig(text: string, path: string): Config {
  const fields = parseYaml(text, path, configSchema);
  const folder = dirname(resolve(path));
  const repositories = new Map<string, RepositoryConfig>();
  for (const [name, value] of Object.entries(fields.repositories)) {
    repositories.set(name, toRepository(folder, value, at(path, "repositories", name)));
  }
  const instances = new Map<string, InstanceConfig>();
  const spools = new Map<string, string>();
  for (const [name, value] of Object.entries(fields.instances)) {
    const where = at(path, "instances", name);
    if (!isInstanceName(name)) {
      throw wrong(where, "is no name of an instance: use letters, digits, _ . -");
    }
    const instance = toInstance(name, value, { folder, repositories, where });
    if (isCluster(instance) && !isInstanceName(shardInstance(name, longestKey))) {
      const most = maxInstanceChars - maxShardKeyChars - 1;
      throw wrong(where, `is too long a name for a cluster: ${most} characters are the most`);
    }
    const spool = realOf(instance.spool);
    mustBeAlone(spool, spools, where);
    spools.set(spool, name);
    mustBeApart(spool, repositories, where);
    instances.set(name, instance);
  }
  return { path: resolve(path), repositories, instances };
}

/** One folder for two, however it is named, or one in the other. @throws Failure USAGE */
function mustBeAlone(spool: string, spools: ReadonlyMap<string, string>, where: string): void {
  for (const [other, name] of spools) {
    if (other === spool) throw wrong(where, `has the spool of ${name}: give each its own`);
    if (isWithin(spool, other)) {
      throw wrong(where, `has its spool in the spool of ${name}: put it elsewhere`);
    }
    if (isWithin(other, spool)) {
      throw wrong(where, `has the spool of ${name} in its own: put it elsewhere`);
    }
  }
}

/** Where a path leads, as far as it is there: what is not is made there. */
function realOf(path: string): string {
  for (let there = path; ; there = dirname(there)) {
    try {
      return join(realpathSync(there), relative(there, path));
    } catch {
      // It is not there, or may not be seen: who opens it says so.
      if (dirname(there) === there) return path;
    }
  }
}

/** Each would take the other's files for its own, or for damage. @throws Failure USAGE */
function mustBeApart(
  spool: string,
  repositories: ReadonlyMap<string, RepositoryConfig>,
  where: string,
): void {
  for (const [name, { address }] of repositories) {
    const place = parseStoreAddress(address);
    if (place.kind !== "directory") continue;
    const folder = realOf(place.path);
    if (isWithin(spool, folder)) {
      throw wrong(where, `has its spool in the folder of repository ${name}: put it elsewhere`);
    }
    if (isWithin(folder, spool)) {
      throw wrong(where, `has repository ${name} in the folder of its spool: put it elsewhere`);
    }
  }
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

export function isCluster({ address }: InstanceConfig): boolean {
  return address.kind === "cluster";
}

/** A shard of a cluster, as the instance that it is. @throws Failure PROTOCOL_ERROR */
export function shardConfig(cluster: InstanceConfig, key: string): InstanceConfig {
  const name = shardInstance(cluster.name, key);
  if (isInstanceName(name)) return { ...cluster, name, spool: shardFolder(cluster.spool, key) };
  throw new Failure("PROTOCOL_ERROR", `Cannot archive the shard ${key}: that is no id of a node`);
}

/** The instance of a name. @throws Failure USAGE, naming those that there are */
export function instanceOf(config: Config, name: string): InstanceConfig {
  const found = config.instances.get(name);
  if (found !== undefined) return found;
  const names = [...config.instances.keys()];
  const meant = nearest(name, names);
  const hint =
    meant !== undefined
      ? `Did you mean ${meant}?`
      : `It has ${names.length === 0 ? "none" : names.join(", ")}.`;
  throw new Failure("USAGE", `Cannot find instance "${name}" in "${config.path}"`, { hint });
}

function toRepository(folder: string, fields: RepositoryFields, where: string): RepositoryConfig {
  const { encryption, level } = fields;
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(fields.address);
  const address = isUrl ? fields.address : resolve(folder, fields.address);
  checked(where, () => parseStoreAddress(address));
  const read = (key: { id: string; key: SecretFields }): KeyConfig => ({
    id: key.id,
    key: toSecret(folder, key.key, where, "key"),
  });
  return {
    address,
    key: encryption && read(encryption),
    olderKeys: encryption?.older.map(read) ?? [],
    level,
  };
}

type InstanceContext = {
  readonly folder: string;
  readonly repositories: ReadonlyMap<string, RepositoryConfig>;
  readonly where: string;
};

function toInstance(
  name: string,
  fields: InstanceFields,
  { folder, repositories, where }: InstanceContext,
): InstanceConfig {
  const address = checked(where, () => parseAddress(fields.source));
  if (address.login.password !== undefined) {
    throw wrong(where, "has a password in its source: write password: {file: …} instead");
  }
  const repository = chooseRepository(fields.repository, repositories, where);
  return {
    ...{ name, address, repository },
    connect: toConnect(folder, fields, address, where),
    follow: fields.follow,
    fsync: fields.fsync,
    spool: resolve(folder, fields.spool ?? join("spool", name)),
    segmentBytes: fields.segment_size,
    segmentMs: fields.segment_age,
    archiveIntervalMs: fields.archive_interval,
    ...toPolicy(fields, where),
  };
}

function toPolicy(
  fields: InstanceFields,
  where: string,
): Pick<InstanceConfig, "backup" | "retention"> {
  const { backup } = fields;
  const { time_zone: timeZone } = backup;
  const retention: RetentionPolicy = {
    ...{ timeZone, retentionDays: backup.retention_days },
    allowAnyRetention: backup.allow_any_retention,
    keepLast: backup.keep_last,
    keepDaily: backup.keep_daily,
    keepWeekly: backup.keep_weekly,
    keepMonthly: backup.keep_monthly,
    logWindowDays: fields.log_window / dayMs,
    setEveryDays: longestGap(backup.days),
  };
  checked(where, () => checkPolicy(retention));
  return {
    backup: backup.enabled
      ? { days: backup.days, ...backup.time, timeZone, jitterMs: backup.jitter }
      : undefined,
    retention,
  };
}

/** In days, from one of these weekdays to the next. */
function longestGap(days: readonly Weekday[]): number {
  const numbers = days.map((day) => weekdays.indexOf(day)).sort((a, b) => a - b);
  const gaps = numbers.map((number, i) => number - (numbers[i - 1] ?? (numbers.at(-1) ?? 0) - 7));
  return Math.max(1, ...gaps);
}

function chooseRepository(
  name: string | undefined,
  repositories: ReadonlyMap<string, RepositoryConfig>,
  where: string,
): RepositoryConfig {
  const names = [...repositories.keys()];
  const [only] = names;
  const chosen = name ?? (names.length === 1 ? only : undefined);
  if (chosen === undefined) {
    throw wrong(where, `names no repository, and there are ${names.length}: add repository: NAME`);
  }
  const found = repositories.get(chosen);
  if (found !== undefined) return found;
  throw wrong(where, `is for repository "${chosen}", and there are only ${names.join(", ")}`);
}

function toConnect(
  folder: string,
  { user, password, tls }: InstanceFields,
  address: Address,
  where: string,
): InstanceConfig["connect"] {
  const given = {
    ...(user !== undefined && { user }),
    ...(password && { password: toSecret(folder, password, where) }),
  };
  const file = (path: string | undefined) =>
    path === undefined ? undefined : resolve(folder, path);
  if (tls !== undefined && !address.isTls) {
    const found = `has tls settings, but ${formatAddress(address)} is not with TLS`;
    throw wrong(where, `${found}: write rediss://, or ?tls=true behind it`);
  }
  return {
    credentials: checked(where, () => credentialsOf(address.login, given)),
    tls: address.isTls
      ? {
          caFile: file(tls?.ca),
          certFile: file(tls?.cert),
          keyFile: file(tls?.key),
          serverName: tls?.server_name,
        }
      : undefined,
  };
}

/** Secrets are fetched when they are used, so that rotated ones are found; but the environment's. */
function toSecret(
  folder: string,
  fields: SecretFields,
  where: string,
  noun: SecretNoun = "password",
): Secret {
  if ("file" in fields) return Secret.file(resolve(folder, fields.file), noun);
  if ("command" in fields) return Secret.command(fields.command, noun);
  const text = process.env[fields.env];
  if (text !== undefined && text !== "") return Secret.text(text);
  throw wrong(where, `takes a secret from the variable ${fields.env}, which is not set`);
}

function at(path: string, ...names: readonly string[]): string {
  return `${path}: ${names.join(".")}`;
}

/** Adds to a failure which setting it is about. */
function checked<Value>(where: string, read: () => Value): Value {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    const message = `Cannot use the configuration: ${where}: ${cause.message}`;
    throw new Failure(cause.code, message, { cause, hint: cause.hint });
  }
}

function wrong(where: string, found: string): Failure {
  return new Failure("USAGE", `Cannot use the configuration: ${where} ${found}`, {
    hint: "`tidemark init --example` prints a file with every setting.",
  });
}
