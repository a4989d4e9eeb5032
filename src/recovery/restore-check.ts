/**
 * Looks, before anything of a server is removed, whether what shall be restored to it can be.
 *
 *   the set     read to its end and held against its sums, and made into commands that are not sent
 *   the log     read to its end, and which commands and databases it has
 *   the server  asked whether it knows these
 *
 * WHY. With `--overwrite`, what a server has is gone before the first key is restored. A flipped byte in an
 * object, or a command that is too new for the server, must be found while there is still something to keep.
 * It costs a second reading; so of the set it is done only where there is something to be lost. A log is read twice
 * in any case: a command that is refused in its middle leaves what cannot be gone on with.
 *
 * And looks whether a log changes the key that is used as the marker of a restore (restore-marker.ts). The log
 * of an instance that was restored itself has the marks of that restore: they are no data, and passed over.
 *
 * INVARIANT. A log that is said not to have the marker does not change it by name: the key filters of its
 * blocks say so, which are never wrong in that direction, or the bytes of the blocks themselves.
 */
import { Slice } from "../base/bytes.ts";
import { Distinct } from "../base/distinct.ts";
import { Failure } from "../base/errors.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import type { Connection } from "../link/connection.ts";
import { errorText } from "../link/connection.ts";
import { itemsOf } from "../link/reply-values.ts";
import { KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";
import { readLog } from "./log-reader.ts";
import type { LogRange, Plan } from "./plan-result.ts";
import { holdText, timeArgument } from "./restore-held.ts";
import type { KeyCommands, Lane } from "./restore-keys.ts";
import { type ArchiveView, logIndexOf, openPiece } from "./restore-locate.ts";
import { isMarkRecord, markerTaken } from "./restore-marker.ts";
import type { ProgressCounter } from "./restore-progress.ts";
import type { ServerOptions } from "./restore-request.ts";
import { pushAll, type Snapshot } from "./restore-snapshot.ts";
import { hasBytes } from "./restore-span.ts";

export type CheckOptions = {
  readonly progress: ProgressCounter;
  readonly signal?: AbortSignal | undefined;
};

/** What a log asks of a server. */
export type LogNeeds = {
  /** Names of commands, in upper case. */
  readonly commands: readonly string[];
  readonly highestDatabase: number;
};

/** Filters that are read at the same time. */
const maxAhead = 8;
const keptBytes = 16 * 2 ** 20;
const maxCommands = 10_000;
const longestName = 128;

/**
 * Whether a log has a key anywhere, perhaps as something else. Of blocks, one in twenty says that it might, and
 * is read: bytes are looked for, which is decisive enough for a name that nobody else uses.
 */
export async function logMayHold(
  view: ArchiveView,
  { pieces }: LogRange,
  key: string,
): Promise<boolean> {
  const bytes = Buffer.from(key);
  const look = async (_: unknown, number: number) => {
    const reader = await openPiece(view, pieces, number);
    for (let block = 0; block < logIndexOf(reader).blocks.length; block++) {
      if (!(await reader.mayHold(block, bytes))) continue;
      if (await hasBytes(reader, block, bytes)) return true;
    }
    return false;
  };
  for (let at = 0; at < pieces.length; at += maxAhead) {
    const some = pieces.slice(at, at + maxAhead);
    const found = await Promise.all(some.map((piece, i) => look(piece, at + i)));
    if (found.includes(true)) return true;
  }
  return false;
}

/**
 * Reads all of a log. `marker` is given where it may have that key.
 *
 * @throws Failure DATA_CORRUPT; TARGET_CANNOT_HOLD where the key is one of the data
 */
export async function scanLog(
  view: ArchiveView,
  range: LogRange,
  { marker, progress, signal }: CheckOptions & { readonly marker?: string | undefined },
): Promise<LogNeeds> {
  const scanner = new RecordScanner({ keepBytes: keptBytes });
  const needs = new Needs(range.start.database ?? 0);
  const slice = new Slice();
  for await (const chunk of readLog(view, range, { signal })) {
    scanner.push(chunk);
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      if (scanner.argument(0, slice)) needs.addCommand(slice);
      needs.addDatabase(scanner.database);
      mustBeHeld(scanner, slice);
      if (marker === undefined || !mentions(scanner, marker, slice)) continue;
      const database = scanner.database ?? range.start.database ?? 0;
      if (database !== 0 || !isMarkRecord(scanner, marker)) throw markerTaken(marker);
    }
    progress.add(chunk.length);
  }
  return needs;
}

