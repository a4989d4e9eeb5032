/**
 * A real source with a real recorder, and the moments at which it is known what the source held.
 *
 * While the writers pause, the source is asked for its position and its DEBUG DIGEST: that is the
 * truth that a restore to this position is held against. Keys that expire soon are deleted before:
 * when they are gone is up to each server.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Moment } from "../../src/archive/layout.ts";
import { ReplicaLink } from "../../src/link/replica-link.ts";
import { findManifest, readAppendOnlyDir } from "../../src/log/append-only-dir.ts";
import { freePort } from "../link/ports.ts";
import { Recording } from "../record/recording.ts";
import { Source } from "../record/source.ts";
import { type Random, randomFrom, writeRandomly } from "../record/workload.ts";
import { temporaryFolder } from "../support/folder.ts";
import type { ServerId } from "../support/servers.ts";
import { Archived, positionLines } from "./archived.ts";

export type Checkpoint = Moment & { readonly digest: string; readonly keys: number };

export type Recorded = {
  readonly archived: Archived;
  readonly checkpoints: readonly Checkpoint[];
  /** The base, and the log as one. */
  readonly base: Uint8Array;
  readonly log: Uint8Array;
};

const databases = 4;
const patienceMs = 30_000;

/** Records a workload with pauses; a set is taken at some of them, while the source is written to. */
export async function record(id: ServerId, seed: number, pauses = 6): Promise<Recorded> {
  using folder = temporaryFolder();
  const random = randomFrom(seed);
  const port = await freePort();
  const settings = { port, "repl-diskless-sync": "yes" };
  await using source = await Source.start(id, join(folder.path, "source"), settings);
  await writeRandomly(source.client, 500, random);
  const spool = join(folder.path, "spool");
  const flags = ["--segment-mb", "1"];
  await using recorder = new Recording(`redis://127.0.0.1:${port}`, spool, flags);
  await recorder.until(({ state }) => state === "streaming");
  const checkpoints: Checkpoint[] = [];
  const archived = new Archived();
  for (let i = 0; i < pauses; i++) {
    const writing = writeRandomly(source.client, 1500, random);
    if (i % 2 === 1) await takeSet(archived, port);
    await writing;
    checkpoints.push(await pause(source, recorder));
  }
  if ((await recorder.end()) !== 0) throw new Error(recorder.said);
  return { archived, checkpoints, ...(await archive(archived, spool, random)) };
}

/** A snapshot of the source, as any replica gets one. */
async function takeSet(archived: Archived, port: number): Promise<void> {
  await using link = await ReplicaLink.open({ host: "127.0.0.1", port });
  const { position } = await link.start();
  const chunks: Uint8Array[] = [];
  for await (const chunk of link.snapshot()) chunks.push(Uint8Array.from(chunk));
  // oxlint-disable-next-line no-restricted-properties -- why: the source has the same clock
  await archived.addSet(Buffer.concat(chunks), { ...position, ms: Date.now() });
}

async function pause(source: Source, recorder: Recording): Promise<Checkpoint> {
  const { client } = source;
  const names = Array.from({ length: 10 }, (_, i) => [`short:${i}`, `fields:${i}`]).flat();
  for (let database = 0; database < databases; database++) {
    await client.call("SELECT", database);
    await client.call("DEL", ...names);
  }
  await client.call("SET", "pause", "x");
  const replicationId = await source.info("replication", "master_replid");
  const offset = Number(await source.info("replication", "master_repl_offset"));
  const { writtenAtMs } = await recorder.until(
    (status) => status.replicationId === replicationId && Number(status.writtenOffset) >= offset,
  );
  const digest = await source.server.debugDigest();
  let keys = 0;
  for (let database = 0; database < databases; database++) {
    await client.call("SELECT", database);
    keys += Number(await client.call("DBSIZE"));
  }
  // Another millisecond: what is written next is stamped later.
  // oxlint-disable-next-line no-restricted-properties -- why: as above
  for (const end = Date.now() + patienceMs; Date.now() <= Number(writtenAtMs) + 5; ) {
    // oxlint-disable-next-line no-restricted-properties -- why: as above
    if (Date.now() > end) throw new Error("The clock stands still");
    await sleep(1);
  }
  return { replicationId, offset, ms: Number(writtenAtMs), digest, keys };
}

/** Cuts the log of the spool into pieces at random lines, and stores them with its base. */
async function archive(archived: Archived, spool: string, random: Random) {
  const { files } = readAppendOnlyDir(findManifest(spool));
  const [base, ...segments] = files.map(({ path }) => Uint8Array.from(readFileSync(path)));
  const log = Buffer.concat(segments);
  const first = positionLines(log)[0]?.position;
  if (base === undefined || first === undefined) throw new Error("The spool has no log");
  await archived.addLog(log, first, { blockBytes: 20_000, cutAfter: () => random() < 0.02 });
  await archived.addSet(base, first, { kind: "base" });
  return { base, log };
}
