/**
 * The command `restore`: finds the plan, shows it, and has it done in one of three ways.
 *
 * WHY ALWAYS A PLAN FIRST. What is restored is decided by names, times and what happens to be archived. Whoever
 * typed a time one day off sees it before the first byte is written, and in the log of what was done.
 *
 * WHY ALL FLAGS ARE READ FIRST. One that is not for the way that was chosen is refused, and not passed over:
 * whoever says --overwrite to a folder means something, and it is not what would be done.
 */
import { resolve } from "node:path";
import type { SetManifest } from "../../archive/backup-set.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import type { Target } from "../../codec/rdb/model.ts";
import { formatAddress, parseAddress } from "../../link/address.ts";
import { expiriesFromMs, type Plan } from "../../recovery/plan-result.ts";
import { restoreToFolder } from "../../recovery/restore-folder.ts";
import type { RestoreProgress } from "../../recovery/restore-progress.ts";
import { mustNotMix, type RestoredServer } from "../../recovery/restore-request.ts";
import { checkPort, restoreAndRun } from "../../recovery/restore-run.ts";
import { restoreToServer } from "../../recovery/restore-server.ts";
import { formatVersions } from "../../recovery/server-needs.ts";
import { type ConnectFlags, readConnect } from "../connect.ts";
import {
  type KeyChoiceFlags,
  readKeyChoice,
  readPrefix,
  readSelection,
  readTtl,
} from "../key-choice.ts";
import { LiveLine } from "../render/live-line.ts";
import { formatBytes, formatDuration, plural, printable } from "../render/text.ts";
import { stoppable } from "../stop.ts";
import { type Place, Places } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";
import {
  clusterPlanToJson,
  describeLosses,
  describeProgress,
  describeServers,
  findClusterPlan,
  findPlan,
  mustNotChoose,
  planToJson,
  renderClusterPlan,
  renderPlan,
  viewOf,
} from "./plan.ts";
import { describeUndo, takeSafetySets } from "./safety-set.ts";

export type RestoreFlags = PlaceFlags &
  ConnectFlags &
  KeyChoiceFlags & {
    readonly at?: string;
    readonly toDir?: string;
    readonly to?: string;
    readonly run?: string;
    readonly port?: string;
    readonly dir?: string;
    readonly target?: Target;
    readonly dryRun?: true;
    readonly overwrite?: true;
    readonly safety: boolean;
    readonly conflict?: "skip" | "overwrite" | "fail";
    readonly withoutSet?: readonly string[];
    readonly lossy?: true;
    readonly server?: string;
    readonly json?: true;
  };

export async function restore(name: string, flags: RestoreFlags): Promise<void> {
  const way = chooseWay(flags);
  if (flags.at === undefined) throw momentMissing();
  readFlags(way, flags);
  const wishes = { ...flags, at: flags.at };
  try {
    await stoppable({ doing: "finish the restore", left: leftOf(way, flags) }, (signal) =>
      restoreNow(name, way, { ...wishes, signal }),
    );
  } catch (error) {
    throw saidFirst(error);
  }
}

function leftOf(way: Way, { to = "", dryRun }: RestoreFlags): string {
  return way === "server" && !dryRun
    ? `If it had begun, the key "tidemark:restore…" in ${formatAddress(parseAddress(to))} says that what is there is not whole. The same command goes on with it, where --at names a fixed moment; --overwrite begins anew.`
    : "Nothing of it was left.";
}

/** What a server said is shown line by line, above the failure. */
function saidFirst(error: unknown): unknown {
  if (!(error instanceof Failure) || !error.message.includes("\n")) return error;
  const [first = "", ...said] = error.message.split("\n");
  for (const line of said) console.error(`  ${printable(line.trim())}`);
  const { code, hint } = error;
  return new Failure(code, first.replace(/:$/, ""), { cause: error, hint });
}

type Wishes = RestoreFlags & { readonly at: string; readonly signal: AbortSignal };

async function restoreNow(name: string, way: Way, flags: Wishes): Promise<void> {
  // Found out before a plan is made and shown.
  if (way === "run" && !flags.dryRun) await checkPort(readPort(flags.port));
  await using places = await Places.open(flags);
  if (way === "folder" && places.cluster(name) === undefined) {
    mustNotHave(flags, ["port"], "without --run");
  }
  const { plan, fields, carryOut } = await prepare(places, name, flags);
  if (flags.json && flags.dryRun) print(fields);
  if (!flags.json) process.stdout.write(`${plan.join("\n")}\n`);
  if (flags.dryRun) return;
  const startedMs = performance.now();
  const done = await carryOut(way);
  const tookMs = Math.round(performance.now() - startedMs);
  const notes = [...fields.notes, ...done.fields.notes];
  try {
    if (flags.json) print({ ...fields, ...done.fields, notes, tookMs });
    else process.stdout.write(`\n${done.lines.join("\n")}\n  in ${formatDuration(tookMs)}\n`);
  } catch (error) {
    // Whoever read the plan has ended (`… | head`); what was started has not.
    if (way === "run") console.error(done.lines[0]);
    throw error;
  }
}

