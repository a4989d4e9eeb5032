import { type Command, Option } from "commander";
import { targets } from "../codec/rdb/model.ts";
import { forms } from "./convert/form.ts";
import type { ConvertFlags } from "./convert/run.ts";
import { collect, withKeyChoice } from "./key-choice.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark convert dump.rdb keys.jsonl                    one key a line, sorted; for diff and jq
  tidemark convert dump.rdb old.rdb --target redis:6.0    for an older server
  tidemark convert dump.rdb appendonlydir                 to start redis-server on, appendonly yes
  tidemark convert dump.rdb - --to resp | redis-cli --pipe
  tidemark convert appendonlydir log.aof --target redis:6.0
  tidemark convert appendonlydir now.rdb --server /usr/bin/redis-server
  tidemark convert dump.rdb users.rdb --keys 'user:*' --type hash --prefix-add copy: --ttl shift

What OUT is, its name says: .rdb, .aof (one file, an RDB and the records behind it), .resp
(commands), .jsonl, or else a folder that becomes an append-only log; --to says it otherwise. Commands
in a log amount to data only when they are replayed, which a server does: --server.`;

export function addConvert(program: Command, setStatus: SetStatus): void {
  const command = program
    .command("convert")
    .description("Convert between RDB, AOF, commands and JSON lines, whole or in part")
    .argument("<in>", "an RDB, an AOF or its folder, or JSON lines")
    .argument("<out>", "a file, a folder, or - for standard output")
    .addOption(new Option("--to <form>", "what to write").choices(forms))
    .addOption(
      new Option("--target <server>", "the oldest server that must load it").choices(targets),
    );
  withKeyChoice(command)
    .option("--lossy", "drop what the target cannot hold, and count it")
    .option("--whole", "JSON lines: values of any length, not digests of the long ones")
    .option("--module <type>", "module types that the target has besides its own", collect)
    .option("--no-compress", "RDB: no LZF")
    .option("--server <path>", "redis-server or valkey-server that replays commands")
    .option("--force", "replace OUT if it is there")
    .option("--json", "say what was done as JSON")
    .addHelpText("after", examples)
    .action(async (input: string, output: string, flags: ConvertFlags) => {
      const { convert } = await import("./convert/run.ts");
      await convert(input, output, flags);
      setStatus(0);
    });
}
