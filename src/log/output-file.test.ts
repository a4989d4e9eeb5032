import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { OutputFile } from "./output-file.ts";

/** A folder that is gone when its test is done. */
function temporary(): { readonly path: string; readonly file: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "tidemark-"));
  return {
    path,
    file: join(path, "out"),
    [Symbol.dispose]: () => rmSync(path, { recursive: true }),
  };
}

suite("OutputFile", () => {
  test("is not there under its name before it is published, and then whole", () => {
    using folder = temporary();
    using output = OutputFile.create(folder.file);
    output.write(Buffer.from("one "));
    output.writeLatin1("two \xff");
    assert.deepEqual(readdirSync(folder.path), ["out.part"]);
    output.publish();
    assert.deepEqual(readdirSync(folder.path), ["out"]);
    assert.equal(readFileSync(folder.file, "latin1"), "one two \xff");
    assert.equal(output.sizeBytes, 9);
  });

  test("writes parts of any size in order, and keeps none of the caller's bytes", () => {
    using folder = temporary();
    using output = OutputFile.create(folder.file);
    const sizes = [0, 1, 300_000, 300_000, 512 * 1024 - 1, 512 * 1024, 2_000_000, 3];
    const expected: Buffer[] = [];
    for (const [i, size] of sizes.entries()) {
      const bytes = Buffer.alloc(size, 0x41 + i);
      expected.push(Buffer.from(bytes));
      if (i % 3 === 2) output.writeLatin1(bytes.toString("latin1"));
      else output.write(bytes);
      bytes.fill(0);
    }
    output.publish();
    assert(readFileSync(folder.file).equals(Buffer.concat(expected)));
    assert.equal(output.sizeBytes, Buffer.concat(expected).length);
  });

  test("leaves nothing where it is not published", () => {
    using folder = temporary();
    {
      using output = OutputFile.create(folder.file);
      output.write(Buffer.alloc(1_000_000));
    }
    assert.deepEqual(readdirSync(folder.path), []);
  });

  test("does not replace a file unless it may, and then only when it is whole", () => {
    using folder = temporary();
    writeFileSync(folder.file, "old");
    assert.throws(() => OutputFile.create(folder.file), {
      code: "FILE_EXISTS",
      message: `Cannot write "${folder.file}": it exists`,
    });
    {
      using output = OutputFile.create(folder.file, true);
      output.write(Buffer.from("new"));
    }
    assert.equal(readFileSync(folder.file, "utf8"), "old");
    using output = OutputFile.create(folder.file, true);
    output.write(Buffer.from("new"));
    output.publish();
    assert.equal(readFileSync(folder.file, "utf8"), "new");
  });

  test("leaves nothing where it cannot have its name", () => {
    using folder = temporary();
    {
      using output = OutputFile.create(folder.file);
      mkdirSync(folder.file);
      assert.throws(() => output.publish(), {
        code: "FILE_FAILED",
        message: `Cannot write "${folder.file}": illegal operation on a directory`,
      });
    }
    assert.deepEqual(readdirSync(folder.path), ["out"]);
  });

  test("says where it cannot be", () => {
    using folder = temporary();
    assert.throws(() => OutputFile.create(join(folder.path, "no", "out")), {
      code: "FILE_MISSING",
    });
  });
});
