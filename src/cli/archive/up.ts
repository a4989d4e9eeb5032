/** The command `up`. */
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { configName, findConfig } from "../../daemon/config.ts";
import { up as runAll, type UpEvent } from "../../daemon/up.ts";
import { untilStopped } from "../stop.ts";

export async function up(flags: {
  readonly config?: string;
  readonly steal?: true;
}): Promise<void> {
  const config = findConfig(flags.config);
  if (config === undefined) {
    throw new Failure("USAGE", `Cannot run: there is no ${configName} here`, {
      hint: `\`tidemark init --example > ${configName}\` writes one to begin with.`,
    });
  }
  const options = { onEvent: tell, steal: flags.steal === true };
  await untilStopped((signal) => runAll(config, options, signal));
}

/** A line of JSON for each event, as `record` has it. */
function tell(event: UpEvent): void {
  const time = new Date(systemClock.now()).toISOString();
  const { kind, ...rest } = flatten(event);
  const fields = { time, event: kind, ...rest };
  process.stderr.write(`${JSON.stringify(fields, withoutStacks)}\n`);
}

function flatten(event: UpEvent): { readonly kind: string; readonly instance?: string } {
  if (event.kind !== "event") return event;
  const { instance, event: own } = event;
  if (own.kind !== "archiver") return { instance, ...own };
  const shard = "shard" in own ? { shard: own.shard } : {};
  return { instance, ...shard, ...own.event, kind: `archive ${own.event.kind}` };
}

function withoutStacks(_: string, value: unknown): unknown {
  if (!(value instanceof Failure)) return value;
  const { message, code, hint } = value;
  return { message, code, hint };
}
