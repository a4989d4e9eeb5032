/**
 * The command `verify`: chooses what is read back, has it read, and says what was found.
 *
 * WHY THE NEWEST SET where nothing is named: it is what a restore would start from tomorrow. All of an archive
 * of years is asked for by name, as somebody pays for reading it.
 */
import { type Catalogue, readCatalogue, type Window, withFaults } from "../../archive/catalogue.ts";
import { strandedOf } from "../../archive/stranded.ts";
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
import { stoppable } from "../stop.ts";
import { drill } from "./drill.ts";
import { findSet, type Place, Places, placeTitle } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

export type VerifyFlags = PlaceFlags & {
  readonly instance?: string;
  readonly all?: true;
  readonly log?: true;
  readonly server?: string;
  readonly json?: true;
};

type Wishes = VerifyFlags & { readonly signal: AbortSignal };

/** As DATA_CORRUPT has it. */
const damagedStatus = 3;

type Result = {
  readonly instance: string;
  readonly title: string;
  readonly sets: readonly SetVerification[];
  readonly log: LogVerification | undefined;
  readonly drills: readonly { readonly set: string; readonly found: string | undefined }[];
  /** Why what is recorded now could not be restored. */
  readonly stranded: string | null;
};

/** Returns the exit status. */
export async function verify(set: string | undefined, flags: VerifyFlags): Promise<number> {
  if (set !== undefined && flags.all) {
    throw new Failure("USAGE", "Cannot verify one set and all: give its name, or --all");
  }
  return await stoppable(verifying, (signal) => verifyNow(set, { ...flags, signal }));
}

const verifying = {
  doing: "finish the verification",
  left: "It changes nothing; given again, the same command begins anew.",
};

async function verifyNow(set: string | undefined, flags: Wishes): Promise<number> {
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

type Job = { readonly place: Place; readonly set: string | undefined; readonly isNamed?: true };

/** One set where it is named; else the newest one of each instance, unless the log alone is wanted. */
async function chooseJobs(
  places: Places,
  set: string | undefined,
  { instance, all, log }: VerifyFlags,
): Promise<Job[]> {
  if (set !== undefined) {
    const { place, set: found } = await findSet(places, set, instance);
    return [{ place, set: found.name, isNamed: true }];
  }
  const jobs: Job[] = [];
  for (const place of places.named(instance)) {
    if (all || log) jobs.push({ place, set: undefined });
    else {
      const { sets, lines } = await readCatalogue(place.repository.store, place.instance);
      const newest = sets.at(-1)?.name;
      // Log without any set is looked at as well.
      if (newest !== undefined || lines.length > 0) jobs.push({ place, set: newest });
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

async function run(job: Job, flags: Wishes): Promise<Result> {
  const { repository, instance } = job.place;
  const { signal } = flags;
  const read = await readBack(job, flags);
  const [first] = read.sets;
  const isDrilled = flags.server !== undefined && !flags.all && first?.isGood === true;
  const found = isDrilled
    ? await drill(flags.server, await openSet(repository, instance, first.set, { signal }), signal)
    : undefined;
  const drills = isDrilled ? [{ set: first.set, found }] : [];
  const catalogue = await readCatalogue(repository.store, instance, { signal });
  // Who asks for one set by name asks for nothing else.
  const isAsked = job.isNamed !== true;
  return {
    ...{ instance, title: placeTitle(job.place) },
    ...read,
    drills,
    stranded: isAsked ? findStranded(catalogue, read.sets) : null,
  };
}

async function readBack(
  { place: { repository, instance }, set }: Job,
  { all, log, signal }: Wishes,
): Promise<Pick<Result, "sets" | "log">> {
  using watched = new Watched();
  const options = {
    ...{ clock: systemClock, onProgress: watched.tell, signal },
    // Whoever may only read is told all the same.
    records: "where possible" as const,
  };
  if (all) return await verifyAll(repository, instance, options);
  return {
    sets: set === undefined ? [] : [await verifySet(repository, instance, set, options)],
    log: log ? await verifyLog(repository, instance, options) : undefined,
  };
}

/** Log that goes on behind all that can be restored, without the sets that were found damaged. */
function findStranded(catalogue: Catalogue, sets: readonly SetVerification[]): string | null {
  const bad = sets.filter(({ isGood: isSound }) => !isSound);
  const faults = new Map(bad.map(({ set, findings }) => [set, findings[0]?.found ?? "damaged"]));
  const newest = strandedOf(withFaults(catalogue, faults)).find(({ isNewest }) => isNewest);
  if (newest === undefined) return null;
  const { fromMs, toMs, reason } = newest;
  return `no set for the log from ${formatTime(fromMs)} to ${formatTime(toMs)}: ${reason}`;
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

function isGood({ sets, log, drills, stranded }: Result): boolean {
  return (
    stranded === null &&
    sets.every((set) => set.isGood && set.findings.length === 0) &&
    (log === undefined || (log.findings.length === 0 && log.holes.length === 0)) &&
    drills.every(({ found }) => found === undefined)
  );
}

function render(results: readonly Result[]): string[] {
  if (results.length === 0) return ["There is nothing to verify yet."];
  return results.flatMap((result) => [
    title(result.title),
    ...result.sets.flatMap(renderSet),
    ...result.drills.map(({ set, found }) =>
      found === undefined
        ? `  ${style("green", "good")}  a server has loaded ${set}`
        : `  ${style("red", "BAD")}   ${printable(found)}`,
    ),
    ...(result.log ? renderLog(result.log) : []),
    ...(result.stranded === null
      ? []
      : [`  ${style("red", "BAD")}   ${printable(result.stranded)}`]),
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

function toJson({ instance, sets, log, drills, stranded }: Result) {
  return {
    instance,
    sets: sets.map(({ set, isGood: isSound, what, notUnderstood, findings, notRecorded }) => {
      return { set, isGood: isSound, what, notUnderstood, findings, notRecorded };
    }),
    log: log ?? null,
    ...{ drills, stranded },
  };
}
