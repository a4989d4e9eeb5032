import { systemClock } from "../../base/clock.ts";
import type { ClusterStatus, Status } from "../../record/status.ts";
import { LiveLine } from "../render/live-line.ts";
import { formatBytes, formatDuration, formatTime, plural, printable } from "../render/text.ts";

const redrawMs = 500;

/**
 * Where a recorder tells what happens: on a terminal a line that is kept up to date, with events above
 * it; elsewhere a line of JSON for each event.
 */
export class StatusLine implements Disposable {
  readonly #status: () => Status | ClusterStatus;
  readonly #line = new LiveLine();
  readonly #timer: NodeJS.Timeout | undefined;
  #before: { readonly atMs: number; readonly offset: number } | undefined;

  constructor(status: () => Status | ClusterStatus) {
    this.#status = status;
    if (this.#line.isOnTerminal) this.#timer = setInterval(() => this.#draw(), redrawMs);
  }

  event({ text, fields }: { text: string; fields: object }): void {
    const ms = systemClock.now();
    if (!this.#line.isOnTerminal) {
      process.stderr.write(`${JSON.stringify({ time: new Date(ms).toISOString(), ...fields })}\n`);
      return;
    }
    this.#line.clear();
    process.stderr.write(`${formatTime(ms)}  ${printable(text)}\n`);
  }

  #draw(): void {
    const status = this.#status();
    const nowMs = performance.now();
    const before = this.#before;
    const offset = "shards" in status ? receivedOf(status) : status.receivedOffset;
    const rate =
      before && offset > before.offset
        ? ((offset - before.offset) / (nowMs - before.atMs)) * 1000
        : 0;
    this.#before = { atMs: nowMs, offset };
    const text = "shards" in status ? describeShards(status) : describe(status);
    this.#line.show(`${text}  ${formatBytes(Math.round(rate))}/s`);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#line[Symbol.dispose]();
  }
}

function receivedOf({ shards }: ClusterStatus): number {
  return shards.reduce((sum, { status }) => sum + (status?.receivedOffset ?? 0), 0);
}

/** The recorders of a cluster in one line. */
function describeShards({ shards }: ClusterStatus): string {
  const counts = new Map<string, number>();
  let lagBytes = 0;
  let gaps = 0;
  for (const { status } of shards) {
    const state = status?.state ?? "failed";
    counts.set(state, (counts.get(state) ?? 0) + 1);
    lagBytes += status?.lagBytes ?? 0;
    gaps += status?.gaps.length ?? 0;
  }
  const states = [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
  const found = gaps > 0 ? `, ${plural(gaps, "gap")}` : "";
  return `${plural(shards.length, "shard")}: ${states}  ${formatBytes(lagBytes)} behind${found}`;
}

/** A recorder's state in one line. */
function describe(status: Status): string {
  if (status.trouble !== null) return `${status.state}: ${status.trouble}`;
  if (status.state === "syncing") return `syncing, ${formatBytes(status.snapshotBytes ?? 0)}`;
  if (status.state !== "streaming") return status.state;
  const parts = [
    `at ${status.receivedOffset}`,
    `${formatBytes(status.lagBytes)} (${formatDuration(status.lagMs)}) behind`,
    `synced ${status.syncedAtMs === null ? "never" : formatTime(status.syncedAtMs).slice(11, 19)}`,
    plural(status.segments, "segment"),
  ];
  if (status.gaps.length > 0) parts.push(plural(status.gaps.length, "gap"));
  return `streaming  ${parts.join(", ")}`;
}
