import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromLatin1, Slice, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { maxAnnotationBytes, RecordScanner, type ScannerOptions } from "./framing.ts";

type Seen = {
  readonly items: string[];
  readonly end: string;
  readonly database: number | undefined;
};

/** Everything that a scanner tells of a log that arrives in chunks, as text that can be compared. */
function scan(chunks: readonly Uint8Array[], options: ScannerOptions = {}): Seen {
  const scanner = new RecordScanner(options);
  const items: string[] = [];
  try {
    for (const chunk of chunks) {
      // A chunk is borrowed: what is read later must not depend on it.
      const borrowed = Buffer.from(chunk);
      scanner.push(borrowed);
      for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
        items.push(`${item} ${scanner.start}..${scanner.end} ${describe(scanner)}`);
      }
      borrowed.fill(0xee);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    assert.equal(error.code, "DATA_CORRUPT");
    assert.throws(() => scanner.next(), error);
    return { items, end: error.message, database: scanner.database };
  }
  const end = `${JSON.stringify(scanner.tail())} good ${scanner.goodEnd} ${scanner.goodRecords}`;
  return { items, end, database: scanner.database };
}

function describe(scanner: RecordScanner): string {
  const slice = new Slice();
  const args: string[] = [];
  for (let i = 0; i < scanner.argc && scanner.argument(i, slice); i++) args.push(slice.latin1());
  const raw = scanner.raw(slice) ? slice.latin1() : "in part";
  return JSON.stringify([scanner.argc, args, raw, scanner.unitStart]);
}

