/**
 * `tidemark up`: runs all instances of a configuration until it is stopped.
 *
 * INVARIANTS
 *
 *   1. One instance's trouble stops no other: each is begun again by itself, later each time. A cluster
 *      counts as one here, and does the same for its shards.
 *   2. Automatic sets of all instances take turns, and so do those of shards.
 */
import { type Clock, systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { type ClusterInstanceEvent, runCluster } from "./cluster.ts";
import { type Config, isCluster } from "./config.ts";
import { type InstanceEvent, runInstance } from "./instance.ts";
import { supervise, Turns } from "./supervise.ts";

/** For a log line each. */
export type UpEvent =
  | { readonly kind: "up"; readonly instances: readonly string[] }
  | { readonly kind: "down" }
  | {
      readonly kind: "event";
      readonly instance: string;
      readonly event: InstanceEvent | ClusterInstanceEvent;
    }
  | {
      readonly kind: "instance failed";
      readonly instance: string;
      readonly failure: Failure;
      readonly retryInMs: number;
    };

export type UpOptions = {
  readonly onEvent: (event: UpEvent) => void;
  readonly clock?: Clock;
  /** Takes over from writers that seem to be alive: the first time only. */
  readonly steal?: boolean;
};

/** @throws Failure USAGE where nothing can be run */
export async function up(config: Config, options: UpOptions, signal: AbortSignal): Promise<void> {
  const { onEvent, clock = systemClock, steal = false } = options;
  const instances = [...config.instances.values()];
  if (instances.length === 0) {
    throw new Failure("USAGE", `Cannot run "${config.path}": it has no instances`, {
      hint: "Name them: `tidemark init --example` prints how.",
    });
  }
  onEvent({ kind: "up", instances: instances.map(({ name }) => name) });
  const turns = new Turns();
  const jobs = instances.map((instance) => {
    let maySteal = steal;
    return supervise(
      (until) => {
        const isFirst = maySteal;
        maySteal = false;
        const tell = (event: InstanceEvent | ClusterInstanceEvent) =>
          onEvent({ kind: "event", instance: instance.name, event });
        const all = { config: instance, clock, turns, steal: isFirst, onEvent: tell };
        return isCluster(instance) ? runCluster(all, until) : runInstance(all, until);
      },
      signal,
      (trouble) => onEvent({ kind: "instance failed", instance: instance.name, ...trouble }),
    );
  });
  await Promise.all(jobs);
  onEvent({ kind: "down" });
}
