import type { Command } from "commander";
import type { ExpireFlags } from "./archive/expire.ts";
import { withPlace } from "./archive/place-options.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark expire                              what would go, and what could be restored then
  tidemark expire db1 --apply
  tidemark expire db1 --repo /backups --retention-days 30 --log-window 14d
  tidemark expire db1.before-restore --retention-days 7 --apply     safety sets, after \`unkeep\`

Nothing is deleted without --apply. What a kept set or the log window needs stays. A running \`tidemark up\`
does this by itself after each set.`;

export function addExpire(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("expire"))
    .description("what the policy lets go, and with --apply deletes it")
    .argument("[name]", "of this instance or cluster only")
    .option("--apply", "delete it")
    .option("--retention-days <days>", "instead of the configuration's")
    .option("--log-window <duration>", "instead of the configuration's")
    .option("--allow-any-retention", "less than 7 days, or more than 730")
    .option("--trust-clock", "although nothing in the archive is of this time: it was idle")
    .option("--json", "print one JSON array")
    .addHelpText("after", examples)
    .action(async (name: string | undefined, flags: ExpireFlags) => {
      const { expire } = await import("./archive/expire.ts");
      await expire(name, flags);
      setStatus(0);
    });
}
