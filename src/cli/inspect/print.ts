/**
 * The report of an inspection as tables for people.
 *
 * WHY apart from the counting. What is shown is the report that `--json` prints, and nothing else, so
 * the two cannot disagree; and how it looks may change at any time, as that may not.
 *
 * Names from the data are between quotes and escaped already. Names of files are not: they go
 * through `printable()`.
 */
import { renderPairs, renderTable, style, title } from "../render/table.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  plural,
  printable,
  quoteName,
} from "../render/text.ts";
import type { InspectReport, LogReport, SnapshotReport } from "./report.ts";

const none = "-";
/** Commands that are listed; the JSON has all. */
const maxCommands = 20;

/** The report for people, in lines. */
export function renderInspect(report: InspectReport): string[] {
  const { snapshot, log } = report;
  return [
    ...renderHead(report),
    ...(snapshot === null ? [] : renderSnapshot(snapshot)),
    ...(log === null ? [] : renderLog(report, log)),
    ...report.damage.flatMap(({ file, reason }) => [
      "",
      style("red", `Not read to its end: ${printable(file)}: ${printable(reason)}`),
    ]),
  ];
}

const kinds = { rdb: "RDB", aof: "AOF in one file", appendonlydir: "multi-part AOF" } as const;

function renderHead({ path, kind, sizeBytes, snapshot, files }: InspectReport): string[] {
  const size = `${formatBytes(sizeBytes)}${files.length > 1 ? ` in ${files.length} files` : ""}`;
  const pairs: [string, string][] = [["size", size]];
  if (snapshot !== null) pairs.push(...describeSnapshot(snapshot, kind));
  return [title(`${printable(path)}: ${kinds[kind]}`), ...renderPairs(pairs)];
}

