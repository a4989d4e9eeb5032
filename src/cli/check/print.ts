import { renderTable, style, title } from "../render/table.ts";
import { formatBytes, formatCount, plural, printable } from "../render/text.ts";
import type { CheckReport, FileCheck, RepairReport, Verdict } from "./report.ts";

const colors = { sound: "green", torn: "yellow", damaged: "red", unknown: "yellow" } as const;

/** The report for people, in lines. */
export function renderCheck({ path, verdict, files, notes, repair }: CheckReport): string[] {
  const rows = files.map((file) => [
    printable(file.file),
    file.sizeBytes === null ? "-" : formatBytes(file.sizeBytes),
    file.verdict,
    describeContents(file),
  ]);
  const headings = ["file", ">size", "verdict", "contents"];
  return [
    `${title(printable(path))}: ${style(colors[verdict], said(verdict, repair))}`,
    ...renderTable({ headings, rows }),
    ...files.flatMap(describeTrouble),
    ...[...notes, ...files.flatMap(namedNotes)].map((note) => `note: ${printable(note)}`),
    ...(repair === null ? adviseRepair(verdict) : describeRepair(repair)),
  ];
}

function said(verdict: Verdict, repair: RepairReport | null): string {
  return repair?.isDone ? `${verdict}, after its repair` : verdict;
}

function namedNotes({ file, notes }: FileCheck): string[] {
  return notes.map((note) => `${file}: ${note}`);
}

function describeContents({ snapshot, log }: FileCheck): string {
  const parts: string[] = [];
  if (snapshot !== null) {
    const { version, keys, checksum } = snapshot;
    const sum = checksum === "none" ? "no checksum" : `checksum ${checksum}`;
    parts.push(`RDB version ${version}, ${plural(keys, "key")}, ${sum}`);
  }
  if (log !== null) parts.push(plural(log.records, "record"));
  return parts.join("; ");
}

function describeTrouble({ file, verdict, offset, reason, log }: FileCheck): string[] {
  if (reason === null) return [];
  const place = offset === null ? "" : ` at byte ${formatCount(offset)}`;
  const lines = [style(colors[verdict], `${verdict}: ${printable(file)}${place}`)];
  lines.push(`  ${printable(reason)}`);
  if (log?.torn) lines.push(`  ${describeTail(log.torn)} behind the last complete record`);
  return lines;
}

function describeTail({ cutBytes, cutRecords }: Pick<RepairReport, "cutBytes" | "cutRecords">) {
  const bytes = plural(cutBytes, "byte");
  if (cutRecords === 0) return bytes;
  return `${bytes} with ${plural(cutRecords, "complete record")} of an open transaction`;
}

function adviseRepair(verdict: Verdict): string[] {
  return verdict === "torn" ? ["hint: `--repair` keeps a copy of the file and cuts the tail"] : [];
}

function describeRepair(repair: RepairReport): string[] {
  const { file, isDone, copy, truncatedTo } = repair;
  const from = `from byte ${formatCount(truncatedTo)} on`;
  const cut = `${describeTail(repair)}, ${from}, of "${printable(file)}"`;
  if (!isDone) return [`would cut: ${cut}`];
  return [`cut: ${cut}`, `kept: the file as it was, "${printable(copy ?? "")}"`];
}
