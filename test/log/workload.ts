/**
 * A recorder's life in small, on a disk on which everything goes wrong, against a model.
 *
 * A source streams numbered records; a spool takes them, with new bases, rotation, rebases, errors and
 * retries, until the world stands still at some call to the disk. What the next process finds is held
 * against what it may be: no record twice, none missing, none lost that was acknowledged, every gap
 * told, nothing retired that is not whole. Then life goes on from there.
 */
import assert from "node:assert/strict";
import { Slice } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import { LogChecker } from "../../src/codec/aof/check.ts";
import { RecordScanner } from "../../src/codec/aof/framing.ts";
import type { Generation } from "../../src/log/segment.ts";
import { type FsyncPolicy, Spool } from "../../src/log/spool.ts";
import { MemoryDisk, type Random, seededRandom } from "../../src/log/testing.ts";

export type Case = {
  readonly seed: number;
  readonly fsync: FsyncPolicy;
  /** Which of the calls to the disk never returns; later lives end at random ones. */
  readonly crashAt: number;
  readonly losesPower: boolean;
  /** Writes, syncs and all else fail now and then, and space runs out. */
  readonly hasErrors: boolean;
  readonly lives: number;
};

const folder = "/spool";
const replicationId = "0123456789abcdef0123456789abcdef01234567";

/** What the source has streamed: batches of whole records, the last of them not always whole units. */
type Sent = {
  readonly startOffset: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly database: number;
  /** A position line may stand behind it. */
  readonly endsUnit: boolean;
};

class Source {
  readonly sent: Sent[] = [];
  readonly #random: Random;
  #count = 0;
  #database = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  at(index: number): Sent {
    while (this.sent.length <= index) this.#send();
    return this.sent[index] as Sent;
  }

  #send(): void {
    const random = this.#random;
    const last = this.sent.at(-1);
    const startOffset = last?.offset ?? 100;
    const isInside = last?.endsUnit === false;
    const records: Uint8Array[] = [];
    const database = this.#database;
    if (!isInside && random.chance(0.2)) records.push(encode("MULTI"));
    const begins = records.length > 0;
    for (let left = random.below(4); left > 0; left--) {
      if (random.chance(0.2)) {
        this.#database = random.below(3);
        records.push(encode("SELECT", `${this.#database}`));
      }
      const value = "v".repeat(random.below(60));
      records.push(encode("SET", `${this.#count++}`, `${this.#database}`, value));
    }
    const isOpen = begins || isInside;
    const ends = isOpen && random.chance(0.7);
    if (ends) records.push(encode("EXEC"));
    const bytes = Buffer.concat(records);
    // What is not in the log counts all the same: PING, GETACK.
    const offset = startOffset + bytes.length + (random.chance(0.3) ? 14 : 0);
    this.sent.push({ startOffset, offset, bytes, database, endsUnit: !isOpen || ends });
  }
}

type Run = {
  readonly life: Case;
  readonly random: Random;
  readonly source: Source;
  readonly bases: Map<number, string>;
  nowMs: number;
  /** Index of the next batch. */
  next: number;
  /** The offsets of bases whose `commit()` was called, since one of them has returned. */
  readonly committing: Set<number>;
  /** The offset of the base in force. */
  base: number | undefined;
  /** Where the log may begin after rebases of which it is not known whether they were done. */
  readonly rebasing: Set<number>;
  /** A rebase that is under way. */
  rebase: Promise<void> | undefined;
};

/** Returns how many calls the first life had, had it not ended early. */
export async function runCase(life: Case): Promise<number> {
  const random = seededRandom(life.seed);
  const run: Run = {
    life,
    random,
    source: new Source(seededRandom(life.seed + 1)),
    bases: new Map(),
    nowMs: 1_795_328_990_000,
    next: 0,
    committing: new Set(),
    base: undefined,
    rebasing: new Set(),
    rebase: undefined,
  };
  let disk = new MemoryDisk(seededRandom(life.seed + 2));
  let calls = 0;
  for (let number = 0; number < life.lives; number++) {
    disk.crashAt = number === 0 ? life.crashAt : 1 + random.below(120);
    const spools: Spool[] = [];
    await Promise.race([live(run, disk, spools), disk.crashed]);
    if (number === 0) calls = disk.calls;
    const spool = spools.at(-1);
    const hasEnded = spool?.state.kind === "closed";
    const losesPower = number === 0 ? life.losesPower : random.chance(0.5);
    const acknowledged =
      spool === undefined ? undefined : told(spool, losesPower || disk.failedSyncs > 0);
    disk = disk.restart({ losesPower });
    run.rebase = undefined;
    await verify(run, disk, { acknowledged, hasEnded });
    // `verify()` has opened it and closed it again.
    disk = disk.restart({ losesPower: false });
  }
  return calls;
}

