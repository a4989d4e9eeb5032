/**
 * Reads all of a source and says what is wrong with it; cuts a torn tail off where that is asked.
 *
 * Every file of a log is checked, whatever was found in the ones before it. A repair is made only
 * where the torn tail of the last file is all that is wrong: behind damage of any other kind there
 * may be good records, and cutting them off is a decision that a program must not take.
 */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { Failure } from "../../base/errors.ts";
import type { Manifest } from "../../codec/aof/manifest.ts";
import { findLogOf } from "../../log/append-only-dir.ts";
import { cutTail } from "../../log/cut-tail.ts";
import { type DataSource, filesOf, openSource, type SourceFile } from "../data-source.ts";
import { Progress } from "../render/progress.ts";
import { type CheckedFile, checkFile, type Place } from "./file.ts";
import type { CheckReport, FileCheck, RepairReport, Verdict } from "./report.ts";

/** Worst first. */
const verdicts: readonly Verdict[] = ["damaged", "torn", "unknown", "sound"];

export type Checked = {
  readonly report: CheckReport;
  /** Undefined where the path does not even tell what it holds. */
  readonly source: DataSource | undefined;
  readonly last: Last | undefined;
};

type Last = { readonly file: SourceFile; readonly place: Place; readonly checked: CheckedFile };

export async function check(path: string): Promise<Checked> {
  let source: DataSource;
  try {
    source = openSource(path);
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== "DATA_CORRUPT") throw error;
    return { report: unreadable(path, error), source: undefined, last: undefined };
  }
  const files = filesOf(source);
  using progress = new Progress(files.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0));
  const checks: FileCheck[] = [];
  let last: Last | undefined;
  for (const file of files) {
    const place = { after: last?.checked.after, isLast: file === files.at(-1) };
    const checked = await checkFile(file, place, progress);
    checks.push(checked.check);
    last = { file, place, checked };
  }
  const verdict = verdicts.find((one) => checks.some((file) => file.verdict === one)) ?? "sound";
  const notes = source.kind === "appendonlydir" ? manifestNotes(source.log.manifest) : [];
  const { kind } = source;
  const report = { format: 1, path, kind, verdict, files: checks, notes, repair: null } as const;
  return { report, source, last };
}

/** The content says nothing, or the manifest is wrong: there is no telling what belongs to it. */
function unreadable(path: string, { message, hint, offset }: Failure): CheckReport {
  const file: FileCheck = {
    file: path,
    role: "unknown",
    sequence: null,
    sizeBytes: null,
    verdict: "damaged",
    code: "DATA_CORRUPT",
    offset: offset ?? null,
    reason: message,
    snapshot: null,
    log: null,
    notes: [],
  };
  const [kind, repair] = [null, null];
  return { format: 1, path, kind, verdict: "damaged", files: [file], notes: [hint], repair };
}

function manifestNotes({ base, increments, history }: Manifest): string[] {
  const notes: string[] = [];
  if (base === undefined) notes.push("The manifest names no base: the log starts from nothing");
  for (const [index, { sequence }] of increments.entries()) {
    const before = increments[index - 1]?.sequence ?? sequence - 1;
    if (sequence === before + 1) continue;
    notes.push(`Increment ${sequence} follows ${before}: servers leave no such gap`);
  }
  if (history.length > 0) {
    notes.push(`${history.length} files of history are not needed any more, and were not checked`);
  }
  return notes;
}

/**
 * Cuts the torn tail off, and checks the file again.
 *
 * @throws Failure where anything else is wrong: DATA_CORRUPT, USAGE; FILE_FAILED
 */
export async function repair(checked: Checked, isDryRun: boolean): Promise<CheckReport> {
  const { report, source, last } = checked;
  if (report.verdict === "sound") return report;
  if (source === undefined || last === undefined || report.verdict !== "torn")
    throw refusal(report);
  if (source.kind === "aof") mustBeAlone(source.path);
  const { log, offset } = last.checked.check;
  const { stats } = last.checked;
  assert(log?.torn && offset !== null && stats, "A torn file has been read");
  const plan = { file: last.file.path, truncatedTo: log.goodEnd, ...log.torn };
  if (isDryRun) return { ...report, repair: { ...plan, isDone: false, copy: null } };
  const copy = cutTail({ path: plan.file, stats, truncateTo: plan.truncatedTo });
  return recheck(checked, last, { ...plan, isDone: true, copy });
}

/** What a repair would have to cut is not a tail, or not all that is wrong. */
function refusal({ verdict, files }: CheckReport): Failure {
  const worst = files.find((file) => file.verdict === verdict);
  const code = verdict === "damaged" ? "DATA_CORRUPT" : (worst?.code ?? "DATA_UNSUPPORTED");
  return new Failure(code, `Cannot repair "${worst?.file}": ${worst?.reason}`, {
    hint: "Only a torn tail of the last file is cut. Restore from an older copy, or from a replica.",
  });
}

/** A file that a manifest names is not repaired by itself: it may not be the last one. */
function mustBeAlone(path: string): void {
  const log = findLogOf(path);
  if (log === undefined) return;
  throw new Failure("USAGE", `Cannot repair "${path}" alone: "${log.manifestPath}" names it`, {
    hint: `Run \`tidemark check --repair '${dirname(path)}'\`.`,
  });
}

async function recheck(
  { report }: Checked,
  { file, place }: Last,
  done: RepairReport,
): Promise<CheckReport> {
  using progress = new Progress(done.truncatedTo);
  const { check: now } = await checkFile(file, place, progress);
  if (now.verdict !== "sound") {
    throw new Failure("FILE_FAILED", `Cannot finish the repair of "${file.path}": ${now.reason}`, {
      hint: `The file as it was is "${done.copy}".`,
    });
  }
  return { ...report, verdict: "sound", files: [...report.files.slice(0, -1), now], repair: done };
}

/** The exit status that a verdict stands for. */
export function statusOf({ verdict, files }: CheckReport): number {
  if (verdict === "sound") return 0;
  const { code } = files.find((file) => file.verdict === verdict) as FileCheck;
  const isDamage = verdict !== "unknown" || code === null;
  return new Failure(isDamage ? "DATA_CORRUPT" : code, "").exit;
}
