import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Slice } from "../base/bytes.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import type { Parts, RdbEvent } from "../codec/rdb/parts.ts";
import { RdbWriter } from "../codec/rdb/writer.ts";
import { KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";

function slice(text: string): Slice {
  const bytes = Buffer.from(text, "latin1");
  const found = new Slice();
  found.set(bytes, 0, bytes.length);
  return found;
}

/** Writes down what it is given, a line for each key: `db:key type until … : events`. */
class Notes implements KeySink {
  readonly lines: string[] = [];
  isFinished = false;

  library(code: Slice): void {
    this.lines.push(`library ${code.latin1()}`);
  }

  moduleAux(raw: Uint8Array): void {
    this.lines.push(`module aux ${Buffer.from(raw).toString("hex")}`);
  }

  begin({ database, key, layout, expireAtMs, idleSeconds, frequency }: KeyHead): void {
    const until = expireAtMs === null ? "" : ` until ${expireAtMs}`;
    const idle = idleSeconds === null ? "" : ` idle ${idleSeconds}`;
    const used = frequency === null ? "" : ` used ${frequency}`;
    this.lines.push(`${database}:${key.latin1()} ${layout.type}${until}${idle}${used}:`);
  }

  accept(event: RdbEvent, { first, second, score, count, nodes, fieldExpireAtMs }: Parts): void {
    const said: Partial<Record<RdbEvent, () => string>> = {
      begin: () => `begin ${count < 0 ? `${nodes} nodes` : count}`,
      string: () => first.latin1(),
      element: () => first.latin1(),
      member: () => `${first.latin1()}=${score}`,
      field: () =>
        `${first.latin1()}=${second.latin1()}${fieldExpireAtMs === -1 ? "" : `@${fieldExpireAtMs}`}`,
    };
    this.lines.push(`${this.lines.pop()} ${said[event]?.() ?? event}`);
  }

  finish(): void {
    this.isFinished = true;
  }
}

/** A file with keys of each type, in two databases. */
function write(fill: (writer: RdbWriter) => void, ctimeSeconds?: number): Uint8Array {
  const writer = new RdbWriter("valkey:9", {
    version: null,
    ...(ctimeSeconds === undefined ? {} : { ctimeSeconds }),
  });
  fill(writer);
  writer.finish();
  return writer.take();
}

function pass(file: Uint8Array, options?: KeyPipeOptions, chunkBytes = file.length) {
  const notes = new Notes();
  const pipe = new KeyPipe(notes, options);
  for (let at = 0; at < file.length; at += chunkBytes) {
    const chunk = Uint8Array.from(file.subarray(at, at + chunkBytes));
    pipe.reader.push(chunk);
    pipe.drain();
    chunk.fill(0x58);
  }
  pipe.reader.finish();
  assert(notes.isFinished);
  return { lines: notes.lines, counts: pipe.counts };
}

function writeAll(writer: RdbWriter): void {
  writer.functionLibrary(Buffer.from("#!lua name=x\n"));
  writer.database(0);
  writer.key(Buffer.from("user:1"), { expireAtMs: 5000 }).string(slice("ann"));
  writer.key(Buffer.from("user:2"), { idleSeconds: 7 }).string(slice("ben"));
  const list = writer.key(Buffer.from("list"), { frequency: 9 });
  list.beginList({ elements: 2 });
  list.element(slice("a"));
  list.element(slice("b"));
  list.endValue();
  writer.database(3);
  const hash = writer.key(Buffer.from("user:1"));
  hash.beginHash(2, true);
  hash.field(slice("f"), slice("v"));
  hash.field(slice("g"), slice("w"), 9000);
  hash.endValue();
  const zset = writer.key(Buffer.from("\xffz", "latin1"));
  zset.beginZset(1);
  zset.member(slice("m"), 1.5);
  zset.endValue();
}

const library = "library #!lua name=x\n";
const ann = "0:user:1 string until 5000: ann";
const ben = "0:user:2 string idle 7: ben";
const list = "0:list list used 9: begin 1 nodes node a b end value";
const hash = "3:user:1 hash: begin 2 f=v g=w@9000 end value";
const zset = "3:\xffz zset: begin 1 m=1.5 end value";
const everything = [library, ann, ben, list, hash, zset];

suite("KeyPipe", () => {
  const file = write(writeAll);

  test("passes on everything, however the file is cut", () => {
    for (const size of [1, 2, 3, 5, 64, file.length]) {
      const { lines, counts } = pass(file, {}, size);
      assert.deepEqual(lines, everything);
      assert.deepEqual(counts, {
        ...{ read: 5, written: 5, skipped: 0, empty: 0, expired: 0, libraries: 0, unchecked: 0 },
      });
    }
  });

  const choices: readonly (readonly [string, KeyPipeOptions["selection"], string[]])[] = [
    ["keys", { keys: ["user:*"] }, [ann, ben, hash]],
    ["any of several globs", { keys: ["l*", "*2"] }, [ben, list]],
    ["all but the excluded", { exclude: ["user:?", "no*"] }, [list, zset]],
    ["what is included and not excluded", { keys: ["user:*"], exclude: ["*1"] }, [ben]],
    ["a pattern found anywhere", { regex: /r:[0-9]$/u }, [ann, ben, hash]],
    ["a pattern, keys being read as UTF-8", { regex: /^\ufffdz$/u }, [zset]],
    ["types", { types: ["hash", "list"] }, [list, hash]],
    ["databases", { databases: [3, 9] }, [hash, zset]],
    ["all at once", { keys: ["user:*"], types: ["hash"], databases: [3], regex: /1/u }, [hash]],
    ["nothing", { keys: [] }, []],
  ];
  for (const [name, selection, expected] of choices) {
    test(`chooses ${name}, and no libraries then`, () => {
      const { lines, counts } = pass(file, { selection: selection ?? {} }, 7);
      assert.deepEqual(lines, expected);
      assert.equal(counts.written, expected.length);
      assert.equal(counts.skipped, 5 - expected.length);
    });
  }

  test("puts a prefix in front of each key", () => {
    const { lines } = pass(file, { prefix: Buffer.from("\xfe:", "latin1") }, 5);
    assert.deepEqual(
      lines,
      everything.map((line) => line.replace(/^(\d):/, "$1:\xfe:")),
    );
  });

  test("takes expiries away, of keys and of fields", () => {
    const { lines } = pass(file, { expiry: { kind: "persist" } });
    assert.deepEqual(
      lines,
      everything.map((line) => line.replace(" until 5000", "").replace("@9000", "")),
    );
  });

  test("takes none away that had expired at the moment: keys are left out, fields stay as they are", () => {
    const { lines, counts } = pass(file, { expiry: { kind: "persist", fromMs: 9000 } });
    assert.equal(counts.expired > 0, true);
    assert.ok(lines.every((line) => !line.includes(" until 5000")));
    assert.ok(lines.some((line) => line.includes("@9000")));
  });

  test("moves expiries by the time that has gone by, and leaves out what had expired", () => {
    const moved = pass(file, { expiry: { kind: "shift", fromMs: 4999, toMs: 100_000 } });
    const later = (line: string) =>
      line.replace("until 5000", "until 100001").replace("@9000", "@104001");
    assert.deepEqual(moved.lines, everything.map(later));
    assert.equal(moved.counts.expired, 0);
    const expired = pass(file, { expiry: { kind: "shift", fromMs: 5000, toMs: 100_000 } });
    assert.deepEqual(expired.lines, [library, ben, list, hash.replace("9000", "104000"), zset]);
    assert.equal(expired.counts.expired, 1);
  });

  test("moves expiries from when the file says that it was made, if it is asked to and the file does", () => {
    const expiry = { kind: "shift", fromMs: 4000, toMs: 10_000 } as const;
    const untilOf = (ctime: number | undefined, orCtime: boolean) =>
      /until (\d+)/.exec(
        pass(write(writeAll, ctime), { expiry: { ...expiry, orCtime } }).lines.join(),
      )?.[1];
    assert.equal(untilOf(3, true), "12000");
    assert.equal(untilOf(3, false), "11000");
    assert.equal(untilOf(undefined, true), "11000");
    const strange = write((writer) => {
      writer.aux("ctime", "soon");
      writeAll(writer);
    });
    assert.match(
      pass(strange, { expiry: { ...expiry, orCtime: true } }).lines.join(),
      /until 11000/,
    );
  });

  test("moves times that no number holds exactly, and leaves fields that had expired", () => {
    const strange = write((writer) => {
      writer.key(Buffer.from("k"), { expireAtMs: 2n ** 62n + 1n }).string(slice("v"));
      const value = writer.key(Buffer.from("h"));
      value.beginHash(2, true);
      value.field(slice("f"), slice("v"), 2n ** 62n + 1n);
      value.field(slice("g"), slice("w"), 10);
      value.endValue();
    });
    const { lines } = pass(strange, { expiry: { kind: "shift", fromMs: 100, toMs: 1 } });
    assert.deepEqual(lines, [
      `0:k string until ${2n ** 62n - 98n}: v`,
      `0:h hash: begin 2 f=v@${2n ** 62n - 98n} g=w@10 end value`,
    ]);
  });

  test("moves no time beyond the last that there is", () => {
    const last = 2n ** 63n - 1n;
    const strange = write((writer) => {
      writer.key(Buffer.from("k"), { expireAtMs: last - 5n }).string(slice("v"));
    });
    const { lines } = pass(strange, { expiry: { kind: "shift", fromMs: 0, toMs: 1000 } });
    assert.deepEqual(lines, [`0:k string until ${last}: v`]);
  });

  test("leaves out collections without elements, and counts them", () => {
    const text = (value: string) => `${String.fromCharCode(value.length)}${value}`;
    const emptyListpack = "\x07\0\0\0\0\0\xff";
    const bytes = Buffer.from(
      [
        "REDIS0011",
        `\x01${text("list")}\0`,
        `\x12${text("nodes")}\x01\x02${text(emptyListpack)}`,
        `\x02${text("set")}\0`,
        `\x00${text("k")}${text("v")}`,
        `\x04${text("hash")}\0`,
        `\x10${text("packed")}${text(emptyListpack)}`,
        `\x12${text("some")}\x02\x02${text(emptyListpack)}\x02${text("\x0a\0\0\0\x01\0\x81a\x02\xff")}`,
        `\xff${"\0".repeat(8)}`,
      ].join(""),
      "latin1",
    );
    for (const size of [1, bytes.length]) {
      const { lines, counts } = pass(bytes, {}, size);
      assert.deepEqual(lines, ["0:k string: v", "0:some list: begin 2 nodes node a end value"]);
      assert.deepEqual([counts.read, counts.written, counts.empty], [7, 2, 5]);
    }
  });

  test("passes a module's own record on whole", () => {
    // The id, "when", a string and the end mark.
    const record = Buffer.from("0002010503616263" + "00", "hex");
    const bytes = Buffer.concat([
      Buffer.from("REDIS0011\xf7", "latin1"),
      record,
      Buffer.from(`\xff${"\0".repeat(8)}`, "latin1"),
    ]);
    for (const size of [1, 4, bytes.length]) {
      assert.deepEqual(pass(bytes, {}, size).lines, [`module aux ${record.toString("hex")}`]);
      assert.deepEqual(pass(bytes, { selection: { keys: ["*"] } }, size).lines, []);
    }
  });

  test("counts the keys that were not compared because there were too many", () => {
    assert.equal(pass(file, { maxDistinct: 2 }).counts.unchecked, 3);
  });
});
