import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { exitStatuses, Failure } from "../base/errors.ts";
import { addBackup } from "./backup.ts";
import { addBackups, addKeep, addShow } from "./backups.ts";
import { addCat } from "./cat.ts";
import { addCheck } from "./check.ts";
import { addConvert } from "./convert.ts";
import { addDownload } from "./download.ts";
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
    .addHelpText("afterAll", () => `\n${describeExitStatuses()}`);
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

/** The table of exit statuses as the help shows it. */
function describeExitStatuses(): string {
  const words = new Map<number, string[]>([[0, ["done; what was checked is sound"]]]);
  for (const [exit, code] of exitStatuses) {
    const said = code.toLowerCase().replaceAll("_", " ");
    words.set(exit, [...(words.get(exit) ?? []), said]);
  }
  words.set(70, ["a bug in Tidemark"]);
  const lines = [...words].map(
    ([exit, said]) => `  ${String(exit).padStart(2)}  ${said.join(", ")}`,
  );
  return ["Exit status:", ...lines].join("\n");
}

function readVersion(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
