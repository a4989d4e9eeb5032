/** The command `expire`. */
import { hostname } from "node:os";
import { readCatalogue } from "../../archive/catalogue.ts";
import { applyExpiry, planSureExpiry } from "../../archive/expire.ts";
import { Lease } from "../../archive/lease.ts";
import { checkPolicy, type ExpiryPlan, type RetentionPolicy } from "../../archive/retention.ts";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { durationForm, logWindowBounds, parseDuration } from "../../daemon/quantity.ts";
import { renderTable, title } from "../render/table.ts";
import { formatBytes, formatTime, plural, printable } from "../render/text.ts";
import { tellOfWaiting } from "./lease-notice.ts";
import { type Place, Places, placeTitle } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

export type ExpireFlags = PlaceFlags & {
  readonly apply?: true;
  readonly retentionDays?: string;
  readonly logWindow?: string;
  readonly allowAnyRetention?: true;
  readonly trustClock?: true;
  readonly json?: true;
};

const dayMs = 86_400_000;

export async function expire(name: string | undefined, flags: ExpireFlags): Promise<void> {
  await using places = await Places.open(flags);
  const plans: ExpiryPlan[] = [];
  let hasDeleted = false;
  for (const place of places.named(name)) {
    const { repository, instance } = place;
    if (place.movedTo !== undefined) {
      if (!flags.json) process.stdout.write(`${placeTitle(place)}, is left alone\n`);
      continue;
    }
    if (name === undefined && place.config === undefined && flags.retentionDays === undefined) {
      if (!flags.json) process.stdout.write(`${instance} is not configured, and left alone\n`);
      continue;
    }
    const policy = policyOf(place, flags);
    const catalogue = await readCatalogue(repository.store, instance);
    const plan = await planSureExpiry(repository, catalogue, { policy, nowMs: systemClock.now() });
    plans.push(plan);
    if (!flags.json) process.stdout.write(`${render(plan).join("\n")}\n`);
    if (!flags.apply || isEmpty(plan)) continue;
    const owner = `tidemark expire on ${hostname()}`;
    await using lease = await Lease.acquire(repository, instance, {
      owner,
      onWait: tellOfWaiting,
    });
    await applyExpiry(repository, plan, lease, { trustsClock: flags.trustClock === true });
    hasDeleted = true;
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(plans.map(toJson), null, 2)}\n`);
  else if (hasDeleted) process.stdout.write("Done.\n");
  else if (!flags.apply && !plans.every(isEmpty)) {
    process.stdout.write("Nothing was deleted: --apply does it.\n");
  }
}

function policyOf({ config, instance }: Place, flags: ExpireFlags): RetentionPolicy {
  const { retentionDays, logWindow, allowAnyRetention } = flags;
  if (config === undefined && retentionDays === undefined) {
    throw new Failure("USAGE", `Cannot tell what ${instance} may let go: it is not configured`, {
      hint: "Add --retention-days DAYS, and --log-window DURATION if it is not 7 days.",
    });
  }
  const policy: RetentionPolicy = {
    ...(config?.retention ?? { retentionDays: 0 }),
    ...(retentionDays !== undefined && { retentionDays: readDays(retentionDays) }),
    ...(logWindow !== undefined && { logWindowDays: readWindow(logWindow) / dayMs }),
    ...(allowAnyRetention && { allowAnyRetention }),
  };
  checkPolicy(policy);
  return policy;
}

function readDays(text: string): number {
  if (/^\d{1,6}(\.\d{1,6})?$/.test(text)) return Number(text);
  throw new Failure("USAGE", `Cannot use --retention-days ${text}: it is no number`);
}

function readWindow(text: string): number {
  const ms = parseDuration(text);
  const [least, most] = logWindowBounds;
  const [low = 0, high = 0] = [parseDuration(least), parseDuration(most)];
  if (ms !== undefined && ms >= low && ms <= high) return ms;
  const form = `${durationForm}, from ${least} to ${most}`;
  throw new Failure("USAGE", `Cannot use --log-window ${text}: give ${form}`);
}

function isEmpty({ sets, pieces, leftovers }: ExpiryPlan): boolean {
  return sets.every(({ reasons }) => reasons.length > 0) && pieces.length + leftovers.length === 0;
}

function render(plan: ExpiryPlan): string[] {
  const { instance, sets, pieces, leftovers, windows, freedBytes, notes, clockDoubt } = plan;
  const rows = sets.map(({ set, reasons }) => [
    set.name,
    formatBytes(set.sizeBytes),
    reasons.length > 0 ? "stays" : "goes",
    reasons.join(", "),
  ]);
  const goes = [
    plural(sets.filter(({ reasons }) => reasons.length === 0).length, "set"),
    plural(pieces.length, "piece") + " of log",
    ...(leftovers.length > 0 ? [plural(leftovers.length, "leftover")] : []),
  ];
  return [
    title(instance),
    ...(rows.length > 0 ? renderTable({ headings: ["set", ">stored", "", "why"], rows }) : []),
    isEmpty(plan) ? "  Nothing goes." : `  Goes: ${goes.join(", ")}; ${formatBytes(freedBytes)}`,
    ...windows.map(
      ({ fromMs, toMs }) => `  Restores then: ${formatTime(fromMs)} to ${formatTime(toMs)}`,
    ),
    ...[...(clockDoubt === undefined || isEmpty(plan) ? [] : [clockDoubt]), ...notes].map(
      (note) => `  note: ${printable(note)}`,
    ),
  ];
}

function toJson(plan: ExpiryPlan) {
  const { instance, sets, pieces, leftovers, windows, freedBytes, notes, clockDoubt } = plan;
  return {
    ...{ instance, freedBytes, leftovers, notes, clockDoubt },
    sets: sets.map(({ set, reasons }) => ({ set: set.name, stays: reasons })),
    pieces: pieces.map(({ object }) => object),
    windows: windows.map(({ fromMs, toMs }) => ({ fromMs, toMs })),
  };
}
