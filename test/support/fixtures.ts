/**
 * The files that real servers wrote, and what each of them must hold: `test/fixtures/README.md`.
 *
 * The index of each folder lists the whole collection, of which the repository keeps a part. What
 * is not here is taken from `../shared/fixtures` beside the checkout where that folder exists, and
 * is left out elsewhere: these functions return what can be read, and `leftOut()` says how many
 * cannot. `test/ground/fixtures.test.ts` reports that once for all tests.
 *
 * Files that the collection keeps compressed (`….gz`) are decompressed here: nobody else notices.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { checkout } from "./checkout.ts";
import { type Line, parseLines } from "./dump.ts";
import { type FixtureServerId, type StartOptions, serverIds } from "./servers.ts";

/** Contents that a server read from a fixture. */
export type Expectation = { readonly text: () => string; readonly lines: () => Line[] };

type Common = {
  /** As in "redis-7.0/rdb/lists": for the names of tests. */
  readonly id: string;
  readonly name: string;
  readonly about: string;
  readonly server: FixtureServerId;
  /** The exact version of the server that wrote it. */
  readonly version: string;
  readonly madeAtMs: number;
  /** Settings that the server was run with, and that it needs to read it back. */
  readonly conf: NonNullable<StartOptions["conf"]>;
};

export type RdbFixture = Common & {
  readonly kind: "rdb";
  readonly read: () => Uint8Array;
  /** Writes it into a data folder as `dump.rdb`. */
  readonly copyTo: (dir: string) => void;
  readonly bytes: number;
  readonly sha256: string;
  readonly expected: Expectation;
  /** Of all of it, expired keys too; absent where the file holds functions alone. */
  readonly debugDigest?: string;
  readonly keys: number;
  /** How many records of each type (by number), opcode, quicklist container there are. */
  readonly records: {
    readonly magic: string;
    readonly types: Readonly<Record<string, number>>;
    readonly opcodes: Readonly<Record<string, number>>;
    readonly containers: Readonly<Record<string, number>>;
    readonly lzf: number;
    readonly checksum: "present" | "zero" | "none";
  };
  readonly aux: Readonly<Record<string, string>>;
};

export type FixtureFile = {
  readonly file: string;
  readonly bytes: number;
  readonly read: () => Uint8Array;
};

type AofFolder = Common & {
  /** Names relative to the server's data folder. */
  readonly files: readonly FixtureFile[];
  /** Writes the files into a data folder, as the server left them. */
  readonly copyTo: (dir: string) => void;
};

export type AofFixture = AofFolder & {
  readonly kind: "aof";
  readonly expected: Expectation;
  /** Where the writer had something else in memory than what is read from the file. */
  readonly writerDiffers: readonly string[];
  /** Times in it count from when it is loaded. */
  readonly relativeExpiries: boolean;
  /** The contents at the end of a second, and how much of the last incremental file that is. */
  readonly checkpoints: readonly {
    readonly unixSeconds: number;
    readonly incrBytes: number;
    readonly expected: Expectation;
  }[];
};

export type DamagedAof = AofFolder & {
  readonly kind: "aof-damaged";
  /** Whether a server starts from it, cutting a torn tail off (the default). */
  readonly loads: boolean;
  /** Whether it starts with `aof-load-truncated no`. */
  readonly loadsStrictly: boolean;
  readonly loadsError?: string;
  readonly loadsStrictlyError?: string;
  /** The size to which the server cut the last file. */
  readonly cutAt?: number;
  readonly checkProgram: { readonly status: number; readonly says: string };
  /** Where it loads. */
  readonly expected?: Expectation;
};

export type Verdict = {
  readonly loads: boolean;
  readonly error?: string;
  /** The server did not refuse it but fell over. */
  readonly crash?: boolean;
  readonly loadsUnchecked?: boolean;
  readonly crashesUnchecked?: boolean;
  readonly undefined?: boolean;
  /** Where it loads. */
  readonly expected?: Expectation;
};

type Judged = {
  readonly id: string;
  readonly name: string;
  /** The file's own name, which tells RDB from AOF. */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly read: () => Uint8Array;
  readonly servers: Readonly<Record<FixtureServerId, Verdict>>;
};

/** A file that is wrong on purpose, or merely odd. */
export type HostileFixture = Judged & { readonly kind: "hostile" };

/** An old or rare file of another project. Its contents were read with the clock set to 2010. */
export type ForeignFixture = Judged & {
  readonly kind: "foreign";
  /** Where the file needs a module: what the rest of it holds. */
  readonly expectedWithoutModules?: Expectation;
};

type Fixture = RdbFixture | AofFixture | DamagedAof;

const kept = join(checkout, "test/fixtures");
const whole = join(checkout, "../shared/fixtures");

/** Why tests over `foreignFixtures()` have nothing to read, or false: for a test's `skip`. */
export const noForeignFixtures: string | false =
  !existsSync(join(whole, "foreign/index.json")) &&
  "the files of other projects are not in ../shared/fixtures/foreign";

export function rdbFixtures(server?: FixtureServerId): RdbFixture[] {
  return fixtures(server).filter((fixture) => fixture.kind === "rdb");
}

export function aofFixtures(server?: FixtureServerId): AofFixture[] {
  return fixtures(server).filter((fixture) => fixture.kind === "aof");
}

export function damagedAofs(server?: FixtureServerId): DamagedAof[] {
  return fixtures(server).filter((fixture) => fixture.kind === "aof-damaged");
}

export function hostileFixtures(): HostileFixture[] {
  return judged("hostile") as HostileFixture[];
}

