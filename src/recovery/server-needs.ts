/**
 * From which versions on servers load an RDB with a log behind it.
 *
 * WHY. An RDB says in its first bytes who loads it; the log behind it may have commands that came later. A server that
 * does not know one does not start. Worse are options that it does not know: it answers with an error, which nobody
 * reads while a log is loaded, and goes on without that write. So both count, and what a log needs is told by name.
 *
 *   RDB version   Redis    Valkey        the same for the values of RESTORE
 *   up to 9       6.0      7.2           (no older ones are told apart)
 *   10, 11        7.0, 7.2 7.2
 *   12 to 15      7.4, 8.6, 8.8, 8.10    none
 *   80            none     9
 *
 * Versions are numbers: 704 is 7.4, 810 is 8.10. Valkey counts Redis up to 7.2 as its own.
 *
 * INVARIANT. Nothing is allocated per record; of names that are not known here, `maxStrange` are kept.
 *
 * REJECTED. Asking a server (COMMAND): a folder is made for servers that are not there. The types of values in the
 * RDB: a file of version 12 may have vector sets, which 7.4 does not know; finding them takes reading all of it.
 */
import { Slice } from "../base/bytes.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import { CommandKeys, type WriteCommand } from "../codec/commands/command-keys.ts";
import { writeCommands } from "../codec/commands/table.ts";
import type { Family, Target } from "../codec/rdb/model.ts";

/** The first version of each family; none: infinity. */
export type Versions = Readonly<Record<Family, number>>;

/** What has to load it. */
export type Loader = {
  /** For messages. */
  readonly name: string;
  readonly family: Family;
  readonly version: number;
};

const none = Number.POSITIVE_INFINITY;
const anyVersion: Versions = { redis: 600, valkey: 702 };
const maxStrange = 10;
const longestName = 64;
/** Of a record that is longer, the version of a value is not told. */
const keptBytes = 16 * 2 ** 20;

/** Commands that are newer than Redis 6.0 or Valkey 7.2, or that only one of them has. */
const newer: readonly (readonly [redis: number, valkey: number, names: string])[] = [
  [602, 702, "BLMOVE COPY GEOSEARCHSTORE GETDEL GETEX LMOVE XAUTOCLAIM ZDIFFSTORE ZRANGESTORE"],
  [602, 702, "XGROUP_CREATECONSUMER"],
  [700, 702, "BLMPOP BZMPOP FCALL LMPOP SPUBLISH ZMPOP"],
  [700, 702, "FUNCTION_DELETE FUNCTION_FLUSH FUNCTION_LOAD FUNCTION_RESTORE"],
  [704, 900, "HEXPIRE HEXPIREAT HPERSIST HPEXPIRE HPEXPIREAT"],
  [800, 900, "HGETEX HSETEX"],
  [800, 901, "HGETDEL"],
  [804, 901, "MSETEX"],
  [800, none, "SFLUSH VADD VREM VSETATTR"],
  [802, none, "XACKDEL XDELEX"],
  [804, none, "DELEX TRIMSLOTS"],
  [806, none, "XCFGSET"],
  [808, none, "ARDEL ARDELRANGE ARINSERT ARMSET ARRING ARSEEK ARSET INCREX XIDMPRECORD XNACK"],
  [810, none, "BLMOVEM HIMPORT_SET LMOVEM"],
  [none, 900, "CLUSTER_FLUSHSLOT CLUSTER_SYNCSLOTS DELIFEQ"],
];

type OptionRule = {
  readonly names: string;
  /** Where its options start. */
  readonly from: number;
  readonly words: readonly (readonly [redis: number, valkey: number, words: string])[];
  /** Words behind which something else may stand; given, the first other argument ends the options. */
  readonly front?: { readonly plain: string; readonly beforeValue: string };
};