/**
 * Up to where the source was told that the spool has it. What was written and not synced may be gone
 * with the power, and after a sync that failed.
 */
function told(spool: Spool, mayLose: boolean): number | undefined {
  return mayLose ? spool.synced?.offset : spool.durable?.offset;
}

async function live(run: Run, disk: MemoryDisk, spools: Spool[]): Promise<void> {
  const { random, life } = run;
  const spool = await Spool.open(folder, options(run, disk));
  spools.push(spool);
  resume(run, spool);
  if (life.hasErrors) {
    disk.errors = random.chance(0.5) ? 0.01 : 0;
    disk.syncErrors = random.chance(0.5) ? 0.03 : 0;
    disk.shortWrites = 0.2;
    if (random.chance(0.3)) disk.spaceBytes = disk.usedBytes + 500 + random.below(6000);
  }
  for (let step = 0; step < 60; step++) {
    await act(run, disk, spool);
    if (disk.hasCrashed) return;
  }
  disk.errors = 0;
  disk.syncErrors = 0;
  disk.spaceBytes = Number.POSITIVE_INFINITY;
  if (random.chance(0.5)) await run.rebase;
  do {
    // What is under way may still fail.
    await spool.flush().catch(mustBeFailure);
    if (spool.state.kind === "failing") await retry(run, spool);
  } while (spool.state.kind === "failing");
  await spool.close();
}

function options(run: Run, disk: MemoryDisk) {
  return {
    disk,
    fsync: run.life.fsync,
    segmentBytes: 1500,
    segmentMs: 5000,
    maxPendingBytes: 2000,
    clock: { now: () => run.nowMs },
  };
}

async function act(run: Run, disk: MemoryDisk, spool: Spool): Promise<void> {
  const { random } = run;
  if (spool.state.kind === "empty" || spool.state.kind === "damaged") {
    await takeBase(run, spool);
    return;
  }
  if (spool.state.kind === "failing") {
    if (random.chance(0.3)) disk.spaceBytes += 3000;
    await retry(run, spool);
    return;
  }
  const choice = random.below(100);
  if (choice < 60) append(run, spool);
  else if (choice < 75) {
    run.nowMs += random.below(1500);
    spool.tick();
  } else if (choice < 80) await spool.flush().catch(mustBeFailure);
  else if (choice < 83) await takeBase(run, spool);
  else if (choice < 90) run.rebase ??= rebase(run, spool);
  else await new Promise(setImmediate);
  for (let turns = random.below(20); turns > 0; turns--) await Promise.resolve();
}

function append(run: Run, spool: Spool): void {
  const { bytes, startOffset, offset, database } = run.source.at(run.next);
  run.nowMs += run.random.below(300);
  const batch = { replicationId, startOffset, offset, ms: run.nowMs, database };
  try {
    spool.append(bytes, batch);
    run.next++;
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== "LIMIT_EXCEEDED") throw error;
  }
}

async function retry(run: Run, spool: Spool): Promise<void> {
  const before = spool.position?.offset ?? 0;
  const outcome = await spool.retry();
  const after = spool.position?.offset ?? 0;
  if (outcome !== "rewound") assert.equal(after, before, "Nothing is given up in silence");
  else resume(run, spool);
}

/** As a source would on PSYNC: goes on behind the position. */
function resume(run: Run, spool: Spool): void {
  const offset = spool.position?.offset;
  if (offset === undefined) return;
  const { source } = run;
  run.next = 0;
  while (source.at(run.next).startOffset < offset) run.next++;
  assert.equal(source.at(run.next).startOffset, offset, "The position is the end of a batch");
}

