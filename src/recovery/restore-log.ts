/**
 * Replays the log of a plan into one server, behind the keys of its set, and moves the expiries back.
 *
 *   log ─► batches with markers (restore-replay.ts) ─► Pipeline ─► expiries (restore-expiries.ts)
 *
 * INVARIANTS
 *
 *   1. The first error that the server answers ends it. What it had been sent by then it executes all the same; so
 *      behind that a marker is written that says from where it may be gone on with, or that it may not.
 *   2. If this program is killed before that, the markers of the batches say the same (restore-window.ts).
 */
import { Failure } from "../base/errors.ts";
import type { ConnectOptions } from "../link/connection.ts";
import { parseInfo } from "../link/instance.ts";
import { textOf } from "../link/reply-values.ts";
import { readLog } from "./log-reader.ts";
import type { LogRange } from "./plan-result.ts";
import { type ExpiryRule, releaseExpiries, versionOf } from "./restore-expiries.ts";
import type { ArchiveView } from "./restore-locate.ts";
import type { Mark } from "./restore-marker.ts";
import type { Node } from "./restore-nodes.ts";
import { Pipeline } from "./restore-pipeline.ts";
import type { ProgressCounter } from "./restore-progress.ts";
import { type Batch, type BatchFacts, LogCommands, type ReplayPosition } from "./restore-replay.ts";
import { errorsOf, ReplayWindow, type Resume, resumeAt } from "./restore-window.ts";

export type LogReplayOptions = {
  readonly log: LogRange;
  readonly node: Node;
  readonly connect: Pick<ConnectOptions, "credentials" | "tls">;
  readonly clientName?: string;
  /** Of the plan, in markers. */
  readonly id: string;
  /** Where it begins: behind the keys, or where it was cut off. */
  readonly mark: Mark;
  readonly isResumed: boolean;
  /** The marker's key, where the log may have to do with it. */
  readonly markInLog: string | undefined;
  readonly progress: ProgressCounter;
  readonly signal: AbortSignal | undefined;
};

export class LogReplay {
  readonly #view: ArchiveView;
  readonly #options: LogReplayOptions;
  readonly #from: Resume;
  readonly #window: ReplayWindow;
  readonly #commands: LogCommands;
  #pipeline: Pipeline | undefined;
  /** Commands up to here may have been executed before. */
  #repeated = 0;
  #isRepeating: boolean;
  #errors: string | null = null;
  #end: ReplayPosition;

