import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { borrowed, openObject, readObject, writeObject } from "../../../test/archive/objects.ts";
import { fromLatin1 } from "../../base/bytes.ts";
import { LogScanner } from "../../codec/aof/log-scanner.ts";
import { LogWriter } from "../../codec/aof/writer.ts";
import type { LogIndex } from "./index-format.ts";
import { LogBlocks, type LogBlocksOptions, maxWide } from "./log-blocks.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";

const encoded = (...words: readonly string[]) =>
  `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`;

async function archive(log: Uint8Array | string, options: LogBlocksOptions = {}, size = 1 << 16) {
  const bytes = typeof log === "string" ? fromLatin1(log) : log;
  return await writeObject(new LogBlocks(options), borrowed(bytes, size));
}

/** The raw offset of the start of each block, and the end. */
function edges(index: LogIndex): number[] {
  const starts = [0];
  for (const { frames } of index.blocks) {
    starts.push((starts.at(-1) ?? 0) + frames.reduce((sum, [raw]) => sum + raw, 0));
  }
  return starts;
}

/** A log in which each batch is the stream byte for byte, but for comments. */
class Batches {
  readonly #writer: LogWriter;
  readonly #parts: Uint8Array[] = [];
  #offset = 0;
  #ms = 1_795_328_997_000;

  constructor(offset = 0) {
    this.#offset = offset;
    this.#writer = new LogWriter();
    this.#seal();
  }

  add(...commands: readonly string[]): void {
    for (const command of commands) {
      this.#writer.raw(fromLatin1(command));
      this.#offset += command.length;
    }
    this.#ms += 10;
    this.#seal();
  }

  #seal(): void {
    this.#writer.seal({ replicationId, offset: this.#offset }, this.#ms);
    this.#parts.push(Buffer.from(this.#writer.take()));
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

function batches(count: number, of: (i: number) => string): Uint8Array {
  const log = new Batches();
  for (let i = 0; i < count; i++) log.add(of(i), of(i + 1));
  return log.bytes();
}

test("blocks of a log with position lines end with one, and can be verified each alone", async () => {
  const log = batches(400, (i) => encoded("SET", `k${i}`, "v".repeat(50)));
  const { object, index } = await archive(log, { blockBytes: 4096 });
  assert.ok(index.blocks.length > 10);
  const reader = await openObject(object);
  let commands = 0;
  let after = index.after ?? undefined;
  for (const [i, block] of index.blocks.entries()) {
    assert.ok(block.isSealed);
    const bytes = await readObject(reader, { from: i, to: i + 1 });
    const scanner = new LogScanner(after === undefined ? {} : { after });
    scanner.push(bytes);
    let records = 0;
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item === "record") records++;
    }
    assert.equal(scanner.sealedEnd, bytes.length);
    assert.equal(records, block.commands);
    assert.deepEqual(scanner.position, block.last);
    commands += records;
    after = block.last ?? undefined;
  }
  assert.equal(index.commands, commands);
  assert.deepEqual(index.last, after);
});

test("blocks of a stock log end between units, as soon as they are long enough", async () => {
  const unit = encoded("MULTI") + encoded("SET", "a", "1").repeat(20) + encoded("EXEC");
  const log = `${encoded("SELECT", "3")}${(encoded("INCR", "n") + unit).repeat(100)}`;
  const { index } = await archive(log, { blockBytes: 2000 });
  assert.ok(index.blocks.length > 20);
  for (const [i, edge] of edges(index).slice(1, -1).entries()) {
    const isUnitStart = log.startsWith(encoded("INCR", "n"), edge) || log.startsWith(unit, edge);
    assert.ok(isUnitStart, `block ${i} ends at ${edge}`);
  }
  assert.deepEqual([index.blocks[0]?.database, index.blocks[1]?.database], [null, 3]);
  assert.deepEqual([index.after, index.last], [null, null]);
});

test("a batch that is much longer than a block is cut between its units", async () => {
  const log = new Batches();
  log.add(encoded("SET", "a", "1").repeat(1000));
  log.add(encoded("SET", "b", "1"));
  const { index } = await archive(log.bytes(), { blockBytes: 4096 });
  assert.ok(index.blocks.length > 3);
  assert.equal(index.blocks[1]?.isSealed, false);
  assert.equal(index.blocks[1]?.last, null);
  assert.equal(index.blocks.at(-1)?.isSealed, true);
});

test("a unit that is longer than a block stretches it over several frames", async () => {
  const value = Buffer.alloc(20_000_000, "some value ");
  const log = Buffer.concat([
    fromLatin1(`*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${value.length}\r\n`),
    value,
    fromLatin1(`\r\n${encoded("SET", "l", "1")}`),
  ]);
  const { object, index } = await archive(log);
  assert.deepEqual(
    index.blocks.map(({ frames, commands }) => [frames.length, commands]),
    [
      [5, 1],
      [1, 1],
    ],
  );
  const reader = await openObject(object);
  assert.ok(log.equals(await readObject(reader)));
  assert.equal(await reader.mayHold(0, fromLatin1("k")), true);
  assert.equal(await reader.mayHold(1, fromLatin1("k")), false);
});

