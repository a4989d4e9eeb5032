/**
 * Walking an RDB of 2.7 million keys, against redis-check-rdb and librdb.
 *
 *     npm run bench -- rdb-walk [--librdb PROGRAM] [--rounds N]
 *
 * All sides are whole processes over the same file, in turn: node's start is in ours. PROGRAM takes
 * a path and walks every key and value of it with librdb's parser.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { stringsRdb } from "./data.ts";
import { alternate, median, ratio, type Side, timeProcess } from "./measure.ts";

const { values } = parseArgs({
  options: { librdb: { type: "string" }, rounds: { type: "string", default: "7" } },
});
const root = new URL("../", import.meta.url).pathname;
const path = stringsRdb(2_700_000);
const walker = build();
const checker = `${root}.cache/servers/bin/redis-check-rdb-8.0`;

const sides: Side[] = [
  { name: "walk", run: () => timeProcess(process.execPath, [walker, path, "walk"]) },
  { name: "skip", run: () => timeProcess(process.execPath, [walker, path, "skip"]) },
  { name: "redis-check-rdb", run: () => timeProcess(checker, [path]) },
];
const { librdb } = values;
if (librdb) sides.push({ name: "librdb", run: () => timeProcess(librdb, [path]) });

const seconds = alternate(sides, Number(values.rounds));
for (const [i, side] of sides.entries()) {
  console.log(`${side.name.padEnd(16)} ${median(seconds[i] ?? []).toFixed(3)} s`);
}
const [walk = [], skip = [], check = [], library] = seconds;
console.log(`walk: ${ratio(check, walk).toFixed(2)} x redis-check-rdb`);
console.log(`skip: ${ratio(check, skip).toFixed(2)} x redis-check-rdb`);
if (library) {
  console.log(`walk: ${ratio(library, walk).toFixed(2)} x librdb`);
  console.log(`skip: ${ratio(library, skip).toFixed(2)} x librdb`);
}

/** Builds what is measured, as it is shipped, beside the other products of the build. */
function build(): string {
  const out = `${root}.cache/bench/build`;
  const args = ["-p", "bench/tsconfig.json"];
  const { status, stdout } = spawnSync(`${root}node_modules/.bin/tsc`, args, {
    cwd: root,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stdout);
  mkdirSync(out, { recursive: true });
  cpSync(`${root}package.json`, `${out}/package.json`);
  return `${out}/bench/walk-one.js`;
}
