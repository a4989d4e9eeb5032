import { askAnyStatus, type ShardStatus, type Status } from "../../record/status.ts";
import { renderPairs, renderTable } from "../render/table.ts";
import { formatBytes, formatDuration, formatTime, printable } from "../render/text.ts";

/** Of a shard's key, which is the id of a node: as much as people compare. */
const shownKeyChars = 12;
const shownSlotsChars = 40;

/** The command `status`. */
export async function showStatus(folder: string, asJson: boolean): Promise<void> {
  const status = await askAnyStatus(folder);
  const lines = asJson
    ? [JSON.stringify(status)]
    : "shards" in status
      ? renderShards(status.shards)
      : renderPairs(toPairs(status));
  process.stdout.write(`${lines.join("\n")}\n`);
}

function renderShards(shards: readonly ShardStatus[]): string[] {
  const rows = shards.map(({ shard, slots, isGone, status }) => [
    printable(shard).slice(0, shownKeyChars),
    slots.length > shownSlotsChars ? `${slots.slice(0, shownSlotsChars)}…` : slots,
    printable(status?.source || "-"),
    `${status?.state ?? "failed"}${isGone ? ", gone" : ""}`,
    status ? formatBytes(status.lagBytes) : "-",
    status?.writtenAtMs ? formatTime(status.writtenAtMs) : "-",
    String(status?.gaps.length ?? "-"),
  ]);
  const headings = ["shard", "slots", "source", "state", ">behind", "last batch", ">gaps"];
  const troubles = shards.flatMap(({ shard, trouble, status }) => {
    const found = status?.trouble ?? trouble;
    return found === null ? [] : [`  ${shard.slice(0, shownKeyChars)}: ${printable(found)}`];
  });
  return [...renderTable({ headings, rows }), ...troubles];
}

function toPairs(status: Status): (readonly [string, string])[] {
  const pairs: (readonly [string, string])[] = [
    ["state", status.state],
    ["source", `${status.source}, ${status.sourceVersion || "version unknown"}`],
    ["history", status.replicationId ?? "none yet"],
    ["received", String(status.receivedOffset)],
    ["written", String(status.writtenOffset ?? "-")],
    ["synced", String(status.syncedOffset ?? "-")],
    ["behind", `${formatBytes(status.lagBytes)}, ${formatDuration(status.lagMs)}`],
    ["last batch", status.writtenAtMs === null ? "-" : formatTime(status.writtenAtMs)],
    ["clock", describeSkew(status)],
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

function describeSkew({ skewMs, skewUncertaintyMs }: Status): string {
  if (skewUncertaintyMs === null) return "not known; taken to be ours";
  const size = `${Math.abs(skewMs).toFixed(1)} ms ${skewMs < 0 ? "behind" : "ahead of"} ours`;
  return `${size}, give or take ${skewUncertaintyMs.toFixed(1)} ms`;
}