/** Options that are newer than their command, as servers record them. SET … PXAT is told otherwise to 6.0. */
const options: readonly OptionRule[] = [
  {
    ...{ names: "SET", from: 3 },
    words: [
      [804, 801, "IFEQ"],
      [804, none, "IFNE IFDEQ IFDNE"],
    ],
  },
  {
    ...{ names: "EXPIRE EXPIREAT PEXPIRE PEXPIREAT", from: 3 },
    words: [[700, 702, "NX XX GT LT"]],
  },
  {
    ...{ names: "XADD", from: 2, front: { plain: "", beforeValue: "MAXLEN MINID = ~ LIMIT" } },
    words: [
      [602, 702, "NOMKSTREAM MINID"],
      [802, none, "KEEPREF DELREF ACKED"],
      [806, none, "IDMP IDMPAUTO"],
    ],
  },
  {
    ...{ names: "XTRIM", from: 2 },
    words: [
      [602, 702, "MINID"],
      [802, none, "KEEPREF DELREF ACKED"],
    ],
  },
  { names: "XGROUP_CREATE XGROUP_SETID", from: 5, words: [[700, 702, "ENTRIESREAD"]] },
  { names: "XSETID", from: 3, words: [[700, 702, "ENTRIESADDED MAXDELETEDID"]] },
  {
    ...{ names: "ZADD", from: 2, front: { plain: "NX XX CH INCR", beforeValue: "" } },
    words: [[602, 702, "GT LT"]],
  },
  {
    ...{ names: "GEOADD", from: 2, front: { plain: "", beforeValue: "" } },
    words: [[602, 702, "NX XX CH"]],
  },
  { names: "FLUSHALL FLUSHDB", from: 1, words: [[602, 702, "SYNC"]] },
  { names: "BITOP", from: 1, words: [[802, none, "DIFF DIFF1 ANDOR ONE"]] },
];

/** LPOP key COUNT */
const countedPops = { names: "LPOP RPOP", argc: 3, versions: { redis: 602, valkey: 702 } };
/** The argument that is a value as DUMP gives it. */
const valueAt: Readonly<Record<string, number>> = {
  RESTORE: 3,
  "RESTORE-ASKING": 3,
  "FUNCTION RESTORE": 2,
};
/** Version and checksum, behind such a value. */
const footerBytes = 10;

type Need = { readonly label: string; readonly versions: Versions };
type Word = { readonly text: string; readonly need: Need | undefined; readonly hasValue: boolean };
type Check = {
  readonly own: Need | undefined;
  readonly counted: Need | undefined;
  readonly valueAt: number | undefined;
  readonly from: number;
  readonly isFront: boolean;
  readonly words: readonly Word[];
};

const checks: ReadonlyMap<WriteCommand, Check> = new Map(
  writeCommands.flatMap((command) => {
    const check = checkOf(command.name);
    return check === undefined ? [] : [[command, check] as const];
  }),
);

function has(names: string, name: string): boolean {
  return names.split(" ").includes(name.replace(" ", "_"));
}

function checkOf(name: string): Check | undefined {
  const [redis, valkey] = newer.find(([, , names]) => has(names, name)) ?? [];
  const rule = options.find(({ names }) => has(names, name));
  const isPop = has(countedPops.names, name);
  const at = valueAt[name];
  if (redis === undefined && rule === undefined && !isPop && at === undefined) return undefined;
  const { plain = "", beforeValue = "" } = rule?.front ?? {};
  const listed = (rule?.words ?? []).flatMap(([first, second, words]) =>
    words.split(" ").map((text): Word => {
      const versions = { redis: first, valkey: second };
      return {
        text,
        need: { label: `${name} ${text}`, versions },
        hasValue: has(beforeValue, text),
      };
    }),
  );
  const others = `${plain} ${beforeValue}`.split(" ").map((text): Word => {
    return { text, need: undefined, hasValue: has(beforeValue, text) };
  });
  return {
    own:
      redis === undefined
        ? undefined
        : { label: name, versions: { redis, valkey: valkey ?? none } },
    counted: isPop ? { label: `${name} with a count`, versions: countedPops.versions } : undefined,
    valueAt: at,
    from: rule?.from ?? none,
    isFront: rule?.front !== undefined,
    words: [...listed, ...others].filter(({ text }) => text !== ""),
  };
}

/** Told the records of a log, says what they need of a server. */
export class ServerNeeds {
  readonly #scanner = new RecordScanner({ keepBytes: keptBytes });
  readonly #keys = new CommandKeys();
  readonly #slice = new Slice();
  readonly #needs = new Map<string, Versions>();
  readonly #strange = new Set<string>();
  /** What came with values, so that one label is made for each version. */
  readonly #values = new Set<number>();

