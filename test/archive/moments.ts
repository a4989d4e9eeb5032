/**
 * The proof of recovery: a server under random writes, recorded and archived by `tidemark up`, with backup
 * sets in between. At many moments the source itself says what it holds, and at which position. Restored to
 * that position, or to that time, a stock server must hold the same.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Site } from "../cli/daemon.ts";
import { tidemark } from "../cli/tidemark.ts";
import { until } from "../link/until.ts";
import { readers } from "../record/round.ts";
import { randomFrom, writeLasting } from "../record/workload.ts";
import type { Client } from "../support/client.ts";
import { temporaryFolder } from "../support/folder.ts";
import { type RunningServer, type ServerId, startServer } from "../support/servers.ts";

/** What the source held. */
type Moment = {
  readonly position: string;
  readonly offset: number;
  /** Where nothing was written for a while before and after: the source's time in between. */
  readonly ms: number | undefined;
  readonly digest: string;
};

export type MomentFacts = {
  readonly moments: number;
  readonly byTime: number;
  readonly sets: number;
  readonly commands: number;
};

export type MomentOptions = {
  readonly moments: number;
  readonly seed: number;
  /** Its address; a new folder where it is not given. */
  readonly repository?: string;
  /** From one moment to the next, at most. */
  readonly pauseMs?: number;
  readonly report?: (text: string) => void;
};

const writers = 3;
/** Between batches of a writer: the source is busy, and its log stays small enough to be read often. */
const breathMs = 10;
/** Longer than the clocks of source and recorder can differ in what they say of a batch. */
const quietMs = 60;

export async function testMoments(id: ServerId, options: MomentOptions): Promise<MomentFacts> {
  const random = randomFrom(options.seed);
  using folder = temporaryFolder();
  const conf = { "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1 };
  await using source = await startServer(id, { conf });
  const { repository = join(folder.path, "repository") } = options;
  const site = new Site(folder.path, source.socketPath, "segment_size: 1MB", repository);
  const made = await tidemark("init", repository);
  assert.equal(made.status, 0, made.stderr);
  await using daemon = site.up();
  await daemon.told("archive verified");
  const found = await writeAndWatch(source, site, options, random);
  const { moments } = found;
  const last = moments.at(-1) as Moment;
  await until("all is archived", async () => await isArchived(site, last));
  await daemon.stop("SIGTERM");
  let byTime = 0;
  for (const [index, moment] of moments.entries()) {
    const useTime = moment.ms !== undefined && random() < 0.6;
    if (useTime) byTime++;
    const target = useTime ? new Date(moment.ms as number).toISOString() : moment.position;
    const to = join(folder.path, `restored-${index}`);
    const { status, stderr } = await site.run("restore", "db1", "--at", target, "--to-dir", to);
    assert.equal(status, 0, `${target}: ${stderr}`);
    const digest = await digestOf(readers[id] ?? id, to);
    assert.equal(digest, moment.digest, `${id}, seed ${options.seed}: moment ${index}, ${target}`);
    options.report?.(`${id}: ${index + 1} of ${moments.length}, ${target}`);
  }
  return { moments: moments.length, byTime, sets: found.sets, commands: found.commands };
}

async function writeAndWatch(
  source: RunningServer,
  site: Site,
  { moments: count, pauseMs = 120 }: MomentOptions,
  random: () => number,
): Promise<{ moments: Moment[]; sets: number; commands: number }> {
  const moments: Moment[] = [];
  const gate = { isShut: false, isOver: false };
  let commands = 0;
  const write = async (seed: number) => {
    const numbers = randomFrom(seed);
    await using client = await source.connect();
    while (!gate.isOver) {
      await sleep(gate.isShut ? 2 : numbers() * breathMs * 2);
      if (gate.isShut) continue;
      await writeLasting(client, 20, numbers);
      commands += 20;
    }
  };
  const writing = Array.from({ length: writers }, () => write(Math.floor(random() * 1e9)));
  await using observer = await source.connect();
  const sets: Promise<void>[] = [];
  try {
    while (moments.length < count) {
      await sleep(random() * pauseMs);
      const isQuiet = random() < 0.5;
      gate.isShut = isQuiet;
      if (isQuiet) await sleep(quietMs * 2);
      moments.push(await observe(observer, isQuiet));
      if (isQuiet) await sleep(quietMs * 2);
      gate.isShut = false;
      // Some sets are taken while writes go on, one at a time.
      if (moments.length % Math.ceil(count / 4) !== 0) continue;
      sets.push(Promise.all(sets).then(() => takeSet(site)));
    }
  } finally {
    gate.isOver = true;
    await Promise.all(writing);
  }
  await Promise.all(sets);
  return { moments, sets: sets.length, commands };
}

async function takeSet(site: Site): Promise<void> {
  const { status, stderr } = await site.run("backup", "db1");
  assert.equal(status, 0, stderr);
}

/** In a transaction, so that nothing is written between the answers. */
async function observe(client: Client, isQuiet: boolean): Promise<Moment> {
  const asked = ["MULTI", "DEBUG DIGEST", "INFO replication", "TIME", "EXEC"];
  const replies = await Promise.all(asked.map((text) => client.call(...text.split(" "))));
  const [digest, info, time] = replies.at(-1) as [unknown, unknown, unknown[]];
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, "m").exec(String(info))?.[1];
  const offset = Number(field("master_repl_offset"));
  const [seconds, micros] = time.map(Number) as [number, number];
  const ms = Math.floor(seconds * 1000 + micros / 1000);
  return {
    position: `@${field("master_replid")}:${offset}`,
    offset,
    ms: isQuiet ? ms : undefined,
    digest: String(digest),
  };
}

async function isArchived(site: Site, { offset }: Moment): Promise<boolean> {
  const status = await site.json("status", "db1");
  const shipped = status.instances[0]?.live?.archive?.shippedOffset;
  return typeof shipped === "number" && shipped >= offset;
}

async function digestOf(id: ServerId, dir: string): Promise<string> {
  const conf = { appendonly: "yes", "aof-load-truncated": "no" };
  await using reader = await startServer(id, { dir, conf });
  return await reader.debugDigest();
}