/** @throws Failure where its expiry could not be put off: see restore-held.ts */
function mustBeHeld(scanner: RecordScanner, slice: Slice): void {
  const time = timeArgument(scanner, slice);
  if (time === undefined || !scanner.argument(time.index, slice) || slice.length > 20) return;
  holdText(slice.latin1(), time.of, time.isSeconds);
}

/** Whether a record has a word as one of its arguments, or may have: not all of them were kept. */
function mentions(scanner: RecordScanner, word: string, slice: Slice): boolean {
  for (let i = 1; i < scanner.argc; i++) {
    if (!scanner.argument(i, slice)) return false;
    if (slice.length === word.length && slice.latin1() === word) return true;
  }
  return false;
}

class Needs implements LogNeeds {
  readonly commands: string[] = [];
  highestDatabase: number;
  readonly #seen = new Distinct(maxCommands);

  constructor(database: number) {
    this.highestDatabase = database;
  }

  addCommand(name: Slice): void {
    if (name.length > longestName || !this.#seen.add(name)) return;
    if (this.commands.length < maxCommands) this.commands.push(name.latin1().toUpperCase());
  }

  addDatabase(database: number | undefined): void {
    if (database !== undefined && database > this.highestDatabase) this.highestDatabase = database;
  }
}

/** Reads a set and a log, of which nothing but that they are as they were written is to be known. */
export async function verifyPlan(
  view: ArchiveView,
  plan: Plan,
  { progress, signal }: CheckOptions,
): Promise<void> {
  for await (const chunk of verified(view, plan)) {
    signal?.throwIfAborted();
    progress.add(chunk.length);
  }
  if (plan.log === undefined) return;
  for await (const chunk of readLog(view, plan.log, { signal })) progress.add(chunk.length);
}

/** All of a set's snapshot. At its end it has been held against its sum. */
export async function* verified(view: ArchiveView, { set }: Plan): AsyncGenerator<Uint8Array> {
  const reader = await view.openObject(set.object, set.manifest.snapshot.sizeBytes);
  yield* reader.rawBytes();
}

/** Makes the commands for a snapshot, and throws them away. @throws Failure what sending them would */
export async function tryKeys(
  snapshot: Snapshot,
  commands: KeyCommands,
  {
    pipe,
    lanes,
    progress,
    signal,
  }: CheckOptions & {
    readonly pipe: KeyPipeOptions;
    readonly lanes: readonly Lane[];
  },
): Promise<void> {
  await pushAll(snapshot, new KeyPipe(commands, pipe), async (bytes) => {
    signal?.throwIfAborted();
    for (const lane of lanes) lane.take();
    progress.add(bytes);
  });
  for (const lane of lanes) lane.take();
}

/** Those that keys of a snapshot would go to, as far as it says so by itself. */
export function databasesOf({ databases = [] }: Snapshot, options: ServerOptions): number[] {
  const { selection = {}, databases: moved } = options;
  const chosen = databases.filter((each) => selection.databases?.includes(each) ?? true);
  return chosen.map((each) => moved?.get(each) ?? each);
}

/** @throws Failure TARGET_CANNOT_HOLD where a server has no such database, or not all of the commands */
export async function checkServer(
  control: Connection,
  { commands, highestDatabase }: LogNeeds,
): Promise<void> {
  if (highestDatabase > 0) {
    const reply = await control.call("SELECT", highestDatabase);
    await control.ask("SELECT", 0);
    if (errorText(reply) !== undefined) {
      const found = `there are keys of database ${highestDatabase}, which it does not have`;
      throw new Failure("TARGET_CANNOT_HOLD", `Cannot restore into ${control.name}: ${found}`, {
        hint: `Nothing was removed. Start it with --databases ${highestDatabase + 1}, or choose with --db.`,
      });
    }
  }
  if (commands.length === 0) return;
  const reply = await control.call("COMMAND", "INFO", ...commands);
  // A user who may not ask is told by the first command that is not known.
  if (errorText(reply) !== undefined) return;
  const known = itemsOf(reply);
  const unknown = commands.filter((_, i) => isNothing(known[i]?.type, known[i]));
  if (unknown.length === 0) return;
  const found = `the log has commands that it does not know: ${unknown.slice(0, 10).join(", ")}`;
  throw new Failure("TARGET_CANNOT_HOLD", `Cannot restore into ${control.name}: ${found}`, {
    hint: "Nothing was removed. Choose a newer server, or replay the log elsewhere: --keys '*' --server PATH.",
  });
}

function isNothing(type: string | undefined, reply: unknown): boolean {
  if (type === undefined || type === "null") return true;
  return type === "array" && (reply as { items: readonly unknown[] }).items.length === 0;
}
