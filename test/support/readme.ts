/**
 * The examples of the README: blocks marked `console`, in which each line that starts with "$ " is a
 * command and what follows is what it prints, on standard error as on standard output.
 *
 *     node test/support/readme.ts --write     puts what the commands print now into the README
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkout } from "./checkout.ts";

const path = join(checkout, "README.md");
const block = /```console\n([\s\S]*?)```/g;

export type Example = { readonly command: string; readonly printed: string };

export function readExamples(): Example[] {
  return [...readFileSync(path, "utf8").matchAll(block)].flatMap(([, body = ""]) => split(body));
}

function split(body: string): Example[] {
  return body
    .split(/^\$ /m)
    .slice(1)
    .map((text) => {
      const [command = "", ...lines] = text.split("\n");
      return { command, printed: lines.join("\n").trim() };
    });
}

/** Runs a command of the README in an empty folder that sees the checkout's `test`. */
export function runExample(command: string): string {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-readme-"));
  try {
    symlinkSync(join(checkout, "test"), join(folder, "test"));
    const main = join(checkout, "src/cli/main.ts");
    const line = command.replace(/^tidemark /, `"${process.execPath}" "${main}" `);
    const { stdout } = spawnSync("bash", ["-c", `${line} 2>&1`], { cwd: folder, encoding: "utf8" });
    // Commands in RESP have line ends of their own, which the README has not.
    return stdout.replaceAll("\r\n", "\n").trim();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv.includes("--write")) {
  const text = readFileSync(path, "utf8");
  const written = text.replace(block, (_, body: string) => {
    const examples = split(body).map(({ command }) => `$ ${command}\n${runExample(command)}\n`);
    return `\`\`\`console\n${examples.join("")}\`\`\``;
  });
  writeFileSync(path, written);
}
