/**
 * A process that takes sets, writes log and lets both expire, a day after the other, until it is killed.
 * Before and after each step it says so on its standard output.
 */
import { writeSync } from "node:fs";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { applyExpiry } from "../../src/archive/expire.ts";
import { lineName } from "../../src/archive/layout.ts";
import { initRepository, openRepository } from "../../src/archive/repository.ts";
import { planExpiry } from "../../src/archive/retention.ts";
import { keepSet, releaseSet, takeSet } from "../../src/archive/take-set.ts";
import { fromLatin1 } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import type { PositionLine } from "../../src/codec/aof/annotation.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { addPiece, instance, makeRdb, replicationId } from "./filled.ts";
import { dayMs } from "./histories.ts";

const [folder = ""] = process.argv.slice(2);
const tell = (text: string) => writeSync(1, `${text}\n`);
const lease = { check: async () => {} };
const policy = { retentionDays: 7, keepWeekly: 2, logWindowDays: 3 };
const piecesADay = 4;

const store = new DirectoryStore(folder);
const repository = await initRepository(store).catch((error: unknown) => {
  if (error instanceof Failure && error.code === "FILE_EXISTS") return openRepository(store);
  throw error;
});
const { sets } = await readCatalogue(store, instance);
// Always ahead of the real time, by which the storage dates what it has.
let nowMs = Math.max(sets.at(-1)?.ms ?? 0, repository.madeMs) + 2 * dayMs;
const clock = { now: () => nowMs };

for (let day = 0; ; day++) {
  tell("set");
  const position = { replicationId, offset: 0 };
  const { set } = await takeSet(
    repository,
    instance,
    async () => ({
      ...{ position, ms: nowMs, database: 0, chunks: chunksOf(makeRdb(2000)) },
      source: { name: "test", role: "master", version: "test" },
      cost: {
        ...{ preparedMs: 0, transferredMs: 0, forkMicros: null, copyOnWriteBytes: null },
        ...{ p99BeforeMs: null, p99DuringMs: null },
      },
      [Symbol.asyncDispose]: async () => {},
    }),
    { kind: "automatic", clock, lease, keep: day % 5 === 0 },
  );
  tell(`good ${set}`);
  await writeLog();
  nowMs += dayMs;
  const catalogue = await readCatalogue(store, instance);
  for (const kept of catalogue.sets.filter(({ isKept }) => isKept).slice(0, -2)) {
    await releaseSet(repository, instance, kept.name);
  }
  await keepSet(repository, instance, set, { clock });
  tell("expire");
  const listed = await readCatalogue(store, instance);
  const plan = planExpiry(listed, policy, nowMs);
  await applyExpiry(repository, plan, lease, { trustsClock: true });
  tell("expired");
}

async function* chunksOf(bytes: Uint8Array) {
  for (let at = 0; at < bytes.length; at += 20_000) yield bytes.subarray(at, at + 20_000);
}

/** A line of a day, from the set on. */
async function writeLog(): Promise<void> {
  const writer = new LogWriter();
  const line = lineName({ replicationId, offset: 0, ms: nowMs });
  writer.seal({ replicationId, offset: 0 }, nowMs);
  let before: PositionLine | undefined;
  for (let piece = 1; piece <= piecesADay; piece++) {
    writer.select(0);
    writer.record(["SET", "k", `${piece}`].map(fromLatin1));
    writer.seal({ replicationId, offset: piece * 100 }, nowMs + (piece * dayMs) / piecesADay);
    await addPiece(repository, { line, bytes: writer.take(), before, last: writer.position });
    before = writer.position;
  }
}
