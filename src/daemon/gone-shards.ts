/**
 * Lets old history go of the shards that a cluster has no more.
 *
 * WHY. What is recorded has an archive beside it that expires its sets and its log. A shard that is gone has none,
 * and without this its history would stay for ever. Its newest set stays, as that of any instance does.
 *
 * THE CLOCK. An archive that has slept speaks against this machine's clock (retention.ts), and that of a shard that is
 * gone sleeps for ever. So the shards that are here are asked: one whose archive bears the clock out is enough.
 */
import { listInstances, readCatalogue } from "../archive/catalogue.ts";
import { parseShardInstance } from "../archive/cluster-slots.ts";
import { applyExpiry } from "../archive/expire.ts";
import { Lease } from "../archive/lease.ts";
import { doubtOf, type ExpiryPlan, planExpiry } from "../archive/retention.ts";
import type { Clock } from "../base/clock.ts";
import type { BackupEvent } from "./backup-loop.ts";
import type { InstanceConfig } from "./config.ts";
import { type OpenRepository, openConfigured } from "./open-repository.ts";
import { pause, toFailure } from "./supervise.ts";

type Options = {
  readonly config: InstanceConfig;
  readonly clock: Clock;
  /** Whether a shard has an archive here, or is about to. */
  readonly isHere: (key: string) => boolean;
  readonly onEvent: (event: BackupEvent & { readonly shard?: string }) => void;
  readonly lookEveryMs?: number;
};

const hourMs = 60 * 60_000;

/** Until the signal is given. What fails is told, and tried again an hour later. */
export async function expireGoneShards(options: Options, signal: AbortSignal): Promise<void> {
  const { config, isHere, onEvent, lookEveryMs = hourMs } = options;
  for (;;) {
    await pause(lookEveryMs, signal);
    if (signal.aborted) return;
    try {
      await using repository = await openConfigured(config.repository, { signal });
      const gone: Gone[] = [];
      const here: string[] = [];
      for (const instance of await listInstances(repository.store)) {
        const shard = parseShardInstance(instance);
        if (shard?.cluster !== config.name) continue;
        if (isHere(shard.key)) here.push(instance);
        else gone.push({ repository, instance, shard: shard.key });
      }
      const trustsClock =
        gone.length > 0 && (await isClockRight(options, repository, here, signal));
      for (const each of gone) await expireShard(options, each, { trustsClock, signal });
    } catch (error) {
      if (!signal.aborted) onEvent({ kind: "expiry failed", failure: toFailure(error) });
    }
  }
}

async function isClockRight(
  { config, clock }: Options,
  { store }: OpenRepository,
  here: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  for (const instance of here) {
    const catalogue = await readCatalogue(store, instance, { signal });
    const hasAny = catalogue.sets.length + catalogue.lines.length > 0;
    if (hasAny && doubtOf(catalogue, clock.now(), config.retention) === undefined) return true;
  }
  return false;
}

type Gone = {
  readonly repository: OpenRepository;
  readonly instance: string;
  readonly shard: string;
};

async function expireShard(
  { config, clock, onEvent }: Options,
  { repository, instance, shard }: Gone,
  { trustsClock, signal }: { readonly trustsClock: boolean; readonly signal: AbortSignal },
): Promise<void> {
  try {
    const catalogue = await readCatalogue(repository.store, instance, { signal });
    const plan = planExpiry(catalogue, config.retention, clock.now());
    if (hasNothing(plan)) return;
    await using lease = await Lease.acquire(repository, instance, { owner: "tidemark up", signal });
    const expired = await applyExpiry(repository, plan, lease, { trustsClock, signal });
    onEvent({ kind: "expired", ...expired, shard });
  } catch (error) {
    if (!signal.aborted) onEvent({ kind: "expiry failed", failure: toFailure(error), shard });
  }
}

function hasNothing({ sets, pieces, leftovers }: ExpiryPlan): boolean {
  return sets.every(({ reasons }) => reasons.length > 0) && pieces.length + leftovers.length === 0;
}
