import { type Command, Option } from "commander";
import { targets } from "../codec/rdb/model.ts";
import type { DownloadFlags } from "./archive/download.ts";
import { withPlace } from "./archive/place-options.ts";
import { collect, withKeyChoice } from "./key-choice.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark download 2026-11-22T03-15 dump.rdb                        a set as it was taken
  tidemark download 2026-11-22T03-15 old.rdb --target redis:6.0 --lossy
  tidemark download 2026-11-22T03-15 users.rdb --keys 'user:*'
  tidemark download db1 --at before:FLUSHALL folder                  what a server starts on
  tidemark download db1 --at '5m ago' db1.tar.zst                    the same, in one file
  tidemark download db1 --at '5m ago' db1.rdb --server /usr/bin/redis-server
  tidemark download db1 --at latest - --server redis-server > db1.rdb

What OUT is, its name says: .rdb, .tar.zst, - for an RDB on standard output, or else a folder. An RDB of a moment
between two sets, or keys chosen there, take a replay: --server.`;

export function addDownload(program: Command, setStatus: SetStatus): void {
  const command = withPlace(program.command("download"))
    .description("get a backup set, or an instance at a moment, as files")
    .argument("<what>", "a set, or the beginning of its name; with --at, an instance")
    .argument("<out>", "FILE.rdb, FILE.tar.zst, a folder, or -")
    .option("--at <target>", "a moment, as `restore --help` has them")
    .option("--instance <name>", "where two instances have a set of that name")
    .option("--without-set <name>", "start from another set than this; may be repeated", collect)
    .addOption(
      new Option("--target <server>", "the oldest server that must load it").choices(targets),
    )
    .option("--lossy", "drop what the target cannot hold, and count it")
    .option("--server <path>", "redis-server or valkey-server that replays the log")
    .option("--force", "replace OUT if it is a file that is there")
    .option("--json", "say what was done as JSON");
  withKeyChoice(command)
    .addHelpText("after", examples)
    .action(async (what: string, out: string, flags: DownloadFlags) => {
      const { download } = await import("./archive/download.ts");
      await download(what, out, flags);
      setStatus(0);
    });
}
