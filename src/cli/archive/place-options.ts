import type { Command } from "commander";
import { collect } from "../key-choice.ts";

/** Says in which repository to look. */
export type PlaceFlags = {
  readonly config?: string;
  readonly repo?: string;
  readonly keyFile?: readonly string[];
};

export function withPlace(command: Command): Command {
  return command
    .option("--config <file>", "the configuration, instead of ./tidemark.yaml")
    .option("--repo <address>", "a folder or s3://BUCKET/PREFIX; then no configuration is needed")
    .option(
      "--key-file <path>",
      "with --repo: a key, as 64 hexadecimal digits; may be repeated",
      collect,
    );
}
