import { type ErrorCode, exitStatuses } from "../base/errors.ts";

/** What can go wrong with files, storages, servers, and writing beside others. */
const file = ["FILE_MISSING", "FILE_FAILED"] as const;
const data = ["DATA_CORRUPT", "DATA_UNSUPPORTED", "LIMIT_EXCEEDED"] as const;
const store = [
  ...["OBJECT_MISSING", "STORE_FAILED", "STORE_DENIED", "STORE_UNFIT", "STORE_BUSY"],
  ...["TLS_FAILED", "KEY_NEEDED"],
] as const satisfies readonly ErrorCode[];
const source = [
  ...["PROTOCOL_ERROR", "SERVER_UNREACHABLE", "SERVER_LOST", "SERVER_DENIED", "TLS_FAILED"],
  ...["REPLICATION_REFUSED", "SERVER_BUSY", "SERVER_FAILED"],
] as const satisfies readonly ErrorCode[];
const lease = ["LEASE_HELD", "LEASE_LOST"] as const;
const replay = ["SERVER_NEEDED", "SERVER_FAILED"] as const;
const output = ["TARGET_CANNOT_HOLD", "FILE_EXISTS"] as const;
const moment = ["OUTSIDE_WINDOWS"] as const;

const archived = [...file, ...data, ...store];

/** A wrong command line, output that cannot be written, a signal. `up` and `record` end with 0 at a signal, once they run. */
const always = ["USAGE", "FILE_FAILED", "ABORTED"] as const;

/** By the name of the command, besides what is always possible. */
export const codesOfCommands: Readonly<Record<string, readonly ErrorCode[]>> = {
  inspect: [...file, ...data],
  check: [...file, ...data, "DATA_TORN", "FILE_EXISTS"],
  convert: [...file, ...data, "DATA_TORN", ...output, ...replay],
  record: [...file, ...data, "DATA_TORN", ...source, "FILE_EXISTS"],
  status: [...archived, "SERVER_UNREACHABLE"],
  init: [...file, ...store, "FILE_EXISTS"],
  up: ["FILE_MISSING"],
  backup: [...archived, ...source, ...lease, "FILE_EXISTS"],
  backups: archived,
  show: archived,
  keep: archived,
  unkeep: archived,
  verify: [...archived, "SERVER_FAILED"],
  expire: [...archived, ...lease, "CLOCK_DOUBTED"],
  restore: [
    ...[...archived, ...moment, ...output, ...replay, ...source, ...lease],
    "TARGET_NOT_EMPTY",
  ],
  download: [...archived, ...moment, ...output, ...replay],
  cat: archived,
};

/** The exit statuses of a command as its help shows them; without one, all that there are. */
export function describeExitStatuses(command?: string): string {
  const own = command === undefined ? undefined : codesOfCommands[command];
  const codes = own && new Set<ErrorCode>([...always, ...own]);
  const words = new Map<number, string[]>([[0, ["done; what was checked is sound"]]]);
  for (const [exit, code] of exitStatuses) {
    if (codes !== undefined && !codes.has(code)) continue;
    const said = code.toLowerCase().replaceAll("_", " ");
    words.set(exit, [...(words.get(exit) ?? []), said]);
  }
  words.set(70, ["a bug in Tidemark"]);
  words.set(141, ["whoever read the output has ended"]);
  const lines = [...words]
    .sort(([a], [b]) => a - b)
    .map(([exit, said]) => `  ${String(exit).padStart(3)}  ${said.join(", ")}`);
  return ["Exit status:", ...lines].join("\n");
}
