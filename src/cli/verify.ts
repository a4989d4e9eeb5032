import type { Command } from "commander";
import { withPlace } from "./archive/place-options.ts";
import type { VerifyFlags } from "./archive/verify.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark verify                              the newest set of each instance
  tidemark verify 2026-11-22T03-15             one set
  tidemark verify --log                        the log: every checksum, and that nothing is missing
  tidemark verify --all --instance db1
  tidemark verify --log --instance shop        of a cluster: all shards, and who had which slots
  tidemark verify 2026-11-22T03-15 --server /usr/bin/redis-server   a drill: it is loaded, and counted

Everything is read back: checksums, blocks, structure, continuity of positions. What is found is named by object
and block, and the status is 3 then.`;

export function addVerify(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("verify"))
    .description("read back what is archived, and say whether it is sound")
    .argument("[set]", "its name, or the beginning of it")
    .option("--instance <name>", "of this instance or cluster only")
    .option("--all", "all sets and the log")
    .option("--log", "the log")
    .option("--server <path>", "redis-server or valkey-server: load the set too, and compare")
    .option("--json", "print one JSON object")
    .addHelpText("after", examples)
    .action(async (set: string | undefined, flags: VerifyFlags) => {
      const { verify } = await import("./archive/verify.ts");
      setStatus(await verify(set, flags));
    });
}
