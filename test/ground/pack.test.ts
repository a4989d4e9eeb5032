/**
 * The package as a user gets it: packed, installed into an empty folder, imported and run there.
 *
 * Nothing is downloaded. The packages that Tidemark depends on are packed too, out of
 * `node_modules`, and installed beside it from their files.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, glob, readFile, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";

type Manifest = {
  readonly version: string;
  readonly bin: Record<string, string>;
  readonly exports: Record<string, string | { types: string; default: string }>;
};

suite("the package", () => {
  const folder = temporaryFolder();
  const manifest = readManifest();
  before(() => install(folder.path));
  after(() => folder[Symbol.dispose]());

  test("exports RESP, RDB and AOF under their names", async () => {
    for (const entry of ["tidemark/resp", "tidemark/rdb", "tidemark/aof"]) {
      const script = `console.log(Object.keys(await import("${entry}")).length)`;
      const { stdout } = await run("node", ["--input-type=module", "-e", script], folder.path);
      assert.ok(Number(stdout) > 0, `${entry} exports nothing`);
    }
  });

  test("holds every file that its manifest names", async () => {
    const { bin, exports } = await manifest;
    const named = Object.values(exports).flatMap((file) =>
      typeof file === "string" ? [file] : [file.types, file.default],
    );
    for (const file of [...named, ...Object.values(bin), "LICENSE", "README.md", "CHANGELOG.md"]) {
      await access(join(folder.path, "node_modules/tidemark", file));
    }
  });

  test("has types that a strict consumer compiles against", async () => {
    const lines = ["resp", "rdb", "aof"].map(
      (entry) => `import * as ${entry} from "tidemark/${entry}";\nconsole.log(${entry});\n`,
    );
    await writeFile(join(folder.path, "consumer.mts"), lines.join(""));
    const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext"];
    const types = ["--types", "node", "--typeRoots", join(checkout, "node_modules/@types")];
    await run("tsc", [...options, ...types, "consumer.mts"], folder.path);
  });

  test("runs as `npx tidemark`", async () => {
    const { version } = await manifest;
    const { stdout } = await run("npx", ["--no", "--", "tidemark", "--version"], folder.path);
    assert.match(stdout, new RegExp(`\\b${version.replaceAll(".", "\\.")}\\b`));
  });
});

async function readManifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(checkout, "package.json"), "utf8")) as Manifest;
}

async function install(folder: string): Promise<void> {
  await run("npm", ["pack", "--pack-destination", folder], checkout);
  const list = await run("npm", ["ls", "--omit=dev", "--all", "--parseable"], checkout);
  const dependencies = list.stdout.trim().split("\n").slice(1);
  const pack = ["pack", "--ignore-scripts", "--pack-destination", folder];
  await run("npm", [...pack, ...dependencies], folder);
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  await run(
    "npm",
    ["install", "--offline", "--ignore-scripts", ...(await tarballs(folder))],
    folder,
  );
}

async function tarballs(folder: string): Promise<string[]> {
  const names = await Array.fromAsync(glob("*.tgz", { cwd: folder }));
  return names.map((name) => `./${name}`);
}

/**
 * Runs a program with this checkout's Node and tools first, as npm runs scripts, but without what
 * an npm that runs these tests has set: it would tell the npm here that it is in the checkout.
 */
function run(
  program: string,
  args: string[],
  cwd: string,
): Promise<{ stdout: string; stderr: string }> {
  const PATH = [join(checkout, "node_modules/.bin"), process.env["PATH"]].join(delimiter);
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("npm_"));
  const env = { ...Object.fromEntries(kept), PATH };
  return promisify(execFile)(program, args, { cwd, env });
}
