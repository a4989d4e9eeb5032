import type { Command } from "commander";
import { type PlaceFlags, withPlace } from "./archive/place-options.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark backups
  tidemark backups db1 --json
  tidemark backups --repo /backups/tidemark
  tidemark show 2026-11-22T03-15               one of them; the beginning of its name will do`;

const showExamples = `
Examples:
  tidemark show 2026-11-22T03-15               the beginning of its name will do
  tidemark show 2026-11-22T03-15 --instance shop.3fa9… --json`;

const keepExamples = `
Examples:
  tidemark keep 2026-11-22T03-15               the beginning of its name will do
  tidemark unkeep 2026-11-22T03-15

What a restore with --overwrite empties is kept as a set of NAME.before-restore, until you let it go:
  tidemark backups db1.before-restore
  tidemark unkeep 2026-11-22T18-07 --instance db1.before-restore
  tidemark expire db1.before-restore --retention-days 7 --apply     all but the newest one`;

export function addBackups(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("backups"))
    .description("list backup sets")
    .argument("[name]", "of this instance or cluster only")
    .option("--json", "print one JSON array")
    .addHelpText("after", examples)
    .action(async (name: string | undefined, flags: PlaceFlags & { json?: true }) => {
      const { listBackups } = await import("./archive/backups.ts");
      await listBackups(name, flags);
      setStatus(0);
    });
}

export function addShow(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("show"))
    .description("all that is known of a backup set")
    .argument("<set>", "its name, or the beginning of it")
    .option("--instance <name>", "where several instances have one of that name")
    .option("--json", "print its manifest")
    .addHelpText("after", showExamples)
    .action(
      async (set: string, flags: PlaceFlags & { json?: true; readonly instance?: string }) => {
        const { showSet } = await import("./archive/backups.ts");
        await showSet(set, flags);
        setStatus(0);
      },
    );
}

export function addKeep(program: Command, setStatus: SetStatus): void {
  const add = (verb: "keep" | "unkeep", description: string) =>
    withPlace(program.command(verb))
      .description(description)
      .argument("<set>", "its name, or the beginning of it")
      .option("--instance <name>", "where several instances have one of that name")
      .addHelpText("after", keepExamples)
      .action(async (set: string, flags: PlaceFlags & { readonly instance?: string }) => {
        const { keepSet } = await import("./archive/backups.ts");
        await keepSet(set, verb === "keep", flags);
        setStatus(0);
      });
  add("keep", "never let a backup set expire");
  add("unkeep", "let a backup set expire with the others again");
}
