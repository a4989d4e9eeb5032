/**
 * The import rules of `oxlint.config.ts` bite: a linter that passes everything looks like one that
 * found nothing. Each case lints one file, in a small tree of its own with a copy of the
 * configuration and every folder that the configuration knows.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { checkout } from "../support/checkout.ts";

suite("the import rules", () => {
  let tree: string;
  before(async () => (tree = await plant()));
  after(() => rm(tree, { recursive: true, force: true }));

  const forbidden: Record<string, [path: string, source: string, message: RegExp]> = {
    "a codec that reads files": [
      "src/codec/bad.ts",
      'import { readFile } from "node:fs/promises";\nexport const read = readFile;\n',
      /src\/codec does no I\/O/,
    ],
    "a codec, deep in its folder, that knows the command line": [
      "src/codec/rdb/bad.ts",
      'import { room } from "../../cli/room.ts";\nexport const used = room;\n',
      /src\/codec may import only base/,
    ],
    "a base that knows a codec": [
      "src/base/bad.ts",
      'import { room } from "../codec/room.ts";\nexport const used = room;\n',
      /src\/base may import only itself/,
    ],
    "a codec that uses a package": [
      "src/codec/bad.ts",
      'import { Command } from "commander";\nexport const used = Command;\n',
      /src\/codec may not use it/,
    ],
    "a cycle": [
      "src/base/bad.ts",
      'import { room } from "./room-of-bad.ts";\nexport const bad: number = room;\n',
      /no-cycle/,
    ],
    "a clock that was not passed in": [
      "src/log/bad.ts",
      "export const now = (): number => Date.now();\n",
      /Take a Clock/,
    ],
    "a promise that nobody waits for": [
      "src/log/bad.ts",
      'import { unlink } from "node:fs/promises";\nexport function drop(): void {\n  unlink("x");\n}\n',
      /no-floating-promises/,
    ],
    "an entry that defines something by itself": [
      "src/bad.ts",
      'export { readFile } from "node:fs/promises";\n',
      /no-restricted-imports/,
    ],
  };
  for (const [name, [path, source, message]] of Object.entries(forbidden)) {
    test(`refuse ${name}`, async () => {
      const { code, output } = await lint(tree, path, source);
      assert.equal(code, 1, output);
      assert.match(output, message);
    });
  }

  const allowed: Record<string, [path: string, source: string]> = {
    "a codec that uses base": [
      "src/codec/rdb/good.ts",
      'import { room } from "../../base/room.ts";\nexport const used = room;\n',
    ],
    "a test of a codec that reads a fixture": [
      "src/codec/good.test.ts",
      'import { readFileSync } from "node:fs";\nexport const read = readFileSync;\n',
    ],
    "an entry that names what a codec defines": [
      "src/good.ts",
      'export { room } from "./codec/room.ts";\n',
    ],
  };
  for (const [name, [path, source]] of Object.entries(allowed)) {
    test(`let ${name} pass`, async () => {
      const { code, output } = await lint(tree, path, source);
      assert.equal(code, 0, output);
    });
  }

  test("name every folder of src", async () => {
    await mkdir(join(tree, "src/cellar"));
    const { code, output } = await lint(tree, "src/cellar/bad.ts", "export const room = 1;\n");
    await rm(join(tree, "src/cellar"), { recursive: true });
    assert.notEqual(code, 0);
    assert.match(output, /Give src\/cellar a place/);
  });
});

/** Inside the checkout, so that the linter and its type checker are found as they are for `src`. */
async function plant(): Promise<string> {
  await mkdir(join(checkout, ".cache"), { recursive: true });
  const tree = await mkdtemp(join(checkout, ".cache/fence-"));
  for (const file of ["oxlint.config.ts", "package.json", "tsconfig.json"]) {
    await copyFile(join(checkout, file), join(tree, file));
  }
  const config = await readFile(join(tree, "oxlint.config.ts"), "utf8");
  const table = /const layers[^]*?^\};/m.exec(config)?.[0] ?? "";
  const folders = [...table.matchAll(/^ {2}(\w+): \{/gm)].map(([, name]) => `src/${name}`);
  assert.ok(folders.includes("src/base") && folders.includes("src/cli"), table);
  for (const folder of folders) {
    await mkdir(join(tree, folder), { recursive: true });
    await writeFile(join(tree, folder, "room.ts"), "export const room = 1;\n");
  }
  const half = 'import { bad } from "./bad.ts";\nexport const room = bad + 1;\n';
  await writeFile(join(tree, "src/base/room-of-bad.ts"), half);
  return tree;
}

async function lint(
  tree: string,
  path: string,
  source: string,
): Promise<{ readonly code: number; readonly output: string }> {
  const file = join(tree, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, source);
  try {
    const oxlint = join(checkout, "node_modules/.bin/oxlint");
    // The checkout's .gitignore hides .cache.
    const child = spawn(oxlint, ["--no-ignore", path], { cwd: tree });
    const closed = once(child, "close") as Promise<[code: number]>;
    const [out, errors, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      closed,
    ]);
    return { code, output: out + errors };
  } finally {
    await rm(file);
  }
}
