/**
 * Counts what is in the records of a log while it is read, and joins the counts of its files.
 *
 * WHY not a replay. What the records amount to as data only a server can say. What can be said here
 * for any log, of any server and with modules: which commands there are and how many bytes they
 * take, over which time and positions, and how the file ends.
 *
 * INVARIANTS
 *
 *   1. Memory is bounded by the limits below, whatever the file holds.
 *   2. Damage ends the counting of its file, and is told with all that was counted before it.
 */
import { Slice } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { LogScanner } from "../../codec/aof/log-scanner.ts";
import { escapeBytes } from "../render/text.ts";
import type { LogReport } from "./report.ts";
import { others, Tally } from "./tally.ts";

/** More than any server has commands, its modules' included. */
const maxCommands = 2048;
const maxCommandBytes = 128;

/** Counts what is in the records of one file. */
export class LogInspector {
  readonly #log: LogScanner;
  readonly #commands = new Tally({
    maxNames: maxCommands,
    maxNameBytes: maxCommandBytes,
    foldsCase: true,
  });
  readonly #name = new Slice();
  #transactions = 0;
  #wasInTransaction = false;
  #timestamps = 0;
  #positionLines = 0;
  #fromMs: number | null = null;
  #toMs: number | null = null;
  #first: string | null = null;
  /** What ended the reading early. */
  damage: Failure | undefined;

  /** @param offset where in the file the records start */
  constructor(offset: number) {
    this.#log = new LogScanner({ offset });
  }

  /** Takes the next chunk. Nothing behind damage is looked at. */
  push(chunk: Uint8Array): void {
    if (this.damage !== undefined) return;
    try {
      this.#log.push(chunk);
      this.#scan();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.damage = error;
    }
  }

  #scan(): void {
    const log = this.#log;
    for (;;) {
      switch (log.next()) {
        case "more":
          return;
        case "record":
          this.#takeRecord();
          break;
        case "timestamp":
          this.#timestamps++;
          this.#noteTime((log.seconds ?? 0) * 1000);
          break;
        case "position":
          this.#takePosition();
          break;
        case "comment":
          break;
      }
    }
  }

  #takeRecord(): void {
    const { scanner } = this.#log;
    const name = this.#name;
    // A name that was not kept is longer than any command's: it counts as one of the others.
    if (!scanner.argument(0, name)) name.reserve(maxCommandBytes + 1);
    const slot = this.#commands.count(name.bytes, name.start, name.end);
    this.#commands.add(slot, scanner.end - scanner.start);
    const isInTransaction = scanner.unitStart !== undefined;
    if (this.#wasInTransaction && !isInTransaction) this.#transactions++;
    this.#wasInTransaction = isInTransaction;
  }

  #takePosition(): void {
    const line = this.#log.position;
    if (line === undefined) return;
    this.#positionLines++;
    this.#noteTime(line.ms);
    this.#first ??= `${line.replicationId}:${line.offset}`;
  }

  #noteTime(ms: number): void {
    this.#fromMs = Math.min(ms, this.#fromMs ?? ms);
    this.#toMs = Math.max(ms, this.#toMs ?? ms);
  }

  report(): LogReport {
    const { scanner, position } = this.#log;
    const tally = this.#commands;
    const tail =
      this.damage === undefined
        ? { offset: null, ...scanner.tail() }
        : { offset: null, kind: "unknown" as const };
    return {
      records: scanner.records,
      transactions: this.#transactions,
      commands: tally.top(tally.counts, tally.size).map((slot) => ({
        name: escapeBytes(tally.name(slot)),
        count: tally.counts[slot] as number,
        bytes: tally.amounts[slot] as number,
      })),
      commandOthers: tally.counts[others] as number,
      timestamps: this.#timestamps,
      positionLines: this.#positionLines,
      fromMs: this.#fromMs,
      toMs: this.#toMs,
      firstPosition: this.#first,
      lastPosition: position === undefined ? null : `${position.replicationId}:${position.offset}`,
      tail,
    };
  }
}

/** What a file without records amounts to. */
export const noRecords: LogReport = {
  records: 0,
  transactions: 0,
  commands: [],
  commandOthers: 0,
  timestamps: 0,
  positionLines: 0,
  fromMs: null,
  toMs: null,
  firstPosition: null,
  lastPosition: null,
  tail: { kind: "whole", offset: null },
};

/** What is known of records behind damage. */
export const notReached: LogReport = { ...noRecords, tail: { kind: "unknown", offset: null } };

/** Two files as one log, the second behind the first. */
export function joinLogs(a: LogReport, b: LogReport): LogReport {
  const commands = new Map(a.commands.map((command) => [command.name, command]));
  for (const { name, count, bytes } of b.commands) {
    const before = commands.get(name);
    commands.set(name, {
      name,
      count: count + (before?.count ?? 0),
      bytes: bytes + (before?.bytes ?? 0),
    });
  }
  return {
    records: a.records + b.records,
    transactions: a.transactions + b.transactions,
    commands: [...commands.values()].sort((x, y) => y.count - x.count),
    commandOthers: a.commandOthers + b.commandOthers,
    timestamps: a.timestamps + b.timestamps,
    positionLines: a.positionLines + b.positionLines,
    fromMs: least(a.fromMs, b.fromMs, Math.min),
    toMs: least(a.toMs, b.toMs, Math.max),
    firstPosition: a.firstPosition ?? b.firstPosition,
    lastPosition: b.lastPosition ?? a.lastPosition,
    tail: b.tail,
  };
}

function least(a: number | null, b: number | null, choose: (a: number, b: number) => number) {
  return a === null || b === null ? (a ?? b) : choose(a, b);
}
