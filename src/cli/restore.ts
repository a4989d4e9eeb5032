import { type Command, Option } from "commander";
import { targets } from "../codec/rdb/model.ts";
import { withPlace } from "./archive/place-options.ts";
import type { RestoreFlags } from "./archive/restore.ts";
import { collect, withKeyChoice } from "./key-choice.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark restore db1 --at '5m ago' --dry-run                      what would be read, and where it ends
  tidemark restore db1 --at 2026-11-22T10:41:05Z --to-dir /restored
  tidemark restore db1 --at before:FLUSHALL --run redis-server --port 6390
  tidemark restore db1 --at set:2026-11-22T03-15 --to redis://new --keys 'user:*'
  tidemark restore db1 --at latest --to redis://db1 --overwrite     a set of redis://db1 is taken first
  tidemark restore db1 --at 10:41:05 --to redis://new --keys 'cart:*' --server /usr/bin/redis-server
  tidemark restore db1 --at latest --repo s3://bucket/tidemark --to-dir /restored
  tidemark restore shop --at 10:41:05 --to cluster://new --server redis-server     all shards of a cluster
  tidemark restore shop --at 10:41:05 --run redis-server --port 7001               … into one that it starts

TARGET: a time (with Z or an offset; without, in this machine's zone), 10:41:05, 'yesterday 10:41', '5m ago', '1 h ago',
1795370803 (seconds or milliseconds since 1970), latest, @REPLID:OFFSET, set:NAME, before:COMMAND or before:COMMAND@TIME.
A time takes every write stamped at or before it, and is a whole second: 10:41:05 ends at 10:41:05.999, 10:41 (the
second 10:41:00) at 10:41:00.999; 10:41:05.250 and '5m ago' end at that millisecond. The plan says what was understood.
before:FLUSHALL is the last one that no restore has sent: what a restore empties and replays is passed over.
A cluster goes to a time or to latest: to one server, or to a cluster of any number of shards; its positions, sets and
commands are those of its shards, NAME.KEY.
At a moment between two sets, which keys there are is known only by a replay: choosing keys takes --server.

A restore into a running server that was cut off has left the key "tidemark:restore": the same command goes on with
it. Say the moment absolutely for that: 'latest' and '5m ago' are another moment each time.
That set is one of db1.before-restore, and is kept until you let it go: \`unkeep --help\` says how.

A folder says from which servers on it is loaded: snapshot and log count. With --target, what that server does not know
of the log is refused; --lossy drops keys of the snapshot only.
Ctrl-C ends a restore with status 18: a folder or a server that it made is gone then, and a running server has that key.`;

export function addRestore(program: Command, setStatus: SetStatus): void {
  const command = withPlace(program.command("restore"))
    .description("bring an instance back to a moment")
    .argument("<name>", "the instance, or the cluster")
    .option("--at <target>", "the moment: see below")
    .option("--to-dir <folder>", "into a folder that a stock server starts on")
    .option("--to <address>", "into a running server, redis:// or cluster://")
    .option("--run <program>", "start this redis-server or valkey-server on it")
    .option("--port <number>", "with --run: the port to listen on; of a cluster, the first one")
    .option("--dir <folder>", "with --run: the data folder; ./NAME-PORT otherwise")
    .addOption(
      new Option("--target <server>", "the oldest server that must load it").choices(targets),
    )
    .option("--dry-run", "print the plan, and do nothing")
    .option(
      "--overwrite",
      "with --to: empty the server first, when all was found good, after a safety set of it",
    )
    .option("--no-safety", "with --overwrite: take no safety set")
    .addOption(
      new Option("--conflict <policy>", "with --to: a key that is there already").choices([
        "skip",
        "overwrite",
        "fail",
      ]),
    )
    .option("--without-set <name>", "start from another set than this; may be repeated", collect)
    .option("--lossy", "drop what the target cannot hold, and count it")
    .option("--server <path>", "redis-server or valkey-server that replays the log")
    .option("--user <name>", "with --to: as whom to log in")
    .option("--password-file <path>", "with --to: a file that holds the password")
    .option("--password-command <command>", "with --to: a command that prints the password")
    .option("--cacert <path>", "with --to: authorities that are trusted, in PEM")
    .option("--cert <path>", "with --to: client certificate, in PEM")
    .option("--key <path>", "with --to: its key, in PEM")
    .option("--sni <name>", "with --to: the name that the server's certificate is for")
    .option("--json", "say what was done as JSON");
  withKeyChoice(command)
    .addHelpText("after", examples)
    .action(async (name: string, flags: RestoreFlags) => {
      const { restore } = await import("./archive/restore.ts");
      await restore(name, flags);
      setStatus(0);
    });
}
