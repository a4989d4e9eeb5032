/** `npm run bench -- NAME [ARG…]`: runs one benchmark; without a name, lists them. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const folder = new URL("./", import.meta.url);
const helpers = ["run", "data", "measure", "walk-one"];
const names = readdirSync(folder)
  .map((file) => file.replace(/\.ts$/, ""))
  .filter((name) => !helpers.includes(name));

const [name, ...args] = process.argv.slice(2);
if (name !== undefined && names.includes(name)) {
  const script = new URL(`${name}.ts`, folder).pathname;
  process.exitCode =
    spawnSync(process.execPath, [script, ...args], { stdio: "inherit" }).status ?? 1;
} else {
  if (name !== undefined) console.error(`There is no benchmark "${name}".`);
  for (const each of names) console.log(`${each.padEnd(16)}${about(each)}`);
  process.exitCode = name === undefined ? 0 : 2;
}

/** The first sentence of the comment that the file opens with. */
function about(benchmark: string): string {
  const text = readFileSync(new URL(`${benchmark}.ts`, folder), "utf8");
  const comment = /^\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? "";
  return /^.*?(?=[.:](\s|$))/.exec(comment.replace(/\s*\*\s?/g, " ").trim())?.[0] ?? "";
}