type Prepared = {
  readonly plan: readonly string[];
  readonly fields: Fields;
  readonly carryOut: (way: Way) => Promise<Done>;
};

/** The plan for an instance, or for all shards of a cluster. */
async function prepare(places: Places, name: string, flags: Wishes): Promise<Prepared> {
  const { at } = flags;
  const cluster = places.cluster(name);
  if (cluster === undefined) {
    const place = places.one(name);
    const plan = await findPlan(place, at, flags);
    const carryOut = (way: Way) => ways[way](place, plan, flags);
    return { plan: renderPlan(plan), fields: planToJson(plan), carryOut };
  }
  const plan = await findClusterPlan(cluster, at, flags);
  // Only clusters need it, and it needs what is here.
  const { clusterWays } = await import("./restore-cluster.ts");
  const carryOut = (way: Way) => clusterWays[way]({ place: cluster, plan, flags });
  return { plan: renderClusterPlan(plan), fields: clusterPlanToJson(plan), carryOut };
}

/** Flags that are for some ways only, with those ways. */
const waysOf: Partial<Record<keyof RestoreFlags, readonly Way[]>> = {
  ...{ overwrite: ["server"], conflict: ["server"], safety: ["server"], server: ["server"] },
  ...{ user: ["server"], passwordFile: ["server"], passwordCommand: ["server"] },
  ...{ cacert: ["server"], cert: ["server"], key: ["server"], sni: ["server"] },
  // Of a cluster, the servers of a folder get ports as well.
  ...{ port: ["run", "folder"], dir: ["run"], target: ["run", "folder"] },
};
const nameOfWay = { folder: "with --to-dir", server: "with --to", run: "with --run" } as const;

/** Reads all that can be read without the repository. @throws Failure USAGE */
function readFlags(way: Way, flags: RestoreFlags): void {
  const isChosen = [flags.toDir, flags.to, flags.run].some((each) => each !== undefined);
  const strange = Object.entries(waysOf).flatMap(([flag, own]) =>
    own.includes(way) ? [] : [flag as keyof RestoreFlags],
  );
  if (isChosen) mustNotHave(flags, strange, nameOfWay[way]);
  mustNotMix({
    overwrite: flags.overwrite === true,
    ...(flags.conflict && { conflict: flags.conflict }),
  });
  readSelection(flags);
  readTtlHere(flags.ttl);
  if (way === "run" || flags.port !== undefined) readPort(flags.port);
  if (flags.to !== undefined) readConnect(parseAddress(flags.to), flags);
}

/** @throws Failure USAGE naming the first flag of them that is given */
export function mustNotHave(
  flags: RestoreFlags,
  names: readonly (keyof RestoreFlags)[],
  where: string,
): void {
  const given = names.find((name) =>
    name === "safety" ? flags.safety === false : flags[name] !== undefined,
  );
  if (given === undefined) return;
  const option = given === "safety" ? "no-safety" : given.replaceAll(/[A-Z]/g, "-$&").toLowerCase();
  const message = `Cannot use --${option} ${where}: it says nothing there`;
  throw new Failure("USAGE", message, {
    hint: "Leave it out; `restore --help` says what it is for.",
  });
}

