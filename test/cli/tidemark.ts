import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { checkout } from "../support/checkout.ts";

export type Outcome = {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** Runs the command line as a user does, with its output in files and pipes, not on a terminal. */
export async function tidemark(...args: string[]): Promise<Outcome> {
  return await runNode(join(checkout, "src/cli/main.ts"), ...args);
}

export async function runNode(...args: string[]): Promise<Outcome> {
  return await runProgram(process.execPath, ...args);
}

/** Runs a line of the shell in which `"$@"` is the command line with these arguments. */
export async function shell(line: string, ...args: string[]): Promise<Outcome> {
  const main = join(checkout, "src/cli/main.ts");
  return await runProgram("bash", "-c", line, "bash", process.execPath, main, ...args);
}

export async function runProgram(program: string, ...args: string[]): Promise<Outcome> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const closed = once(child, "close") as Promise<[status: number | null]>;
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    closed,
  ]);
  return { status, stdout, stderr };
}