  /** Takes a chunk of a log, cut anywhere. */
  push(chunk: Uint8Array): void {
    const scanner = this.#scanner;
    scanner.push(chunk);
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      const command = this.#keys.find(scanner);
      if (command === undefined) this.#addStrange();
      else this.#look(command);
    }
  }

  /** Commands that are not known here, in upper case: of modules, or of newer servers. */
  get strange(): readonly string[] {
    return [...this.#strange];
  }

  /** The first versions that load the log, behind an RDB with these first bytes. */
  least(magic: string | null): Versions {
    return [...this.#needs.values()].reduce(later, versionsOfMagic(magic));
  }

  /** What of the log a server does not know. */
  missing({ family, version }: Loader): readonly string[] {
    return [...this.#needs].filter(([, each]) => each[family] > version).map(([label]) => label);
  }

  #add({ label, versions }: Need): void {
    if (!this.#needs.has(label)) this.#needs.set(label, versions);
  }

  #addStrange(): void {
    const slice = this.#slice;
    if (this.#strange.size >= maxStrange || !this.#scanner.argument(0, slice)) return;
    if (slice.length <= longestName) this.#strange.add(slice.latin1().toUpperCase());
  }

  #look(command: WriteCommand): void {
    const check = checks.get(command);
    if (check === undefined) return;
    if (check.own !== undefined) this.#add(check.own);
    if (check.counted !== undefined && this.#scanner.argc >= countedPops.argc) {
      this.#add(check.counted);
    }
    if (check.valueAt !== undefined) this.#lookAtValue(command, check.valueAt);
    this.#lookAtOptions(check);
  }

  #lookAtOptions({ from, words, isFront }: Check): void {
    const { argc } = this.#scanner;
    let mayBeValue = false;
    for (let i = from; i < argc; i++) {
      if (!this.#scanner.argument(i, this.#slice)) return;
      const word = words.find(this.#isWord);
      if (word === undefined && isFront && !mayBeValue) return;
      mayBeValue = word?.hasValue ?? false;
      if (word?.need !== undefined) this.#add(word.need);
    }
  }

  readonly #isWord = ({ text }: Word): boolean => {
    const { bytes, start, length } = this.#slice;
    if (length !== text.length) return false;
    for (let i = 0; i < length; i++) {
      const byte = bytes[start + i] as number;
      const upper = byte >= 97 && byte <= 122 ? byte - 32 : byte;
      if (upper !== text.charCodeAt(i)) return false;
    }
    return true;
  };

  #lookAtValue({ name }: WriteCommand, at: number): void {
    if (!this.#scanner.argument(at, this.#slice)) return;
    const { bytes, end, length } = this.#slice;
    if (length < footerBytes) return;
    const low = bytes[end - footerBytes] as number;
    const version = low | ((bytes[end - footerBytes + 1] as number) << 8);
    if (this.#values.has(version)) return;
    this.#values.add(version);
    const versions = versionsOfRdb(version);
    if (versions.redis > anyVersion.redis || versions.valkey > anyVersion.valkey) {
      this.#add({ label: `${name} of a value of RDB version ${version}`, versions });
    }
  }
}

/** From which versions on servers load both. */
export function later(a: Versions, b: Versions): Versions {
  return { redis: Math.max(a.redis, b.redis), valkey: Math.max(a.valkey, b.valkey) };
}

const ofRdb: Readonly<Record<number, Versions>> = {
  10: { redis: 700, valkey: 702 },
  11: { redis: 702, valkey: 702 },
  12: { redis: 704, valkey: none },
  13: { redis: 806, valkey: none },
  14: { redis: 808, valkey: none },
  15: { redis: 810, valkey: none },
  80: { redis: none, valkey: 900 },
};

function versionsOfRdb(version: number): Versions {
  return version <= 9 ? anyVersion : (ofRdb[version] ?? { redis: none, valkey: none });
}

function versionsOfMagic(magic: string | null): Versions {
  const version = /^(?:REDIS|VALKEY)(\d+)$/.exec(magic ?? "")?.[1];
  return version === undefined ? { redis: none, valkey: none } : versionsOfRdb(Number(version));
}

/** As for people: "redis:7.4", "valkey:9". Empty: no version that is known here. */
export function formatVersions({ redis, valkey }: Versions): string[] {
  return [
    ...(redis === none ? [] : [`redis:${formatVersion(redis)}`]),
    ...(valkey === none ? [] : [`valkey:${formatVersion(valkey)}`]),
  ];
}

function formatVersion(version: number): string {
  const [major, minor] = [Math.floor(version / 100), version % 100];
  return major >= 8 && minor === 0 ? `${major}` : `${major}.${minor}`;
}

/** That target and what came after it, and nothing of the other family: it was not looked at. */
export function versionsOfTarget(target: Target): Versions {
  const { family, version } = loaderOfTarget(target);
  return { redis: none, valkey: none, [family]: version };
}

/** The oldest server of a target. */
export function loaderOfTarget(target: Target): Loader {
  const [family = "", version = ""] = target.split(":");
  return { name: target, ...loaderOf(family, version) };
}

/** @param version "8", "7.4" or "7.0.15" */
export function loaderOf(family: string, version: string): Omit<Loader, "name"> {
  const [major, minor = "0"] = version.split(".");
  return {
    family: family === "valkey" ? "valkey" : "redis",
    version: 100 * Number(major) + Number(minor),
  };
}