/** A time in --ttl is no moment to restore to. */
function readTtlHere(ttl: string): void {
  try {
    readTtl(ttl, systemClock.now());
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    const found = cause.message.replace(/^[^:]*(?:"[^"]*")?: /, "");
    throw new Failure("USAGE", `Cannot use --ttl ${ttl}: ${found}`, {
      cause,
      hint: "Write keep, shift, shift:2026-11-22T10:41:05Z or persist.",
    });
  }
}

export type Way = "folder" | "server" | "run";
/** What is said as JSON. */
type Fields = { readonly notes: readonly string[]; readonly [name: string]: unknown };
export type Done = { readonly fields: Fields; readonly lines: readonly string[] };

const ways: Readonly<Record<Way, (place: Place, plan: Plan, flags: Wishes) => Promise<Done>>> = {
  folder: intoFolder,
  server: intoServer,
  run: andRun,
};

function chooseWay({ toDir, to, run, dryRun }: RestoreFlags): Way {
  const given: Way[] = [
    ...(toDir === undefined ? [] : ["folder" as const]),
    ...(to === undefined ? [] : ["server" as const]),
    ...(run === undefined ? [] : ["run" as const]),
  ];
  const [way, ...more] = given;
  if (way !== undefined && more.length === 0) return way;
  if (way === undefined && dryRun) return "folder";
  const found = way === undefined ? "it is not said where to" : "one place at a time";
  throw new Failure("USAGE", `Cannot restore: ${found}`, {
    hint: "Give one of --to-dir FOLDER, --to redis://HOST, --run redis-server; --dry-run needs none.",
  });
}

function momentMissing(): Failure {
  return new Failure("USAGE", "Cannot restore: it is not said to which moment", {
    hint: "Add --at TARGET: latest, '5m ago', 2026-11-22T10:41:05Z, before:FLUSHALL.",
  });
}

async function intoFolder(place: Place, plan: Plan, flags: Wishes): Promise<Done> {
  using line = new LiveLine();
  const folder = resolve(flags.toDir ?? ".");
  const options = folderOptions(plan, flags, line);
  const restored = await restoreToFolder(viewOf(place), plan, folder, options);
  line.clear();
  const { rawBytes, command, serverArguments, notes } = restored;
  const servers = formatVersions(restored.least);
  const keys = plan.log === undefined ? restored.keys : null;
  return {
    fields: {
      ...{ folder, servers, rawBytes, keys, serverArguments },
      ...{ dropped: [...restored.dropped], notes },
    },
    lines: [
      `Restored into ${folder}: ${formatBytes(rawBytes)}, ${describeServers(servers)}`,
      ...describeLosses(restored),
      `  start it with: ${command}`,
    ],
  };
}

async function intoServer(place: Place, plan: Plan, flags: Wishes): Promise<Done> {
  const address = parseAddress(flags.to ?? "");
  const connect = readConnect(address, flags);
  const prefix = readPrefix(flags);
  const taken: SetManifest[] = [];
  using line = new LiveLine();
  const restored = await restoreToServer(viewOf(place), plan, address, {
    connect,
    overwrite: flags.overwrite === true,
    ...(flags.conflict && { conflict: flags.conflict }),
    ...(flags.safety && {
      safety: async () => {
        line.show("taking a safety set of what is there");
        taken.push(...(await takeSafetySets(place, address, connect, flags.signal)));
      },
    }),
    selection: readSelection(flags),
    ...(prefix && { prefix }),
    ttl: readTtl(flags.ttl, systemClock.now()),
    lossy: flags.lossy === true,
    server: flags.server,
    isShard: place.shard !== undefined,
    signal: flags.signal,
    onProgress: (progress) => line.show(describeProgress(progress)),
  });
  line.clear();
  const { servers, keys, skipped, skippedLibraries, commands, dropped, isResumed, notes } =
    restored;
  const where = formatAddress(address);
  const safety = taken.map(({ set }) => set);
  return {
    fields: {
      ...{ servers, keys, skipped, skippedLibraries, commands, isResumed, notes, safety },
      dropped: [...dropped],
    },
    lines: [
      // What a log makes of the keys of a set, nobody counts.
      restored.isReplayed
        ? `Restored to ${where}: set ${plan.set.name} and ${plural(commands, "command")} of the log`
        : `Restored to ${where}: ${plural(keys, "key")}`,
      ...(isResumed ? ["  it went on with a restore that was cut off"] : []),
      ...describeSkipped(restored),
      ...describeLosses({ dropped, notes }),
      ...describeUndo(place.instance, safety, where),
    ],
  };
}

/** What was there, and stayed. */
export function describeSkipped({
  skipped,
  skippedLibraries,
  isResumed,
}: Pick<RestoredServer, "skipped" | "skippedLibraries" | "isResumed">): string[] {
  const libraries = skippedLibraries === 1 ? "library" : "libraries";
  return [
    // Those that the run before has restored were there too.
    ...(skipped > 0
      ? [`  ${isResumed ? "there already" : "left as they were"}: ${plural(skipped, "key")}`]
      : []),
    ...(skippedLibraries > 0
      ? [`  left as they were: ${skippedLibraries} function ${libraries}`]
      : []),
  ];
}

async function andRun(place: Place, plan: Plan, flags: Wishes): Promise<Done> {
  const program = flags.run ?? "";
  const port = readPort(flags.port);
  const folder = resolve(flags.dir ?? `${place.instance}-${port}`);
  using line = new LiveLine();
  const running = await restoreAndRun(viewOf(place), plan, folder, {
    ...{ program, port },
    ...folderOptions(plan, flags, line),
  });
  line.clear();
  // The server lives on; what it says would else keep this program.
  running.process.stdout?.destroy();
  running.process.stderr?.destroy();
  running.process.stdio[3]?.destroy();
  const { keysLoaded, version, command } = running;
  const pid = running.process.pid ?? null;
  return {
    fields: { folder, port, version, keysLoaded, pid, notes: running.notes },
    lines: [
      `Restored, and running on port ${port}: ${plural(keysLoaded, "key")}, version ${version}, process ${pid}`,
      ...describeLosses(running),
      `  its data are in ${folder}; start it again with: ${command} --port ${port}`,
    ],
  };
}

export function readPort(text: string | undefined): number {
  const port = Number(text);
  if (text !== undefined && Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new Failure("USAGE", "Cannot start a server: --port is no number from 1 to 65535", {
    hint: "Add --port N, on which nothing listens yet.",
  });
}

function folderOptions(plan: Plan, flags: Wishes, line: LiveLine) {
  const pipe = readKeyChoice(flags, { fromMs: expiriesFromMs(plan), nowMs: systemClock.now() });
  mustNotChoose(plan, pipe);
  return {
    ...{ pipe, target: flags.target, lossy: flags.lossy === true },
    signal: flags.signal,
    onProgress: (progress: RestoreProgress) => line.show(describeProgress(progress)),
  };
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
