import { type Command, InvalidArgumentError } from "commander";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { SetStatus } from "./status.ts";

type Options = {
  readonly json?: true;
  readonly top: number;
  readonly prefixSeparator: string;
  readonly prefixDepth: number;
};

const examples = `
Examples:
  tidemark inspect dump.rdb
  tidemark inspect /var/lib/redis              a data folder with an appendonlydir
  tidemark inspect dump.rdb --top 50 --prefix-separator / --prefix-depth 2
  tidemark inspect dump.rdb --json | jq '.snapshot.types'`;

export function addInspect(program: Command, setStatus: SetStatus): void {
  program
    .command("inspect")
    .summary("what an RDB file or an append-only log holds")
    .description(
      "Tells what an RDB file, an AOF file or an append-only folder holds: who wrote it, keys by " +
        "database, type, encoding and prefix, the biggest keys, streams, functions, commands. " +
        "All bytes are those in the file.",
    )
    .argument("<path>", "an RDB file, an AOF file, a manifest, or a folder with one")
    .option("--json", "print one JSON object instead of tables")
    .option("--top <n>", "how many keys, prefixes and groups to list", toCount(0, 10_000), 10)
    .option("--prefix-separator <text>", "what ends a prefix of a key", ":")
    .option("--prefix-depth <n>", "how many separators a prefix goes up to", toCount(1, 100), 1)
    .addHelpText("after", examples)
    .action(async (path: string, options: Options) => {
      const { inspect } = await import("./inspect/run.ts");
      const report = await inspect(path, {
        top: options.top,
        prefixSeparator: toSeparator(options.prefixSeparator),
        prefixDepth: options.prefixDepth,
        nowMs: systemClock.now(),
      });
      const [damage] = report.damage;
      if (damage !== undefined) setStatus(new Failure(damage.code, damage.reason).exit);
      if (options.json) {
        process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
        return;
      }
      const { renderInspect } = await import("./inspect/print.ts");
      process.stdout.write(`${renderInspect(report).join("\n")}\n`);
    });
}

function toSeparator(text: string): Uint8Array {
  if (text === "") throw new Failure("USAGE", "Cannot end prefixes at nothing: an empty separator");
  return Buffer.from(text, "utf8");
}

function toCount(min: number, max: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= min && count <= max) return count;
    throw new InvalidArgumentError(`It is a number from ${min} to ${max}.`);
  };
}