export function foreignFixtures(): ForeignFixture[] {
  return noForeignFixtures === false ? (judged("foreign") as ForeignFixture[]) : [];
}

/** One fixture by its id, for a test that is about just this one; it has to be in the repository. */
export function rdbFixture(id: string): RdbFixture {
  const [server, , name] = id.split("/");
  const found = rdbFixtures(server as FixtureServerId).find((fixture) => fixture.name === name);
  if (found === undefined) throw new Error(`No fixture ${id}`);
  return found;
}

/** How many fixtures there are in the indexes, and how many of them cannot be read here. */
export function leftOut(): { readonly all: number; readonly missing: number } {
  const all = serverIds.flatMap((server) => listed(server).map((entry) => ({ server, entry })));
  const missing = all.filter(({ server, entry }) => !isPresent(server, entry));
  return { all: all.length, missing: missing.length };
}

type Entry = {
  readonly kind: Fixture["kind"] | "repl";
  readonly name: string;
  readonly about: string;
  readonly file?: string;
  readonly dir?: string;
  readonly files?: readonly { readonly file: string; readonly bytes: number }[];
  readonly expected?: string;
  readonly conf?: Common["conf"];
  readonly checkpoints?: readonly { readonly expected: string }[];
  readonly madeAtMs?: number;
  readonly relativeExpiries?: boolean;
  readonly writerDiffers?: readonly string[];
};
type Index = { readonly version: string; readonly fixtures: readonly Entry[] };

function fixtures(server?: FixtureServerId): Fixture[] {
  return serverIds
    .filter((id) => server === undefined || id === server)
    .flatMap((id) =>
      listed(id)
        .filter((entry) => isPresent(id, entry))
        .map((entry) => toFixture(id, readIndex(id).version, entry)),
    );
}

const indexes = new Map<string, Index>();

function readIndex(folder: string): Index {
  const known = indexes.get(folder);
  if (known !== undefined) return known;
  const index = JSON.parse(readFileSync(locate(`${folder}/index.json`), "utf8")) as Index;
  indexes.set(folder, index);
  return index;
}

/** What the collection has of a server, but for the replication captures: nothing reads them yet. */
function listed(server: FixtureServerId): Entry[] {
  return readIndex(server).fixtures.filter((entry) => entry.kind !== "repl");
}

function isPresent(server: FixtureServerId, entry: Entry): boolean {
  const paths = [entry.file ?? `${entry.dir}/${entry.files?.[0]?.file}`, entry.expected];
  return paths.every((path) => path === undefined || existsSync(locate(`${server}/${path}`)));
}

/** Where a file is: here, or else in the whole collection. */
function locate(path: string): string {
  const here = join(kept, path);
  return existsSync(here) ? here : join(whole, path);
}

function load(path: string): Buffer {
  const bytes = readFileSync(locate(path));
  return path.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

function expectation(path: string): Expectation {
  const text = () => load(path).toString();
  return { text, lines: () => parseLines(text()) };
}

function toFixture(server: FixtureServerId, version: string, entry: Entry): Fixture {
  const common = {
    ...entry,
    id: `${server}/${entry.kind}/${entry.name}`,
    server,
    version,
    madeAtMs: entry.madeAtMs ?? 0,
    conf: withoutCluster(entry.conf ?? {}),
    ...(entry.expected ? { expected: expectation(`${server}/${entry.expected}`) } : {}),
  };
  if (entry.file !== undefined) {
    const read = () => load(`${server}/${entry.file}`);
    const copyTo = (dir: string) => writeFileSync(join(dir, "dump.rdb"), read());
    return { ...common, read, copyTo } as unknown as RdbFixture;
  }
  const files = (entry.files ?? []).map(
    ({ file, bytes }): FixtureFile => ({
      file,
      bytes,
      read: () => load(`${server}/${entry.dir}/${file}`),
    }),
  );
  const checkpoints = (entry.checkpoints ?? []).map((checkpoint) => ({
    ...checkpoint,
    expected: expectation(`${server}/${checkpoint.expected}`),
  }));
  return {
    ...common,
    files,
    copyTo: (dir: string) => copyFiles(files, dir),
    writerDiffers: entry.writerDiffers ?? [],
    relativeExpiries: entry.relativeExpiries ?? false,
    checkpoints,
  } as unknown as AofFixture | DamagedAof;
}

/** A lone node of a cluster knows no slots and answers nothing: files are read without. */
function withoutCluster(conf: Common["conf"]): Common["conf"] {
  const { "cluster-enabled": _, ...rest } = conf;
  return rest;
}

function copyFiles(files: readonly FixtureFile[], dir: string): void {
  for (const { file, read } of files) {
    const path = join(dir, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, read());
  }
}

function judged(folder: "hostile" | "foreign"): Judged[] {
  type RawVerdict = Omit<Verdict, "expected"> & { readonly expected?: string };
  type Raw = Entry & {
    readonly file: string;
    readonly servers: Record<string, RawVerdict>;
    readonly expectedWithoutModules?: string;
  };
  return (readIndex(folder).fixtures as readonly Raw[]).map((entry) => {
    const servers = Object.entries(entry.servers).map(([id, { expected, ...verdict }]) => [
      id,
      expected === undefined ? verdict : { ...verdict, expected: expectation(expected) },
    ]);
    const rest = entry.expectedWithoutModules;
    return {
      ...entry,
      id: `${folder}/${entry.name}`,
      read: () => load(entry.file),
      servers: Object.fromEntries(servers),
      ...(rest === undefined ? {} : { expectedWithoutModules: expectation(rest) }),
    } as unknown as Judged;
  });
}