/** The source is further on by then, and not in a transaction. */
async function takeBase(run: Run, spool: Spool): Promise<void> {
  const { random, source } = run;
  let next = run.next + random.below(4);
  while (next > 0 && !source.at(next - 1).endsUnit) next++;
  const { startOffset: offset, database } = source.at(next);
  const content = contentAt(offset);
  const at = { replicationId, offset, ms: run.nowMs, database };
  try {
    const base = await spool.beginBase(at, "the source has forgotten what follows");
    try {
      await base.write(Buffer.from(content.slice(0, 10)));
      if (random.chance(0.1)) throw new Failure("FILE_FAILED", "The connection is lost");
      await base.write(Buffer.from(content.slice(10)));
      run.bases.set(offset, content);
      run.committing.add(offset);
      await base.commit();
      run.committing.clear();
      run.rebasing.clear();
      run.base = offset;
      run.next = next;
    } catch (error) {
      mustBeFailure(error);
      await base.abort();
    }
  } catch (error) {
    mustBeFailure(error);
  }
}

/** On a snapshot from behind any record, or from somewhere in what no log needs. */
async function rebase(run: Run, spool: Spool): Promise<void> {
  const { random, source } = run;
  try {
    const { generation } = spool;
    const first = generation?.segments[0];
    const last = generation?.segments.at(-2)?.last.offset;
    if (generation === undefined || first === undefined || last === undefined) return;
    const offsets = unitEnds(source).filter((each) => each > first.first.offset && each <= last);
    const offset = offsets[random.below(offsets.length)];
    if (offset === undefined) return;
    const plan = await spool.planRebase({ replicationId, offset });
    if (spool.generation?.base?.sequence !== generation.base?.sequence) return;
    assert.ok(plan !== undefined, `Position ${offset} is in the log`);
    const content = contentAt(offset);
    const origin = generation.rebased?.origin ?? first.first;
    run.bases.set(offset, content);
    run.rebasing.add(offset);
    const parts = {
      ...{ origin, keeper: "the-archive", sizeBytes: content.length },
      async *content() {
        yield Buffer.from(content.slice(0, 20));
        for (let turns = random.below(50); turns > 0; turns--) await Promise.resolve();
        if (random.chance(0.1)) throw new Failure("STORE_BUSY", "The storage is away");
        yield Buffer.from(content.slice(20));
      },
    };
    const before = run.base;
    const freed = await spool.rebase(plan, parts, new AbortController().signal);
    if (freed === undefined) {
      run.rebasing.delete(offset);
    } else if (run.base === before) {
      run.base = offset;
      run.rebasing.clear();
    }
  } catch (error) {
    mustBeFailure(error);
  } finally {
    run.rebase = undefined;
  }
}

/** Where units end: with a batch, or within one, counted back from its end. */
function unitEnds({ sent }: Source): number[] {
  return sent.flatMap(({ bytes, offset, endsUnit }, i) => {
    if (!endsUnit || sent[i - 1]?.endsUnit === false) return endsUnit ? [offset] : [];
    const scanner = new RecordScanner();
    const ends: number[] = [];
    scanner.push(bytes);
    while (scanner.next() !== "more") {
      if (scanner.unitStart === undefined) ends.push(offset - (bytes.length - scanner.end));
    }
    return [offset, ...ends];
  });
}

/** A base says where it was taken. */
function contentAt(offset: number): string {
  return `base at ${offset} ${"x".repeat(offset % 500)}`;
}

type Outcome = { readonly acknowledged: number | undefined; readonly hasEnded: boolean };

async function verify(run: Run, disk: MemoryDisk, outcome: Outcome): Promise<void> {
  const spool = await Spool.open(folder, options(run, disk));
  const generation = spool.generation;
  if (generation === undefined) {
    assert.equal(spool.state.kind, "empty", "A crash is no damage");
    assert.equal(run.base, undefined, "A base that was in force stays");
  } else {
    const start = generation.segments[0]?.first.offset as number;
    const end = spool.position?.offset as number;
    const isOld = start === run.base || run.rebasing.has(start);
    assert.ok(isOld || run.committing.has(start), "It goes on from the last base");
    if (isOld) assert.ok(end >= (outcome.acknowledged ?? 0), "What was acknowledged is there");
    verifyGeneration(run, disk, generation);
    run.base = start;
  }
  run.committing.clear();
  run.rebasing.clear();
  await verifyHistory(run, disk, spool);
  const names = await disk.list(`${folder}/appendonlydir`);
  const left = names.filter((name) => /temp-/.test(name));
  assert.deepEqual(left, [], "Nothing unfinished is left");
  if (!run.life.hasErrors && generation !== undefined) {
    const { base, segments } = generation;
    const named = [base?.name, ...segments.map(({ name }) => name), "appendonly.aof.manifest"];
    assert.deepEqual(new Set(names), new Set(named), "Nothing that is not named is left");
  }
  await spool.close();
}

