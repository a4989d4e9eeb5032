import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { Failure } from "../base/errors.ts";
import { addBackup } from "./backup.ts";
import { addBackups, addKeep, addShow } from "./backups.ts";
import { addCat } from "./cat.ts";
import { addCheck } from "./check.ts";
import { addConvert } from "./convert.ts";
import { addDownload } from "./download.ts";
import { describeExitStatuses } from "./exit-statuses.ts";
import { addExpire } from "./expire.ts";
import { addInit } from "./init.ts";
import { addInspect } from "./inspect.ts";
import { addRecord, addStatus } from "./record.ts";
import { addRestore } from "./restore.ts";
import type { SetStatus } from "./status.ts";
import { addUp } from "./up.ts";
import { addVerify } from "./verify.ts";

/**
 * Each adds one command with its options, and imports what does the work only when it is run: most
 * of the time that `tidemark --help` takes would else be spent on code that it does not use.
 *
 * A command's action returns the exit status through `setStatus`.
 */
const commands: readonly ((program: Command, setStatus: SetStatus) => void)[] = [
  addInspect,
  addCheck,
  addConvert,
  addRecord,
  addStatus,
  addInit,
  addUp,
  addBackup,
  addBackups,
  addShow,
  addKeep,
  addVerify,
  addExpire,
  addRestore,
  addDownload,
  addCat,
];

/** Runs the command line and returns the exit status. @throws Failure */
export async function run(args: readonly string[]): Promise<number> {
  let status = 0;
  const program = new Command("tidemark")
    .description("Persistence, backup and point-in-time recovery for Redis and Valkey")
    .version(readVersion(), "-V, --version")
    .exitOverride()
    // What goes wrong is thrown, and said in one form by whoever catches it.
    .configureOutput({ outputError: () => {} })
    .showSuggestionAfterError()
    .addHelpText("afterAll", ({ command }) => {
      return `\n${describeExitStatuses(command.parent === null ? undefined : command.name())}`;
    });
  for (const add of commands) {
    add(program, (value) => {
      status = value;
    });
  }
  try {
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw toFailure(error);
  }
  return status;
}

/** "error: unknown command 'x'", perhaps with "(Did you mean …?)" on a second line. */
function toFailure(error: CommanderError): Failure {
  const [first = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const message = `Cannot run the command: ${first}`;
  const hint = suggestion?.replace(/^\((.*)\)$/, "$1");
  return new Failure("USAGE", message, hint ? { hint } : {});
}

function readVersion(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
