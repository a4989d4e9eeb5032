/**
 * The command `verify`: chooses what is read back, has it read, and says what was found.
 *
 * WHY THE NEWEST SET where nothing is named: it is what a restore would start from tomorrow. All of an archive
 * of years is asked for by name, as somebody pays for reading it.
 */
import { readCatalogue, type Window } from "../../archive/catalogue.ts";
import {
  type LogVerification,
  openSet,
  type SetVerification,
  verifyAll,
  verifyLog,
  verifySet,
} from "../../archive/verify.ts";
import type { VerifyProgress } from "../../archive/verify-progress.ts";
import { type SlotsVerification, verifySlots } from "../../archive/verify-slots.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { Progress } from "../render/progress.ts";
import { style, title } from "../render/table.ts";
import { formatTime, plural, printable } from "../render/text.ts";
import { drill } from "./drill.ts";
import { findSet, type Place, Places } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

export type VerifyFlags = PlaceFlags & {
  readonly instance?: string;
  readonly all?: true;
  readonly log?: true;
  readonly server?: string;
  readonly json?: true;
};

/** As DATA_CORRUPT has it. */
const damagedStatus = 3;

type Result = {
  readonly instance: string;
  readonly sets: readonly SetVerification[];
  readonly log: LogVerification | undefined;
  readonly drills: readonly { readonly set: string; readonly found: string | undefined }[];
};

/** Returns the exit status. */
export async function verify(set: string | undefined, flags: VerifyFlags): Promise<number> {
  if (set !== undefined && flags.all) {
    throw new Failure("USAGE", "Cannot verify one set and all: give its name, or --all");
  }
  await using places = await Places.open(flags);
  const results: Result[] = [];
  for (const job of await chooseJobs(places, set, flags)) results.push(await run(job, flags));
  const clusters = set === undefined ? await verifyClusters(places, flags) : [];
  const isSound = results.every(isGood) && clusters.every(({ findings }) => findings.length === 0);
  const text = flags.json
    ? JSON.stringify({ isSound, instances: results.map(toJson), clusters }, null, 2)
    : [...render(results), ...clusters.flatMap(renderSlots)].join("\n");
  process.stdout.write(`${text}\n`);
  return isSound ? 0 : damagedStatus;
}

type Job = { readonly place: Place; readonly set: string | undefined };

/** One set where it is named; else the newest one of each instance, unless the log alone is wanted. */
async function chooseJobs(
  places: Places,
  set: string | undefined,
  { instance, all, log }: VerifyFlags,
): Promise<Job[]> {
  if (set !== undefined) {
    const { place, set: found } = await findSet(places, set, instance);
    return [{ place, set: found.name }];
  }
  const jobs: Job[] = [];
  for (const place of places.named(instance)) {
    if (all || log) jobs.push({ place, set: undefined });
    else {
      const { sets } = await readCatalogue(place.repository.store, place.instance);
      const newest = sets.at(-1)?.name;
      if (newest !== undefined) jobs.push({ place, set: newest });
    }
  }
  return jobs;
}

/** Who had which slots belongs to the log: without it, those of the shards do not make a whole. */
async function verifyClusters(
  places: Places,
  { all, log, instance }: VerifyFlags,
): Promise<SlotsVerification[]> {
  const results: SlotsVerification[] = [];
  if (!all && !log) return results;
  for (const { repository, cluster } of places.clusters) {
    if (instance !== undefined && instance !== cluster) continue;
    results.push(await verifySlots(repository.store, cluster));
  }
  return results;
}

async function run({ place, set }: Job, flags: VerifyFlags): Promise<Result> {
  const { repository, instance } = place;
  const result = { instance, sets: [] as SetVerification[], drills: [] as Result["drills"] };
  using watched = new Watched();
  const options = {
    ...{ clock: systemClock, onProgress: watched.tell },
    // Whoever may only read is told all the same.
    records: "where possible" as const,
  };
  if (flags.all) {
    const { sets, log } = await verifyAll(repository, instance, options);
    return { ...result, sets, log };
  }
  const sets = set === undefined ? [] : [await verifySet(repository, instance, set, options)];
  const log = flags.log ? await verifyLog(repository, instance, options) : undefined;
  if (flags.server === undefined || sets[0]?.isGood !== true) return { ...result, sets, log };
  const found = await drill(flags.server, await openSet(repository, instance, sets[0].set));
  return { ...result, sets, log, drills: [{ set: sets[0].set, found }] };
}

