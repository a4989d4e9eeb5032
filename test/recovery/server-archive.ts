/** Archives of one set and one log, written down as commands. */
import assert from "node:assert/strict";
import { Slice } from "../../src/base/bytes.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { RdbWriter } from "../../src/codec/rdb/writer.ts";
import { type Address, parseAddress } from "../../src/link/address.ts";
import { planRestore } from "../../src/recovery/plan.ts";
import type { Plan } from "../../src/recovery/plan-result.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import type { RunningServer } from "../support/servers.ts";
import { Archived } from "./archived.ts";
import { makeRdb, replicationId } from "./synthetic.ts";

export const startMs = 1_700_000_000_000;
const base = { replicationId, offset: 0, ms: startMs };

export function addressOf({ socketPath }: RunningServer): Address {
  return parseAddress(`unix://${socketPath}`);
}

export async function planOf(archived: Archived, target: RestoreTarget): Promise<Plan> {
  const result = await planRestore(archived.view, archived.catalogue, target);
  assert.equal(result.kind, "plan", JSON.stringify(result));
  return (result as { plan: Plan }).plan;
}

/** A set, and a log of these units, a second apart; a list is a transaction. */
export async function archiveOf(
  units: readonly (string | readonly string[])[],
  rdb = makeRdb(0),
): Promise<Archived> {
  const writer = new LogWriter();
  writer.seal(base, startMs);
  writer.select(0);
  let offset = 0;
  for (const [i, unit] of units.entries()) {
    const before = writer.length;
    if (typeof unit !== "string") writer.begin();
    for (const command of [unit].flat()) {
      writer.record(command.split(" ").map((word) => Buffer.from(word)));
    }
    if (typeof unit !== "string") writer.end();
    offset += writer.length - before;
    writer.seal({ replicationId, offset }, startMs + 1000 * (i + 1));
  }
  const archived = new Archived();
  await archived.addLog(Uint8Array.from(writer.take()), base);
  await archived.addSet(rdb, base, { kind: "base" });
  return archived;
}

export type Content = {
  readonly keys?: Readonly<Record<string, string>>;
  readonly database?: number;
  readonly library?: string;
};

export const libraryCode =
  "#!lua name=mylib\nredis.register_function('myfunc', function() return 'archived' end)";

/** A snapshot of strings, and perhaps of a function library. */
export function snapshotOf({ keys = {}, database = 0, library }: Content): Uint8Array {
  const writer = new RdbWriter("redis:7.0", { ctimeSeconds: 0 });
  if (library !== undefined) writer.functionLibrary(Buffer.from(library));
  const [key, value] = [new Slice(), new Slice()];
  writer.database(database);
  for (const [name, text] of Object.entries(keys)) {
    key.setLatin1(name);
    value.setLatin1(text);
    writer.key(key).string(value);
  }
  writer.finish();
  return Uint8Array.from(writer.take());
}
