import { askStatus, type Status } from "../../record/status.ts";
import { renderPairs } from "../render/table.ts";
import { formatBytes, formatTime } from "../render/text.ts";

/** The command `status`. */
export async function showStatus(folder: string, asJson: boolean): Promise<void> {
  const status = await askStatus(folder);
  const text = asJson ? JSON.stringify(status) : renderPairs(toPairs(status)).join("\n");
  process.stdout.write(`${text}\n`);
}

function toPairs(status: Status): (readonly [string, string])[] {
  const pairs: (readonly [string, string])[] = [
    ["state", status.state],
    ["source", `${status.source}, version ${status.sourceVersion || "unknown"}`],
    ["history", status.replicationId ?? "none yet"],
    ["received", String(status.receivedOffset)],
    ["written", String(status.writtenOffset ?? "-")],
    ["synced", String(status.syncedOffset ?? "-")],
    ["behind", formatBytes(status.lagBytes)],
    ["last batch", status.writtenAtMs === null ? "-" : formatTime(status.writtenAtMs)],
    ["clock", `${status.skewMs.toFixed(1)} ms ahead of ours`],
    ["segments", String(status.segments)],
    ["gaps", String(status.gaps.length)],
  ];
  if (status.trouble !== null) pairs.splice(1, 0, ["trouble", status.trouble]);
  for (const { from, to, reason } of status.gaps.slice(-5)) {
    const start = from ? formatTime(from.ms) : "unknown";
    pairs.push(["gap", `${start} to ${formatTime(to.ms)}: ${reason}`]);
  }
  return pairs;
}
