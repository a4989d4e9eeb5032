/**
 * The commands that list sets, show one, and keep one.
 *
 * A set whose manifest cannot be read is listed all the same, with the reason: it is there, and whoever looks for
 * a backup has to know that this one is none.
 */
import { type SetManifest, sizeFault } from "../../archive/backup-set.ts";
import { type ListedSet, readCatalogue, windowsOf } from "../../archive/catalogue.ts";
import { setObject } from "../../archive/layout.ts";
import { keepSet as markKept, releaseSet } from "../../archive/take-set.ts";
import { readSetManifest } from "../../archive/verify.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { renderPairs, renderTable, title } from "../render/table.ts";
import { formatBytes, formatCount, formatDuration, formatTime, printable } from "../render/text.ts";
import { findSet, type Place, Places, placeTitle } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

const shownNoteChars = 40;
/** Manifests are small, and the storage may be far away. */
const manifestsAtOnce = 8;

export type DescribedSet = ListedSet & {
  readonly instance: string;
  /** Undefined where it cannot be read; then `fault` says why. */
  readonly manifest: SetManifest | undefined;
};

/** The command `backups`. */
export async function listBackups(
  name: string | undefined,
  flags: PlaceFlags & { readonly json?: true },
): Promise<void> {
  await using places = await Places.open(flags);
  const described: { place: Place; sets: DescribedSet[] }[] = [];
  for (const place of places.named(name))
    described.push({ place, sets: await describeSets(place) });
  if (flags.json) {
    const sets = described.flatMap((each) => each.sets.map(toJson));
    process.stdout.write(`${JSON.stringify(sets, null, 2)}\n`);
    return;
  }
  const lines = described.flatMap(({ place, sets }) => [
    title(placeTitle(place)),
    ...(sets.length === 0 ? ["  no sets yet"] : renderTable(toTable(sets))),
    ...sets.flatMap(({ name: set, fault }) => (fault ? [`  ${set}: ${printable(fault)}`] : [])),
  ]);
  const empty = places.clusters.filter(({ cluster, shards }) => {
    return shards.length === 0 && (name === undefined || name === cluster);
  });
  for (const { cluster } of empty) lines.push(title(cluster), "  no shards yet");
  if (lines.length === 0) lines.push("There are no instances yet.");
  process.stdout.write(`${lines.join("\n")}\n`);
}

async function describeSets(place: Place): Promise<DescribedSet[]> {
  const { repository, instance } = place;
  const { sets } = await readCatalogue(repository.store, instance);
  const described: DescribedSet[] = [];
  for (let at = 0; at < sets.length; at += manifestsAtOnce) {
    const jobs = sets.slice(at, at + manifestsAtOnce).map(async (set): Promise<DescribedSet> => {
      try {
        const manifest = await readSetManifest(repository, instance, set.name);
        return { ...set, instance, manifest, fault: sizeFault(manifest, set) };
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        return {
          ...{ ...set, instance, manifest: undefined },
          ...{ isVerified: false, fault: error.message },
        };
      }
    });
    described.push(...(await Promise.all(jobs)));
  }
  return described;
}

function toTable(sets: readonly DescribedSet[]) {
  const headings = ["set", "kind", ">stored", ">raw", ">keys", "state", "note"];
  const rows = sets.map((set) => [
    set.name,
    set.manifest?.kind ?? "?",
    formatBytes(set.sizeBytes),
    set.manifest ? formatBytes(set.manifest.snapshot.rawBytes) : "?",
    describeCount(set.manifest?.snapshot.keys ?? null),
    describeState(set),
    printable(set.manifest?.note ?? "").slice(0, shownNoteChars),
  ]);
  return { headings, rows };
}

function describeCount(count: number | null): string {
  return count === null ? "-" : formatCount(count);
}

function describeState({ isVerified, isKept, fault }: ListedSet): string {
  const state = fault !== undefined ? "damaged" : isVerified ? "good" : "not verified";
  return isKept ? `${state}, kept` : state;
}

function toJson(set: DescribedSet) {
  const { name, ms, sizeBytes, isVerified, isKept, instance, manifest, fault } = set;
  const time = new Date(ms).toISOString();
  return {
    ...{ instance, set: name, time, sizeBytes, isVerified, isKept },
    manifest: manifest ?? null,
    fault: fault ?? null,
  };
}

/** The command `show`. */
export async function showSet(
  name: string,
  flags: PlaceFlags & { readonly json?: true; readonly instance?: string },
): Promise<void> {
  await using places = await Places.open(flags);
  const found = await findSet(places, name, flags.instance);
  const { repository, instance } = found.place;
  const manifest = await readSetManifest(repository, instance, found.set.name);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(manifest, null, 2)}\n`);
    return;
  }
  const window = windowsOf(found.catalogue).find(({ sets }) => sets.includes(manifest.set));
  const { set } = manifest;
  const fault = sizeFault(manifest, found.set);
  const lines = [
    title(`${instance} ${set}`),
    ...renderPairs([
      ["state", describeState({ ...found.set, fault })],
      ...(fault === undefined ? [] : [["fault", fault] as const]),
      ...toPairs(manifest),
      ["restores to", window ? `every moment up to ${formatTime(window.toMs)}` : "itself only"],
      ["object", setObject(instance, set, "snapshot")],
    ]),
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function toPairs(manifest: SetManifest): (readonly [string, string])[] {
  const { snapshot, source, cost, position } = manifest;
  const ratio = snapshot.rawBytes > 0 ? snapshot.sizeBytes / snapshot.rawBytes : 0;
  const known = (value: number | null, format: (value: number) => string) =>
    value === null ? "unknown" : format(value);
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  return [
    ["kind", manifest.kind],
    ...(manifest.note === undefined ? [] : [["note", printable(manifest.note)] as const]),
    ["time", formatTime(manifest.ms)],
    ["position", `${position.replicationId}:${position.offset}`],
    ["taken from", `${printable(source.name)}, ${source.role}, ${printable(source.version)}`],
    ["took", formatDuration(manifest.endedMs - manifest.startedMs)],
    ["keys", known(snapshot.keys, formatCount)],
    ["raw", formatBytes(snapshot.rawBytes)],
    ["stored", `${formatBytes(snapshot.sizeBytes)}, ${ratio.toFixed(2)} of it`],
    ["fork", known(cost.forkMicros, (micros) => ms(micros / 1000))],
    ["copied on write", known(cost.copyOnWriteBytes, formatBytes)],
    ["p99 before", known(cost.p99BeforeMs, ms)],
    ["p99 during", known(cost.p99DuringMs, ms)],
    ["SHA-256", snapshot.sha256],
    ["raw SHA-256", snapshot.rawSha256],
  ];
}

/** The commands `keep` and `unkeep`. */
export async function keepSet(
  name: string,
  isKept: boolean,
  flags: PlaceFlags & { readonly instance?: string },
): Promise<void> {
  await using places = await Places.open(flags);
  const { place, set } = await findSet(places, name, flags.instance);
  const { repository, instance } = place;
  if (isKept) await markKept(repository, instance, set.name, { clock: systemClock });
  else await releaseSet(repository, instance, set.name);
  const what = isKept ? "is kept until `unkeep`" : "expires with the others";
  process.stdout.write(`${instance} ${set.name} ${what}\n`);
}