/** A line of progress that takes totals as they become known. */
class Watched implements Disposable {
  #line: Progress | undefined;
  #done = 0;

  readonly tell = ({ bytes, totalBytes }: VerifyProgress): void => {
    this.#line ??= new Progress(totalBytes);
    if (bytes < this.#done) this.#done = 0;
    this.#line.add(bytes - this.#done);
    this.#done = bytes;
  };

  [Symbol.dispose](): void {
    this.#line?.[Symbol.dispose]();
  }
}

function isGood({ sets, log, drills }: Result): boolean {
  return (
    sets.every((set) => set.isGood && set.findings.length === 0) &&
    (log === undefined || (log.findings.length === 0 && log.holes.length === 0)) &&
    drills.every(({ found }) => found === undefined)
  );
}

function render(results: readonly Result[]): string[] {
  if (results.length === 0) return ["There is nothing to verify yet."];
  return results.flatMap((result) => [
    title(result.instance),
    ...result.sets.flatMap(renderSet),
    ...result.drills.map(({ set, found }) =>
      found === undefined
        ? `  ${style("green", "good")}  a server has loaded ${set}`
        : `  ${style("red", "BAD")}   ${printable(found)}`,
    ),
    ...(result.log ? renderLog(result.log) : []),
  ]);
}

function renderSet(result: SetVerification): string[] {
  const { set, isGood: isSound, notUnderstood, findings, notRecorded } = result;
  const mark = isSound ? style("green", "good") : style("red", "BAD ");
  const rest =
    notUnderstood === undefined ? "" : `, not all understood: ${printable(notUnderstood)}`;
  return [
    `  ${mark}  ${set}${rest}`,
    ...findings.map(renderFinding),
    ...(notRecorded === undefined ? [] : [`        not recorded: ${printable(notRecorded)}`]),
  ];
}

function renderFinding({ found, block }: SetVerification["findings"][number]): string {
  return `        ${printable(found)}${block === undefined || /block \d/.test(found) ? "" : ` (block ${block})`}`;
}

function renderLog({ pieces, findings, holes, covered, windows }: LogVerification): string[] {
  const isSound = findings.length === 0 && holes.length === 0;
  const mark = isSound ? style("green", "good") : style("red", "BAD ");
  const left = covered.length > 0 ? `, ${plural(covered.length, "object")} covered by others` : "";
  return [
    `  ${mark}  log, ${plural(pieces, "piece")}${left}`,
    ...findings.map(renderFinding),
    ...holes.map(
      ({ from, to }) =>
        `        missing: from ${formatTime(from.ms)} to ${formatTime(to.ms)}, ` +
        `offsets ${from.offset} to ${to.offset}`,
    ),
    ...windows.map(renderWindow),
  ];
}

function renderSlots({ cluster, changes, findings }: SlotsVerification): string[] {
  const mark = findings.length === 0 ? style("green", "good") : style("red", "BAD ");
  return [
    title(cluster),
    `  ${mark}  who had which slots, ${plural(changes, "change")}`,
    ...findings.map(({ found }) => `        ${printable(found)}`),
  ];
}

function renderWindow({ fromMs, toMs }: Window): string {
  return `        restores: ${formatTime(fromMs)} to ${formatTime(toMs)}`;
}

function toJson({ instance, sets, log, drills }: Result) {
  return {
    instance,
    sets: sets.map(({ set, isGood: isSound, what, notUnderstood, findings, notRecorded }) => {
      return { set, isGood: isSound, what, notUnderstood, findings, notRecorded };
    }),
    log: log ?? null,
    drills,
  };
}
