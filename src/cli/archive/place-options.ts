import type { Command } from "commander";

/** Says in which repository to look. */
export type PlaceFlags = {
  readonly config?: string;
  readonly repo?: string;
  readonly keyFile?: string;
};

export function withPlace(command: Command): Command {
  return command
    .option("--config <file>", "the configuration, instead of ./tidemark.yaml")
    .option("--repo <address>", "a folder or s3://BUCKET/PREFIX; then no configuration is needed")
    .option("--key-file <path>", "with --repo: its key, as 64 hexadecimal digits");
}