test("wide commands are listed with place, database, position and time", async () => {
  const log = new Batches(100);
  const set = encoded("SET", "a", "1");
  log.add(encoded("SELECT", "2"), set, encoded("flushdb"), set);
  log.add(encoded("FUNCTION", "FLUSH"), encoded("SWAPDB", "0", "1"));
  const bytes = log.bytes();
  const { index } = await archive(bytes);
  const [block] = index.blocks;
  const offset = 100 + encoded("SELECT", "2").length + set.length + encoded("flushdb").length;
  const common = { database: 2, ms: index.blocks[0]?.wide[0]?.ms };
  const next = offset + set.length + encoded("FUNCTION", "FLUSH").length;
  const at = (name: string) => Buffer.from(bytes).indexOf(encoded(...name.split(" ")));
  assert.deepEqual(block?.wide, [
    { name: "FLUSHDB", at: at("flushdb"), keys: "db", ...common, offset },
    {
      name: "FUNCTION FLUSH",
      at: at("FUNCTION FLUSH"),
      keys: "none",
      ...common,
      offset: next,
      ms: block?.last?.ms,
    },
    {
      name: "SWAPDB",
      at: at("SWAPDB 0 1"),
      keys: "all",
      ...common,
      offset: next + encoded("SWAPDB", "0", "1").length,
      ms: block?.last?.ms,
    },
  ]);
});

test("a wide command has no offset where the log is not the stream byte for byte", async () => {
  const writer = new LogWriter();
  writer.seal({ replicationId, offset: 50 }, 1000);
  writer.raw(fromLatin1(encoded("FLUSHALL")));
  writer.seal({ replicationId, offset: 500 }, 2000);
  const sealed = Buffer.from(writer.take());
  const { index } = await archive(Buffer.concat([sealed, fromLatin1(encoded("FLUSHALL"))]));
  const wide = index.blocks[0]?.wide.map(({ offset, ms }) => [offset, ms]);
  assert.deepEqual(wide, [
    [null, 2000],
    [null, null],
  ]);
});

test("more wide commands than are listed are said to be there", async () => {
  const { index } = await archive(encoded("FLUSHALL").repeat(maxWide + 1));
  assert.equal(index.blocks[0]?.wide.length, maxWide);
  assert.equal(index.blocks[0]?.hasMoreWide, true);
});

test("a filter is of the keys that are changed, and of all where that is not known", async () => {
  const filterOf = async (log: string) => {
    const reader = await openObject((await archive(log)).object);
    return (key: string) => reader.mayHold(0, fromLatin1(key));
  };
  const known = await filterOf(encoded("SUNIONSTORE", "to", "from"));
  assert.deepEqual([await known("to"), await known("from")], [true, false]);
  for (const log of [encoded("EVAL", "x", "0"), encoded("MODULE.CALL", "k")]) {
    const unknown = await filterOf(log);
    assert.equal(await unknown("anything"), true, log);
  }
});

test("a log that ends inside a record or transaction is refused as torn", async () => {
  const whole = encoded("SET", "a", "1");
  for (const [log, offset] of [
    [whole + whole.slice(0, -1), whole.length],
    [whole + encoded("MULTI") + whole, whole.length],
    [`${whole}#TS:1`, whole.length],
  ] as const) {
    await assert.rejects(archive(log), { code: "DATA_TORN", offset });
  }
});

test("a damaged log is refused with the offset", async () => {
  const log = Buffer.from(batches(10, () => encoded("SET", "key", "value")));
  log[log.indexOf("value") + 1] = 0x21;
  await assert.rejects(archive(log), { code: "DATA_CORRUPT" });
  await assert.rejects(archive("SET a 1\r\n"), { code: "DATA_CORRUPT", offset: 0 });
});

test("a log has to go on from the segment before", async () => {
  const first = batches(3, () => encoded("INCR", "n"));
  const { index } = await archive(first);
  const after = index.last ?? assert.fail("A last line");
  const writer = new LogWriter({ after });
  writer.seal({ replicationId, offset: after.offset }, after.ms);
  const next = Buffer.from(writer.take());
  assert.deepEqual((await archive(next, { after })).index.after, after);
  await assert.rejects(archive(next, { after: { ...after, sequence: 0 } }), {
    code: "DATA_CORRUPT",
  });
});

test("what comes out does not depend on how the log was cut into chunks", async () => {
  const log = batches(120, (i) => encoded("SET", `key:${i}`, "v".repeat(i % 90)));
  const { object } = await archive(log, { blockBytes: 2048 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 5000 }), async (size) => {
      const again = await archive(log, { blockBytes: 2048 }, size);
      assert.ok(Buffer.from(again.object).equals(object));
    }),
    { numRuns: 25 },
  );
  assert.ok(Buffer.from((await archive(log, { blockBytes: 2048 }, 1)).object).equals(object));
});
