/**
 * That a file, made commands for a target, makes the same data there.
 *
 * What commands cannot make is taken out, and has to be counted: counters of use, when consumers were
 * seen, pending entries that were deleted, consumers of Redis 6.0 that nothing is pending for.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { CommandWriter } from "../../src/codec/rdb/commands.ts";
import type { Target } from "../../src/codec/rdb/model.ts";
import type { Feature } from "../../src/codec/rdb/target.ts";
import { KeyPipe } from "../../src/recovery/key-pipe.ts";
import { assertSameDump } from "../support/compare.ts";
import { isLibrary, type Line, parseLines } from "../support/dump.ts";
import { linesOf } from "../support/json-lines.ts";
import type { RunningServer } from "../support/servers.ts";
import {
  expectLosses,
  isEmpty,
  type Losses,
  roughly,
  withDigests,
  withoutComputed,
  withoutLosses,
} from "./expectation.ts";

/** Redis 7.4 and 8 refuse commands for later times, though a file may have them. */
const endOfFieldExpiry = 2 ** 46;

/** Sends the commands for a file to an empty server, and compares what it has then. */
export async function proveCommands(
  source: Uint8Array,
  target: Target,
  server: RunningServer,
): Promise<void> {
  const all = parseLines(linesOf(source, { whole: true })).filter((line) => !isEmpty(line));
  const lines = all.map((line) => limited(line, target));
  const losses = expectCommandLosses(all, lines, target);
  if (losses.refusals.size > 0) {
    assert.throws(() => commandsOf(source, target, false), { code: "TARGET_CANNOT_HOLD" });
  }
  const { bytes, dropped } = commandsOf(source, target, losses.refusals.size > 0);
  assert.deepEqual(new Map(dropped), losses.counts);
  await server.call("FLUSHALL");
  if (server.program.can.functions) await server.call("FUNCTION", "FLUSH");
  pipe(server, bytes);
  const wanted = withDigests(withoutLosses(lines, target).map((line) => possible(line, target)));
  const found = withoutComputed(await server.dump(), wanted);
  assertSameDump(wanted.map(roughly(target)), found.map(roughly(target)), { withoutSeen: true });
}

type Commands = { readonly bytes: Uint8Array; readonly dropped: ReadonlyMap<Feature, number> };

function commandsOf(source: Uint8Array, target: Target, lossy: boolean): Commands {
  const writer = new CommandWriter(target, { lossy });
  const pipe = new KeyPipe(writer);
  pipe.reader.push(source);
  assert(pipe.drain());
  return { bytes: writer.take(), dropped: writer.dropped };
}

/** As `… | redis-cli --pipe` does. */
function pipe({ program, socketPath }: RunningServer, input: Uint8Array): void {
  const { stdout, stderr } = spawnSync(program.bin.cli, ["-s", socketPath, "--pipe"], { input });
  const said = `${stdout.toString()}${stderr.toString()}`;
  assert.match(said, /errors: 0, replies: \d+/, said.slice(0, 2000));
}

/** Without field expiries that no command can set. */
function limited(line: Line, target: Target): Line {
  const isLimited = target === "redis:7.4" || target === "redis:8";
  if (isLibrary(line) || line.type !== "hash" || !line.value || !isLimited) return line;
  const value = line.value.map((field): typeof field =>
    Number(field[2]) >= endOfFieldExpiry ? [field[0], field[1]] : field,
  );
  return { ...line, value };
}

function expectCommandLosses(all: readonly Line[], lines: readonly Line[], target: Target): Losses {
  const losses = expectLosses(lines, target);
  const lose = (feature: Feature, times: number) => {
    if (times > 0) losses.counts.set(feature, (losses.counts.get(feature) ?? 0) + times);
  };
  losses.counts.delete("consumer activity");
  for (const [i, line] of lines.entries()) {
    if (isLibrary(line)) continue;
    const late = fieldExpiries(all[i]) - fieldExpiries(line);
    lose("field expiry", late);
    if (late > 0) losses.refusals.add(line.key);
    lose("access counter", line.idle !== undefined || line.freq !== undefined ? 1 : 0);
    if (line.type !== "stream") continue;
    const consumers = line.value?.groups.flatMap((group) => group.consumers) ?? [];
    lose("consumer activity", consumers.length);
    if (target === "redis:6.0") lose("idle consumer", consumers.filter(isIdle).length);
    const ids = new Set(line.value?.entries?.map(([id]) => id));
    const pending = consumers.flatMap(({ pel }) => pel);
    lose("deleted pending", pending.filter((id) => !ids.has(id)).length);
  }
  return losses;
}

function fieldExpiries(line: Line | undefined): number {
  if (line === undefined || isLibrary(line) || line.type !== "hash") return 0;
  return line.value?.filter((field) => field.length > 2).length ?? 0;
}

function isIdle({ pel }: { readonly pel: readonly string[] }): boolean {
  return pel.length === 0;
}

/** A stream as commands can make it. */
function possible(line: Line, target: Target): Line {
  if (isLibrary(line) || line.type !== "stream" || !line.value?.entries) return line;
  const ids = new Set(line.value.entries.map(([id]) => id));
  const groups = line.value.groups.map((group) => ({
    ...group,
    pel: group.pel.filter(([id]) => ids.has(id)),
    consumers: group.consumers
      .filter((consumer) => target !== "redis:6.0" || !isIdle(consumer))
      .map((consumer) => ({ ...consumer, pel: consumer.pel.filter((id) => ids.has(id)) })),
  }));
  return { ...line, value: { ...line.value, groups } };
}
