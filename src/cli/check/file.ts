import type { Stats } from "node:fs";
import { Failure } from "../../base/errors.ts";
import type { PositionLine } from "../../codec/aof/annotation.ts";
import { type CheckResult, LogChecker } from "../../codec/aof/check.ts";
import { InputFile } from "../../log/input-file.ts";
import { hasSnapshot, type SourceFile } from "../data-source.ts";
import type { Progress } from "../render/progress.ts";
import { formatTime, plural } from "../render/text.ts";
import { walkFile } from "../walk.ts";
import type { FileCheck, LogCheck } from "./report.ts";
import { SnapshotChecker } from "./snapshot.ts";

export type CheckedFile = {
  readonly check: FileCheck;
  /** Of the file that was read; undefined where it is missing. */
  readonly stats: Stats | undefined;
  /** What the next file has to go on from; undefined where that is not known. */
  readonly after: PositionLine | undefined;
};

export type Place = {
  /** The last position of the file before. */
  readonly after: PositionLine | undefined;
  /** Whether a torn tail is to be expected here: servers forgive it in the last file only. */
  readonly isLast: boolean;
};

/** @throws Failure FILE_FAILED: a disk that cannot be read says nothing of what is on it */
export async function checkFile(
  file: SourceFile,
  { after, isLast }: Place,
  progress: Progress,
): Promise<CheckedFile> {
  if (file.sizeBytes === null) return missingFile(file);
  using input = InputFile.open(file.path);
  const snapshot = hasSnapshot(input) || file.role === "rdb" ? new SnapshotChecker() : undefined;
  let log: LogChecker | undefined;
  let failure: Failure | undefined;
  let ignoredBytes = 0;
  const ignore = { push: (chunk: Uint8Array) => void (ignoredBytes += chunk.length) };
  const openLog = (offset: number) => {
    if (file.role === "rdb") return ignore;
    log = new LogChecker({ offset, ...(after === undefined ? {} : { after }) });
    return log;
  };
  try {
    await walkFile(input, snapshot, openLog, progress);
  } catch (error) {
    if (!(error instanceof Failure) || error.code === "FILE_FAILED") throw error;
    failure = error;
  }
  const result = failure === undefined ? log?.finish() : undefined;
  const notes = [...(snapshot?.notes() ?? []), ...(result === undefined ? [] : logNotes(result))];
  if (ignoredBytes > 0) {
    notes.push(`Servers ignore the ${plural(ignoredBytes, "byte")} behind the end of the RDB`);
  }
  if (input.hasGrown()) {
    notes.push("It has grown since it was opened: something is writing to it");
  }
  const { path: _, name, ...rest } = file;
  const check = {
    file: name,
    ...rest,
    sizeBytes: input.stats.size,
    ...judge(failure, snapshot?.where() ?? "", result, isLast),
    snapshot: snapshot?.report(failure) ?? null,
    log: result === undefined ? null : toLogCheck(result),
    notes,
  };
  const isKnown = check.verdict === "sound";
  return { check, stats: input.stats, after: isKnown ? (result?.last ?? after) : undefined };
}

type Judgement = Pick<FileCheck, "verdict" | "code" | "offset" | "reason">;

const sound: Judgement = { verdict: "sound", code: null, offset: null, reason: null };

function judge(
  failure: Failure | undefined,
  where: string,
  result: CheckResult | undefined,
  isLast: boolean,
): Judgement {
  if (failure !== undefined) {
    const { code, offset, message } = failure;
    const verdict = code === "DATA_CORRUPT" ? "damaged" : "unknown";
    return { verdict, code, offset: offset ?? null, reason: `${message}${where}` };
  }
  if (result === undefined || result.verdict === "ok") return sound;
  if (result.verdict === "corrupt") {
    const { offset, reason } = result;
    return { verdict: "damaged", code: "DATA_CORRUPT", offset, reason };
  }
  const { kind, isInTransaction } = result.tail;
  const inside = isInTransaction && kind !== "transaction" ? `${kind} inside a transaction` : kind;
  const reason = `It ends inside a${inside.startsWith("a") ? "n" : ""} ${inside}`;
  const offset = result.goodEnd;
  if (isLast) return { verdict: "torn", code: "DATA_TORN", offset, reason };
  const refusal = `${reason}, and it is not the last file: no server loads what is behind it`;
  return { verdict: "damaged", code: "DATA_CORRUPT", offset, reason: refusal };
}

function toLogCheck(result: CheckResult): LogCheck {
  const { records, goodEnd, last, unsealedRecords } = result;
  const torn = result.verdict === "torn" ? result.tail : null;
  return {
    records,
    goodEnd,
    unsealedRecords,
    lastPosition: last ?? null,
    torn: torn && { cutBytes: torn.cutBytes, cutRecords: torn.cutRecords },
  };
}

function logNotes({ last, unsealedRecords, backwards }: CheckResult): string[] {
  const notes: string[] = [];
  if (last !== undefined) {
    notes.push(`Its last position is ${last.replicationId}:${last.offset}, ${formatTime(last.ms)}`);
    if (unsealedRecords > 0)
      notes.push(`${plural(unsealedRecords, "record")} behind it without a checksum`);
  }
  if (backwards.times > 0) {
    const { times, firstOffset } = backwards;
    notes.push(`Its times run backwards, ${times} times, first at byte ${firstOffset}`);
  }
  return notes;
}

function missingFile({ name, role, sequence }: SourceFile): CheckedFile {
  const check: FileCheck = {
    file: name,
    role,
    sequence,
    sizeBytes: null,
    verdict: "damaged",
    code: "FILE_MISSING",
    offset: null,
    reason: "The manifest names it, and it is not there",
    snapshot: null,
    log: null,
    notes: [],
  };
  return { check, stats: undefined, after: undefined };
}
