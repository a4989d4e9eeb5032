import type { Command } from "commander";
import { Failure } from "../base/errors.ts";
import type { SetStatus } from "./status.ts";

type Options = {
  readonly json?: true;
  readonly repair?: true;
  readonly dryRun?: true;
};

const examples = `
Examples:
  tidemark check dump.rdb
  tidemark check /var/lib/redis                   all files of its appendonlydir
  tidemark check --repair --dry-run appendonlydir
  tidemark check --repair appendonlydir           with the server stopped`;

export function addCheck(program: Command, setStatus: SetStatus): void {
  program
    .command("check")
    .summary("find damage in an RDB file or an append-only log, repair a torn tail")
    .description(
      "Reads an RDB file, an AOF file or all files of an append-only folder: every value, checksum, " +
        "record and position line. Damage is told with its place; the exit status is then 3.",
    )
    .argument("<path>", "an RDB file, an AOF file, a manifest, or a folder with one")
    .option("--repair", "cut off a torn tail, all that a crash leaves; a copy of the file is kept")
    .option("--dry-run", "with --repair: only tell what would be cut")
    .option("--json", "print one JSON object instead of tables")
    .addHelpText("after", examples)
    .action((path: string, options: Options) => run(path, options, setStatus));
}

async function run(path: string, options: Options, setStatus: SetStatus): Promise<void> {
  if (options.dryRun && !options.repair) {
    throw new Failure("USAGE", "Cannot use --dry-run without --repair: a check changes nothing");
  }
  const { check, repair, statusOf } = await import("./check/run.ts");
  const checked = await check(path);
  let { report } = checked;
  try {
    if (options.repair) report = await repair(checked, options.dryRun === true);
  } finally {
    setStatus(statusOf(report));
    if (options.json) {
      process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    } else {
      const { renderCheck } = await import("./check/print.ts");
      process.stdout.write(`${renderCheck(report).join("\n")}\n`);
    }
  }
}
