import { Failure } from "../../base/errors.ts";
import { InputFile } from "../../log/input-file.ts";
import { filesOf, hasSnapshot, openSource, type SourceFile } from "../data-source.ts";
import { Progress } from "../render/progress.ts";
import { walkFile } from "../walk.ts";
import { joinLogs, LogInspector, noRecords, notReached } from "./log.ts";
import type { Damage, InspectReport, LogFileReport, LogReport, SnapshotReport } from "./report.ts";
import { SnapshotInspector, type SnapshotOptions } from "./snapshot.ts";

type Found = {
  readonly snapshot: SnapshotReport | null;
  readonly log: LogReport;
  readonly failure: Failure | undefined;
};

/** Reads all of a source, and tells what is in it as far as it can be read. */
export async function inspect(path: string, options: SnapshotOptions): Promise<InspectReport> {
  const source = openSource(path);
  const files = filesOf(source);
  const sizeBytes = files.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0);
  using progress = new Progress(sizeBytes);
  const reports: LogFileReport[] = [];
  const damage: Damage[] = [];
  let snapshot: SnapshotReport | null = null;
  for (const file of files) {
    const found = await inspectFile(file, options, progress);
    snapshot ??= found.snapshot;
    if (found.failure !== undefined) damage.push(toDamage(file, found.failure));
    if (file.role !== "rdb") reports.push(toFileReport(file, file.role, found));
  }
  const log = source.kind === "rdb" ? null : reports.reduce(joinLogs, noRecords);
  return { format: 1, path, kind: source.kind, sizeBytes, snapshot, files: reports, log, damage };
}

async function inspectFile(
  file: SourceFile,
  options: SnapshotOptions,
  progress: Progress,
): Promise<Found> {
  let snapshot: SnapshotInspector | undefined;
  let log: LogInspector | undefined;
  let failure: Failure | undefined;
  try {
    using input = InputFile.open(file.path);
    if (hasSnapshot(input)) snapshot = new SnapshotInspector(options);
    // Servers ignore what stands behind a snapshot that is no log's head.
    const openLog = (offset: number) =>
      file.role === "rdb" ? { push: () => {} } : (log = new LogInspector(offset));
    await walkFile(input, snapshot, openLog, progress);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    failure = error;
  }
  const isKnown = snapshot !== undefined && snapshot.reader.version > 0;
  return {
    snapshot: isKnown ? (snapshot?.report(file.name, failure) ?? null) : null,
    log: log?.report() ?? (failure === undefined ? noRecords : notReached),
    failure: failure ?? log?.damage,
  };
}

function toDamage(file: SourceFile, { code, offset, message }: Failure): Damage {
  return { file: file.name, code, offset: offset ?? null, reason: message };
}

function toFileReport(
  { name, sequence, sizeBytes }: SourceFile,
  role: LogFileReport["role"],
  { snapshot, log }: Found,
): LogFileReport {
  return { file: name, role, sequence, sizeBytes, hasSnapshot: snapshot !== null, ...log };
}
