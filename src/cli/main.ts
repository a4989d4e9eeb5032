#!/usr/bin/env node
import { Failure } from "../base/errors.ts";
import { run } from "./program.ts";
import { printable } from "./render/text.ts";
import { takeOverStandardError } from "./standard-error.ts";
import { takeOverStandardOutput } from "./standard-output.ts";
import { catchSignals } from "./stop.ts";

/** As `sysexits.h` has it: an internal software error. */
const bugStatus = 70;
/** As a shell tells of a program that SIGPIPE has ended: what was to be done may not be done. */
const pipeStatus = 141;
/** Of a longer text the beginning and the end are shown, where what it is about and what was found stand. */
const maxTextChars = 2000;

function fail(error: unknown): void {
  // Where a line of progress stands, nobody else may have been there to take it away.
  if (process.stderr.isTTY === true) process.stderr.write("\r\x1b[K");
  // What went wrong first, and what then went wrong while things were put in order.
  if (error instanceof SuppressedError) {
    fail(error.suppressed);
    if (!isSame(error.error, error.suppressed)) fail(error.error);
    return;
  }
  if (error instanceof Failure) {
    // Whoever read the output has seen enough (`tidemark … | head`).
    if ((error.cause as NodeJS.ErrnoException | undefined)?.code === "EPIPE") {
      process.exitCode = pipeStatus;
      return;
    }
    console.error(`tidemark: ${shown(error.message)}\nhint: ${shown(error.hint)}`);
    process.exitCode = error.exit;
    return;
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  console.error("tidemark: this is a bug in Tidemark, please report it");
  for (const line of stack.split("\n")) console.error(printable(line));
  process.exitCode = bugStatus;
}

function shown(text: string): string {
  const part = maxTextChars / 2;
  const short =
    text.length <= maxTextChars ? text : `${text.slice(0, part)} … ${text.slice(-part)}`;
  return printable(short);
}

function isSame(a: unknown, b: unknown): boolean {
  return a instanceof Failure && b instanceof Failure && a.message === b.message;
}

process.on("uncaughtException", (error) => {
  fail(error);
  process.exit();
});
takeOverStandardError();
takeOverStandardOutput();
catchSignals();

/** Where `engines` in package.json is not looked at. */
const oldestNode = 24;

try {
  if (Number.parseInt(process.versions.node, 10) < oldestNode) {
    throw new Failure("USAGE", `Cannot run on Node ${process.versions.node}: it is too old`, {
      hint: `Install Node ${oldestNode} or newer.`,
    });
  }
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  fail(error);
}
