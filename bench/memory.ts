/**
 * The most memory that each command holds, over an RDB of 5 GB.
 *
 *     npm run bench -- memory [--keys N]
 *
 * 60 million keys of 84 bytes by default, made on the first run. Takes a quarter of an hour and
 * 30 GB of disk below the folder for temporary files.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { stringsRdb } from "./data.ts";
import { peakMegabytes } from "./measure.ts";

const { values } = parseArgs({ options: { keys: { type: "string", default: "60000000" } } });
const main = new URL("../src/cli/main.ts", import.meta.url).pathname;
const path = stringsRdb(Number(values.keys));
const folder = mkdtempSync(join(tmpdir(), "tidemark-memory-"));
console.log(`${path}: ${(statSync(path).size / 1e9).toFixed(2)} GB`);

try {
  for (const args of [
    ["inspect", path],
    ["check", path],
    ["convert", path, join(folder, "out.rdb"), "--target", "valkey:9"],
    ["convert", path, join(folder, "out.resp")],
    ["convert", path, join(folder, "out.jsonl")],
  ]) {
    const name = args.map((arg) => (arg.startsWith("/") ? arg.replace(/.*[/.]/, "*.") : arg));
    const peak = peakMegabytes(process.execPath, [main, ...args]);
    console.log(`${peak.toFixed(0).padStart(4)} MB  ${name.join(" ")}`);
    if (args[2] !== undefined) rmSync(args[2], { force: true });
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
