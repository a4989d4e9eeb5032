import type { Command } from "commander";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark up                                  as ./tidemark.yaml says
  tidemark up --config /etc/tidemark.yaml
  tidemark status                              from another shell
  tidemark backup db1 --note 'before 2.0'      a set now

It records every instance, and every shard of a cluster, archives its log, takes backup sets by the policy and
lets old ones go. It runs until it is stopped: SIGTERM, SIGINT and SIGHUP end it in order, and nothing is lost with
SIGKILL either.`;

export function addUp(program: Command, setStatus: SetStatus): void {
  program
    .command("up")
    .description("record, archive and back up all instances of the configuration")
    .option("--config <file>", "the configuration, instead of ./tidemark.yaml")
    .option("--steal", "take over from another writer that seems to be alive")
    .addHelpText("after", examples)
    .action(async (flags: { config?: string; steal?: true }) => {
      const { up } = await import("./archive/up.ts");
      await up(flags);
      setStatus(0);
    });
}
