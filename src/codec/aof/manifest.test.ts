import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { aofFixtures, damagedAofs } from "../../../test/support/fixtures.ts";
import { fromLatin1, toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import { fileNames, formatManifest, type Manifest, parseManifest } from "./manifest.ts";

const parse = (text: string) => parseManifest(fromLatin1(text));
const base = "file a.1.base.rdb seq 1 type b\n";
const increment = "file a.1.incr.aof seq 1 type i\n";

test("parseManifest() reads base, history and increments with their offsets", () => {
  const text =
    "file a.2.base.rdb seq 2 type b\n" +
    "file a.1.incr.aof seq 1 type h startoffset 0\n" +
    base.replace("type b", "type h") +
    "file a.2.incr.aof seq 2 type i startoffset 6 endoffset 7\n" +
    "file a.4.incr.aof seq 4 type i\n";
  const manifest: Manifest = {
    base: { file: "a.2.base.rdb", sequence: 2 },
    history: [
      { file: "a.1.incr.aof", sequence: 1, startOffset: 0 },
      { file: "a.1.base.rdb", sequence: 1 },
    ],
    increments: [
      { file: "a.2.incr.aof", sequence: 2, startOffset: 6, endOffset: 7 },
      { file: "a.4.incr.aof", sequence: 4 },
    ],
  };
  assert.deepEqual(parse(text), manifest);
  assert.equal(toLatin1(formatManifest(manifest)), text);
});

test("parseManifest() takes pairs in any order and letter case, comments and CR LF", () => {
  const text = "# made by hand\nTYPE beta  Seq 3\tFILE x\r\n";
  assert.deepEqual(parse(text).base, { file: "x", sequence: 3 });
  assert.deepEqual(parse(`${base}# a last line without its end`).increments, []);
  assert.equal(parse("#\n").base, undefined);
});

test("keys that are not known survive", () => {
  const text = `file a seq 1 type i note "two words" startoffset 5\n`;
  const manifest = parse(text);
  assert.deepEqual(manifest.increments, [
    { file: "a", sequence: 1, startOffset: 5, others: [["note", "two words"]] },
  ]);
  const written = toLatin1(formatManifest(manifest));
  assert.equal(written, `file a seq 1 type i startoffset 5 note "two words"\n`);
});

test("parseManifest() refuses what servers refuse, with the line and its offset", () => {
  const long = `file ${"a".repeat(1100)} seq 1 type b\n`;
  const refusals: readonly [text: string, message: string][] = [
    ["", "Empty manifest at byte 0"],
    [`${base}\n`, "Blank line on line 2 of the manifest at byte 31"],
    [`${base} \t\r\n`, "Blank line on line 2 of the manifest at byte 31"],
    [base.trim(), "Line without a line end on line 1 of the manifest at byte 0"],
    [long, "Line of more than 1024 bytes on line 1 of the manifest at byte 0"],
    [`#${long}`, "Line of more than 1024 bytes on line 1 of the manifest at byte 0"],
    ["file a seq 1\n", "4 words on line 1 of the manifest at byte 0"],
    ["file a seq 1 type b x\n", "7 words on line 1 of the manifest at byte 0"],
    ["x a seq 1 type b\n", "No file name on line 1 of the manifest at byte 0"],
    [`file "" seq 1 type b\n`, "No file name on line 1 of the manifest at byte 0"],
    ["file a seq 0 type b\n", "No sequence number above 0 on line 1 of the manifest at byte 0"],
    ["file a x 1 type b\n", "No sequence number above 0 on line 1 of the manifest at byte 0"],
    ["file a seq 1x type b\n", 'seq "1x" on line 1 of the manifest at byte 0'],
    ["file a seq 1 type z\n", 'File type "z" on line 1 of the manifest at byte 0'],
    ["file a seq 1 x b\n", 'File type "" on line 1 of the manifest at byte 0'],
    [base + base, "Second base on line 2 of the manifest at byte 31"],
    [increment + increment, "Increment 1 after 1 on line 2 of the manifest at byte 31"],
    [`file "a seq 1 type b\n`, "Quotes that do not fit on line 1 of the manifest at byte 0"],
    ["file a\0b seq 1 type b\n", "Zero byte on line 1 of the manifest at byte 0"],
  ];
  for (const [text, message] of refusals) {
    assert.throws(() => parse(text), { code: "DATA_CORRUPT", message }, text);
  }
});

test("a file name that leads out of the folder is refused", () => {
  for (const file of ["../x", "/etc/passwd", "a/b", '"a\\\\b"', ".", ".."]) {
    assert.throws(() => parse(`file ${file} seq 1 type b\n`), { code: "DATA_CORRUPT" }, file);
  }
});

test("a file name that is not UTF-8 is refused, not changed", () => {
  assert.throws(() => parse('file "\\xff" seq 1 type b\n'), {
    code: "DATA_UNSUPPORTED",
    offset: 0,
  });
});

test("formatManifest() refuses what could not be read again", () => {
  const entry = { file: "a/b", sequence: 1 };
  assert.throws(() => formatManifest({ base: entry, increments: [], history: [] }), Failure);
});

test("parseManifest() gives what formatManifest() was given", () => {
  const name = fc
    .string({ minLength: 1, unit: "binary", maxLength: 20 })
    .filter((text) => !/[/\\\0]|^\.\.?$/.test(text) && text.isWellFormed());
  const entry = fc.record(
    {
      file: name,
      sequence: fc.integer({ min: 1, max: 1000 }),
      startOffset: fc.maxSafeNat(),
      endOffset: fc.maxSafeNat(),
    },
    { requiredKeys: ["file", "sequence"], noNullPrototype: true },
  );
  const manifests = fc.record({
    base: fc.option(entry, { nil: undefined }),
    history: fc.array(entry, { maxLength: 3 }),
    increments: fc.uniqueArray(entry, { maxLength: 4, selector: ({ sequence }) => sequence }),
  });
  fc.assert(
    fc.property(manifests, (manifest) => {
      const increments = manifest.increments.toSorted((a, b) => a.sequence - b.sequence);
      const whole = { ...manifest, increments };
      fc.pre(whole.base !== undefined || increments.length + whole.history.length > 0);
      assert.deepEqual(parseManifest(formatManifest(whole)), whole);
    }),
  );
});

test("fileNames has the names that servers give", () => {
  assert.equal(fileNames.manifest("appendonly.aof"), "appendonly.aof.manifest");
  assert.equal(fileNames.base("appendonly.aof", 2, "rdb"), "appendonly.aof.2.base.rdb");
  assert.equal(fileNames.increment("appendonly.aof", 12), "appendonly.aof.12.incr.aof");
});

test("arbitrary bytes are read or refused", () => {
  const words = [
    "file",
    "seq",
    "type",
    "a",
    "1",
    "b",
    "i",
    '"',
    "'",
    "\\x41",
    " ",
    "\n",
    "#",
    "\0",
  ];
  const soup = fc.array(fc.constantFrom(...words)).map((parts) => fromLatin1(parts.join("")));
  fc.assert(
    fc.property(fc.oneof(soup, fc.uint8Array()), (bytes) => {
      try {
        parseManifest(bytes);
      } catch (error) {
        assert.ok(error instanceof Failure);
      }
    }),
  );
});

for (const fixture of aofFixtures()) {
  const file = fixture.files.find(({ file }) => file.endsWith(".manifest"));
  if (file === undefined) continue;
  test(`parseManifest() reads ${fixture.id} and formatManifest() writes it again`, () => {
    const bytes = file.read();
    const manifest = parseManifest(bytes);
    assert.equal(toLatin1(formatManifest(manifest)), toLatin1(bytes));
    const folder = file.file.slice(0, file.file.lastIndexOf("/") + 1);
    const listed = [manifest.base, ...manifest.history, ...manifest.increments]
      .filter((entry) => entry !== undefined)
      .map((entry) => folder + entry.file);
    const names = fixture.files.map(({ file }) => file).filter((name) => name !== file.file);
    assert.deepEqual(listed.toSorted(), names.toSorted());
  });
}

for (const fixture of damagedAofs().filter(({ name }) => name.startsWith("manifest-"))) {
  const file = fixture.files.find(({ file }) => file.endsWith(".manifest"));
  if (file === undefined) continue;
  test(`parseManifest() ${fixture.loads ? "reads" : "refuses"} ${fixture.id}`, () => {
    if (fixture.loads) parseManifest(file.read());
    else assert.throws(() => parseManifest(file.read()), { code: "DATA_CORRUPT" });
  });
}