function record(...args: readonly string[]): string {
  const encoded = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`);
  return `*${args.length}\r\n${encoded.join("")}`;
}

function split(bytes: Uint8Array, size: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
  return chunks;
}

const scanText = (text: string, options?: ScannerOptions) => scan([fromLatin1(text)], options);

/** Values that look like what stands around them. */
const values = fc.oneof(
  fc.constantFrom("", "\n#TS:1\r\n", "*3\r\n$1\r\n", "\0\0\0", "EXEC", "MULTI", "\r\n", "#", "$5"),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => toLatin1(bytes)),
  fc.integer({ min: 100, max: 3000 }).map((size) => "x".repeat(size)),
);
const plain = fc
  .tuple(fc.constantFrom("SET", "incr", "HSET", "x"), fc.array(values, { maxLength: 5 }))
  .map(([name, args]) => record(name, ...args));
const transaction = fc
  .array(plain, { maxLength: 3 })
  .map((records) => record("MULTI") + records.join("") + record("eXeC"));
const select = fc.nat({ max: 99 }).map((database) => record("SELECT", String(database)));
const annotation = fc.constantFrom("#TS:1795328997\r\n", "#\n", "# a note\r\n", "#TS:*1\r\n");
const logs = fc
  .array(fc.oneof(plain, transaction, select, annotation), { maxLength: 12 })
  .map((parts) => fromLatin1(parts.join("")));

test("next() finds records and annotations with their places and arguments", () => {
  const first = "#TS:1795328997\r\n";
  const second = record("SELECT", "3");
  const third = record("set", "a", "\r\n*1\0");
  const { items, end, database } = scanText(first + second + third);
  const [a, b] = [first.length, first.length + second.length];
  assert.deepEqual(items, [
    `annotation 0..${a} ${JSON.stringify([0, [], first, null])}`,
    `record ${a}..${b} ${JSON.stringify([2, ["SELECT", "3"], second, null])}`,
    `record ${b}..${b + third.length} ${JSON.stringify([3, ["set", "a", "\r\n*1\0"], third, null])}`,
  ]);
  assert.equal(end, `{"kind":"whole"} good ${b + third.length} 2`);
  assert.equal(database, 3);
});

test("next() counts places from the offset at which the records start", () => {
  const { items } = scanText(record("PING"), { offset: 1_000 });
  assert.match(items[0] as string, /^record 1000\.\.1014 /);
});

test("what next() finds does not depend on the chunks", () => {
  fc.assert(
    fc.property(logs, fc.integer({ min: 1, max: 2000 }), (log, size) => {
      assert.deepEqual(scan(split(log, size)), scan([log]));
    }),
    { numRuns: 150 },
  );
});

test("what next() finds does not depend on the chunks where little is kept", () => {
  const options = { keepBytes: 1024 };
  fc.assert(
    fc.property(logs, fc.integer({ min: 1, max: 2000 }), (log, size) => {
      assert.deepEqual(scan(split(log, size), options), scan([log], options));
    }),
    { numRuns: 150 },
  );
});

test("next() gives the same at every single cut between two chunks", () => {
  const text =
    record("SELECT", "0") +
    "#TS:1\r\n" +
    record("MULTI") +
    record("SET", "k", "\n#TS:1\r\n") +
    record("EXEC") +
    record("SET", "long", "v".repeat(300));
  const log = fromLatin1(text);
  const whole = scan([log]);
  assert.match(whole.end, /"whole"/);
  for (let cut = 0; cut <= log.length; cut++) {
    assert.deepEqual(scan([log.subarray(0, cut), log.subarray(cut)]), whole);
  }
});

test("every prefix of a log is whole or torn, and good up to the last complete unit", () => {
  fc.assert(
    fc.property(logs, (log) => {
      const ends = unitEnds(log);
      for (let size = 0; size <= Math.min(log.length, 400); size++) {
        const seen = scan([log.subarray(0, size)]);
        const good = Math.max(...ends.filter((end) => end <= size));
        assert.match(seen.end, new RegExp(` good ${good} `), `cut at ${size}`);
        assert.match(seen.end, good === size ? /"whole"/ : /"(record|annotation|transaction)"/);
      }
    }),
    { numRuns: 30 },
  );
});

/** Where a cut leaves a good log: found with a parser of another kind. */
function unitEnds(log: Uint8Array): number[] {
  const text = toLatin1(log);
  const ends = [0];
  let isOpen = false;
  for (let at = 0; at < text.length; ) {
    if (text[at] === "#") {
      at = text.indexOf("\n", at) + 1;
    } else {
      const count = /^\*(\d+)\r\n/.exec(text.slice(at, at + 24));
      at += count?.[0].length ?? 0;
      let name: string | undefined;
      for (let i = 0; i < Number(count?.[1]); i++) {
        const length = /^\$(\d+)\r\n/.exec(text.slice(at, at + 24));
        at += length?.[0].length ?? 0;
        name ??= text.slice(at, at + Number(length?.[1])).toUpperCase();
        at += Number(length?.[1]) + 2;
      }
      if (name === "MULTI") isOpen = true;
      if (name === "EXEC") isOpen = false;
    }
    if (!isOpen) ends.push(at);
  }
  return ends;
}

test("next() passes over arguments that go beyond keepBytes and keeps those before", () => {
  const text = record("SET", "k", "v".repeat(5000), "PX", "1") + record("DEL", "k");
  const { items, end } = scanText(text, { keepBytes: 1024 });
  assert.equal(items.length, 2);
  assert.match(items[0] as string, /\[5,\["SET","k"\],"in part",null\]$/);
  assert.match(items[1] as string, /"DEL"/);
  assert.match(end, new RegExp(`good ${text.length} 2$`));
});

test("next() checks the line ends of arguments that it passes over", () => {
  const good = record("SET", "k", "v".repeat(5000));
  for (const bad of [`${good.slice(0, -2)}xy`, `${good.slice(0, -1)}x`]) {
    const { end } = scanText(bad, { keepBytes: 1024 });
    assert.equal(end, `Argument 2 does not end in CR LF at byte ${good.length - 2}`);
  }
});

test("a scanner holds no more of a long record than keepBytes", () => {
  const scanner = new RecordScanner({ keepBytes: 4096 });
  scanner.push(fromLatin1("*2\r\n$3\r\nSET\r\n$500000000\r\n"));
  assert.equal(scanner.next(), "more");
  const chunk = new Uint8Array(1024 * 1024);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 476; i++) {
    scanner.push(chunk);
    assert.equal(scanner.next(), "more");
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 2 * chunk.length);
  assert.deepEqual(scanner.tail(), { kind: "record", offset: 0 });
});

test("a long value that comes byte by byte does not take the square of its length", () => {
  const scanner = new RecordScanner({ keepBytes: 2 ** 30 });
  const size = 300_000;
  scanner.push(fromLatin1(`*2\r\n$3\r\nSET\r\n$${size}\r\n`));
  assert.equal(scanner.next(), "more");
  const byte = fromLatin1("v");
  for (let i = 0; i < size; i++) {
    scanner.push(byte);
    assert.equal(scanner.next(), "more");
  }
  scanner.push(fromLatin1("\r\n"));
  assert.equal(scanner.next(), "record");
  const slice = new Slice();
  assert.ok(scanner.argument(1, slice));
  assert.equal(slice.length, size);
});

test("a record of very many arguments is kept or passed over as keepBytes says", () => {
  const count = 200_000;
  const text = `*${count}\r\n${"$1\r\na\r\n".repeat(count)}`;
  for (const keepBytes of [1024, 2 ** 30]) {
    const scanner = new RecordScanner({ keepBytes });
    for (const chunk of split(fromLatin1(text), 70_001)) {
      assert.equal(scanner.pending === "nothing" || scanner.pending === "record", true);
      scanner.push(chunk);
      if (scanner.next() === "record") break;
    }
    assert.equal(scanner.end, text.length);
    assert.equal(scanner.argc, count);
    assert.equal(scanner.keptArguments, keepBytes === 1024 ? 145 : count);
  }
});

test("the database is followed inside transactions, and what is no number selects nothing", () => {
  const log = record("MULTI") + record("select", "7") + record("EXEC") + record("SELECT", "x");
  assert.equal(scanText(log).database, 7);
});

test("next() refuses what no server writes, with the place of the first wrong byte", () => {
  const refusals: readonly [log: string, message: string][] = [
    ["x", "Byte 0x78 where a record or an annotation must start at byte 0"],
    [`${record("A")}\0`, "Byte 0x00 where a record or an annotation must start at byte 11"],
    ["*0\r\n", 'Argument count starts "0\\r" at byte 0'],
    ["*-1\r\n", 'Argument count starts "-" at byte 0'],
    ["*+1\r\n", 'Argument count starts "+" at byte 0'],
    ["*\r\n", 'Argument count starts "\\r" at byte 0'],
    ["*1\n", 'Argument count starts "1\\n" at byte 0'],
    ["*1\rx", "Argument count does not end in CR LF at byte 0"],
    ["*2147483648\r\n", 'Argument count starts "2147483648" at byte 0'],
    [`*${"0".repeat(21)}1\r\n`, `Argument count starts "${"0".repeat(21)}" at byte 0`],
    ["*1\r\n+OK\r\n", "Byte 0x2b where argument 0 must start at byte 4"],
    ["*1\r\n$-1\r\n", 'Length of argument 0 starts "-" at byte 4'],
    ["*1\r\n$536870913\r\n", 'Length of argument 0 starts "536870913" at byte 4'],
    ["*1\r\n$4611686018427387904\r\n", 'Length of argument 0 starts "4611686018" at byte 4'],
    ["*1\r\n$1\r\nabc", "Argument 0 does not end in CR LF at byte 9"],
    ["*1\r\n$1\r\na\rb", "Argument 0 does not end in CR LF at byte 9"],
    [record("EXEC"), "EXEC without MULTI at byte 0"],
    [record("MULTI") + record("MULTI"), "MULTI inside a transaction at byte 15"],
    [`#${"a".repeat(maxAnnotationBytes)}`, "Annotation of more than 1023 bytes at byte 0"],
  ];
  for (const [log, message] of refusals) {
    const bytes = fromLatin1(log);
    for (const chunks of [[bytes], split(bytes, 1)]) assert.equal(scan(chunks).end, message);
  }
});

test("next() takes an annotation of as many bytes as servers take, line end included", () => {
  const line = `#${"a".repeat(maxAnnotationBytes - 2)}\n`;
  assert.equal(line.length, maxAnnotationBytes);
  assert.match(scanText(line + record("PING")).end, /"whole"/);
});

test("next() takes leading zeros in numbers, as servers do", () => {
  assert.match(scanText("*01\r\n$004\r\nPING\r\n").end, /"whole"/);
});

test("arbitrary bytes are scanned to an end, the same in any chunks", () => {
  const soup = fc
    .array(fc.constantFrom("*", "$", "#", "1", "2", "9", "\r\n", "\n", "\0", "a", "MULTI", "EXEC"))
    .map((parts) => fromLatin1(parts.join("")));
  const mutated = fc
    .tuple(logs, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 3 }))
    .map(([log, changes]) => {
      const bytes = Uint8Array.from(log);
      for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(soup, mutated, fc.uint8Array()), fc.nat({ max: 50 }), (bytes, size) => {
      assert.deepEqual(scan(split(bytes, size + 1)), scan([bytes]));
    }),
    { numRuns: 300 },
  );
});
