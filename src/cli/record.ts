import { existsSync } from "node:fs";
import { type Command, Option } from "commander";
import { Failure } from "../base/errors.ts";
import { type PlaceFlags, withPlace } from "./archive/place-options.ts";
import type { RecordFlags } from "./record/run.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark record redis://localhost:6379                     into ./spool
  tidemark record redis://backup@db1:6379 /var/lib/tidemark/db1 --password-file /etc/tidemark/secret
  tidemark record sentinel://s1,s2,s3/mymaster /var/lib/tidemark/mymaster
  tidemark record cluster://c1,c2,c3 /var/lib/tidemark/cluster   every shard, each in shards/
  tidemark record --print-acl redis://db1                    what to allow, for ACL SETUSER
  tidemark status /var/lib/tidemark/db1                      from another shell

The spool is an append-only log that redis-server or valkey-server 7 and later starts on as it is. Replicas
are followed rather than masters where there are any. It runs until it is stopped: SIGTERM, SIGINT and SIGHUP end it in
order.
Operators who rely on WAIT or min-replicas-to-write: a recorder counts as a replica there.`;

export function addRecord(program: Command, setStatus: SetStatus): void {
  program
    .command("record")
    .description("follow a server and record every write, in a log that servers load")
    .argument("<address>", "redis://, rediss://, unix://, sentinel:// or cluster://")
    .argument("[spool]", "the folder of the log", "spool")
    .addOption(
      new Option("--fsync <policy>", "when what was received is synced")
        .choices(["always", "everysec", "no"])
        .default("everysec"),
    )
    .option("--segment-mb <number>", "size at which a new file is begun", "128")
    .option("--follow <member>", "replica or master", "replica")
    .option("--user <name>", "as whom to log in")
    .option("--password-file <path>", "a file that holds the password")
    .option("--password-command <command>", "a command that prints the password")
    .option("--cacert <path>", "authorities that are trusted, in PEM")
    .option("--cert <path>", "client certificate, in PEM")
    .option("--key <path>", "its key, in PEM")
    .option("--sni <name>", "the name that the server's certificate is for")
    .option("--print-acl", "print what the user must be allowed, and end")
    .addHelpText("after", examples)
    .action(async (address: string, spool: string, flags: RecordFlags) => {
      const { record } = await import("./record/run.ts");
      await record(address, spool, flags);
      setStatus(0);
    });
}

const statusExamples = `
Examples:
  tidemark status                              all instances of ./tidemark.yaml, or the spool of this folder
  tidemark status db1                          what of it can be restored, how far behind, how large
  tidemark status --repo s3://bucket/tidemark
  tidemark status /var/lib/tidemark/db1        the recorder of a spool`;

type StatusFlags = PlaceFlags & { readonly json?: true };

export function addStatus(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("status"))
    .description("what is recorded and archived, and what can be restored")
    .argument("[name]", "an instance, or the folder of a recorder")
    .option("--json", "print one JSON object")
    .addHelpText("after", statusExamples)
    .action(async (name: string | undefined, flags: StatusFlags) => {
      if (name === undefined && isOfSpool(name, flags) && !existsSync("spool")) {
        throw new Failure(
          "USAGE",
          "Cannot tell a status: neither ./tidemark.yaml nor ./spool is here",
          {
            hint: "Name a configuration with --config, a repository with --repo, or the folder of a recorder.",
          },
        );
      }
      if (isOfSpool(name, flags)) {
        const { showStatus } = await import("./record/show.ts");
        await showStatus(name ?? "spool", flags.json === true);
      } else {
        const { showArchived } = await import("./archive/status.ts");
        await showArchived(name, flags);
      }
      setStatus(0);
    });
}

/** A folder is a spool; so is ./spool, where nothing says that there is an archive. */
function isOfSpool(name: string | undefined, { config, repo }: StatusFlags): boolean {
  if (config !== undefined || repo !== undefined) return false;
  if (name === undefined) return !existsSync("tidemark.yaml");
  return name.includes("/") || !existsSync("tidemark.yaml");
}
