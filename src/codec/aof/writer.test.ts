import assert from "node:assert/strict";
import { test } from "node:test";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { LogChecker } from "./check.ts";
import { LogWriter } from "./writer.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const text = (writer: LogWriter) => toLatin1(writer.take());
const args = (...words: readonly string[]) => words.map(fromLatin1);
const encoded = (...words: readonly string[]) =>
  `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`;

test("record() writes a record, and select() only where the database changes", () => {
  const writer = new LogWriter();
  writer.select(0);
  writer.record(args("SET", "k", "\0\n"));
  writer.select(0);
  writer.select(3);
  writer.record(args("DEL", "k"));
  const expected =
    encoded("SELECT", "0") +
    encoded("SET", "k", "\0\n") +
    encoded("SELECT", "3") +
    encoded("DEL", "k");
  assert.equal(writer.length, expected.length);
  assert.equal(text(writer), expected);
  assert.equal(writer.database, 3);
});

test("raw() follows the databases and transactions in what it is given", () => {
  const writer = new LogWriter();
  writer.raw(fromLatin1(encoded("multi") + encoded("SeLeCT", "5")));
  assert.deepEqual([writer.isInUnit, writer.database], [true, 5]);
  writer.select(5);
  writer.raw(fromLatin1(encoded("exec")));
  assert.equal(writer.isInUnit, false);
  assert.equal(text(writer), encoded("multi") + encoded("SeLeCT", "5") + encoded("exec"));
});

test("stamp() writes a timestamp only in a later second", () => {
  const writer = new LogWriter();
  for (const ms of [5000, 5999, 4000, 6000]) writer.stamp(ms);
  assert.equal(text(writer), "#TS:5\r\n#TS:6\r\n");
});

test("neither a timestamp nor a position line is written inside a transaction", () => {
  const writer = new LogWriter();
  writer.begin();
  assert.throws(() => writer.stamp(1000), /outside of transactions/);
  assert.throws(() => writer.seal({ replicationId, offset: 0 }, 1), /outside of transactions/);
  writer.end();
  writer.seal({ replicationId, offset: 0 }, 1);
});

test("what is no whole record is refused, leaves no byte, and ends the writing", () => {
  for (const bad of [
    "*1\r\n$4\r\nPIN",
    `${encoded("PING")}x`,
    "# a comment\r\n",
    encoded("EXEC"),
    encoded("MULTI") + encoded("MULTI"),
    "PING\r\n",
  ]) {
    const writer = new LogWriter();
    writer.record(args("PING"));
    assert.throws(() => writer.raw(fromLatin1(bad)), { code: "DATA_CORRUPT" }, bad);
    assert.throws(() => writer.record(args("PING")), { code: "DATA_CORRUPT" });
    assert.equal(text(writer), encoded("PING"));
  }
  const writer = new LogWriter();
  assert.throws(() => writer.record([]), /has a name/);
  assert.throws(() => new LogWriter().end(), { code: "DATA_CORRUPT" });
  assert.equal(writer.length, 0);
});

test("seal() covers the bytes since the last line, however they were taken", () => {
  for (const takesEach of [false, true]) {
    const writer = new LogWriter();
    const checker = new LogChecker();
    const step = () => takesEach && checker.push(writer.take());
    writer.seal({ replicationId, offset: 100 }, 1000);
    for (let batch = 1; batch <= 3; batch++) {
      step();
      writer.stamp(batch * 1000);
      writer.record(args("INCR", "k"));
      step();
      writer.record(args("INCR", "k"));
      writer.seal({ replicationId, offset: 100 + batch }, batch * 1000);
    }
    checker.push(writer.take());
    const result = checker.finish();
    assert.equal(result.verdict, "ok");
    assert.equal(result.sealedEnd, result.sizeBytes);
    assert.deepEqual(
      [result.records, result.timestamps, result.unsealedRecords, result.last],
      [6, 3, 0, writer.position],
    );
  }
});

test("seal() holds a clock that steps back and refuses a position that does", () => {
  const writer = new LogWriter();
  writer.seal({ replicationId, offset: 5 }, 9000);
  writer.seal({ replicationId, offset: 5 }, 8000);
  assert.equal(writer.position?.ms, 9000);
  assert.throws(() => writer.seal({ replicationId, offset: 4 }, 9000), /do not go back/);
  assert.throws(() => writer.seal({ replicationId: "x", offset: 9 }, 9000), /40 digits/);
});

test("a log goes on behind its last position line, in the same file or in the next", () => {
  const first = new LogWriter();
  first.seal({ replicationId, offset: 0 }, 1);
  first.record(args("INCR", "k"));
  first.seal({ replicationId, offset: 23 }, 2);
  const head = first.take();
  const after = first.position;
  assert.ok(after);

  const second = new LogWriter({ after });
  second.seal(after, 3);
  second.record(args("INCR", "k"));
  second.seal({ replicationId, offset: 46 }, 4);
  const tail = second.take();

  const joined = new LogChecker();
  joined.push(Buffer.concat([head, tail]));
  assert.equal(joined.finish().verdict, "ok");
  const apart = new LogChecker({ after });
  apart.push(tail);
  assert.equal(apart.finish().verdict, "ok");
  const twice = new LogChecker();
  twice.push(Buffer.concat([head, head]));
  const result = twice.finish();
  assert.equal(
    result.verdict === "corrupt" && result.reason,
    `Position line 0 after 1 at byte ${head.length}`,
  );
});