function describeSnapshot(snapshot: SnapshotReport, kind: InspectReport["kind"]) {
  const { family, version, producer, createdAtMs, checksum } = snapshot;
  const pairs: [string, string][] = [
    ...(kind === "rdb" ? [] : ([["snapshot", printable(snapshot.file)]] as [string, string][])),
    ["format", `RDB version ${version}${family === "valkey" ? " of Valkey" : ""}`],
    ["written by", producer ?? "unknown"],
    ["made", createdAtMs === null ? "unknown" : formatTime(createdAtMs)],
    ["checksum", checksum],
  ];
  const shown = snapshot.aux.filter(({ name }) => !/^(redis|valkey)-ver$|^ctime$/.test(name));
  for (const { name, value, times } of shown) {
    pairs.push([name, `${shorten(value)}${times > 1 ? ` and ${times - 1} more` : ""}`]);
  }
  if (snapshot.auxOthers > 0) pairs.push(["other fields", formatCount(snapshot.auxOthers)]);
  return pairs;
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function renderSnapshot(snapshot: SnapshotReport): string[] {
  return [
    ...renderDatabases(snapshot),
    ...renderTypes(snapshot),
    ...renderBiggest(snapshot),
    ...renderPrefixes(snapshot),
    ...renderStreams(snapshot),
    ...renderExtras(snapshot),
  ];
}

function renderDatabases({ keys, expiring, expired, databases }: SnapshotReport): string[] {
  const totals = `${plural(keys, "key")}, ${formatCount(expiring)} expiring`;
  const gone = expired === 0 ? "" : `, ${formatCount(expired)} of them have expired by now`;
  const rows = databases.map((database) => [
    String(database.database),
    formatCount(database.keys),
    formatCount(database.expiring),
    formatCount(database.expired),
    database.averageTtlMs === null ? none : formatSpan(database.averageTtlMs),
    formatBytes(database.bytes),
  ]);
  if (rows.length === 0) return ["", title("No keys")];
  const headings = [">db", ">keys", ">expiring", ">expired", ">mean TTL", ">bytes"];
  return ["", title(`${totals}${gone}`), ...renderTable({ headings, rows })];
}

/** What was left to live; less than nothing where keys had expired and were still there. */
function formatSpan(ms: number): string {
  return ms < 0 ? `-${formatDuration(-ms)}` : formatDuration(ms);
}

function renderTypes({ types, expiringFields }: SnapshotReport): string[] {
  if (types.length === 0) return [];
  const total = types.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = types.map(({ type, encoding, keys, expiring, elements, bytes }) => [
    type,
    encoding,
    formatCount(keys),
    formatCount(expiring),
    elements === null ? none : formatCount(elements),
    formatBytes(bytes),
    formatShare(bytes, total),
  ]);
  const headings = ["type", "encoding", ">keys", ">expiring", ">elements", ">bytes", ">share"];
  const lines = ["", title("Types"), ...renderTable({ headings, rows })];
  if (expiringFields > 0) lines.push(`  ${plural(expiringFields, "hash field")} with an expiry`);
  return lines;
}

function formatShare(part: number, total: number): string {
  return `${((100 * part) / Math.max(total, 1)).toFixed(1)}%`;
}

function renderBiggest({ biggest }: SnapshotReport): string[] {
  if (biggest.length === 0) return [];
  const rows = biggest.map(({ database, type, encoding, elements, bytes, key }) => [
    formatBytes(bytes),
    elements === null ? none : formatCount(elements),
    encoding === "plain" || encoding === type ? type : `${type} (${encoding})`,
    String(database),
    quoteName(key),
  ]);
  const headings = [">bytes", ">elements", "type", ">db", "key"];
  return ["", title("Biggest keys"), ...renderTable({ headings, rows })];
}

function renderPrefixes({ prefixes, keys }: SnapshotReport): string[] {
  const { top, distinct, others, without, separator, depth } = prefixes;
  if (keys === 0) return [];
  const toRow = (name: string, share: { keys: number; bytes: number }) => [
    formatBytes(share.bytes),
    formatCount(share.keys),
    name,
  ];
  const rows = top.map((share) => toRow(quoteName(share.prefix), share));
  if (without.keys > 0) rows.push(toRow(`no "${separator}" in the key`, without));
  if (others.keys > 0) rows.push(toRow("not told apart: too many, or too long", others));
  const upTo = depth === 1 ? `the first "${separator}"` : `"${separator}" number ${depth}`;
  const headings = [">bytes", ">keys", "prefix"];
  const lines = ["", title(`Prefixes, up to ${upTo}`), ...renderTable({ headings, rows })];
  const further = distinct - top.length;
  if (further > 0) lines.push(`  further prefixes: ${formatCount(further)}`);
  return lines;
}

function renderStreams({ streams }: SnapshotReport): string[] {
  if (streams === null || streams.groups === 0) return [];
  const { keys, entries, groups, consumers, pending, topGroups } = streams;
  const rows = topGroups.map((group) => [
    formatCount(group.pending),
    formatCount(group.consumers),
    group.lastId,
    String(group.database),
    quoteName(group.group),
    quoteName(group.key),
  ]);
  const totals = [plural(keys, "stream"), `${formatCount(entries)} entries`];
  totals.push(
    plural(groups, "group"),
    plural(consumers, "consumer"),
    `${formatCount(pending)} pending`,
  );
  const headings = [">pending", ">consumers", "last id", ">db", "group", "key"];
  return ["", title(totals.join(", ")), ...renderTable({ headings, rows })];
}

function renderExtras({ functions, modules, slots }: SnapshotReport): string[] {
  const lines: string[] = [];
  if (functions.length > 0) {
    const rows = functions.map(({ library, engine, bytes }) => [
      library,
      engine,
      formatBytes(bytes),
    ]);
    const headings = ["library", "engine", ">bytes"];
    lines.push("", title("Functions"), ...renderTable({ headings, rows }));
  }
  if (modules.length > 0) {
    const rows = modules.map(({ name, keys, auxRecords }) => [
      name,
      formatCount(keys),
      formatCount(auxRecords),
    ]);
    const headings = ["module type", ">keys", ">records"];
    lines.push("", title("Modules"), ...renderTable({ headings, rows }));
  }
  if (slots > 0) lines.push("", title(`Sizes of ${plural(slots, "cluster slot")}`));
  return lines;
}

function renderLog({ files }: InspectReport, log: LogReport): string[] {
  const rows = files.map((file) => [
    printable(file.file),
    file.role,
    file.sizeBytes === null ? "missing" : formatBytes(file.sizeBytes),
    formatCount(file.records),
    formatCount(file.transactions),
    file.fromMs === null ? none : formatTime(file.fromMs),
    file.toMs === null ? none : formatTime(file.toMs),
    describeTail(file),
  ]);
  const headings = ["file", "role", ">size", ">records", ">MULTI", "from", "to", "end"];
  const lines = ["", title("Files"), ...renderTable({ headings, rows })];
  if (log.lastPosition !== null) {
    lines.push("", title(`${plural(log.positionLines, "position line")}`));
    const ends = [
      ["first", log.firstPosition ?? none] as const,
      ["last", log.lastPosition] as const,
    ];
    lines.push(...renderPairs(ends));
  }
  return [...lines, ...renderCommands(log)];
}

function describeTail({ hasSnapshot, records, tail }: InspectReport["files"][number]): string {
  if (tail.kind === "unknown") return "damaged";
  if (tail.kind !== "whole") return `inside a ${tail.kind}, from byte ${tail.offset}`;
  return hasSnapshot && records === 0 ? "snapshot only" : "whole";
}

function renderCommands({ commands, commandOthers }: LogReport): string[] {
  if (commands.length === 0) return [];
  const rows = commands
    .slice(0, maxCommands)
    .map(({ name, count, bytes }) => [formatCount(count), formatBytes(bytes), name]);
  const rest = commands.slice(maxCommands);
  const further = rest.reduce((sum, { count }) => sum + count, commandOthers);
  const headings = [">records", ">bytes", "command"];
  const lines = ["", title("Commands"), ...renderTable({ headings, rows })];
  if (further > 0) lines.push(`  ${plural(further, "record")} of other commands`);
  return lines;
}
