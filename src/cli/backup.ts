import type { Command } from "commander";
import type { BackupFlags } from "./archive/backup.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark backup db1
  tidemark backup db1 --note 'before the upgrade' --keep
  tidemark backup shop                         of a cluster: a set of each shard
  tidemark backups db1                         what there is

A running \`tidemark up\` is asked to take it; where none runs, this command takes it itself. It is listed as good
when all of it has been read back.`;

export function addBackup(program: Command, setStatus: SetStatus): void {
  program
    .command("backup")
    .description("take a backup set of an instance now")
    .argument("<name>", "the instance or the cluster, as the configuration has it")
    .option("--config <file>", "the configuration, instead of ./tidemark.yaml")
    .option("--note <text>", "for people: why it was taken")
    .option("--keep", "never let it expire, until `unkeep`")
    .option("--json", "print the set's manifest; of a cluster, an array of them")
    .addHelpText("after", examples)
    .action(async (name: string, flags: BackupFlags) => {
      const { backup } = await import("./archive/backup.ts");
      await backup(name, flags);
      setStatus(0);
    });
}
