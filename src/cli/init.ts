import type { Command } from "commander";
import type { InitFlags } from "./archive/init.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark init /backups/tidemark                        a folder
  tidemark init 's3://bucket/tidemark?region=eu-west-1'  credentials from the usual places
  tidemark init /backups/secret --key-file key --key-id key-2026
  tidemark init --example > tidemark.yaml                every setting, with its default
  openssl rand -hex 32 > key                             a key; without it nothing can be read back

What the storage can do is tried out and written down; one that cannot serve is refused.`;

export function addInit(program: Command, setStatus: SetStatus): void {
  program
    .command("init")
    .description("make a repository, and say what its storage can do")
    .argument("[repository]", "a folder, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME")
    .option("--key-file <path>", "encrypt: a file with the key, as 64 hexadecimal digits")
    .option("--key-id <name>", "what the key is called in the objects")
    .option("--example", "print a configuration with every setting, and make nothing")
    .option("--json", "print one JSON object")
    .addHelpText("after", examples)
    .action(async (repository: string | undefined, flags: InitFlags) => {
      const { init } = await import("./archive/init.ts");
      await init(repository, flags);
      setStatus(0);
    });
}
