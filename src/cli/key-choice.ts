/** The options that choose keys, and what becomes of their names and expiries. */
import { type Command, Option } from "commander";
import { Failure } from "../base/errors.ts";
import type { KeyPipeOptions } from "../recovery/key-pipe.ts";
import type { Selection } from "../recovery/selection.ts";
import { parseTarget } from "../recovery/target.ts";

export type KeyChoiceFlags = {
  readonly keys?: readonly string[];
  readonly exclude?: readonly string[];
  readonly regex?: string;
  readonly type?: readonly string[];
  readonly db?: readonly string[];
  readonly prefixAdd?: string;
  readonly ttl: string;
};

/** An option that may be given several times. One that takes several words would eat the paths. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

export function withKeyChoice(command: Command): Command {
  return command
    .option("--keys <glob>", "only keys that match, as KEYS has it", collect)
    .option("--exclude <glob>", "but none of these", collect)
    .option("--regex <pattern>", "only keys in which it is found (read as UTF-8)")
    .option("--type <type>", "only these: string list set zset hash stream module array", collect)
    .option("--db <number>", "only these databases", collect)
    .option("--prefix-add <text>", "put in front of every key")
    .addOption(
      new Option(
        "--ttl <policy>",
        "keep: times stay. shift: what was left then is left again from now; shift:TIME: what was left at TIME. persist: none",
      ).default("keep"),
    );
}

/** Keys and members of one collection that are told apart: duplicates would stop servers. */
export const maxDistinct = 3_000_000;

export type KeyMoments = {
  /** At which the data stands. */
  readonly fromMs: number;
  readonly nowMs: number;
};

/** For what goes through a pipe. @throws Failure USAGE */
export function readKeyChoice(flags: KeyChoiceFlags, moments: KeyMoments): KeyPipeOptions {
  const { fromMs, nowMs } = moments;
  const ttl = readTtl(flags.ttl, nowMs);
  const shiftFromMs = typeof ttl === "object" ? ttl.shiftFromMs : fromMs;
  const prefix = readPrefix(flags);
  return {
    selection: readSelection(flags),
    expiry:
      ttl === "keep"
        ? { kind: ttl }
        : ttl === "persist"
          ? { kind: ttl, fromMs }
          : { kind: "shift", fromMs: shiftFromMs, toMs: nowMs },
    maxDistinct,
    ...(prefix && { prefix }),
  };
}

/** @throws Failure USAGE */
export function readSelection(flags: KeyChoiceFlags): Selection {
  return {
    ...(flags.keys && { keys: flags.keys }),
    ...(flags.exclude && { exclude: flags.exclude }),
    ...(flags.regex !== undefined && { regex: readRegex(flags.regex) }),
    ...(flags.type && { types: flags.type.map(readType) }),
    ...(flags.db && { databases: flags.db.map(readDatabase) }),
  };
}

export function readPrefix({ prefixAdd }: KeyChoiceFlags): Uint8Array | undefined {
  return prefixAdd === undefined ? undefined : Buffer.from(prefixAdd);
}

export type TtlPolicy = "keep" | "persist" | "shift" | { readonly shiftFromMs: number };

/** @throws Failure USAGE */
export function readTtl(ttl: string, nowMs: number): TtlPolicy {
  if (ttl === "keep" || ttl === "persist" || ttl === "shift") return ttl;
  const time = /^shift:(.+)$/.exec(ttl)?.[1];
  const target = time === undefined ? undefined : parseTarget(time, nowMs);
  if (target?.kind === "time") return { shiftFromMs: target.ms };
  throw new Failure("USAGE", `Cannot use --ttl ${ttl}: it is none of the forms`, {
    hint: "Write keep, shift, shift:2026-11-22T10:41:05Z or persist.",
  });
}

function readRegex(pattern: string): RegExp {
  try {
    return new RegExp(pattern, "u");
  } catch (cause) {
    throw new Failure("USAGE", `Cannot use --regex: ${(cause as Error).message}`, { cause });
  }
}

const typeNames = ["string", "list", "set", "zset", "hash", "stream", "module", "array"];

function readType(name: string): string {
  if (typeNames.includes(name)) return name;
  const found = `it is none of ${typeNames.join(", ")}`;
  throw new Failure("USAGE", `Cannot choose --type "${name}": ${found}`);
}

function readDatabase(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new Failure("USAGE", `Cannot choose --db "${text}": it is no number`);
}