/** Retired logs are whole, and between any two logs there is a gap, or none is missing. */
async function verifyHistory(run: Run, disk: MemoryDisk, spool: Spool): Promise<void> {
  const retired = await spool.retired();
  for (const generation of retired) verifyGeneration(run, disk, generation);
  const all = [...retired, ...(spool.generation === undefined ? [] : [spool.generation])];
  const expected = all.slice(1).flatMap((generation, i) => {
    const from = all[i]?.segments.at(-1)?.last.offset;
    const { rebased, base, segments } = generation;
    const to = (rebased?.origin ?? segments[0]?.first)?.offset;
    // A gap has the number of the base that ended it.
    return from === to ? [] : [`${rebased === undefined ? base?.sequence : "any"}: ${from}-${to}`];
  });
  const gaps = spool.gaps.map(({ base, from, to }, i) => {
    const number = expected[i]?.startsWith("any") === true ? "any" : base;
    return `${number}: ${from?.offset}-${to.offset}`;
  });
  assert.deepEqual(gaps, expected, "Every gap is told");
}

function verifyGeneration(run: Run, disk: MemoryDisk, generation: Generation): void {
  assert.deepEqual(generation.damaged, []);
  const { base, segments, rebased } = generation;
  const start = segments[0]?.first.offset as number;
  const origin = rebased?.origin ?? segments[0]?.first;
  assert.equal(origin?.sequence, 0, "It is known where it once began");
  assert.equal(segments[0]?.was === undefined, rebased === undefined);
  const end = segments.at(-1)?.last.offset as number;
  const content = disk.peek(base?.path ?? "");
  assert.equal(
    content && Buffer.from(content).toString(),
    run.bases.get(start),
    "The base is whole",
  );
  const found: string[] = [];
  let after = {};
  for (const { path, name } of segments) {
    const bytes = disk.peek(path);
    assert.ok(bytes, `${name} is there`);
    const checker = new LogChecker(after);
    checker.push(bytes);
    const result = checker.finish();
    const isWhole = result.verdict === "ok" && result.sealedEnd === bytes.length;
    assert.ok(isWhole, `${name} is whole and proved`);
    after = { after: result.last };
    found.push(...records(bytes, true));
  }
  const sent = run.source.sent.filter(({ offset }) => offset > start && offset <= end);
  // A log that was rebased may begin within a batch.
  const behind = sent.map(({ bytes, offset }) =>
    bytes.subarray(-Math.min(bytes.length, offset - start)),
  );
  const expected = records(Buffer.concat(behind), false);
  assert.deepEqual(found, expected, "Each record once, in order");
}

/** The records but for SELECT; with `isLog`, each has to be for the database that it says. */
function records(bytes: Uint8Array, isLog: boolean): string[] {
  const scanner = new RecordScanner();
  const slice = new Slice();
  const found: string[] = [];
  scanner.push(bytes);
  for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
    if (item !== "record" || !scanner.argument(0, slice) || slice.latin1() === "SELECT") continue;
    scanner.raw(slice);
    const text = slice.latin1();
    found.push(text);
    if (isLog && scanner.argument(2, slice)) assert.equal(slice.latin1(), `${scanner.database}`);
  }
  return found;
}

function encode(...words: readonly string[]): Uint8Array {
  const parts = words.map((word) => `$${word.length}\r\n${word}\r\n`);
  return Buffer.from(`*${words.length}\r\n${parts.join("")}`);
}

function mustBeFailure(error: unknown): void {
  if (!(error instanceof Failure)) throw error;
}