  constructor(view: ArchiveView, options: LogReplayOptions) {
    const { mark, node, markInLog, isResumed } = options;
    this.#view = view;
    this.#options = options;
    this.#from = resumeOf(mark, node);
    this.#isRepeating = isResumed;
    this.#end = this.#from;
    this.#window = new ReplayWindow(this.#from);
    this.#commands = new LogCommands(this.#from, this.#markOf, {
      isOld: versionOf(node.info) < 6.02,
      mark: markInLog,
      isInside: mark.isInside ?? false,
    });
  }

  /** Whether the log ends inside of a restore that was recorded. */
  async run(): Promise<boolean> {
    const { connect, clientName, node, signal } = this.#options;
    const allows = (error: string, number: number) =>
      // What is repeated may meet a key of the type that it got later on, to be deleted again.
      number < this.#repeated && error.startsWith("WRONGTYPE");
    const named = clientName === undefined ? {} : { clientName };
    await using pipeline = await Pipeline.open(node.endpoint, {
      ...{ ...connect, ...named, signal, allows },
    });
    this.#pipeline = pipeline;
    this.#errors = await this.#countErrors();
    try {
      await this.#replay(pipeline);
      await pipeline.drain();
    } catch (error) {
      if (pipeline.refused !== undefined) await this.#markFailure(pipeline, pipeline.refused);
      throw error;
    }
    return this.#commands.isInside;
  }

  async #replay(pipeline: Pipeline): Promise<void> {
    const { log, signal, progress } = this.#options;
    const commands = this.#commands;
    progress.begin("log");
    let at = 0;
    for await (const chunk of readLog(this.#view, log, { signal })) {
      const rest = chunk.subarray(Math.max(0, this.#from.bytes - at));
      at += chunk.length;
      for (const batch of commands.push(rest)) await this.#send(pipeline, batch);
      progress.add(chunk.length);
    }
    const last = commands.finish();
    if (last !== undefined) await this.#send(pipeline, last);
  }

  async #send(pipeline: Pipeline, { parts, commands, records, isRepeatable }: Batch) {
    const end = pipeline.commands + commands;
    if (this.#isRepeating && isRepeatable) this.#repeated = end;
    this.#window.sent(end);
    await pipeline.send(parts, commands);
    this.#options.progress.commands += records;
    if (!this.#isRepeating || this.#end.bytes <= this.#from.repeatedUntil) return;
    // What was done twice may have been answered by errors; from here on none may be.
    await pipeline.drain();
    this.#isRepeating = false;
    this.#errors = await this.#countErrors();
  }

  readonly #markOf = (at: ReplayPosition, facts: BatchFacts) => {
    this.#end = at;
    const good = this.#pipeline?.good ?? 0;
    const { isBatchRepeatable, ...certain } = this.#window.next(at, facts, good);
    // What is repeated may be answered by errors, and may be repeated once more.
    const errors = this.#isRepeating && isBatchRepeatable ? null : this.#errors;
    const value = this.#textOf({ ...certain, errors });
    return { key: this.#options.node.marker, value, isRepeatable: isBatchRepeatable };
  };

  #textOf(more: Partial<Mark>): string {
    const { id, mark } = this.#options;
    const { bytes, database = null } = this.#end;
    const place = { phase: "log", steps: 1, keys: mark.keys, bytes, database };
    const inside = this.#commands.isInside ? { isInside: true } : {};
    return JSON.stringify({ plan: id, ...place, ...more, ...inside });
  }

  async #countErrors(): Promise<string | null> {
    const { control } = this.#options.node;
    return errorsOf(parseInfo(textOf(await control.ask("INFO")) ?? ""));
  }

  /** Behind all that was sent: whether it can be gone on with, or what it was ended by. */
  async #markFailure(pipeline: Pipeline, failure: string): Promise<void> {
    const { control, marker } = this.#options.node;
    if (!(await pipeline.settle())) return;
    const certain = this.#window.settle(pipeline.good);
    const mark = certain.isRepeatable ? certain : { ...certain, phase: "failed" as const, failure };
    // A server that takes no writes keeps the last marker: its errors tell that it cannot be gone on with.
    await control.call("SET", marker, this.#textOf({ ...mark, errors: null }));
  }
}

/** @throws Failure TARGET_NOT_EMPTY where it cannot be gone on with */
export function resumeOf(mark: Mark, { info }: Node): Resume {
  const from = mark.phase === "log" ? resumeAt(mark, errorsOf(info)) : undefined;
  if (from !== undefined) return from;
  const found =
    mark.failure === undefined
      ? "whether the server has taken all that it was sent cannot be told"
      : `the server refused a command of the log, "${mark.failure}", and executed others behind it`;
  throw new Failure(
    "TARGET_NOT_EMPTY",
    `Cannot go on with the restore that was cut off: ${found}`,
    {
      hint: "Empty the server, and begin over, with --overwrite.",
    },
  );
}

/** What was put off while the log was replayed, moved back. */
export async function release(
  { control, info }: Node,
  options: {
    readonly ttl: "keep" | "persist" | "shift";
    readonly fromMs: number;
    readonly toMs: number;
    readonly progress: ProgressCounter;
  },
): Promise<void> {
  const { ttl, fromMs, toMs, progress } = options;
  progress.begin("expiries");
  const rule: ExpiryRule = (atMs) => {
    if (ttl === "keep") return atMs;
    // What had expired at that moment was gone then, and does not come back.
    if (atMs <= fromMs) return "gone";
    return ttl === "persist" ? "none" : atMs - fromMs + toMs;
  };
  const persists = ttl === "persist";
  const onKeys = () => progress.add(0);
  await releaseExpiries(control, { rule, persists, version: versionOf(info), onKeys });
}
